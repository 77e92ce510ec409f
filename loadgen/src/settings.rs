//! What a run is asked to do, resolved: flags over file over defaults.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use minisr_client::SaslMechanism;
use serde::{Deserialize, Serialize};

use crate::cli::SweepArguments;
use crate::plan::{self, Acks, Cell, Phase};
use crate::security::{Security, SecurityArguments, SecurityProtocol};

/// What a Java machine needs before its figures are flat: measured, and printed with every run.
pub const WARM_RECORDS: u64 = 3_000_000;

/// What carries the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// QUIC with TLS 1.3.
    Quic,
    /// Plaintext TCP, as any Kafka client.
    Tcp,
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TransportKind::Quic => "quic",
            TransportKind::Tcp => "tcp",
        })
    }
}

impl FromStr for TransportKind {
    type Err = String;

    fn from_str(text: &str) -> Result<TransportKind, String> {
        match text {
            "quic" => Ok(TransportKind::Quic),
            "tcp" => Ok(TransportKind::Tcp),
            _ => Err(format!("the transport is quic or tcp, not {text}")),
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// This project's broker.
    Minisr,
    /// Apache Kafka.
    Kafka,
    /// Some cluster that speaks Kafka's protocol.
    Other,
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TargetKind::Minisr => "minisr",
            TargetKind::Kafka => "kafka",
            TargetKind::Other => "other",
        })
    }
}

impl FromStr for TargetKind {
    type Err = String;

    fn from_str(text: &str) -> Result<TargetKind, String> {
        match text {
            "minisr" => Ok(TargetKind::Minisr),
            "kafka" => Ok(TargetKind::Kafka),
            _ => Err(format!("the target is minisr or kafka, not {text}; another cluster is named by --bootstrap")),
        }
    }
}

/// When brokers flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flush {
    /// Replication is the durability.
    Never,
    /// Every `log.flush.interval.ms`.
    Interval,
    /// Before a replica's copy counts.
    Commit,
}

impl fmt::Display for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flush::Never => "never",
            Flush::Interval => "interval",
            Flush::Commit => "commit",
        })
    }
}

impl FromStr for Flush {
    type Err = String;

    fn from_str(text: &str) -> Result<Flush, String> {
        match text {
            "never" => Ok(Flush::Never),
            "interval" => Ok(Flush::Interval),
            "commit" => Ok(Flush::Commit),
            _ => Err(format!("the flush policy is never, interval or commit, not {text}")),
        }
    }
}

/// The same names as the flags, with underscores.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    acks: Option<Vec<Acks>>,
    replication_factor: Option<Vec<u16>>,
    min_insync_replicas: Option<Vec<u16>>,
    brokers: Option<u16>,
    bootstrap: Option<Vec<String>>,
    target: Option<TargetKind>,
    transport: Option<TransportKind>,
    ca: Option<PathBuf>,
    security_protocol: Option<SecurityProtocol>,
    sasl_mechanism: Option<String>,
    sasl_username: Option<String>,
    sasl_password_file: Option<PathBuf>,
    flush: Option<Flush>,
    set: Vec<String>,
    record_size: Option<u32>,
    batch_bytes: Option<u32>,
    partitions: Option<u32>,
    max_in_flight: Option<u32>,
    streams: Option<u32>,
    rate: Option<f64>,
    linger: Option<u64>,
    max_linger: Option<u64>,
    warm_records: Option<u64>,
    duration: Option<f64>,
    max_duration: Option<f64>,
    warmup: Option<f64>,
    repeats: Option<u32>,
    seed: Option<u64>,
    disk_budget: Option<u64>,
    memory_warm_mib: Option<u64>,
    schedule_delay_limit: Option<u64>,
    phases: Option<Vec<Phase>>,
    ceiling: Option<bool>,
    output: Option<PathBuf>,
    name: Option<String>,
}

/// A run, with nothing left open.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// Cells in the order of the table.
    pub cells: Vec<Cell>,
    /// Phases of each cell.
    pub phases: Vec<Phase>,
    /// Brokers of the embedded cluster, or as many as the largest replication factor needs.
    pub brokers: u16,
    /// Cluster to measure; absent for the embedded one.
    pub bootstrap: Option<Vec<String>>,
    /// What is measured.
    pub target: TargetKind,
    /// What carries the requests.
    pub transport: TransportKind,
    /// Certificate authority of the cluster.
    pub ca: Option<PathBuf>,
    /// How a cluster given by `bootstrap` is reached over TCP.
    pub security: Security,
    /// Flush policy of the embedded cluster.
    pub flush: Flush,
    /// Broker settings of the embedded cluster.
    pub set: Vec<(String, String)>,
    /// Bytes of a record's value.
    pub record_size_bytes: u32,
    /// Largest batch in the maximum-rate phase.
    pub batch_bytes: u32,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Batches in flight for each partition.
    pub max_in_flight: u32,
    /// Batches in flight over all partitions, at most: no flag, experiments with many partitions set it.
    pub batches_in_flight_total: u32,
    /// Streams or connections to each broker.
    pub streams: u32,
    /// Records per second of the constant-rate phase.
    pub rate_records_s: f64,
    /// Linger of the constant-rate phase.
    pub linger_us: u64,
    /// Linger of the maximum-rate phase.
    pub max_linger_us: u64,
    /// Records sent before anything is measured.
    pub warm_records: u64,
    /// Seconds measured at the constant rate.
    pub duration_s: f64,
    /// Seconds measured at the maximum rate.
    pub max_duration_s: f64,
    /// Seconds before each that are not measured.
    pub warmup_s: f64,
    /// How often each cell is measured.
    pub repeats: u32,
    /// Seed of contents and order.
    pub seed: u64,
    /// MiB one cell may write to all replicas together.
    pub disk_budget_mib: u64,
    /// MiB of memory held until a maximum-throughput phase begins; 0 for none.
    pub memory_warm_mib: u64,
    /// Schedule delay p99 above which a result is invalid.
    pub schedule_delay_limit_us: u64,
    /// Whether the ceiling is measured first.
    pub ceiling: bool,
    /// Directory for runs.
    pub output: PathBuf,
    /// Name of the run's directory.
    pub name: Option<String>,
}

impl Settings {
    /// Flags over file over defaults; refuses what cannot be with the sentence the user reads.
    pub fn resolve(arguments: &SweepArguments) -> Result<Settings> {
        let file = match &arguments.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let flags = arguments.clone();
        let acks = flags.acks.or(file.acks).unwrap_or_else(|| vec![Acks::None, Acks::Leader, Acks::All]);
        let replication_factors = flags.replication_factor.or(file.replication_factor).unwrap_or_else(|| vec![1, 2, 3]);
        let minimums = flags.min_insync_replicas.or(file.min_insync_replicas);
        let bootstrap = flags.bootstrap.or(file.bootstrap);
        let brokers_asked = flags.brokers.or(file.brokers);
        if bootstrap.is_some() && brokers_asked.is_some() {
            bail!("--brokers is for the embedded cluster; a cluster given by --bootstrap has the brokers it has");
        }
        // The number of brokers of a foreign cluster is asked for when it is reached; u16::MAX defers the check.
        let brokers = brokers_asked.unwrap_or(if bootstrap.is_some() { u16::MAX } else { 3 });
        let cells = plan::cells(&acks, &replication_factors, minimums.as_deref(), brokers)?;
        let disk_budget_mib = flags.disk_budget.or(file.disk_budget).unwrap_or(6 * 1024);
        let mut set = Vec::new();
        for text in file.set.iter().chain(&flags.set) {
            let (name, value) =
                text.split_once('=').with_context(|| format!("--set takes NAME=VALUE, and {text:?} has no ="))?;
            set.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        let target = match (flags.target.or(file.target), &bootstrap) {
            (Some(target), _) => target,
            (None, None) => TargetKind::Minisr,
            (None, Some(_)) => TargetKind::Other,
        };
        let kafka = target == TargetKind::Kafka;
        let transport = flags.transport.or(file.transport);
        let transport = transport.unwrap_or(if kafka { TransportKind::Tcp } else { TransportKind::Quic });
        let ca = flags.ca.or(file.ca);
        let security = flags.security.or(SecurityArguments {
            security_protocol: file.security_protocol,
            sasl_mechanism: file
                .sasl_mechanism
                .map(|text| text.parse::<SaslMechanism>())
                .transpose()
                .map_err(Error::msg)?,
            sasl_username: file.sasl_username,
            sasl_password_file: file.sasl_password_file,
        });
        let security = match transport {
            TransportKind::Tcp if bootstrap.is_some() => security.resolve(ca.as_deref())?,
            _ => {
                ensure!(
                    !security.is_given(),
                    "--security-protocol and --sasl-… say how a cluster given by --bootstrap is reached over tcp"
                );
                Security::default()
            }
        };
        let warm_default = if kafka && bootstrap.is_none() { WARM_RECORDS } else { 0 };
        let settings = Settings {
            cells,
            phases: flags.phases.or(file.phases).unwrap_or_else(|| vec![Phase::Rate, Phase::Max]),
            brokers,
            target,
            transport,
            ca,
            security,
            flush: flags.flush.or(file.flush).unwrap_or(Flush::Never),
            set,
            record_size_bytes: flags.record_size.or(file.record_size).unwrap_or(1024),
            batch_bytes: flags.batch_bytes.or(file.batch_bytes).unwrap_or(65_536),
            partitions: flags.partitions.or(file.partitions).unwrap_or(16),
            max_in_flight: flags.max_in_flight.or(file.max_in_flight).unwrap_or(4),
            batches_in_flight_total: u32::MAX,
            streams: flags.streams.or(file.streams).unwrap_or(8),
            rate_records_s: flags.rate.or(file.rate).unwrap_or(1_000.0),
            linger_us: flags.linger.or(file.linger).unwrap_or(0),
            max_linger_us: flags.max_linger.or(file.max_linger).unwrap_or(0),
            warm_records: flags.warm_records.or(file.warm_records).unwrap_or(warm_default),
            duration_s: flags.duration.or(file.duration).unwrap_or(10.2),
            max_duration_s: flags.max_duration.or(file.max_duration).unwrap_or(2.0),
            warmup_s: flags.warmup.or(file.warmup).unwrap_or(0.5),
            repeats: flags.repeats.or(file.repeats).unwrap_or(1),
            seed: flags.seed.or(file.seed).unwrap_or(1),
            disk_budget_mib,
            // As much as a maximum-throughput phase may write, with all its replicas.
            memory_warm_mib: flags.memory_warm_mib.or(file.memory_warm_mib).unwrap_or(disk_budget_mib),
            schedule_delay_limit_us: flags.schedule_delay_limit.or(file.schedule_delay_limit).unwrap_or(5_000),
            ceiling: !flags.no_ceiling && file.ceiling.unwrap_or(true),
            output: flags.output.or(file.output).unwrap_or_else(|| PathBuf::from("results")),
            name: flags.name.or(file.name),
            bootstrap,
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            (32..=1_000_000).contains(&self.record_size_bytes),
            "--record-size must be between 32 and 1000000 bytes: a record carries its planned time and its number"
        );
        ensure!(
            u64::from(self.batch_bytes) >= u64::from(self.record_size_bytes) + 128,
            "--batch-bytes must hold at least one record of --record-size and the batch header"
        );
        ensure!(self.batch_bytes <= 1_048_588, "--batch-bytes above 1048588 is refused by brokers (message.max.bytes)");
        ensure!((1..=10_000).contains(&self.partitions), "--partitions must be between 1 and 10000");
        ensure!(
            (1..=5).contains(&self.max_in_flight),
            "--max-in-flight must be between 1 and 5: an idempotent producer has at most five batches in flight"
        );
        ensure!((1..=64).contains(&self.streams), "--streams must be between 1 and 64");
        ensure!(
            self.rate_records_s.is_finite() && self.rate_records_s >= 1.0 && self.rate_records_s <= 1e7,
            "--rate must be between 1 and 10000000 records per second"
        );
        for (name, seconds) in [("--duration", self.duration_s), ("--max-duration", self.max_duration_s)] {
            ensure!((0.5..=86_400.0).contains(&seconds), "{name} must be between 0.5 and 86400 seconds");
        }
        ensure!((0.0..=3_600.0).contains(&self.warmup_s), "--warmup must be between 0 and 3600 seconds");
        ensure!((1..=1_000).contains(&self.repeats), "--repeats must be between 1 and 1000");
        ensure!(self.disk_budget_mib >= 64, "--disk-budget must be at least 64 MiB");
        ensure!(!self.phases.is_empty(), "--phases lists nothing, so there is nothing to measure");
        ensure!(
            (1..=1_000).contains(&self.brokers) || self.bootstrap.is_some(),
            "--brokers must be between 1 and 1000"
        );
        if let Some(name) = &self.name {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            ensure!(
                !name.is_empty() && name.chars().all(plain) && !name.starts_with('.'),
                "--name is a directory name of letters, digits, dots, hyphens and underscores"
            );
        }
        ensure!(
            self.target != TargetKind::Kafka || self.transport == TransportKind::Tcp,
            "--target kafka is reached over tcp: Apache Kafka does not speak QUIC"
        );
        if self.bootstrap.is_some() {
            ensure!(
                self.set.is_empty(),
                "--set is for the embedded cluster; a cluster given by --bootstrap is not changed"
            );
            ensure!(
                self.transport == TransportKind::Tcp || self.ca.is_some(),
                "--transport quic with --bootstrap needs --ca FILE, the certificate authority of that cluster"
            );
        }
        Ok(())
    }
}

fn read_file(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("the file {} cannot be read", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        // The parser's own message spans lines; its essence is one.
        anyhow::anyhow!("the file {} is not understood: {}", path.display(), error.message())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(edit: impl FnOnce(&mut SweepArguments)) -> SweepArguments {
        let mut arguments = SweepArguments::default();
        edit(&mut arguments);
        arguments
    }

    #[test]
    fn settings_flags_win_over_the_file_and_the_file_over_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sweep.toml");
        std::fs::write(&path, "acks = [0, \"all\"]\nreplication_factor = [3]\nrate = 500\npartitions = 4\n").unwrap();
        let settings = Settings::resolve(&arguments(|flags| {
            flags.config = Some(path);
            flags.partitions = Some(8);
        }))
        .unwrap();
        assert_eq!(settings.cells.len(), 4, "acks=0 once, acks=all with min 1 to 3");
        assert_eq!((settings.rate_records_s, settings.partitions, settings.record_size_bytes), (500.0, 8, 1024));
    }

    #[test]
    fn settings_refuse_what_cannot_be_in_one_line() {
        let refused: [fn(&mut SweepArguments); 8] = [
            |flags| (flags.target, flags.transport) = (Some(TargetKind::Kafka), Some(TransportKind::Quic)),
            |flags| flags.security.sasl_username = Some("alice".to_owned()),
            |flags| flags.brokers = Some(2),
            |flags| flags.max_in_flight = Some(6),
            |flags| flags.bootstrap = Some(vec!["localhost:9092".to_owned()]),
            |flags| flags.set = vec!["no-value".to_owned()],
            |flags| flags.rate = Some(0.0),
            |flags| flags.name = Some("../up".to_owned()),
        ];
        for edit in refused {
            let sentence = format!("{:#}", Settings::resolve(&arguments(edit)).unwrap_err());
            assert_eq!(sentence.lines().count(), 1, "{sentence}");
        }
    }

    #[test]
    fn settings_of_kafka_are_tcp_and_warmed_and_a_named_cluster_is_taken_as_it_is() {
        let kafka = Settings::resolve(&arguments(|flags| flags.target = Some(TargetKind::Kafka))).unwrap();
        assert_eq!((kafka.transport, kafka.warm_records), (TransportKind::Tcp, WARM_RECORDS));
        let named = Settings::resolve(&arguments(|flags| {
            flags.bootstrap = Some(vec!["localhost:9092".to_owned()]);
            flags.transport = Some(TransportKind::Tcp);
            flags.ca = Some(PathBuf::from("ca.pem"));
        }))
        .unwrap();
        assert_eq!((named.target, named.warm_records), (TargetKind::Other, 0));
        assert_eq!(named.security.protocol, SecurityProtocol::Ssl);
    }

    #[test]
    fn settings_file_with_an_unknown_name_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sweep.toml");
        std::fs::write(&path, "recordsize = 5\n").unwrap();
        let error = Settings::resolve(&arguments(|flags| flags.config = Some(path))).unwrap_err();
        assert!(format!("{error:#}").contains("recordsize"));
    }
}
