//! What a caller may ask of a new cluster.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::driver::Driver;

/// When a broker forces its log to stable storage (`log.flush.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlushPolicy {
    /// Never for the sake of an acknowledgement: replication is the durability (Kafka's default).
    Never,
    /// Every `log.flush.interval.ms`.
    Interval,
    /// Before the replica's copy counts.
    Commit,
}

impl fmt::Display for FlushPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Never => "never",
            Self::Interval => "interval",
            Self::Commit => "commit",
        })
    }
}

impl std::str::FromStr for FlushPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            "interval" => Ok(Self::Interval),
            "commit" => Ok(Self::Commit),
            _ => Err(format!("`{text}` is not a flush policy (never, interval or commit)")),
        }
    }
}

/// How the brokers get their ports. `Some(base)` gives broker i the port base + i; `None` takes a free one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ports {
    /// QUIC (UDP), for clients and peers.
    pub quic: Option<u16>,
    /// PLAINTEXT (TCP), for clients.
    pub tcp: Option<u16>,
    /// CONTROLLER (TCP), between brokers.
    pub control: Option<u16>,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// How many brokers; their ids are 1 to this number.
    pub brokers: usize,
    /// The cluster's directory; a new temporary one when `None`.
    pub dir: Option<PathBuf>,
    /// Broker settings, the same for all, by Kafka's names; they override what the driver writes.
    pub settings: Vec<(String, String)>,
    /// `broker.rack` of the brokers in order of id, beginning anew when there are more brokers; none when empty.
    pub racks: Vec<String>,
    /// Flush policy; the broker's own default when `None`.
    pub flush: Option<FlushPolicy>,
    /// Brokers replicate over plaintext TCP and believe one another (`--insecure-peers`): for measurements.
    pub insecure_peers: bool,
    /// Ports.
    pub ports: Ports,
    /// The address that the brokers listen on and advertise.
    pub host: IpAddr,
    /// What the brokers are.
    pub driver: Driver,
    /// The broker program; looked for beside the running program when `None`.
    pub broker_binary: Option<PathBuf>,
    /// Environment of the broker processes beyond the inherited one (`RUST_LOG`, for instance).
    pub environment: Vec<(String, String)>,
    /// How long all brokers together may take to become ready; the driver's own bound when `None`.
    pub ready_timeout: Option<Duration>,
    /// Keep the directory when the cluster goes away, even a temporary one.
    pub keep_dir: bool,
    /// Remove the directory when the cluster goes away, even a named one.
    pub remove_dir: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            brokers: 3,
            dir: None,
            settings: Vec::new(),
            racks: Vec::new(),
            flush: None,
            insecure_peers: false,
            ports: Ports::default(),
            host: IpAddr::from([127, 0, 0, 1]),
            driver: Driver::Minisr,
            broker_binary: None,
            environment: Vec::new(),
            ready_timeout: None,
            keep_dir: false,
            remove_dir: false,
        }
    }
}

impl ClusterOptions {
    /// A cluster of `brokers` brokers in a temporary directory with free ports.
    pub fn new(brokers: usize) -> Self {
        Self { brokers, ..Self::default() }
    }

    /// Adds a broker setting.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.settings.push((name.into(), value.to_string()));
        self
    }
}
