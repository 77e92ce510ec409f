//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::durability::{InSync, Loss};
use crate::plan::{FaultKind, Profile};

/// Hurts a cluster while it is written to, heals it, reads everything back, and judges.
#[derive(Debug, Parser)]
#[command(name = "minisr-chaos", version)]
#[command(after_help = "Exit codes: 0 fine; 1 error; 2 anomaly (evidence kept); 3 the run tested nothing.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster, write, inject faults, heal, read back, compare replicas, judge
    Run(RunArgs),
    /// Lose every choice of N replicas of a partition; say whether writes, reads and committed data survive
    Durability(DurabilityArgs),
}

/// How to run.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Seed of the faults [default: drawn by lot and printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Seconds during which faults are injected
    #[arg(long, default_value_t = 120.0, value_name = "SECONDS")]
    pub duration: f64,
    /// A short run of three kills (about half a minute), for tests
    #[arg(long)]
    pub smoke: bool,
    /// What the faults are for: mixed (to break things) or failover (to time them: kills of leaders and controllers)
    #[arg(long, default_value = "mixed", value_name = "PROFILE")]
    pub profile: Profile,
    /// Kills of the profile failover
    #[arg(long, default_value_t = 60, value_name = "N")]
    pub kills: u32,
    /// Stop after this many faults
    #[arg(long, value_name = "N")]
    pub faults_max: Option<u32>,
    /// Kinds of faults: kill, pause, stop, wipe
    #[arg(long, value_delimiter = ',', default_value = "kill", value_name = "KINDS")]
    pub faults: Vec<FaultKind>,
    /// Brokers hit at the same moment, at most [default: what leaves a majority]
    #[arg(long, value_name = "N")]
    pub victims_max: Option<usize>,
    /// Brokers
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub brokers: usize,
    /// Partitions of the topic written with acks=all
    #[arg(long, default_value_t = 6, value_name = "N")]
    pub partitions: i32,
    /// Replication factor
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub replication_factor: i16,
    /// min.insync.replicas
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub min_insync_replicas: i16,
    /// Producers of the acks=all stream
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub producers: u16,
    /// Records per second over all acks=all producers, sent on schedule whatever the cluster does
    #[arg(long, default_value_t = 2000.0, value_name = "RATE")]
    pub rate: f64,
    /// Records per second of the acks=1 stream
    #[arg(long, default_value_t = 200.0, value_name = "RATE")]
    pub acks1_rate: f64,
    /// Size of a record's value in bytes
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    pub record_bytes: usize,
    /// What the producers talk: quic or tcp
    #[arg(long, default_value = "quic", value_name = "TRANSPORT")]
    pub transport: TransportName,
    /// A broker setting, by Kafka's name; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
    /// When brokers force their log to stable storage: never, interval or commit
    #[arg(long, value_name = "POLICY")]
    pub flush: Option<minisr_cluster::FlushPolicy>,
    /// The broker program [default: minisr-broker beside this program, or $MINISR_BROKER]
    #[arg(long, value_name = "FILE")]
    pub broker_binary: Option<PathBuf>,
    /// Longest pause in writing that a fault may cause while a majority and min.insync.replicas are alive
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub unavailability_max: f64,
    /// Seconds after which a producer gives a record up
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub delivery_timeout: f64,
    /// Where runs leave their results
    #[arg(long, default_value = "results/chaos", value_name = "DIR")]
    pub out: PathBuf,
    /// Keep the cluster's directory even when nothing was found
    #[arg(long)]
    pub keep: bool,
    /// Print the verdict as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// What is lost, and who writes.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Exit codes: 0 as promised; 1 error; 2 a promise was broken; 3 nothing was tested.")]
pub struct DurabilityArgs {
    /// Replicas of the partition
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub replication_factor: i16,
    /// min.insync.replicas
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub min_insync_replicas: i16,
    /// acks of the writer: 0, 1 or all
    #[arg(long, default_value = "all", value_name = "ACKS")]
    pub acks: Acks,
    /// Replicas lost together
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub losses: usize,
    /// How they are lost: killed and started again later, or killed and their disks emptied
    #[arg(long, default_value = "kill", value_name = "LOSS")]
    pub loss: Loss,
    /// Replicas in sync when the losses begin: all, or no more than min.insync.replicas (the worst case)
    #[arg(long, default_value = "full", value_name = "SET")]
    pub in_sync: InSync,
    /// Brokers, all of them voters [default: the replicas, and at least enough for a majority to survive]
    #[arg(long, value_name = "N")]
    pub brokers: Option<usize>,
    /// At most this many choices of victims, evenly selected
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub choices_max: usize,
    /// Milliseconds during which the followers are frozen before the losses
    #[arg(long, default_value_t = 300, value_name = "MS")]
    pub freeze_ms: u64,
    /// Seconds to wait for a write to be acknowledged while the victims are down
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    pub observe: f64,
    /// The broker program [default: minisr-broker beside this program, or $MINISR_BROKER]
    #[arg(long, value_name = "FILE")]
    pub broker_binary: Option<PathBuf>,
    /// Keep the cluster's directory
    #[arg(long)]
    pub keep: bool,
    /// Print the verdict as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

impl DurabilityArgs {
    /// Refuses what cannot work, with a sentence.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!((1..=9).contains(&self.replication_factor), "--replication-factor must be 1 to 9");
        anyhow::ensure!(
            (1..=self.replication_factor).contains(&self.min_insync_replicas),
            "--min-insync-replicas must be 1 to the replication factor ({})",
            self.replication_factor
        );
        anyhow::ensure!(
            self.losses <= self.replication_factor as usize,
            "--losses must be at most the replication factor ({})",
            self.replication_factor
        );
        anyhow::ensure!(
            self.in_sync == InSync::Full || self.losses <= self.min_insync_replicas as usize,
            "--in-sync minimal has only min.insync.replicas ({}) replicas to lose",
            self.min_insync_replicas
        );
        anyhow::ensure!(self.observe.is_finite() && self.observe > 0.0, "--observe must be a positive number");
        anyhow::ensure!(self.choices_max >= 1, "--choices-max must be at least 1");
        anyhow::ensure!(
            self.brokers() >= self.replication_factor as usize,
            "--brokers must be at least the replication factor ({})",
            self.replication_factor
        );
        Ok(())
    }

    /// How many brokers there are: a majority outlives all that is down at once.
    pub fn brokers(&self) -> usize {
        let set_aside = match self.in_sync {
            InSync::Full => 0,
            InSync::Minimal => (self.replication_factor - self.min_insync_replicas).max(0) as usize,
        };
        self.brokers.unwrap_or_else(|| (self.replication_factor as usize).max(2 * (self.losses + set_aside) + 1))
    }

    /// How long a step may take that must succeed.
    pub fn bound(&self) -> std::time::Duration {
        std::time::Duration::from_secs(20)
    }
}

/// When a write counts for its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Acks {
    /// Never answered.
    #[value(name = "0")]
    None,
    /// When the leader has it.
    #[value(name = "1")]
    Leader,
    /// When every in-sync replica has it.
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    /// Kafka's number.
    pub fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// What clients talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TransportName {
    /// QUIC.
    Quic,
    /// TCP.
    Tcp,
}

impl std::fmt::Display for TransportName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        })
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("a setting is written name=value".to_owned()),
    }
}

impl RunArgs {
    /// Refuses what cannot work, with a sentence.
    pub fn check(&self) -> anyhow::Result<()> {
        let positive = |name: &str, value: f64| {
            anyhow::ensure!(value.is_finite() && value > 0.0, "--{name} must be a positive number");
            Ok(())
        };
        positive("duration", self.duration)?;
        positive("rate", self.rate)?;
        positive("unavailability-max", self.unavailability_max)?;
        positive("delivery-timeout", self.delivery_timeout)?;
        anyhow::ensure!(self.acks1_rate.is_finite() && self.acks1_rate >= 0.0, "--acks1-rate must not be negative");
        anyhow::ensure!(self.brokers >= 1, "--brokers must be at least 1");
        anyhow::ensure!((1..=1000).contains(&self.partitions), "--partitions must be 1 to 1000");
        anyhow::ensure!((1..=1000).contains(&self.producers), "--producers must be 1 to 1000");
        anyhow::ensure!(
            self.replication_factor >= 1 && self.replication_factor as usize <= self.brokers,
            "--replication-factor {} needs as many brokers; there are {}",
            self.replication_factor,
            self.brokers
        );
        anyhow::ensure!(
            (1..=self.replication_factor).contains(&self.min_insync_replicas),
            "--min-insync-replicas must be 1 to the replication factor ({})",
            self.replication_factor
        );
        anyhow::ensure!(!self.faults.is_empty(), "--faults names no fault");
        anyhow::ensure!(
            self.profile == Profile::Mixed || (self.faults == [FaultKind::Kill] && !self.smoke && self.kills > 0),
            "--profile failover only kills, at least once, and has no smoke run"
        );
        anyhow::ensure!(
            self.victims_max.is_none_or(|victims| (1..=self.brokers).contains(&victims)),
            "--victims-max must be 1 to the number of brokers ({})",
            self.brokers
        );
        anyhow::ensure!((8..=1_000_000).contains(&self.record_bytes), "--record-bytes must be 8 to 1000000");
        Ok(())
    }

    /// No fault begins this long after the first.
    pub fn fault_time(&self) -> std::time::Duration {
        match self.profile {
            Profile::Mixed => std::time::Duration::from_secs_f64(self.duration),
            // As long as it takes, within reason: a kill takes some five seconds.
            Profile::Failover => std::time::Duration::from_secs(60) * self.kills,
        }
    }

    /// How many brokers may be hit at once: what leaves a majority, unless more was asked for.
    pub fn victims(&self) -> usize {
        self.victims_max.unwrap_or_else(|| ((self.brokers - 1) / 2).max(1))
    }
}
