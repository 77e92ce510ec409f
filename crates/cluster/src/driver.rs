//! What kind of broker a cluster consists of: the seam at which another implementation can be driven.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::ClusterError;
use crate::layout::{Description, Layout};

/// A kind of broker: where its program is, what its settings file says, how it is called, how it says that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// This project's own broker.
    Minisr,
}

impl Driver {
    /// The program: the one that was asked for, or `MINISR_BROKER`, or the one beside the running program.
    pub(crate) fn find_binary(self, asked: Option<&Path>) -> Result<PathBuf, ClusterError> {
        let Self::Minisr = self;
        let named = asked.map(Path::to_path_buf).or_else(|| std::env::var_os("MINISR_BROKER").map(PathBuf::from));
        let candidates = match named {
            Some(named) => vec![named],
            None => beside_this_program("minisr-broker"),
        };
        match candidates.iter().find(|path| path.is_file()) {
            Some(found) => std::path::absolute(found).map_err(ClusterError::file("locate", found)),
            None => {
                let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
                Err(ClusterError::BinaryMissing { looked: looked.join(", ") })
            }
        }
    }

    /// The settings file of a broker. Later lines win, so the caller's settings stand last.
    pub(crate) fn properties(
        self,
        layout: &Layout,
        description: &Description,
        id: i32,
        settings: &[(String, String)],
    ) -> String {
        let Self::Minisr = self;
        let address = |port: u16| std::net::SocketAddr::new(description.host, port);
        let ports = description.ports[id as usize - 1];
        let voters: Vec<String> = description
            .ports
            .iter()
            .enumerate()
            .map(|(index, ports)| format!("{}@{}", index + 1, address(ports.control)))
            .collect();
        let own = [
            ("node.id", id.to_string()),
            ("cluster.id", description.cluster_id.clone()),
            (
                "listeners",
                format!(
                    "QUIC://{},PLAINTEXT://{},CONTROLLER://{}",
                    address(ports.quic),
                    address(ports.tcp),
                    address(ports.control)
                ),
            ),
            ("controller.quorum.voters", voters.join(",")),
            ("log.dirs", layout.data(id).display().to_string()),
            ("ssl.truststore.location", layout.ca().display().to_string()),
            ("ssl.keystore.location", layout.keystore(id).display().to_string()),
        ];
        // Plaintext peers are peers over TCP.
        let insecure = description.insecure_peers.then(|| ("inter.broker.transport", "tcp".to_owned()));
        let mut text = String::new();
        let given = |name: &str| settings.iter().any(|(setting, _)| setting == name);
        for (name, value) in own.iter().chain(&insecure).filter(|(name, _)| !given(name)) {
            writeln!(text, "{name}={value}").expect("writing to a string");
        }
        for (index, (name, value)) in settings.iter().enumerate() {
            if !settings[index + 1..].iter().any(|(later, _)| later == name) {
                writeln!(text, "{name}={value}").expect("writing to a string");
            }
        }
        text
    }

    pub(crate) fn arguments(self, layout: &Layout, description: &Description, id: i32) -> Vec<std::ffi::OsString> {
        let Self::Minisr = self;
        let mut arguments = vec!["--config".into(), layout.properties(id).into()];
        if description.insecure_peers {
            arguments.push("--insecure-peers".into());
        }
        arguments
    }

    /// Whether the broker's standard output says that it is registered and unfenced.
    pub(crate) fn is_ready(self, standard_output: &str) -> bool {
        let Self::Minisr = self;
        standard_output.lines().any(|line| line.starts_with("ready "))
    }

    /// Whether the log says that the start failed because somebody took a port in between.
    pub(crate) fn lost_a_port(self, log_tail: &str) -> bool {
        let Self::Minisr = self;
        let tail = log_tail.to_ascii_lowercase();
        tail.contains("in use") || tail.contains("eaddrinuse")
    }
}

/// Test programs stand in `deps/` one level below the binaries that they are built with.
fn beside_this_program(name: &str) -> Vec<PathBuf> {
    let Ok(program) = std::env::current_exe() else { return vec![PathBuf::from(name)] };
    program.ancestors().skip(1).take(2).map(|dir| dir.join(name)).collect()
}
