//! A file's bytes together with what it takes to undo everything since its last sync.

use super::Survives;
use std::io;

#[derive(Clone, Debug, Hash)]
enum Change {
    /// `len` bytes were written at `position` of a file that was `len_before` long, over these `overwritten` bytes.
    Write { position: usize, len: usize, len_before: usize, overwritten: Vec<u8> },
    /// The file was `len_before` long; these bytes were cut off.
    Truncate { len_before: usize, removed: Vec<u8> },
}

/// The content of one file.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct FileContent {
    bytes: Vec<u8>,
    /// Changes since the last sync, oldest first.
    changes: Vec<Change>,
    /// Whether a sync failed: the kernel has forgotten what was dirty, so later syncs make nothing durable.
    sync_failed: bool,
}

impl FileContent {
    /// Feeds the bytes alone into `state`.
    pub(super) fn hash_bytes(&self, state: &mut impl std::hash::Hasher) {
        std::hash::Hash::hash(&self.bytes, state);
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) const fn is_synced(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes of each change, in order; 0 for a truncation.
    pub(super) fn operations(&self) -> Vec<u64> {
        let bytes = |change: &Change| match change {
            Change::Write { len, .. } => *len as u64,
            Change::Truncate { .. } => 0,
        };
        self.changes.iter().map(bytes).collect()
    }

    pub(super) fn read(&self, position: usize, buffer: &mut [u8]) -> usize {
        let Some(bytes) = self.bytes.get(position..) else { return 0 };
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        count
    }

    pub(super) fn write(&mut self, position: usize, data: &[u8]) {
        let len_before = self.bytes.len();
        let overwritten_end = (position + data.len()).min(len_before);
        let overwritten = self.bytes.get(position..overwritten_end).unwrap_or_default().to_vec();
        self.changes.push(Change::Write { position, len: data.len(), len_before, overwritten });
        self.put(position, data);
    }

    fn put(&mut self, position: usize, data: &[u8]) {
        if position == self.bytes.len() {
            self.bytes.extend_from_slice(data);
            return;
        }
        if self.bytes.len() < position + data.len() {
            self.bytes.resize(position + data.len(), 0);
        }
        self.bytes[position..position + data.len()].copy_from_slice(data);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        let len_before = self.bytes.len();
        let removed = self.bytes.get(len..).unwrap_or_default().to_vec();
        self.bytes.resize(len, 0);
        self.changes.push(Change::Truncate { len_before, removed });
    }

    pub(super) fn sync(&mut self, succeeds: bool) {
        self.sync_failed |= !succeeds;
        if !self.sync_failed {
            self.changes.clear();
        }
    }

    pub(super) fn rot(&mut self, position: usize, mask: u8) -> io::Result<()> {
        *self.bytes.get_mut(position).ok_or(io::ErrorKind::UnexpectedEof)? ^= mask;
        Ok(())
    }

    /// Applies a power loss; returns whether anything was lost.
    pub(super) fn crash(&mut self, survives: Survives) -> bool {
        self.sync_failed = false;
        let before = self.changes.len();
        let lost = match survives {
            Survives::Everything => false,
            Survives::Nothing => {
                self.undo_to(0);
                before > 0
            }
            Survives::Prefix { operations, bytes } => {
                let torn = self.undo_to(operations);
                if let Some((position, data)) = torn {
                    let kept = usize::try_from(bytes).unwrap_or(usize::MAX).min(data.len());
                    if kept > 0 {
                        self.put(position, &data[..kept]);
                    }
                }
                operations < before
            }
            Survives::Hole { from, to } => self.punch(from, to),
        };
        self.changes.clear();
        lost
    }

    /// Undoes the newest changes until `keep` are left; returns the last undone one if it was a write.
    fn undo_to(&mut self, keep: usize) -> Option<(usize, Vec<u8>)> {
        let mut undone = None;
        while self.changes.len() > keep {
            match self.changes.pop().expect("more than zero") {
                Change::Write { position, len, len_before, overwritten } => {
                    undone = Some((position, self.bytes[position..position + len].to_vec()));
                    self.bytes[position..position + overwritten.len()].copy_from_slice(&overwritten);
                    self.bytes.truncate(len_before);
                }
                Change::Truncate { len_before, removed } => {
                    undone = None;
                    self.bytes.truncate(len_before - removed.len());
                    self.bytes.extend_from_slice(&removed);
                }
            }
        }
        undone
    }

    /// Zeroes the written bytes in the range.
    fn punch(&mut self, from: u64, to: u64) -> bool {
        let mut lost = false;
        for change in &self.changes {
            let Change::Write { position, len, .. } = change else { continue };
            let end = (position + len).min(self.bytes.len());
            let start = usize::try_from(from).unwrap_or(usize::MAX).clamp(*position, end.max(*position));
            let stop = usize::try_from(to).unwrap_or(usize::MAX).min(end);
            if start < stop {
                self.bytes[start..stop].fill(0);
                lost = true;
            }
        }
        lost
    }
}
