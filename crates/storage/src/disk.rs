//! The seam through which every byte goes to or comes from a file.
//!
//! [`Disk`] is small and synchronous. It is handed to each operation as an argument, so that the same code runs on
//! [`real::RealDisk`] in a broker and on [`memory::MemoryDisk`] in the simulator.
//!
//! What both implementations keep:
//! - A write that returned is seen by every later read, also after the process is killed; it survives a *power
//!   loss* only after the file was synced **and** the directory that names the file was synced.
//! - Creating, renaming and removing become durable with [`Disk::sync_dir`]; written bytes and truncation with
//!   [`Disk::sync_file`] (or the [`Disk::SyncHandle`] of either).
//! - A failed write may have written any part of its bytes. After a failed sync nothing is known about un-synced
//!   data, and a later sync that succeeds proves nothing (see [`crate::poison`]).

pub mod memory;
pub mod real;
mod reclaim;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; the file must exist.
    Read,
    /// For reading and writing; the file must exist.
    Write,
    /// For reading and writing; created when missing, emptied when present.
    Create,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name within the directory.
    pub name: String,
    /// Whether it names a directory.
    pub is_directory: bool,
}

/// All file operations that the crates above need.
pub trait Disk {
    /// An open file: cheap to hold, closed on drop.
    type File: Clone + Debug;
    /// Permission to sync one file or directory, which may travel to another thread. On the real disk it carries
    /// its own `sync`; a simulator hands it back to [`Disk::sync`] at the moment of its choice.
    type SyncHandle: Clone + Debug + Send + 'static;

    /// Creates a directory and its missing parents. Durable after each parent was synced.
    fn create_dir_all(&mut self, path: &Path) -> io::Result<()>;
    /// Opens a file.
    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<Self::File>;
    /// The file's length in bytes.
    fn len(&mut self, file: &Self::File) -> io::Result<u64>;
    /// Writes all of `buffers`, one after the other, from `position`. On error any part may have been written.
    fn write_at(&mut self, file: &Self::File, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()>;
    /// Reads until `buffer` is full or the file ends; returns how many bytes were read.
    fn read_at(&mut self, file: &Self::File, position: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Cuts (or, with zeros, extends) the file to `len` bytes, and gives back what was reserved behind them.
    fn truncate(&mut self, file: &Self::File, len: u64) -> io::Result<()>;
    /// Settles where the bytes from `position` on, `bytes` of them, will lie, before they are written. The file's
    /// length and what is read from it stay the same. Only a hint: a disk that has no such thing refuses.
    fn reserve(&mut self, file: &Self::File, position: u64, bytes: u64) -> io::Result<()> {
        let _ = (file, position, bytes);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// A handle to sync what was written to `file` so far.
    fn sync_handle(&mut self, file: &Self::File) -> Self::SyncHandle;
    /// A handle to sync the names in a directory.
    fn dir_sync_handle(&mut self, path: &Path) -> io::Result<Self::SyncHandle>;
    /// Makes durable what the handle stands for.
    fn sync(&mut self, handle: &Self::SyncHandle) -> io::Result<()>;
    /// Renames within one directory, replacing the target.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Removes a directory and everything below it.
    fn remove_dir_all(&mut self, path: &Path) -> io::Result<()>;
    /// What a directory holds, in order of name.
    fn list(&mut self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Whether a file or directory of that name exists.
    fn exists(&mut self, path: &Path) -> io::Result<bool>;
    /// The identity of this boot of the machine: equal before and after a process kill, different after a power
    /// loss. `None` where the system does not tell.
    fn boot_id(&mut self) -> io::Result<Option<String>>;

    /// Syncs a file's bytes and length here and now.
    fn sync_file(&mut self, file: &Self::File) -> io::Result<()> {
        let handle = self.sync_handle(file);
        self.sync(&handle)
    }

    /// Syncs the names in a directory here and now.
    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let handle = self.dir_sync_handle(path)?;
        self.sync(&handle)
    }

    /// The whole file, or `None` when there is none of that name.
    fn read_file(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open(path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = vec![0; usize::try_from(self.len(&file)?).expect("a file that is read whole fits memory")];
        let read = self.read_at(&file, 0, &mut bytes)?;
        bytes.truncate(read);
        Ok(Some(bytes))
    }
}
