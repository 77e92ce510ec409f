//! Where a cluster keeps its things, and the description from which a later command finds it again.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::driver::Driver;
use crate::error::ClusterError;

/// The ports of one broker; they outlive its restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerPorts {
    /// QUIC, UDP.
    pub quic: u16,
    /// PLAINTEXT, TCP.
    pub tcp: u16,
    /// CONTROLLER, TCP.
    pub control: u16,
}

/// What was asked for; written once when the cluster is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Description {
    pub cluster_id: String,
    pub driver: Driver,
    pub binary: PathBuf,
    /// Where the jars are, if the program is a Java machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jars: Option<PathBuf>,
    pub host: IpAddr,
    /// Of broker 1, 2 and so on, removed ones included: an id is never used again.
    pub ports: Vec<BrokerPorts>,
    /// Brokers that were removed.
    #[serde(default)]
    pub removed: BTreeSet<i32>,
    pub environment: Vec<(String, String)>,
    /// Brokers are started with `--insecure-peers`.
    #[serde(default)]
    pub insecure_peers: bool,
}

impl Description {
    /// The brokers that belong to the cluster, ascending.
    pub fn ids(&self) -> Vec<i32> {
        (1..=self.ports.len() as i32).filter(|id| !self.removed.contains(id)).collect()
    }

    /// A port on the host of all brokers.
    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host, port)
    }

    /// `controller.quorum.voters` of a new cluster: all brokers.
    pub fn voters(&self) -> String {
        let voter = |(index, ports): (usize, &BrokerPorts)| format!("{}@{}", index + 1, self.address(ports.control));
        self.ports.iter().enumerate().map(voter).collect::<Vec<_>>().join(",")
    }
}

/// Paths inside a cluster's directory.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout of `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The cluster's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The cluster's certificate authority, PEM.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    pub(crate) fn ca_key(&self) -> PathBuf {
        self.dir.join("ca.key.pem")
    }

    pub(crate) fn description(&self) -> PathBuf {
        self.dir.join("cluster.json")
    }

    /// Held by a command for as long as it changes something.
    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// Everything of one broker.
    pub fn broker(&self, id: i32) -> PathBuf {
        self.dir.join(format!("broker-{id}"))
    }

    /// A broker's settings.
    pub fn properties(&self, id: i32) -> PathBuf {
        self.broker(id).join("broker.properties")
    }

    /// A broker's certificate chain and private key, PEM.
    pub fn keystore(&self, id: i32) -> PathBuf {
        self.broker(id).join("keystore.pem")
    }

    /// A broker's `log.dirs`.
    pub fn data(&self, id: i32) -> PathBuf {
        self.broker(id).join("data")
    }

    /// A broker's standard error, over all its lives.
    pub fn log(&self, id: i32) -> PathBuf {
        self.broker(id).join("broker.log")
    }

    /// A broker's standard output in its present life, where it says that it is ready.
    pub fn out(&self, id: i32) -> PathBuf {
        self.broker(id).join("broker.out")
    }

    pub(crate) fn pid(&self, id: i32) -> PathBuf {
        self.broker(id).join("broker.pid")
    }

    /// How the broker's last life was ended by a command: `killed` or `stopped`.
    pub(crate) fn ended(&self, id: i32) -> PathBuf {
        self.broker(id).join("broker.ended")
    }

    /// Present when the directory itself was made by us and is ours to remove.
    fn ours(&self) -> PathBuf {
        self.dir.join(".made-by-minisr")
    }

    pub(crate) fn mark_ours(&self) -> Result<(), ClusterError> {
        let path = self.ours();
        fs::write(&path, "").map_err(ClusterError::file("write", &path))
    }

    /// Removes what a start made; the whole directory only if it made that too.
    pub(crate) fn remove(&self) -> Result<(), ClusterError> {
        let brokers = self.read_description().map_or_else(|_| Vec::new(), |description| description.ids());
        self.remove_made(brokers)
    }

    /// The same where the description was not written, or is gone already.
    pub(crate) fn remove_made(&self, brokers: impl IntoIterator<Item = i32>) -> Result<(), ClusterError> {
        if self.ours().exists() {
            return fs::remove_dir_all(&self.dir).map_err(ClusterError::file("remove", &self.dir));
        }
        for broker in brokers.into_iter().map(|id| self.broker(id)) {
            match fs::remove_dir_all(&broker) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ClusterError::file("remove", &broker)(error));
                }
                _ => {}
            }
        }
        for path in [self.ca(), self.ca_key(), self.description(), self.lock()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ClusterError::file("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn write_description(&self, description: &Description) -> Result<(), ClusterError> {
        let path = self.description();
        let text = serde_json::to_string_pretty(description).expect("a description has only plain fields");
        fs::write(&path, text + "\n").map_err(ClusterError::file("write", &path))
    }

    pub(crate) fn read_description(&self) -> Result<Description, ClusterError> {
        let path = self.description();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ClusterError::Missing { dir: self.dir.clone() });
            }
            Err(error) => return Err(ClusterError::file("read", &path)(error)),
        };
        serde_json::from_str(&text).map_err(|error| ClusterError::Description { path, reason: error.to_string() })
    }
}

/// The directory that the commands use unless told otherwise: one per user.
pub fn default_directory() -> PathBuf {
    let named = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    named("XDG_STATE_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir)
        .join("minisr/cluster")
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), ClusterError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(ClusterError::file("create", path))?;
    file.write_all(text.as_bytes()).map_err(ClusterError::file("write", path))
}
