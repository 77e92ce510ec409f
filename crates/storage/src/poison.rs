//! The first failed write or sync closes a log for writing until it is opened again.
//!
//! After a failed write nobody knows which part reached the file. After a failed sync nobody knows which part
//! reached the disk, and the kernel has marked the pages clean: a second sync would succeed and prove nothing. So
//! there is no retry; the only way on is to open the log again, which reads what is really there.

use std::io;
use thiserror::Error;

/// Appending to a segment failed.
pub const A_WRITE: &str = "a write";
/// Making the next segment failed.
pub const CREATING_A_SEGMENT: &str = "creating a segment";

/// Why a log takes no more writes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the log is closed for writes since {operation} failed: {reason}")]
pub struct Poisoned {
    /// What failed first, such as [`A_WRITE`].
    pub operation: &'static str,
    /// What the system said.
    pub reason: String,
    /// The kind of the first error, so that disk full can be told from a broken disk.
    pub kind: io::ErrorKind,
}

/// What [`Poisoned::operation`] says of a failed sync.
pub(crate) const SYNC: &str = "a sync";

impl Poisoned {
    /// Whether it was a sync that failed, after which what can be read need not be on the disk.
    #[must_use]
    pub fn is_of_sync(&self) -> bool {
        self.operation == SYNC
    }

    /// Whether everything written before the failure is certainly still there, as if the process had been killed: there
    /// was only no room for more. After a failed sync, or any other error of the device, nobody knows.
    #[must_use]
    pub fn spares_what_was_written(&self) -> bool {
        matches!(self.operation, A_WRITE | CREATING_A_SEGMENT)
            && matches!(self.kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Remembers the first failure.
#[derive(Clone, Debug, Default)]
pub struct Poison(Option<Poisoned>);

impl Poison {
    /// Refuses when something failed before.
    pub fn check(&self) -> Result<(), Poisoned> {
        self.0.clone().map_or(Ok(()), Err)
    }

    /// The first failure, if there was one.
    #[must_use]
    pub const fn cause(&self) -> Option<&Poisoned> {
        self.0.as_ref()
    }

    /// Records a failure and returns what to answer. Only the first one is kept.
    pub fn set(&mut self, operation: &'static str, error: &io::Error) -> Poisoned {
        self.0.get_or_insert_with(|| Poisoned { operation, reason: error.to_string(), kind: error.kind() }).clone()
    }

    /// Turns an error of `operation` into the poisoned state.
    pub fn guard<T>(&mut self, operation: &'static str, result: io::Result<T>) -> Result<T, Poisoned> {
        result.map_err(|error| self.set(operation, &error))
    }
}
