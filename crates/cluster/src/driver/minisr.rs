//! This project's own broker.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::ClusterError;
use crate::layout::{Description, Layout};

/// The program: the one that was asked for, or `MINISR_BROKER`, or the one beside the running program.
pub(super) fn find_binary(asked: Option<&Path>) -> Result<PathBuf, ClusterError> {
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

/// Test programs stand in `deps/` one level below the binaries that they are built with.
fn beside_this_program(name: &str) -> Vec<PathBuf> {
    let Ok(program) = std::env::current_exe() else { return vec![PathBuf::from(name)] };
    program.ancestors().skip(1).take(2).map(|dir| dir.join(name)).collect()
}

pub(super) fn properties(layout: &Layout, description: &Description, id: i32) -> Vec<(&'static str, String)> {
    let ports = description.ports[id as usize - 1];
    let listeners = format!(
        "QUIC://{},PLAINTEXT://{},CONTROLLER://{}",
        description.address(ports.quic),
        description.address(ports.tcp),
        description.address(ports.control)
    );
    let mut own = vec![
        ("node.id", id.to_string()),
        ("cluster.id", description.cluster_id.clone()),
        ("listeners", listeners),
        ("controller.quorum.voters", description.voters()),
        ("log.dirs", layout.data(id).display().to_string()),
        ("ssl.truststore.location", layout.ca().display().to_string()),
        ("ssl.keystore.location", layout.keystore(id).display().to_string()),
    ];
    if description.insecure_peers {
        // Plaintext peers are peers over TCP.
        own.push(("inter.broker.transport", "tcp".to_owned()));
    }
    own
}

pub(super) fn arguments(layout: &Layout, description: &Description, id: i32) -> Vec<OsString> {
    let mut arguments = vec!["--config".into(), layout.properties(id).into()];
    if description.insecure_peers {
        arguments.push("--insecure-peers".into());
    }
    arguments
}
