//! One small value in a file of fixed size, replaced in place: one write and one `fdatasync`, nothing else.
//!
//! Replacing a file by another (see [`crate::durable`]) takes two syncs and a commit of the file system's journal,
//! which waits for whatever else is dirty: hundreds of milliseconds under load, too long for a Raft vote. Here the
//! file has its blocks from the start. It has two slots; a value goes to the one that does not hold the newest, under
//! the next number and a checksum, so that a write torn by a power loss leaves the value before.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::durable;

/// A slot is a block of its own, so that a torn write cannot reach into the other.
const SLOT_BYTES: usize = 4096;
/// Magic, checksum, number, length.
const HEAD_BYTES: usize = 4 + 4 + 8 + 4;
/// What a value may take.
pub const VALUE_BYTES_MAX: usize = SLOT_BYTES - HEAD_BYTES;

/// The open file.
#[derive(Debug)]
pub struct DurableCell {
    file: File,
    magic: [u8; 4],
    number: u64,
}

impl DurableCell {
    /// Opens the file at `path`, or makes it, durably, with `initial` in it. Returns the newest value.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::InvalidData`] when no slot holds a whole value.
    pub fn open(path: &Path, magic: [u8; 4], initial: &[u8]) -> io::Result<(Self, Vec<u8>)> {
        if !path.exists() {
            let mut bytes = slot(magic, 0, initial)?;
            bytes.resize(2 * SLOT_BYTES, 0);
            durable::replace(path, &bytes)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut bytes = vec![0; SLOT_BYTES];
        let mut newest: Option<(u64, Vec<u8>)> = None;
        for index in 0..2 {
            file.read_exact_at(&mut bytes, index * SLOT_BYTES as u64)?;
            if let Some((number, value)) = read_slot(magic, &bytes)
                && newest.as_ref().is_none_or(|(known, _)| number > *known)
            {
                newest = Some((number, value.to_vec()));
            }
        }
        let (number, value) = newest.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "neither slot holds a whole value of the right kind")
        })?;
        Ok((Self { file, magic, number }, value))
    }

    /// Replaces the value. Returns when it is on stable storage.
    ///
    /// # Errors
    /// What the system says; which of the two values then stands is not known, and no other may be written.
    pub fn replace(&mut self, value: &[u8]) -> io::Result<()> {
        let number = self.number + 1;
        let bytes = slot(self.magic, number, value)?;
        self.file.write_all_at(&bytes, (number % 2) * SLOT_BYTES as u64)?;
        self.file.sync_data()?;
        self.number = number;
        Ok(())
    }
}

fn slot(magic: [u8; 4], number: u64, value: &[u8]) -> io::Result<Vec<u8>> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the value is too large for its slot"));
    }
    let mut covered = Vec::with_capacity(SLOT_BYTES);
    covered.extend_from_slice(&number.to_be_bytes());
    covered.extend_from_slice(&(value.len() as u32).to_be_bytes());
    covered.extend_from_slice(value);
    let mut bytes = durable::seal(magic, &covered);
    // Whole blocks, so that the file never changes its size.
    bytes.resize(SLOT_BYTES, 0);
    Ok(bytes)
}

fn read_slot(magic: [u8; 4], bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = u32::from_be_bytes(*bytes.get(16..)?.first_chunk()?) as usize;
    let covered = durable::unseal(magic, bytes.get(..HEAD_BYTES.checked_add(length)?)?).ok()?;
    let (number, value) = covered.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), value.get(4..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 4] = *b"test";

    fn value(path: &Path) -> Vec<u8> {
        DurableCell::open(path, MAGIC, b"initial").expect("opened").1
    }

    #[test]
    fn durable_cell_keeps_the_newest_value_and_its_size() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cell");
        assert_eq!(value(&path), b"initial");
        for text in ["one", "two, which is longer", "3"] {
            let (mut cell, _) = DurableCell::open(&path, MAGIC, b"initial").expect("opened");
            cell.replace(text.as_bytes()).expect("replaced");
            assert_eq!(value(&path), text.as_bytes());
            assert_eq!(path.metadata().expect("there").len(), 2 * SLOT_BYTES as u64);
        }
    }

    #[test]
    fn durable_cell_torn_write_leaves_the_value_before() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cell");
        let (mut cell, _) = DurableCell::open(&path, MAGIC, b"initial").expect("opened");
        cell.replace(b"before").expect("replaced");
        cell.replace(b"torn").expect("replaced");
        // The second value went to the first slot; a part of it did not reach the disk.
        cell.file.write_all_at(&[0xff; 3], HEAD_BYTES as u64 + 1).expect("damaged");
        assert_eq!(value(&path), b"before");
        // The next value goes to the damaged slot again.
        let (mut cell, _) = DurableCell::open(&path, MAGIC, b"initial").expect("opened");
        cell.replace(b"after").expect("replaced");
        assert_eq!(value(&path), b"after");
    }

    #[test]
    fn durable_cell_without_a_whole_value_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cell");
        std::fs::write(&path, vec![7; 2 * SLOT_BYTES]).expect("written");
        let error = DurableCell::open(&path, MAGIC, b"initial").expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        std::fs::write(&path, b"short").expect("written");
        assert!(DurableCell::open(&path, MAGIC, b"initial").is_err());
    }
}
