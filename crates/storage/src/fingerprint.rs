//! Fingerprints for a model checker: everything that decides what a log, or a memory disk, does next, and nothing
//! else. Two states with equal fingerprints have equal futures; inode numbers and caches do not count.

use std::hash::{Hash, Hasher};

use crate::disk::Disk;
use crate::log::Log;

impl<D: Disk> Log<D> {
    /// Feeds what decides this log's future, apart from the bytes in its files, into `state`.
    pub fn fingerprint(&self, state: &mut impl Hasher) {
        (self.start, self.end, self.flushed, self.last_epoch).hash(state);
        for segment in &self.segments {
            (segment.base_offset, segment.len, segment.index_on_disk, segment.index_loaded, segment.cut_unsynced)
                .hash(state);
        }
        self.sync_state().hash(state);
        self.poisoned().is_some().hash(state);
    }
}
