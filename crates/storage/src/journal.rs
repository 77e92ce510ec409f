//! A small log of numbered entries that are durable once appended: for the controller's Raft log.
//!
//! Files `<20-digit index of the first entry>.journal`; each entry is framed as length (u32), CRC-32C of what follows
//! (u32), index (u64), how many entries of the same append precede it (u32), payload; big-endian. Indexes have no
//! gaps. Every append, truncation and purge is synced before it returns, so what Raft was told is stored stays stored.
//!
//! The journal does not remember what was purged beyond whole files: whoever purges keeps the purged index durably
//! elsewhere and calls [`Journal::purge`] again after opening.

use crate::disk::{Disk, OpenMode};
use crate::poison::{Poison, Poisoned};
use crate::segment::base_offset_of;
use bytes::Bytes;
use minisr_wire::checksum::{crc32c, crc32c_of_parts};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use thiserror::Error;

const FRAME_BYTES: usize = 20;
/// Where the bytes under the CRC start.
const CRC_START: usize = 8;
const SUFFIX: &str = ".journal";
/// A file of this size is followed by a new one, so that purging can remove files.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// An entry larger than this was not written by us.
const ENTRY_BYTES_MAX: usize = 64 << 20;

/// Why the journal could not do what it was asked.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The disk failed while reading.
    #[error("reading the journal failed: {0}")]
    Io(#[from] io::Error),
    /// The disk failed while writing or syncing, now or before.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// A stored entry does not match its CRC any more, or entries before the last file are missing.
    #[error("entry {index} of the journal is corrupt")]
    Corrupt {
        /// Which.
        index: u64,
    },
}

/// What opening found at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalRecovered {
    /// Bytes of a torn append that were cut off. Nobody was told that they were stored.
    pub torn_bytes: u64,
}

#[derive(Debug)]
struct JournalFile<F> {
    first: u64,
    file: F,
    len: u64,
    /// Position of each entry.
    positions: Vec<u64>,
}

/// A durable log of entries.
#[derive(Debug)]
pub struct Journal<D: Disk> {
    directory: PathBuf,
    files: VecDeque<JournalFile<D::File>>,
    /// Entries below this index are purged.
    purged_end: u64,
    poison: Poison,
}

impl<D: Disk> Journal<D> {
    /// Opens the journal in `directory`, which is created when missing. A torn last append is cut off; damage before
    /// that is an error, since Raft may have counted on those entries.
    pub fn open(disk: &mut D, directory: &Path) -> Result<(Self, JournalRecovered), JournalError> {
        if !disk.exists(directory)? {
            disk.create_dir_all(directory)?;
            if let Some(parent) = directory.parent() {
                disk.sync_dir(parent)?;
            }
        }
        let mut firsts: Vec<u64> = disk
            .list(directory)?
            .iter()
            .filter_map(|entry| base_offset_of(&entry.name, SUFFIX))
            .map(i64::cast_unsigned)
            .collect();
        firsts.sort_unstable();
        let mut journal =
            Self { directory: directory.to_owned(), files: VecDeque::new(), purged_end: 0, poison: Poison::default() };
        let mut recovered = JournalRecovered::default();
        for (at, &first) in firsts.iter().enumerate() {
            if journal.files.back().is_some_and(|last| last.end() != first) {
                return Err(JournalError::Corrupt { index: journal.end() });
            }
            let is_last = at + 1 == firsts.len();
            let file = disk.open(&journal.path(first), OpenMode::Write)?;
            let (found, torn_bytes) = scan(disk, file, first)?;
            if torn_bytes > 0 {
                if !is_last || resumes_after_damage(disk, &found, torn_bytes)? {
                    return Err(JournalError::Corrupt { index: found.end() });
                }
                disk.truncate(&found.file, found.len)?;
                disk.sync_file(&found.file)?;
                recovered.torn_bytes = torn_bytes;
            }
            journal.files.push_back(found);
        }
        // A kill may have come between write and sync; from here on everything in the journal is to be relied on.
        if let Some(last) = journal.files.back() {
            disk.sync_file(&last.file)?;
            disk.sync_dir(directory)?;
        }
        Ok((journal, recovered))
    }

    fn path(&self, first: u64) -> PathBuf {
        self.directory.join(format!("{first:020}{SUFFIX}"))
    }

    /// The index of the first entry; equal to [`Journal::end`] when there is none.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.files.front().map_or(self.purged_end, |file| file.first.max(self.purged_end))
    }

    /// The index after the last entry. The next append has to start here, unless the journal is empty.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.files.back().map_or(self.purged_end, |file| file.end().max(self.purged_end))
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first() == self.end()
    }

    /// Appends entries from index `first` on and returns when they are durable.
    ///
    /// # Panics
    /// When `first` leaves a gap.
    pub fn append(&mut self, disk: &mut D, first: u64, entries: &[Bytes]) -> Result<(), JournalError> {
        self.poison.check()?;
        if entries.is_empty() {
            return Ok(());
        }
        if self.is_empty() && first != self.end() {
            self.remove_all(disk)?;
            self.purged_end = first;
        }
        assert_eq!(first, self.end(), "journal entries leave no gap");
        let appended = self.write(disk, first, entries);
        Ok(self.poison.guard("appending to the journal", appended)?)
    }

    fn write(&mut self, disk: &mut D, first: u64, entries: &[Bytes]) -> io::Result<()> {
        if self.files.back().is_none_or(|last| last.len >= FILE_BYTES_MAX || last.end() != first) {
            let file = disk.open(&self.path(first), OpenMode::Create)?;
            disk.sync_dir(&self.directory)?;
            self.files.push_back(JournalFile { first, file, len: 0, positions: Vec::new() });
        }
        let last = self.files.back_mut().expect("one was just made sure of");
        let frames: Vec<[u8; FRAME_BYTES]> =
            (0..).zip(entries).map(|(at, entry)| frame(first + u64::from(at), at, entry)).collect();
        let buffers: Vec<IoSlice<'_>> =
            frames.iter().zip(entries).flat_map(|(frame, entry)| [IoSlice::new(frame), IoSlice::new(entry)]).collect();
        disk.write_at(&last.file, last.len, &buffers)?;
        disk.sync_file(&last.file)?;
        for entry in entries {
            last.positions.push(last.len);
            last.len += (FRAME_BYTES + entry.len()) as u64;
        }
        Ok(())
    }

    /// The entries in `range` that exist, with their indexes.
    pub fn read(&self, disk: &mut D, range: impl RangeBounds<u64> + Clone) -> Result<Vec<(u64, Bytes)>, JournalError> {
        let mut entries = Vec::new();
        for file in &self.files {
            for (at, position) in file.positions.iter().enumerate() {
                let index = file.first + at as u64;
                if index < self.purged_end || !range.contains(&index) {
                    continue;
                }
                let end = file.positions.get(at + 1).copied().unwrap_or(file.len);
                let mut bytes = vec![0; usize::try_from(end - position).expect("an entry fits memory")];
                let read = disk.read_at(&file.file, *position, &mut bytes)?;
                let stored = entry(&bytes[..read]).map(|(stored, _, size)| (stored, size));
                if stored != Some((index, bytes.len())) {
                    return Err(JournalError::Corrupt { index });
                }
                entries.push((index, Bytes::from(bytes).slice(FRAME_BYTES..)));
            }
        }
        Ok(entries)
    }

    /// Removes the entries at and past `index`, durably.
    pub fn truncate(&mut self, disk: &mut D, index: u64) -> Result<(), JournalError> {
        self.poison.check()?;
        let truncated = self.cut(disk, index);
        Ok(self.poison.guard("truncating the journal", truncated)?)
    }

    fn cut(&mut self, disk: &mut D, index: u64) -> io::Result<()> {
        let mut removed = false;
        while let Some(last) = self.files.back().filter(|last| last.first >= index) {
            disk.remove(&self.path(last.first))?;
            self.files.pop_back();
            removed = true;
        }
        if removed {
            disk.sync_dir(&self.directory)?;
            self.purged_end = self.purged_end.max(if self.files.is_empty() { index } else { 0 });
        }
        if let Some(last) = self.files.back_mut()
            && index < last.end()
        {
            let keep = usize::try_from(index - last.first).expect("an index within a file");
            last.len = last.positions[keep];
            last.positions.truncate(keep);
            disk.truncate(&last.file, last.len)?;
            disk.sync_file(&last.file)?;
        }
        Ok(())
    }

    /// Removes the entries below `end`: whole files for good, the rest for this opening (see the module's doc).
    pub fn purge(&mut self, disk: &mut D, end: u64) -> Result<(), JournalError> {
        self.poison.check()?;
        self.purged_end = self.purged_end.max(end);
        let purged = self.drop_files(disk);
        Ok(self.poison.guard("purging the journal", purged)?)
    }

    fn drop_files(&mut self, disk: &mut D) -> io::Result<()> {
        let mut removed = false;
        while let Some(first) = self.files.front().filter(|file| file.end() <= self.purged_end) {
            disk.remove(&self.path(first.first))?;
            self.files.pop_front();
            removed = true;
        }
        if removed { disk.sync_dir(&self.directory) } else { Ok(()) }
    }

    fn remove_all(&mut self, disk: &mut D) -> Result<(), JournalError> {
        let end = self.end();
        self.purge(disk, end)
    }
}

impl<F> JournalFile<F> {
    fn end(&self) -> u64 {
        self.first + self.positions.len() as u64
    }
}

fn frame(index: u64, place: u32, entry: &[u8]) -> [u8; FRAME_BYTES] {
    let length = u32::try_from(entry.len()).expect("a journal entry is small");
    assert!(entry.len() <= ENTRY_BYTES_MAX, "a journal entry is at most {ENTRY_BYTES_MAX} bytes");
    let mut frame = [0; FRAME_BYTES];
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame[8..16].copy_from_slice(&index.to_be_bytes());
    frame[16..].copy_from_slice(&place.to_be_bytes());
    let crc = crc32c_of_parts(&[&frame[CRC_START..], entry]);
    frame[4..CRC_START].copy_from_slice(&crc.to_be_bytes());
    frame
}

/// The index of the entry that `bytes` begin with, the first index of its append, and its size, frame included; if
/// all of it is there and passes its CRC.
fn entry(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let frame: &[u8; FRAME_BYTES] = bytes.first_chunk()?;
    let length = u32::from_be_bytes(*frame.first_chunk()?) as usize;
    let size = FRAME_BYTES + length;
    if length > ENTRY_BYTES_MAX || size > bytes.len() {
        return None;
    }
    let crc = u32::from_be_bytes(frame[4..CRC_START].try_into().expect("four bytes"));
    if crc32c(&bytes[CRC_START..size]) != crc {
        return None;
    }
    let index = u64::from_be_bytes(frame[8..16].try_into().expect("eight bytes"));
    let place = u32::from_be_bytes(frame[16..].try_into().expect("four bytes"));
    Some((index, index.checked_sub(u64::from(place))?, size))
}

/// The entries of a file and how many bytes at its end belong to none.
fn scan<D: Disk>(disk: &mut D, file: D::File, first: u64) -> io::Result<(JournalFile<D::File>, u64)> {
    let mut found = JournalFile { first, file, len: 0, positions: Vec::new() };
    let mut bytes = vec![0; usize::try_from(disk.len(&found.file)?).map_err(io::Error::other)?];
    let read = disk.read_at(&found.file, 0, &mut bytes)?;
    bytes.truncate(read);
    let mut rest = bytes.as_slice();
    while let Some((index, _, size)) = entry(rest)
        && index == found.end()
    {
        found.positions.push(found.len);
        found.len += size as u64;
        rest = &rest[size..];
    }
    Ok((found, rest.len() as u64))
}

/// Whether an entry of a *later* append stands behind the damage. That append came only after the damaged one was
/// synced, so this is rot; without it, the damage is an append that a power loss tore, perhaps in its middle.
fn resumes_after_damage<D: Disk>(disk: &mut D, found: &JournalFile<D::File>, damaged: u64) -> io::Result<bool> {
    let mut bytes = vec![0; usize::try_from(damaged).map_err(io::Error::other)?];
    let read = disk.read_at(&found.file, found.len, &mut bytes)?;
    bytes.truncate(read);
    // The damaged entry's length may be gone, so any byte may be where the next one starts.
    Ok((1..bytes.len()).any(|at| {
        let index = bytes[at..].get(CRC_START..CRC_START + 8).and_then(|index| index.try_into().ok());
        let plausible = index.map(u64::from_be_bytes).is_some_and(|index| index > found.end() && index < u64::MAX / 2);
        plausible && entry(&bytes[at..]).is_some_and(|(_, append_first, _)| append_first > found.end())
    }))
}
