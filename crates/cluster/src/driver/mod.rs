//! What kind of broker a cluster consists of: the seam at which another implementation is driven.
//!
//! Everything that differs between implementations is asked of a [`Driver`] and of nothing else: where the program is,
//! what its settings file says, how it is called, how it says that it is ready. Processes, ports, signals and
//! directories are the same for all.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ClusterError;
use crate::layout::{Description, Layout};
use crate::options::FlushPolicy;

mod kafka;
mod kafka_install;
mod minisr;

pub use kafka_install::{KAFKA_VERSION, KafkaError, KafkaInstallation};

/// A kind of broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// This project's own broker.
    Minisr,
    /// Apache Kafka in KRaft mode, every process a broker and a controller.
    Kafka,
}

/// What is started for each broker.
pub(crate) struct Program {
    /// The executable.
    pub binary: PathBuf,
    /// The directory with the jars, where the executable is a Java machine.
    pub jars: Option<PathBuf>,
    /// Environment that a later start needs as well.
    pub environment: Vec<(String, String)>,
}

impl Driver {
    /// Its name in a sentence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minisr => "minisr",
            Self::Kafka => "Apache Kafka",
        }
    }

    /// Whether clients can reach it over QUIC.
    #[must_use]
    pub const fn speaks_quic(self) -> bool {
        matches!(self, Self::Minisr)
    }

    /// How long all brokers together may take to become ready unless the caller says otherwise.
    #[must_use]
    pub const fn ready_timeout(self) -> Duration {
        match self {
            Self::Minisr => Duration::from_secs(30),
            // Three Java machines that start on two cores; restarts read the logs first.
            Self::Kafka => Duration::from_secs(120),
        }
    }

    /// Finds the program, or makes it available; the caller's choice comes first.
    pub(crate) async fn find_program(self, asked: Option<&Path>) -> Result<Program, ClusterError> {
        match self {
            Self::Minisr => Ok(Program { binary: minisr::find_binary(asked)?, jars: None, environment: Vec::new() }),
            Self::Kafka => kafka::find_program(asked).await,
        }
    }

    /// The settings file of a broker: what the driver needs, then the caller's settings, which win.
    pub(crate) fn properties(
        self,
        layout: &Layout,
        description: &Description,
        id: i32,
        settings: &[(String, String)],
    ) -> String {
        let own = match self {
            Self::Minisr => minisr::properties(layout, description, id),
            Self::Kafka => kafka::properties(layout, description, id),
        };
        let mut text = String::new();
        let given = |name: &str| settings.iter().any(|(setting, _)| setting == name);
        for (name, value) in own.iter().filter(|(name, _)| !given(name)) {
            writeln!(text, "{name}={value}").expect("writing to a string");
        }
        for (index, (name, value)) in settings.iter().enumerate() {
            if !settings[index + 1..].iter().any(|(later, _)| later == name) {
                writeln!(text, "{name}={value}").expect("writing to a string");
            }
        }
        text
    }

    /// The settings that give a flush policy.
    pub(crate) fn flush_settings(self, policy: FlushPolicy) -> Vec<(String, String)> {
        match self {
            Self::Minisr => vec![("log.flush.policy".to_owned(), policy.to_string())],
            Self::Kafka => kafka::flush_settings(policy),
        }
    }

    /// What must be there before a broker starts, for the first time or with an empty disk.
    pub(crate) async fn prepare(self, layout: &Layout, description: &Description, id: i32) -> Result<(), ClusterError> {
        match self {
            Self::Minisr => Ok(()),
            Self::Kafka => kafka::prepare(layout, description, id).await,
        }
    }

    pub(crate) fn arguments(self, layout: &Layout, description: &Description, id: i32) -> Vec<OsString> {
        match self {
            Self::Minisr => minisr::arguments(layout, description, id),
            Self::Kafka => kafka::arguments(layout, description, id),
        }
    }

    /// Whether the broker's standard output says that it is registered and unfenced.
    pub(crate) fn is_ready(self, standard_output: &str) -> bool {
        match self {
            Self::Minisr => standard_output.lines().any(|line| line.starts_with("ready ")),
            Self::Kafka => kafka::is_ready(standard_output),
        }
    }

    /// Whether the log says that the start failed because somebody took a port in between.
    pub(crate) fn lost_a_port(self, log_tail: &str) -> bool {
        let tail = log_tail.to_ascii_lowercase();
        // The words of the system, whoever repeats them.
        tail.contains("in use") || tail.contains("eaddrinuse")
    }
}
