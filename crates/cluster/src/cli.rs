//! The commands and what each does.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use minisr_cluster::{Cluster, ClusterError, ClusterOptions, Driver, FlushPolicy, Ports, default_directory};

use crate::{elect, reassign, status};

/// Runs a local cluster of minisr brokers, or of Apache Kafka's, for play and for tests.
#[derive(Debug, Parser)]
#[command(name = "minisr-cluster", version)]
pub struct Cli {
    /// The cluster's directory [default: ~/.local/state/minisr/cluster]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a cluster, start it, and leave it running; prints one line when all brokers are ready
    Up(Up),
    /// Show brokers, their processes and addresses, and the topics' partitions
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Kill a broker with SIGKILL
    Kill {
        /// Broker id, or `all`
        broker: Target,
    },
    /// Stop a broker with SIGTERM and wait until it has gone
    Stop {
        /// Broker id, or `all`
        broker: Target,
    },
    /// Start a broker that is down, with the ports and data it had, and wait until it is ready
    Start {
        /// Broker id, or `all`
        broker: Target,
    },
    /// Freeze a broker with SIGSTOP
    Pause {
        /// Broker id, or `all`
        broker: Target,
    },
    /// Let a frozen broker go on with SIGCONT
    Resume {
        /// Broker id, or `all`
        broker: Target,
    },
    /// Replace the data of a broker that is down by an empty directory
    Wipe {
        /// Broker id, or `all`
        broker: Target,
    },
    /// Give partitions back to their preferred leaders, or (--unclean) any leader to those that cannot have a safe one
    ElectLeaders(elect::ElectLeaders),
    /// Add a broker to the running cluster; it follows the controller quorum until it is promoted
    Add {
        /// How many
        #[arg(default_value_t = 1)]
        count: usize,
    },
    /// Move everything away from a broker, stop it and make the cluster forget it
    Remove {
        /// Broker id
        broker: i32,
        /// How long its replicas may take to move
        #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
        wait_max: u64,
    },
    /// Make a broker a voter of the controller quorum
    Promote {
        /// Broker id
        broker: i32,
    },
    /// Take a broker's vote in the controller quorum away
    Demote {
        /// Broker id
        broker: i32,
    },
    /// Change which brokers hold a partition (or list, or cancel such changes)
    Reassign(reassign::Reassign),
    /// Give a topic more partitions
    AddPartitions {
        /// The topic
        #[arg(long, value_name = "NAME")]
        topic: String,
        /// How many it shall have in all
        #[arg(long, value_name = "N")]
        partitions: i32,
    },
    /// Kill all brokers and remove what `up` made (the whole directory if `up` made it)
    Down,
}

#[derive(Debug, clap::Args)]
struct Up {
    /// Start Apache Kafka (KRaft) instead of minisr; its jars are fetched once with mvn, Java 17 runs them
    #[arg(long, conflicts_with_all = ["broker_binary", "quic_port"])]
    kafka: bool,
    /// How many brokers
    #[arg(long, default_value_t = 3, value_name = "N")]
    brokers: usize,
    /// A broker setting, by Kafka's name; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Racks of the brokers in turn, for instance a,b,c
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    racks: Vec<String>,
    /// When brokers force their log to stable storage: never, interval or commit
    #[arg(long, value_name = "POLICY")]
    flush: Option<FlushPolicy>,
    /// Let the brokers replicate over plaintext TCP and believe one another: for measurements
    #[arg(long)]
    insecure_peers: bool,
    /// Broker i serves QUIC on this port + i [default: free ports]
    #[arg(long, value_name = "PORT")]
    quic_port: Option<u16>,
    /// Broker i serves TCP on this port + i [default: free ports]
    #[arg(long, value_name = "PORT")]
    tcp_port: Option<u16>,
    /// Broker i talks to other brokers' controllers on this port + i [default: free ports]
    #[arg(long, value_name = "PORT")]
    control_port: Option<u16>,
    /// The address to listen on and to advertise
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,
    /// The broker program [default: minisr-broker beside this program, or $MINISR_BROKER]
    #[arg(long, value_name = "FILE")]
    broker_binary: Option<PathBuf>,
    /// How long all brokers together may take to become ready [default: 30, with --kafka 120]
    #[arg(long, value_name = "SECONDS")]
    ready_timeout: Option<f64>,
}

/// One broker or all of them.
#[derive(Debug, Clone, Copy)]
enum Target {
    One(i32),
    All,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            number => number.parse().map(Self::One).map_err(|_| "a broker id, or `all`".to_owned()),
        }
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("a setting is written name=value".to_owned()),
    }
}

/// Carries out a command.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let dir = cli.dir.unwrap_or_else(default_directory);
    match cli.command {
        Command::Up(up) => start(dir, up).await,
        Command::Status { json } => status::print(&Cluster::open(dir)?, json).await,
        Command::Kill { broker } => {
            let kill = async |cluster: &Cluster, id| {
                cluster.kill(id)?;
                // So that the next command finds it gone.
                cluster.wait_killed(id).await
            };
            each(dir, broker, kill).await
        }
        Command::Stop { broker: Target::All } => {
            let (cluster, _lock) = open(dir)?;
            Ok(cluster.stop_all().await?)
        }
        Command::Stop { broker } => each(dir, broker, Cluster::stop).await,
        Command::Start { broker } => {
            // All first, then wait: a broker is ready only once a majority is there.
            let (cluster, _lock) = open(dir)?;
            let ids = targets(&cluster, broker);
            for id in &ids {
                if broker_is_single(broker) || cluster.pid(*id).is_none() {
                    cluster.start_broker(*id).await?;
                }
            }
            for id in ids {
                cluster.wait_ready(id).await?;
            }
            Ok(())
        }
        Command::Pause { broker } => each(dir, broker, async |cluster, id| cluster.pause(id).await).await,
        Command::Resume { broker } => each(dir, broker, async |cluster, id| cluster.resume(id)).await,
        Command::Wipe { broker } => each(dir, broker, async |cluster, id| cluster.wipe(id)).await,
        Command::ElectLeaders(asked) => elect::run(&Cluster::open(dir)?, &asked).await,
        Command::Add { count } => {
            let (cluster, _lock) = open(dir)?;
            reassign::add(&cluster, count).await
        }
        Command::Remove { broker, wait_max } => {
            let (cluster, _lock) = open(dir)?;
            reassign::remove(&cluster, broker, wait_max).await
        }
        Command::Promote { broker } => reassign::vote(&Cluster::open(dir)?, broker, true).await,
        Command::Demote { broker } => reassign::vote(&Cluster::open(dir)?, broker, false).await,
        Command::Reassign(asked) => reassign::reassign(&Cluster::open(dir)?, &asked).await,
        Command::AddPartitions { topic, partitions } => {
            reassign::add_partitions(&Cluster::open(dir)?, &topic, partitions).await
        }
        Command::Down => {
            let (cluster, lock) = open(dir)?;
            drop(lock);
            Ok(cluster.destroy().await?)
        }
    }
}

async fn start(dir: PathBuf, up: Up) -> anyhow::Result<()> {
    if up.ready_timeout.is_some_and(|seconds| !seconds.is_finite() || seconds <= 0.0) {
        bail!("--ready-timeout must be a positive number of seconds");
    }
    let options = ClusterOptions {
        brokers: up.brokers,
        dir: Some(dir),
        settings: up.settings,
        racks: up.racks,
        flush: up.flush,
        insecure_peers: up.insecure_peers,
        ports: Ports { quic: up.quic_port, tcp: up.tcp_port, control: up.control_port },
        host: up.host,
        broker_binary: up.broker_binary,
        driver: if up.kafka { Driver::Kafka } else { Driver::Minisr },
        ready_timeout: up.ready_timeout.map(Duration::from_secs_f64),
        keep_dir: true,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).await?;
    let quic = match cluster.driver().speaks_quic() {
        true => format!("quic={} ", join(&cluster.bootstrap_quic())),
        false => String::new(),
    };
    let line = format!("ready {quic}tcp={} dir={}", join(&cluster.bootstrap_tcp()), cluster.dir().display());
    cluster.detach();
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

async fn each(
    dir: PathBuf,
    target: Target,
    action: impl AsyncFn(&Cluster, i32) -> Result<(), ClusterError>,
) -> anyhow::Result<()> {
    let (cluster, _lock) = open(dir)?;
    for id in targets(&cluster, target) {
        action(&cluster, id).await?;
    }
    Ok(())
}

/// Opens the cluster and keeps other commands that change it out: two starts of one broker must not both win.
fn open(dir: PathBuf) -> anyhow::Result<(Cluster, File)> {
    let cluster = Cluster::open(dir)?;
    let path = cluster.dir().join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok((cluster, file))
}

fn targets(cluster: &Cluster, target: Target) -> Vec<i32> {
    match target {
        Target::One(id) => vec![id],
        Target::All => cluster.ids().collect(),
    }
}

fn broker_is_single(target: Target) -> bool {
    matches!(target, Target::One(_))
}

fn join(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
}
