//! Settings: a properties file plus `--set name=value`, with Kafka's names, defaults and ranges.
//!
//! Nothing is ignored: a name that is not in the table, a value outside its range, or two values that contradict one
//! another stop the start with one sentence that names the setting, the value and what is allowed. Two names of
//! ZooKeeper's days are accepted, with a sentence for the log (`aliases.rs`).

mod aliases;
mod checks;
mod endpoints;
mod kinds;
mod table;

pub use endpoints::{HostPort, Listener, Protocol, peer_address};
pub use table::{Documented, Settings};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// When appended data is forced to stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushPolicy {
    /// Kafka's default: replication is the durability; only a roll and a clean stop flush.
    Never,
    /// Every `log.flush.interval.ms`.
    Interval,
    /// Before this replica's copy counts towards the high watermark.
    Commit,
}

/// What replica fetches travel on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterBrokerTransport {
    /// QUIC with mutual TLS.
    Quic,
    /// TCP with mutual TLS, or plaintext with `--insecure-peers`.
    Tcp,
}

/// Why the settings cannot be used. Every variant reads as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The settings file cannot be read.
    #[error("cannot read settings file {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of the file is not `name=value`.
    #[error("{path} line {line}: expected name=value, found \"{text}\"", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// A line names a setting that an earlier line named.
    #[error("{path} line {line}: setting {name} was given before in this file", path = path.display())]
    Repeated {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The setting.
        name: String,
    },
    /// No such setting.
    #[error("unknown setting {name}{hint}")]
    Unknown {
        /// The name given.
        name: String,
        /// What to do instead, with its leading punctuation; or nothing.
        hint: String,
    },
    /// A setting without a default is absent.
    #[error("setting {name} is missing; it must be {allowed}")]
    Missing {
        /// The setting.
        name: &'static str,
        /// What it may be.
        allowed: String,
    },
    /// A flag that the settings contradict.
    #[error("--insecure-peers is for replication over plaintext TCP: it needs {needs}")]
    InsecurePeers {
        /// What is missing.
        needs: &'static str,
    },
    /// A value out of range.
    #[error("setting {name}={value} is invalid: it must be {allowed}")]
    Invalid {
        /// The setting.
        name: String,
        /// The value given.
        value: String,
        /// What it may be.
        allowed: String,
    },
}

impl Settings {
    /// Reads `file`, lets `overrides` (`--set`) win over it, and checks the whole, `--insecure-peers` included.
    ///
    /// # Errors
    /// The first thing that is wrong, as one sentence.
    pub fn load(
        file: Option<&Path>,
        overrides: &[(String, String)],
        insecure_peers: bool,
    ) -> Result<Self, ConfigError> {
        let mut values = match file {
            Some(path) => read_properties(path)?,
            None => BTreeMap::new(),
        };
        values.extend(overrides.iter().cloned());
        Self::from_values_and_flag(&values, insecure_peers)
    }

    /// Parses and checks settings given as name and value.
    ///
    /// # Errors
    /// The first thing that is wrong, as one sentence.
    pub fn from_values(values: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        Self::from_values_and_flag(values, false)
    }

    fn from_values_and_flag(values: &BTreeMap<String, String>, insecure_peers: bool) -> Result<Self, ConfigError> {
        let mut values = values.clone();
        let notes = aliases::resolve(&mut values)?;
        let settings = Self { notes, insecure_peers, ..Self::parse(&values)? };
        settings.check()?;
        Ok(settings)
    }

    /// The listener of the leader that replica fetches go to.
    #[must_use]
    pub const fn inter_broker_listener(&self) -> Protocol {
        match (self.inter_broker_transport, self.insecure_peers) {
            (InterBrokerTransport::Quic, _) => Protocol::Quic,
            (InterBrokerTransport::Tcp, false) => Protocol::Ssl,
            (InterBrokerTransport::Tcp, true) => Protocol::Plaintext,
        }
    }

    /// The listener that speaks `protocol`, if there is one.
    #[must_use]
    pub fn listener(&self, protocol: Protocol) -> Option<&HostPort> {
        self.listeners.iter().find(|listener| listener.protocol == protocol).map(|listener| &listener.address)
    }

    /// What others are told about the listener that speaks `protocol` and is bound to `bound_port`.
    #[must_use]
    pub fn advertised(&self, protocol: Protocol, bound_port: u16) -> Option<HostPort> {
        let named = self.advertised_listeners.iter().flatten().find(|listener| listener.protocol == protocol);
        let mut address = match named {
            Some(listener) => listener.address.clone(),
            None => self.listener(protocol)?.clone(),
        };
        if address.port == 0 {
            address.port = bound_port;
        }
        Some(address)
    }

    /// The table of all settings as text, for `--settings`.
    #[must_use]
    pub fn describe() -> String {
        let mut text = String::new();
        for setting in Self::documented() {
            let default = match setting.default {
                None => "(must be given)".to_owned(),
                Some("") => "(none)".to_owned(),
                Some(value) => value.to_owned(),
            };
            text +=
                &format!("{} = {default}\n    {}.\n    Allowed: {}.\n", setting.name, setting.meaning, setting.allowed);
        }
        for alias in aliases::ALIASES {
            let aliases::Alias { name, default_was, meaning } = alias;
            text += &format!("{name} (Kafka's default was {default_was})\n    {meaning}.\n");
        }
        text
    }
}

fn read_properties(path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_path_buf(), source })?;
    let mut values = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(ConfigError::Malformed {
                path: path.to_path_buf(),
                line: index + 1,
                text: line.chars().take(80).collect(),
            });
        };
        let name = name.trim().to_owned();
        if values.insert(name.clone(), value.trim().to_owned()).is_some() {
            return Err(ConfigError::Repeated { path: path.to_path_buf(), line: index + 1, name });
        }
    }
    Ok(values)
}

/// Names that Kafka had or has, with what to do about them here.
fn unknown(name: &str, names: &[&str]) -> ConfigError {
    let hint = match name {
        "broker.id" => "; use node.id".to_owned(),
        "log.dir" => "; use log.dirs".to_owned(),
        "log.retention.hours" | "log.retention.minutes" => "; use log.retention.ms".to_owned(),
        "log.roll.hours" => "; use log.roll.ms".to_owned(),
        _ if name.starts_with("zookeeper.") => {
            "; there is no ZooKeeper: controller.quorum.voters names the controllers".to_owned()
        }
        _ if ["offsets.", "group.", "transaction.", "transactional."].iter().any(|p| name.starts_with(p)) => {
            "; this version has no consumer groups and no transactions".to_owned()
        }
        _ => match nearest(name, names) {
            Some(known) => format!("; did you mean {known}?"),
            None => "; minisr-broker --settings lists all settings".to_owned(),
        },
    };
    ConfigError::Unknown { name: name.to_owned(), hint }
}

/// The known name closest to `name`, when it is close enough to be a slip of the pen.
fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let (distance, known) = names.iter().map(|known| (edit_distance(name, known), *known)).min()?;
    (distance <= 4 && distance * 4 <= known.len()).then_some(known)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
