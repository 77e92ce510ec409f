//! The command line. Flags that are absent stay absent here; `settings.rs` fills them from the file and the defaults.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::peers::PeersArguments;
use crate::plan::Acks;
use crate::security::SecurityArguments;
use crate::settings::{Flush, TargetKind, TransportKind};

/// Measures what acks, replication factor and min.insync.replicas cost, and checks what they promise.
///
/// Without --bootstrap it starts three brokers of its own and removes them afterwards. Exit codes: 0 fine, 1 error,
/// 2 an acknowledged record was lost, 3 the run invalidated itself.
#[derive(Debug, Parser)]
#[command(name = "minisr-loadgen", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; a sweep unless something else is asked for
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of the sweep
    #[command(flatten)]
    pub sweep: SweepArguments,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure every cell of acks × replication factor × min.insync.replicas (the default)
    Sweep(Box<SweepArguments>),
    /// Measure minisr over QUIC, minisr over TCP and Apache Kafka in one run, cells shuffled
    Peers(Box<PeersArguments>),
    /// Run an experiment: a small measured story about one thing
    Experiment {
        /// Which
        #[command(subcommand)]
        which: Experiment,
    },
    /// Measure how far it reaches: the rows of docs/PERFORMANCE.md, each against its yardstick
    Reach(ReachArguments),
    /// Write report.html again from the files of a run
    Report {
        /// Directory of the run, or the directory that holds runs: then the newest
        #[arg(default_value = "results")]
        directory: PathBuf,
    },
    /// Compare two runs cell by cell
    Compare {
        /// The run that is the base
        a: PathBuf,
        /// The run that is compared with it
        b: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Hold memory until standard input ends: started by the program itself
    #[command(hide = true)]
    Ballast {
        /// How much
        #[arg(long)]
        mib: u64,
        /// Seconds after which less is enough
        #[arg(long)]
        within_s: u64,
    },
}

/// The experiments.
#[derive(Debug, Subcommand)]
pub enum Experiment {
    /// Count ISR shrinks and expansions under replica.lag.max.messages (lag ≥ N, lag > N) and under the rule of time
    IsrShuttle(IsrShuttleArguments),
    /// Measure response times before, during and after a reassignment beside them, without and with a throttle
    Reassign(ReassignArguments),
}

/// Flags of the experiment isr-shuttle.
#[derive(Debug, Clone, Args)]
pub struct IsrShuttleArguments {
    /// N; batches of N and of N + 1 records are sent
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub limit: u64,
    /// Batches of each size under each policy
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub batches: u32,
    /// Milliseconds from one batch to the next
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 50)]
    pub interval_ms: u64,
    /// Directory for runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub output: PathBuf,
    /// Name of the run's directory [default: date and time, UTC, and the experiment's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// Flags of the experiment reassign.
#[derive(Debug, Clone, Args)]
pub struct ReassignArguments {
    /// Records per second of the workload
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub rate: u64,
    /// Bytes of each
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub record_bytes: usize,
    /// MiB in the topic whose replication factor is raised from 1 to 3
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub bulk_mib: u64,
    /// The throttle of the second part, bytes per second of each broker
    #[arg(long, value_name = "BYTES", default_value_t = 20_000_000)]
    pub throttle: u64,
    /// How long to measure before and after
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub phase_seconds: u64,
    /// Directory for runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub output: PathBuf,
    /// Name of the run's directory [default: date and time, UTC, and the experiment's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// Flags of reach.
#[derive(Debug, Clone, Args)]
pub struct ReachArguments {
    /// Rows, separated by commas [default: all]
    #[arg(long, value_delimiter = ',', value_name = "N")]
    pub row: Vec<u8>,
    /// How often each thing is measured, its yardstick every time; fewer than 5 are an impression
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub repeats: u32,
    /// Seconds of each measurement [default: by row, 2 to 30; of row 13 600]
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<f64>,
    /// End with exit code 2 when something that must be reached is not
    #[arg(long)]
    pub gate: bool,
    /// MiB of memory held until a throughput is measured, at most half of what is available; 0 for none
    #[arg(long, value_name = "MIB", default_value_t = 10_240)]
    pub memory_warm_mib: u64,
    /// Directory of row-NN.csv and row-NN.json
    #[arg(long, value_name = "DIR", default_value = "results/reach")]
    pub output: PathBuf,
}

/// Flags of the sweep. Lists are separated by commas.
#[derive(Debug, Clone, Default, Args)]
pub struct SweepArguments {
    /// Settings in TOML, named as the flags with underscores; flags win over the file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Acknowledgements to wait for: 0, 1, all [default: 0,1,all]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub acks: Option<Vec<Acks>>,
    /// Replication factors [default: 1,2,3]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub replication_factor: Option<Vec<u16>>,
    /// min.insync.replicas of the cells with acks=all [default: 1 to the replication factor]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub min_insync_replicas: Option<Vec<u16>>,
    /// Brokers of the embedded cluster [default: 3]
    #[arg(long, value_name = "N")]
    pub brokers: Option<u16>,
    /// Cluster to measure instead of an embedded one
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    pub bootstrap: Option<Vec<String>>,
    /// What is measured: minisr or kafka (embedded: Apache Kafka, fetched once with mvn) [default: minisr]
    #[arg(long, value_name = "KIND")]
    pub target: Option<TargetKind>,
    /// What carries the requests: quic or tcp [default: quic, with --target kafka tcp]
    #[arg(long, value_name = "KIND")]
    pub transport: Option<TransportKind>,
    /// Certificate authority of the cluster given by --bootstrap, PEM: for QUIC, and for TLS over TCP
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// How that cluster is reached over TCP
    #[command(flatten)]
    pub security: SecurityArguments,
    /// When brokers of the embedded cluster flush: never, interval or commit [default: never]
    #[arg(long, value_name = "POLICY")]
    pub flush: Option<Flush>,
    /// Broker setting of the embedded cluster, NAME=VALUE (repeatable)
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Bytes of a record's value [default: 1024]
    #[arg(long, value_name = "BYTES")]
    pub record_size: Option<u32>,
    /// Largest batch of the maximum-throughput phase [default: 65536]
    #[arg(long, value_name = "BYTES")]
    pub batch_bytes: Option<u32>,
    /// Partitions of the topic [default: 16]
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// Batches in flight for each partition, at most 5 [default: 4]
    #[arg(long, value_name = "N")]
    pub max_in_flight: Option<u32>,
    /// Streams (QUIC) or connections (TCP) to each broker [default: 8]
    #[arg(long, value_name = "N")]
    pub streams: Option<u32>,
    /// Records per second of the constant-rate phase [default: 1000]
    #[arg(long, value_name = "RECORDS_PER_SECOND")]
    pub rate: Option<f64>,
    /// Longest wait for more records before a batch of the constant-rate phase is sent [default: 0]
    #[arg(long, value_name = "MICROSECONDS")]
    pub linger: Option<u64>,
    /// The same for the maximum-throughput phase [default: 0]
    #[arg(long, value_name = "MICROSECONDS")]
    pub max_linger: Option<u64>,
    /// Records sent before anything is measured, in rounds until the rates are flat [default: 0; --target kafka: 3000000]
    #[arg(long, value_name = "N")]
    pub warm_records: Option<u64>,
    /// Seconds measured at the constant rate [default: 10.2]
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<f64>,
    /// Seconds measured at the maximum rate [default: 2]
    #[arg(long, value_name = "SECONDS")]
    pub max_duration: Option<f64>,
    /// Seconds before each of them that are not measured [default: 0.5]
    #[arg(long, value_name = "SECONDS")]
    pub warmup: Option<f64>,
    /// How often each cell is measured, in shuffled order when more than once [default: 1]
    #[arg(long, value_name = "N")]
    pub repeats: Option<u32>,
    /// Seed of record contents and of the order of repeats [default: 1]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// MiB that one cell may write to all replicas together before its maximum-rate phase ends [default: 6144]
    #[arg(long, value_name = "MIB")]
    pub disk_budget: Option<u64>,
    /// MiB of memory held until maximum-throughput phases and ceilings begin, so that the machine has it at hand; at most
    /// half of what is available, 0 for none [default: --disk-budget]
    #[arg(long, value_name = "MIB")]
    pub memory_warm_mib: Option<u64>,
    /// Schedule delay (99th percentile) above which a constant-rate result is invalid, unless it is at most a tenth of the
    /// response time [default: 5000]
    #[arg(long, value_name = "MICROSECONDS")]
    pub schedule_delay_limit: Option<u64>,
    /// Only one phase: rate or max [default: both]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub phases: Option<Vec<crate::plan::Phase>>,
    /// Leave the ceiling out: no ratios
    #[arg(long)]
    pub no_ceiling: bool,
    /// Directory for runs [default: results]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Name of the run's directory [default: date and time, UTC]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Print the rows as JSON instead of the table
    #[arg(long)]
    pub json: bool,
}
