//! Failures on demand.

use std::io;
use std::path::Path;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening or creating a file.
    Open,
    /// Writing.
    Write,
    /// Reading.
    Read,
    /// Truncating.
    Truncate,
    /// Reserving room.
    Reserve,
    /// Syncing a file. What was un-synced is lost at the next power loss, even if a later sync succeeds, which is how
    /// Linux behaves.
    Sync,
    /// Syncing a directory.
    SyncDir,
    /// Renaming.
    Rename,
    /// Removing a file.
    Remove,
}

/// One rule: which operations fail, and how.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The operation.
    pub operation: Operation,
    /// Only where the path contains this; empty for all.
    pub path_contains: String,
    /// How many matching operations still succeed first.
    pub after: u64,
    /// How many fail then; `u64::MAX` for all.
    pub times: u64,
    /// For writes: how many bytes still reach the file.
    pub bytes_written: usize,
    /// The kind of error; `StorageFull` for ENOSPC, `Other` for EIO.
    pub error: io::ErrorKind,
}

impl Fault {
    /// All operations of one kind fail from now on, whatever the path.
    #[must_use]
    pub const fn always(operation: Operation, error: io::ErrorKind) -> Self {
        Self { operation, path_contains: String::new(), after: 0, times: u64::MAX, bytes_written: 0, error }
    }
}

/// All rules in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    rules: Vec<Fault>,
    pub(super) capacity: Option<u64>,
}

impl Faults {
    pub(super) fn inject(&mut self, fault: Fault) {
        self.rules.push(fault);
    }

    pub(super) fn check(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        self.hit(operation, path).map_or(Ok(()), |(error, _)| Err(error))
    }

    /// For a write of `len` bytes: the error and how many bytes are written all the same.
    pub(super) fn check_write(&mut self, path: &Path, len: usize) -> Result<(), (io::Error, usize)> {
        self.hit(Operation::Write, path).map_or(Ok(()), |(error, written)| Err((error, written.min(len))))
    }

    fn hit(&mut self, operation: Operation, path: &Path) -> Option<(io::Error, usize)> {
        let matches = |rule: &&mut Fault| {
            rule.operation == operation
                && rule.times > 0
                && (rule.path_contains.is_empty() || path.to_string_lossy().contains(&rule.path_contains))
        };
        let rule = self.rules.iter_mut().find(matches)?;
        if rule.after > 0 {
            rule.after -= 1;
            return None;
        }
        rule.times = if rule.times == u64::MAX { u64::MAX } else { rule.times - 1 };
        Some((io::Error::new(rule.error, "injected"), rule.bytes_written))
    }
}
