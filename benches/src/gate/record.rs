//! The committed counts: one CSV file for each gate, to be read in a diff.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A line of `instructions.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instructions {
    /// What was run.
    pub function: String,
    /// The CPU as the program saw it; counts of another are not comparable.
    pub cpu: String,
    /// The compiler; counts of another are not comparable.
    pub rustc: String,
    /// The C library that `elsewhere` is of.
    pub libc: String,
    /// Instructions of the program itself, per call.
    pub instructions: f64,
    /// Instructions outside it, per call: copying and allocating, which the C library does.
    pub elsewhere: f64,
}

/// A line of `allocations.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allocations {
    /// What was run.
    pub path: String,
    /// The size of a batch, before its header.
    pub batch_bytes: usize,
    /// Allocations per request.
    pub allocations: f64,
    /// Bytes allocated per request.
    pub allocated_bytes: f64,
}

/// Why committed counts cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the committed counts in {}: {source}", path.display())]
pub struct RecordError {
    what: &'static str,
    path: PathBuf,
    source: csv::Error,
}

/// Reads a file of counts.
///
/// # Errors
/// It is not there or is not such a file.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, RecordError> {
    let failed = |source| RecordError { what: "read", path: path.to_owned(), source };
    csv::Reader::from_path(path).map_err(failed)?.deserialize().collect::<Result<_, _>>().map_err(failed)
}

/// Writes a file of counts anew.
///
/// # Errors
/// It cannot be written.
pub fn save<T: Serialize>(path: &Path, rows: &[T]) -> Result<(), RecordError> {
    let failed = |source| RecordError { what: "write", path: path.to_owned(), source };
    let mut writer = csv::Writer::from_path(path).map_err(failed)?;
    rows.iter().try_for_each(|row| writer.serialize(row)).map_err(failed)?;
    writer.flush().map_err(|error| failed(error.into()))
}
