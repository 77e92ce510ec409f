//! minisr over TCP, minisr over QUIC and Apache Kafka, measured by the same client in one run (`just bench-peers`).
//!
//! * [`plan`]: what is measured of whom, in which order; [`warm`]: how a Java machine is warmed up first; [`still`]: how
//!   the others stand still meanwhile.
//! * `run`: the clusters, the turns, the rows.
//! * [`figures`]: medians, ranges and ratios, each beside what it must be; [`page`], [`readme`]: where they are shown.
//!
//! What holds: everybody has the same client, settings, seed and repeats; one cluster at a time does as much as it can,
//! while the others stand still, so that nobody pays for what an idle one takes (which is in the manifest); whatever was
//! acknowledged is read back from every peer; everything shown is made from `summary.csv`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

pub mod figures;
pub mod page;
pub mod plan;
pub mod readme;
mod run;
pub mod still;
pub mod warm;

pub use run::run;

use crate::security::SecurityArguments;
use crate::settings::WARM_RECORDS;
use plan::Measure;

/// Repeats of a run whose table may stand in the README.
pub const REPEATS: u32 = 5;

/// Flags of the comparison. Lists are separated by commas.
#[derive(Debug, Clone, Args)]
pub struct PeersArguments {
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = REPEATS)]
    pub repeats: u32,
    /// Only these: throughput-1, throughput-16, small-records, half-rate, single-records [default: all]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub measures: Option<Vec<Measure>>,
    /// Seed of the order and of the records' contents
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Records sent to a peer before anything is measured
    #[arg(long, value_name = "N", default_value_t = WARM_RECORDS)]
    pub warm_records: u64,
    /// Seconds measured at the maximum rate
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub max_duration: f64,
    /// Seconds measured at half the rate
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds measured with single records, 1,000 in each
    #[arg(long, value_name = "SECONDS", default_value_t = 10.5)]
    pub single_duration: f64,
    /// Leave the embedded Apache Kafka out; a cluster given by --bootstrap is then what minisr is compared with
    #[arg(long)]
    pub no_kafka: bool,
    /// Another cluster that speaks Kafka's protocol, with at least three brokers
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    pub bootstrap: Option<Vec<String>>,
    /// What to call it
    #[arg(long, value_name = "NAME", default_value = "other")]
    pub bootstrap_name: String,
    /// Its certificate authority, PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// How it is reached
    #[command(flatten)]
    pub security: SecurityArguments,
    /// Broker setting of minisr, NAME=VALUE (repeatable)
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Broker setting of the embedded Apache Kafka, NAME=VALUE (repeatable)
    #[arg(long = "kafka-set", value_name = "NAME=VALUE")]
    pub kafka_set: Vec<String>,
    /// MiB of memory held until each maximum-throughput measurement begins, so that the machine has it at hand; at most
    /// half of what is available, 0 for none
    #[arg(long, value_name = "MIB", default_value_t = 10_240)]
    pub memory_warm_mib: u64,
    /// Directory of the files
    #[arg(long, value_name = "DIR", default_value = "results/peers")]
    pub output: PathBuf,
    /// Write the table between its markers in this file, if the run is a whole one
    #[arg(long, value_name = "FILE")]
    pub readme: Option<PathBuf>,
}

impl PeersArguments {
    /// What is measured, in the order of the table.
    pub fn measures(&self) -> Vec<Measure> {
        let asked = self.measures.clone().unwrap_or_else(|| Measure::ALL.to_vec());
        Measure::ALL.into_iter().filter(|measure| asked.contains(measure)).collect()
    }

    /// Settings of the embedded Kafka: its defaults, except that a deleted topic leaves the disk at once. Kafka keeps it
    /// for a minute, in which its pages would be written back under somebody else's measurement.
    pub fn kafka_settings(&self) -> Vec<String> {
        let ours = "log.segment.delete.delay.ms=0".to_owned();
        std::iter::once(ours).chain(self.kafka_set.iter().cloned()).collect()
    }

    /// Whether the README may show what comes out: nothing was left out or shortened.
    pub fn is_whole(&self) -> bool {
        let default_durations = self.max_duration >= 3.0 && self.duration >= 5.0 && self.single_duration >= 10.5;
        self.repeats >= REPEATS
            && self.measures() == Measure::ALL
            && self.warm_records >= WARM_RECORDS
            && default_durations
            && !self.no_kafka
            && !cfg!(debug_assertions)
    }

    fn check(&self) -> Result<()> {
        ensure!((1..=1_000).contains(&self.repeats), "--repeats must be between 1 and 1000");
        ensure!(!self.measures().is_empty(), "--measures lists nothing, so there is nothing to measure");
        ensure!(
            !self.no_kafka || self.bootstrap.is_some(),
            "--no-kafka leaves nobody to compare with; name a cluster with --bootstrap"
        );
        ensure!(
            self.bootstrap.is_some() || (self.ca.is_none() && !self.security.is_given()),
            "--ca, --security-protocol and --sasl-… say how a cluster given by --bootstrap is reached"
        );
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let taken = ["minisr-tcp", "minisr-quic", "kafka"];
        ensure!(
            !self.bootstrap_name.is_empty()
                && self.bootstrap_name.chars().all(plain)
                && !taken.contains(&self.bootstrap_name.as_str()),
            "--bootstrap-name is a word of letters, digits, dots, hyphens and underscores, and none of {}",
            taken.join(", ")
        );
        let needs = self.measures().contains(&Measure::HalfRate) && !self.measures().contains(&Measure::ManyPartitions);
        ensure!(!needs, "half-rate is half of what throughput-16 shows: --measures must list both");
        Ok(())
    }

    #[cfg(test)]
    fn for_tests() -> Self {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            arguments: PeersArguments,
        }
        <Alone as clap::Parser>::parse_from(["peers"]).arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_arguments_that_cannot_be_are_refused_with_a_sentence() {
        let refused: [fn(&mut PeersArguments); 5] = [
            |arguments| arguments.no_kafka = true,
            |arguments| arguments.repeats = 0,
            |arguments| arguments.measures = Some(vec![Measure::HalfRate]),
            |arguments| arguments.bootstrap_name = "kafka".to_owned(),
            |arguments| arguments.ca = Some(PathBuf::from("ca.pem")),
        ];
        for edit in refused {
            let mut arguments = PeersArguments::for_tests();
            edit(&mut arguments);
            assert_eq!(format!("{:#}", arguments.check().unwrap_err()).lines().count(), 1);
        }
        PeersArguments::for_tests().check().unwrap();
    }

    #[test]
    fn peers_run_that_was_shortened_is_not_a_whole_one() {
        let shortened: [fn(&mut PeersArguments); 4] = [
            |arguments| arguments.repeats = 4,
            |arguments| arguments.measures = Some(vec![Measure::OnePartition]),
            |arguments| arguments.warm_records = 1,
            |arguments| arguments.max_duration = 1.0,
        ];
        for edit in shortened {
            let mut arguments = PeersArguments::for_tests();
            edit(&mut arguments);
            assert!(!arguments.is_whole());
        }
        assert_eq!(PeersArguments::for_tests().is_whole(), !cfg!(debug_assertions));
    }
}
