//! What can go wrong with a cluster of processes; each message is a sentence for a person at a terminal.

use std::io;
use std::path::PathBuf;

use crate::driver::KafkaError;

/// A failed operation on a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// An operation on a file or directory failed.
    #[error("cannot {doing} {}: {reason}", path.display())]
    File {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not. (Not called `source`: it is part of the sentence, and whoever prints a chain would say it twice.)
        reason: io::Error,
    },
    /// The directory holds a cluster already.
    #[error("{} holds a cluster already ({state}); use `minisr-cluster {hint}`, or name another directory with --dir", dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
        /// Whether it runs.
        state: &'static str,
        /// What to do instead.
        hint: &'static str,
    },
    /// The directory holds no cluster.
    #[error("there is no cluster in {} (start one with `minisr-cluster up`, or name its directory with --dir)", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// The recorded description of a cluster does not parse.
    #[error("{} is not a cluster description: {reason}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Why it does not parse.
        reason: String,
    },
    /// The broker program is nowhere to be found.
    #[error(
        "cannot find the program minisr-broker (looked for {looked}); build it with `cargo build -p minisr-broker`, \
         or name it with --broker-binary or the environment variable MINISR_BROKER"
    )]
    BinaryMissing {
        /// Where it was looked for.
        looked: String,
    },
    /// A chosen port is taken.
    #[error("port {port} ({transport}, broker {broker}) is in use; nothing was started")]
    PortInUse {
        /// The port.
        port: u16,
        /// `udp` or `tcp`.
        transport: &'static str,
        /// The broker that should have had it.
        broker: i32,
    },
    /// No free ports could be found.
    #[error("no {wanted} free ports found outside the ephemeral range")]
    NoPorts {
        /// How many were wanted.
        wanted: usize,
    },
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
    /// The cluster has no such broker.
    #[error("there is no broker {id}; this cluster has brokers {brokers}")]
    NoSuchBroker {
        /// The id asked for.
        id: i32,
        /// Which brokers there are.
        brokers: String,
    },
    /// The broker is not in a state in which this can be done.
    #[error("broker {id} is {state}, so it cannot be {wanted}")]
    WrongState {
        /// The broker.
        id: i32,
        /// The state it is in.
        state: String,
        /// What was asked for, as a participle.
        wanted: &'static str,
    },
    /// A broker did not become ready.
    #[error("broker {id} {what}; its last log lines:\n{tail}\n(the whole log is {})", log.display())]
    NotReady {
        /// The broker.
        id: i32,
        /// What it did instead.
        what: String,
        /// The last lines of its log.
        tail: String,
        /// The log.
        log: PathBuf,
    },
    /// A broker did not stop in time.
    #[error("broker {id} did not stop within {seconds} s (log: {})", log.display())]
    NotStopped {
        /// The broker.
        id: i32,
        /// How long it was given.
        seconds: u64,
        /// The log.
        log: PathBuf,
    },
    /// A signal could not be sent.
    #[error("cannot signal broker {id}: {reason}")]
    Signal {
        /// The broker.
        id: i32,
        /// Why not.
        reason: nix::Error,
    },
    /// Apache Kafka cannot be run here.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The brokers are not minisr's, and only minisr's can do this.
    #[error("`{command}` is for clusters of minisr brokers, and this one consists of {driver} brokers")]
    OnlyMinisr {
        /// What was asked for.
        command: &'static str,
        /// What the brokers are.
        driver: &'static str,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(rcgen::Error),
}

impl From<rcgen::Error> for ClusterError {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error)
    }
}

impl ClusterError {
    /// For `map_err`: the operation `doing` failed on `path`.
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |reason| Self::File { doing, path, reason }
    }
}
