//! The data directory: whose it is, and that only one process uses it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use minisr_logic::BrokerId;
use minisr_storage::checkpoint::{META_PROPERTIES, MetaProperties};
use nix::fcntl::{Flock, FlockArg};

use crate::durable;

const LOCK_FILE: &str = ".lock";

/// A data directory that this process holds for itself until it ends.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// The kernel drops the lock with the process, however it ends.
    _lock: Flock<File>,
}

/// Why a data directory cannot be used. Each reads as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system failed.
    #[error("cannot use the data directory {path}: {source}", path = path.display())]
    Io {
        /// The directory or a file in it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the data directory {path} is in use by another process", path = path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to another broker.
    #[error("the data directory {path} belongs to node.id={found}, not to node.id={expected}", path = path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: i32,
        /// Who we are.
        expected: BrokerId,
    },
    /// It belongs to another cluster.
    #[error(
        "the data directory {path} belongs to cluster.id={found}, not to cluster.id={expected}", path = path.display()
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Which cluster we are of.
        expected: String,
    },
    /// It says nothing sensible about itself.
    #[error("cannot read {path}: {reason}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl DataDirectory {
    /// Opens the directory for this process alone; makes it if there is none.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn open(path: &Path, node_id: BrokerId, cluster_id: &str) -> Result<Self, DirectoryError> {
        let io_error = |source| DirectoryError::Io { path: path.to_path_buf(), source };
        fs::create_dir_all(path).map_err(io_error)?;
        let file =
            File::options().create(true).truncate(false).write(true).open(path.join(LOCK_FILE)).map_err(io_error)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                return Err(DirectoryError::Locked { path: path.to_path_buf() });
            }
            Err((_, errno)) => return Err(io_error(errno.into())),
        };
        let directory = Self { path: path.to_path_buf(), _lock: lock };
        directory.check_owner(node_id, cluster_id)?;
        Ok(directory)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_owner(&self, node_id: BrokerId, cluster_id: &str) -> Result<(), DirectoryError> {
        let file = self.path.join(META_PROPERTIES);
        let io_error = |source| DirectoryError::Io { path: file.clone(), source };
        let Some(bytes) = durable::read(&file).map_err(io_error)? else {
            let owner = MetaProperties {
                node_id: node_id.0,
                cluster_id: cluster_id.to_owned(),
                directory_id: uuid::Uuid::new_v4().as_u128(),
            };
            return durable::replace(&file, owner.encode().as_bytes()).map_err(io_error);
        };
        let owner = MetaProperties::decode(&String::from_utf8_lossy(&bytes))
            .map_err(|e| DirectoryError::Malformed { path: file.clone(), reason: e.to_string() })?;
        if owner.cluster_id != cluster_id {
            return Err(DirectoryError::OtherCluster {
                path: self.path.clone(),
                found: owner.cluster_id,
                expected: cluster_id.to_owned(),
            });
        }
        if owner.node_id != node_id.0 {
            return Err(DirectoryError::OtherNode { path: self.path.clone(), found: owner.node_id, expected: node_id });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_held_by_one_process_of_its_owner() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("data");
        let held = DataDirectory::open(&path, BrokerId(1), "a").expect("made");
        assert!(matches!(DataDirectory::open(&path, BrokerId(1), "a"), Err(DirectoryError::Locked { .. })));
        drop(held);
        drop(DataDirectory::open(&path, BrokerId(1), "a").expect("opened again"));
        assert!(matches!(DataDirectory::open(&path, BrokerId(2), "a"), Err(DirectoryError::OtherNode { .. })));
        assert!(matches!(DataDirectory::open(&path, BrokerId(1), "b"), Err(DirectoryError::OtherCluster { .. })));
    }
}
