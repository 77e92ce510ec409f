//! The file under the Raft log: records one after the other, each whole or not there.
//!
//! A record is `length u32 · checksum u32 · sequence u64 · synced u64 · bytes` (big-endian; the checksum covers all
//! that follows it and the length). `synced` is the sequence up to which everything was durable when the record was
//! written, which is what tells a torn tail (never acknowledged, cut away) from rot (acknowledged, refused).
//!
//! The file grows by zeroed, synced pieces, and records overwrite zeros: so a sync of a record writes the record's
//! own pages and no file metadata, and does not wait for the file system's journal, which a saturated data plane on
//! the same disk keeps busy. A zero length ends the journal.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::durable;

const HEADER_BYTES: usize = 24;
/// By how much the file grows.
const PIECE_BYTES: u64 = 1 << 20;
/// No record is larger; a larger length is damage.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// An open journal. After a failed write or sync it must not be used any more; its owner stops the process.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Where the next record goes.
    end: u64,
    /// How far the file is zeroed and synced.
    allocated: u64,
    next_sequence: u64,
    synced_sequence: u64,
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system failed.
    #[error("cannot use {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A record that was durable is damaged. What followed it was acknowledged, so it cannot be cut away.
    #[error(
        "{path} is damaged at byte {position}, before records that were acknowledged; remove the raft directory to let \
         this broker join the quorum anew",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        position: u64,
    },
}

impl Journal {
    /// Opens the journal at `path`, makes it if it is missing, cuts a torn tail, and returns all records in order.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path) -> Result<(Self, Vec<Vec<u8>>), OpenError> {
        let io_error = |source| OpenError::Io { path: path.to_path_buf(), source };
        let bytes = durable::read(path).map_err(io_error)?.unwrap_or_default();
        let mut records = Vec::new();
        let mut end = 0;
        let mut sequence = 0;
        while let Some((record, _)) = parse(&bytes[end..]).filter(|(record, _)| record.sequence == sequence) {
            end += HEADER_BYTES + record.bytes.len();
            sequence += 1;
            records.push(record.bytes.to_vec());
        }
        if is_damage(&bytes[end..], sequence) {
            return Err(OpenError::Damaged { path: path.to_path_buf(), position: end as u64 });
        }
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io_error)?;
        let mut journal = Self {
            path: path.to_path_buf(),
            file,
            end: end as u64,
            allocated: 0,
            next_sequence: sequence,
            synced_sequence: sequence,
        };
        // Whatever a torn write left behind is zeroed, or it could one day look like the record after a new one.
        journal.allocate(end as u64).map_err(io_error)?;
        durable::sync_directory_of(path).map_err(io_error)?;
        Ok((journal, records))
    }

    /// Writes records behind all earlier ones. They are durable after [`Self::sync`].
    ///
    /// # Errors
    /// What the system says.
    pub fn append(&mut self, records: &[Vec<u8>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            encode(&mut bytes, record, self.next_sequence, self.synced_sequence);
            self.next_sequence += 1;
        }
        let end = self.end + bytes.len() as u64;
        // A zero length must always follow the last record.
        if end + HEADER_BYTES as u64 > self.allocated {
            self.allocate(end + HEADER_BYTES as u64)?;
        }
        self.file.write_all_at(&bytes, self.end)?;
        self.end = end;
        Ok(())
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.synced_sequence = self.next_sequence;
        Ok(())
    }

    /// Replaces everything by `records`, durably and in one step.
    ///
    /// # Errors
    /// What the system says.
    pub fn rewrite(&mut self, records: &[Vec<u8>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (sequence, record) in (0..).zip(records) {
            encode(&mut bytes, record, sequence, 0);
        }
        durable::replace(&self.path, &bytes)?;
        self.file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        self.end = bytes.len() as u64;
        self.next_sequence = records.len() as u64;
        self.synced_sequence = self.next_sequence;
        self.allocate(self.end)
    }

    /// How many bytes the records take.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.end
    }

    /// Zeroes and syncs the file from the end of the records to a whole piece beyond `needed`.
    fn allocate(&mut self, needed: u64) -> io::Result<()> {
        let until = (needed / PIECE_BYTES + 1) * PIECE_BYTES;
        let zeros = vec![0; 64 << 10];
        let mut position = self.end;
        while position < until {
            let bytes = (until - position).min(zeros.len() as u64) as usize;
            self.file.write_all_at(&zeros[..bytes], position)?;
            position += bytes as u64;
        }
        self.file.set_len(until)?;
        self.file.sync_all()?;
        self.allocated = until;
        Ok(())
    }
}

struct Record<'a> {
    sequence: u64,
    synced: u64,
    bytes: &'a [u8],
}

fn encode(into: &mut Vec<u8>, record: &[u8], sequence: u64, synced: u64) {
    assert!(!record.is_empty() && record.len() <= RECORD_BYTES_MAX, "a record of {} bytes", record.len());
    let start = into.len();
    let length = u32::try_from(record.len()).expect("checked above");
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&sequence.to_be_bytes());
    into.extend_from_slice(&synced.to_be_bytes());
    into.extend_from_slice(record);
    let checksum = checksum(length, &into[start + 8..]);
    into[start + 4..start + 8].copy_from_slice(&checksum.to_be_bytes());
}

fn checksum(length: u32, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length.to_be_bytes()), rest)
}

/// The whole and undamaged record at the start of `bytes`, and what follows it.
fn parse(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let number = |from: usize| u64::from_be_bytes(head[from..from + 8].try_into().expect("eight bytes"));
    let length = u32::from_be_bytes(head[..4].try_into().expect("four bytes"));
    let expected = u32::from_be_bytes(head[4..8].try_into().expect("four bytes"));
    let bytes_len = length as usize;
    if bytes_len == 0 || bytes_len > RECORD_BYTES_MAX || rest.len() < bytes_len {
        return None;
    }
    if checksum(length, &bytes[8..HEADER_BYTES + bytes_len]) != expected {
        return None;
    }
    Some((Record { sequence: number(8), synced: number(16), bytes: &rest[..bytes_len] }, &rest[bytes_len..]))
}

/// Whether the bytes behind the last good record prove that record `sequence` was once durable: some later record
/// says so.
fn is_damage(tail: &[u8], sequence: u64) -> bool {
    let Some(first) = tail.iter().position(|byte| *byte != 0) else {
        return false;
    };
    // Headers begin with a length below 2^26, so with a byte below 4; the rest of the check is the checksum.
    let from = first.saturating_sub(3);
    (from..tail.len().saturating_sub(HEADER_BYTES))
        .filter(|at| tail[*at] < 4)
        .filter_map(|at| parse(&tail[at..]))
        .any(|(record, _)| record.sequence > sequence && record.synced > sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    fn written(path: &Path) -> Journal {
        let (mut journal, records) = Journal::open(path).expect("a new journal");
        assert!(records.is_empty());
        for text in ["one", "two", "three"] {
            journal.append(&[record(text)]).expect("written");
            journal.sync().expect("synced");
        }
        journal
    }

    fn flip(path: &Path, position: usize) {
        let mut bytes = std::fs::read(path).expect("readable");
        bytes[position] ^= 0x40;
        std::fs::write(path, bytes).expect("writable");
    }

    #[test]
    fn records_come_back_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal");
        drop(written(&path));
        let (mut journal, records) = Journal::open(&path).expect("reopened");
        assert_eq!(records, [record("one"), record("two"), record("three")]);
        journal.append(&[record("four"), vec![7; 3 << 20]]).expect("written");
        journal.sync().expect("synced");
        let (_, records) = Journal::open(&path).expect("reopened");
        assert_eq!((records.len(), records[4].len()), (5, 3 << 20));
    }

    #[test]
    fn torn_tail_is_cut_and_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal");
        let mut journal = written(&path);
        let end = journal.len_bytes() as usize;
        journal.append(&[record("torn"), record("lost with it")]).expect("written, never synced");
        drop(journal);
        flip(&path, end + HEADER_BYTES);
        let (mut journal, records) = Journal::open(&path).expect("a torn tail is normal");
        assert_eq!(records.len(), 3);
        journal.append(&[record("TORN")]).expect("written");
        journal.sync().expect("synced");
        let (_, records) = Journal::open(&path).expect("reopened");
        assert_eq!(records[3..], [record("TORN")], "what was lost with the torn record stays lost");
    }

    #[test]
    fn rot_before_acknowledged_records_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal");
        drop(written(&path));
        flip(&path, HEADER_BYTES);
        assert!(matches!(Journal::open(&path), Err(OpenError::Damaged { position: 0, .. })));
    }

    #[test]
    fn rewriting_leaves_only_what_was_given() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal");
        let mut journal = written(&path);
        journal.rewrite(&[record("all")]).expect("rewritten");
        journal.append(&[record("more")]).expect("written");
        journal.sync().expect("synced");
        drop(journal);
        assert_eq!(Journal::open(&path).expect("reopened").1, [record("all"), record("more")]);
    }
}
