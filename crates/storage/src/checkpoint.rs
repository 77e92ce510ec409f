//! Small files that are old or new, never half: written aside, synced, renamed, directory synced. One that nobody depends on
//! is written over in place ([`write_over`]).
//!
//! Text formats are Kafka's, so that its tools and a pair of eyes can read them.

mod files;
mod offsets;

pub use files::{MetaProperties, PartitionMetadata};
pub use offsets::{decode_leader_epochs, decode_offsets, encode_leader_epochs, encode_offsets};

use crate::disk::{Disk, OpenMode};
use std::io::{self, IoSlice};
use std::path::Path;
use thiserror::Error;

/// High watermark of each partition, in the root of the data directory.
pub const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// Flushed offset of each partition, in the root.
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// Log start offset of each partition, in the root.
pub const LOG_STARTS: &str = "log-start-offset-checkpoint";
/// Leader epochs, in the partition's directory.
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
/// Topic id, in the partition's directory.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// Identity of the data directory, in the root.
pub const META_PROPERTIES: &str = "meta.properties";
/// Present after a clean shutdown, in the root.
pub const CLEAN_SHUTDOWN: &str = "clean-shutdown";
/// The machine's boot in which the data directory was last in use, in the root.
pub const BOOT_ID: &str = "boot-id";

const TEMPORARY_SUFFIX: &str = ".tmp";

/// How much a written checkpoint promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On stable storage, name included, when the call returns.
    Synced,
    /// Old or new for any later process, but a power loss may take the new content **or leave the file missing or
    /// unreadable**: for what can be rebuilt.
    Written,
}

/// Why a checkpoint could not be used.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The disk failed.
    #[error("{name}: {source}")]
    Io {
        /// The file.
        name: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The content is not what it should be.
    #[error("{name} is malformed: {reason}")]
    Malformed {
        /// The file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl CheckpointError {
    fn malformed(name: &str, reason: impl Into<String>) -> Self {
        Self::Malformed { name: name.to_owned(), reason: reason.into() }
    }
}

/// Replaces the file `name` in `directory`.
pub fn write<D: Disk>(
    disk: &mut D,
    directory: &Path,
    name: &str,
    content: &[u8],
    durability: Durability,
) -> Result<(), CheckpointError> {
    replace(disk, directory, name, content, durability)
        .map_err(|source| CheckpointError::Io { name: name.to_owned(), source })
}

fn replace<D: Disk>(
    disk: &mut D,
    directory: &Path,
    name: &str,
    content: &[u8],
    durability: Durability,
) -> io::Result<()> {
    let aside = directory.join(format!("{name}{TEMPORARY_SUFFIX}"));
    let file = disk.open(&aside, OpenMode::Create)?;
    disk.write_at(&file, 0, &[IoSlice::new(content)])?;
    if durability == Durability::Synced {
        disk.sync_file(&file)?;
    }
    disk.rename(&aside, &directory.join(name))?;
    if durability == Durability::Synced {
        disk.sync_dir(directory)?;
    }
    Ok(())
}

/// Writes the file `name` in `directory` over, in place: cheap, since no other file is made for it, and torn if the
/// process is killed meanwhile. For what is read by people and tools only.
pub fn write_over<D: Disk>(disk: &mut D, directory: &Path, name: &str, content: &[u8]) -> Result<(), CheckpointError> {
    in_place(disk, &directory.join(name), content)
        .map_err(|source| CheckpointError::Io { name: name.to_owned(), source })
}

fn in_place<D: Disk>(disk: &mut D, path: &Path, content: &[u8]) -> io::Result<()> {
    let file = match disk.open(path, OpenMode::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.open(path, OpenMode::Create)?,
        other => other?,
    };
    disk.write_at(&file, 0, &[IoSlice::new(content)])?;
    let len = content.len() as u64;
    if disk.len(&file)? > len { disk.truncate(&file, len) } else { Ok(()) }
}

/// The content of the file `name` in `directory`; `None` when there is none.
pub fn read<D: Disk>(disk: &mut D, directory: &Path, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
    disk.read_file(&directory.join(name)).map_err(|source| CheckpointError::Io { name: name.to_owned(), source })
}

/// Like [`read`], as text.
pub fn read_text<D: Disk>(disk: &mut D, directory: &Path, name: &str) -> Result<Option<String>, CheckpointError> {
    let Some(bytes) = read(disk, directory, name)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| CheckpointError::malformed(name, "not UTF-8"))
}

/// Removes the file `name` durably; nothing happens when there is none.
pub fn remove<D: Disk>(disk: &mut D, directory: &Path, name: &str) -> Result<(), CheckpointError> {
    let removed = match disk.remove(&directory.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk.sync_dir(directory),
    };
    removed.map_err(|source| CheckpointError::Io { name: name.to_owned(), source })
}

/// Writes the clean shutdown marker: the very last step of a clean stop, after every log was closed and every
/// checkpoint written.
pub fn mark_clean_shutdown<D: Disk>(disk: &mut D, root: &Path, broker_epoch: i64) -> Result<(), CheckpointError> {
    let content = format!("version=0\nbroker.epoch={broker_epoch}\n");
    write(disk, root, CLEAN_SHUTDOWN, content.as_bytes(), Durability::Synced)
}

/// Removes the clean shutdown marker (durably, before anything is appended) and returns the broker epoch that it
/// held; `None` when the last stop was not clean. A marker that cannot be read counts as none.
pub fn take_clean_shutdown<D: Disk>(disk: &mut D, root: &Path) -> Result<Option<i64>, CheckpointError> {
    let content = read(disk, root, CLEAN_SHUTDOWN)?;
    remove(disk, root, CLEAN_SHUTDOWN)?;
    let text = content.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.and_then(|text| text.lines().find_map(|line| line.strip_prefix("broker.epoch=")?.parse().ok())))
}

/// Records the machine's present boot, and returns whether the directory was last used in the same boot: if so, the
/// page cache has kept everything that was written. False when either is unknown.
pub fn exchange_boot_id<D: Disk>(disk: &mut D, root: &Path) -> Result<bool, CheckpointError> {
    let before = read(disk, root, BOOT_ID)?;
    let now = disk.boot_id().map_err(|source| CheckpointError::Io { name: BOOT_ID.to_owned(), source })?;
    let Some(now) = now else {
        remove(disk, root, BOOT_ID)?;
        return Ok(false);
    };
    let content = format!("{now}\n").into_bytes();
    let same = before.as_ref() == Some(&content);
    if !same {
        write(disk, root, BOOT_ID, &content, Durability::Synced)?;
    }
    Ok(same)
}
