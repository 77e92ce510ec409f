//! The file system of this machine.

use super::reclaim::{Held, LARGE_BYTES, bytes_held};
use super::{Disk, Entry, OpenMode};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Buffers handed to the kernel in one `pwritev`; `IOV_MAX` is 1,024 on Linux and macOS.
const BUFFERS_PER_WRITE_MAX: usize = 1024;

/// The real disk. It has no state of its own: every thread may hold one.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// An open file of the real disk.
#[derive(Clone, Debug)]
pub struct RealFile(Arc<Held>);

/// Syncs one file or directory of the real disk, from any thread.
#[derive(Clone, Debug)]
pub struct RealSync {
    file: Arc<Held>,
    is_directory: bool,
}

impl RealSync {
    /// Blocks until the file's bytes and length (or the directory's names) are on stable storage.
    pub fn sync(&self) -> io::Result<()> {
        if self.is_directory { self.file.sync_all() } else { self.file.sync_data() }
    }
}

impl Disk for RealDisk {
    type File = RealFile;
    type SyncHandle = RealSync;

    fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<RealFile> {
        let mut options = OpenOptions::new();
        match mode {
            OpenMode::Read => options.read(true),
            OpenMode::Write => options.read(true).write(true),
            OpenMode::Create => options.read(true).write(true).create(true).truncate(true),
        };
        options.open(path).map(|file| RealFile(Arc::new(Held::new(file))))
    }

    fn len(&mut self, file: &RealFile) -> io::Result<u64> {
        Ok(file.0.metadata()?.len())
    }

    fn write_at(&mut self, file: &RealFile, mut position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        if let [one] = buffers {
            return file.0.write_all_at(one, position);
        }
        for group in buffers.chunks(BUFFERS_PER_WRITE_MAX) {
            let total: usize = group.iter().map(|buffer| buffer.len()).sum();
            let offset = i64::try_from(position).map_err(io::Error::other)?;
            let mut written = loop {
                match nix::sys::uio::pwritev(&**file.0, group, offset) {
                    Err(nix::errno::Errno::EINTR) => {}
                    other => break other?,
                }
            };
            if written < total {
                // The kernel stops short when the disk is full or a signal came: finish buffer by buffer, which
                // either succeeds or tells the reason.
                let mut at = position + written as u64;
                for buffer in group {
                    let done = written.min(buffer.len());
                    file.0.write_all_at(&buffer[done..], at)?;
                    at += (buffer.len() - done) as u64;
                    written -= done;
                }
            }
            position += total as u64;
        }
        Ok(())
    }

    fn read_at(&mut self, file: &RealFile, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.0.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn truncate(&mut self, file: &RealFile, len: u64) -> io::Result<()> {
        file.0.set_len(len)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn reserve(&mut self, file: &RealFile, position: u64, bytes: u64) -> io::Result<()> {
        let [position, bytes] = [position, bytes].map(|it| i64::try_from(it).map_err(io::Error::other));
        let behind_the_end = nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
        nix::fcntl::fallocate(&**file.0, behind_the_end, position?, bytes?).map_err(io::Error::from)
    }

    fn sync_handle(&mut self, file: &RealFile) -> RealSync {
        RealSync { file: Arc::clone(&file.0), is_directory: false }
    }

    fn dir_sync_handle(&mut self, path: &Path) -> io::Result<RealSync> {
        Ok(RealSync { file: Arc::new(Held::new(File::open(path)?)), is_directory: true })
    }

    fn sync(&mut self, handle: &RealSync) -> io::Result<()> {
        handle.sync()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        // Held open beyond its name, a large file is given back elsewhere, whoever else has it open.
        let is_large = is_large_file(&fs::symlink_metadata(path)?);
        let held = if is_large { self.open(path, OpenMode::Read).ok() } else { None };
        let removed = fs::remove_file(path);
        drop(held);
        removed
    }

    fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if is_large_file(&entry.metadata()?) {
                self.remove(&entry.path())?;
            }
        }
        fs::remove_dir_all(path)
    }

    fn list(&mut self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(Entry { name, is_directory: entry.file_type()?.is_dir() });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn exists(&mut self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn boot_id(&mut self) -> io::Result<Option<String>> {
        match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
            Ok(id) => Ok(Some(id.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_large_file(metadata: &fs::Metadata) -> bool {
    metadata.is_file() && bytes_held(metadata) >= LARGE_BYTES
}
