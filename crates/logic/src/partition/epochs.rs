//! The leader-epoch cache: where in the log each leader epoch begins (KIP-101, KIP-279).
//!
//! Invariant `EpochsAscend` (20): epochs and start offsets both rise strictly, and no start is past the log end. A new leader
//! records its epoch before it accepts writes, even if it never writes; followers learn epochs from the batches they
//! append. A rebuild from the log therefore loses at most epochs without records.

use std::collections::BTreeMap;

use crate::{Epoch, Offset};

/// Where an epoch ends in somebody's log: the answer of [`EpochCache::end_offset_for`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EpochEnd {
    /// The epoch that the answer is about: the one asked for or the nearest lower one known.
    pub epoch: Epoch,
    /// First offset after it.
    pub end_offset: Offset,
}

/// An ordered map from epoch to first offset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EpochCache {
    starts: BTreeMap<Epoch, Offset>,
}

impl EpochCache {
    /// A cache with these entries, which must ascend in both columns.
    #[must_use]
    pub fn from_entries(entries: impl IntoIterator<Item = (Epoch, Offset)>) -> Self {
        let mut cache = Self::default();
        for (epoch, start) in entries {
            cache.assign(epoch, start);
        }
        cache
    }

    /// Notes that `epoch` begins at `start` unless it is the newest already; true if that changed anything.
    /// Entries that contradict the new one (epoch ≥ its epoch, or start ≥ its start) go.
    pub fn assign(&mut self, epoch: Epoch, start: Offset) -> bool {
        if let Some((latest, latest_start)) = self.latest()
            && latest == epoch
            && latest_start <= start
        {
            return false;
        }
        while let Some((latest, latest_start)) = self.latest()
            && (latest >= epoch || latest_start >= start)
        {
            self.starts.pop_last();
        }
        self.starts.insert(epoch, start);
        true
    }

    /// The newest epoch and its start.
    #[must_use]
    pub fn latest(&self) -> Option<(Epoch, Offset)> {
        self.starts.last_key_value().map(|(&epoch, &start)| (epoch, start))
    }

    /// Where `epoch` begins, if known.
    #[must_use]
    pub fn start_of(&self, epoch: Epoch) -> Option<Offset> {
        self.starts.get(&epoch).copied()
    }

    /// Where `epoch` ends in this log. `None` (Kafka's −1, −1) when no higher epoch is known and it is not the newest.
    #[must_use]
    pub fn end_offset_for(&self, epoch: Epoch, log_end: Offset) -> Option<EpochEnd> {
        if self.latest().is_some_and(|(latest, _)| latest == epoch) {
            return Some(EpochEnd { epoch, end_offset: log_end });
        }
        let (_, &end_offset) =
            self.starts.range((std::ops::Bound::Excluded(epoch), std::ops::Bound::Unbounded)).next()?;
        let epoch = self.starts.range(..=epoch).next_back().map_or(epoch, |(&floor, _)| floor);
        Some(EpochEnd { epoch, end_offset })
    }

    /// Forgets epochs that begin at or past `to`; true if any did. Must run even when the log itself is not cut,
    /// because an ex-leader that never wrote holds a conflicting last entry.
    pub fn truncate_suffix(&mut self, to: Offset) -> bool {
        let before = self.starts.len();
        while let Some((_, start)) = self.latest()
            && start >= to
        {
            self.starts.pop_last();
        }
        self.starts.len() != before
    }

    /// Forgets epochs that end at or below the new log start and moves the one that spans it; true if any changed.
    pub fn truncate_prefix(&mut self, log_start: Offset) -> bool {
        let mut floor = None;
        while let Some((&epoch, &start)) = self.starts.first_key_value()
            && start < log_start
        {
            floor = Some(epoch);
            self.starts.pop_first();
        }
        let Some(epoch) = floor else { return false };
        if self.starts.first_key_value().is_none_or(|(_, &start)| start > log_start) {
            self.starts.insert(epoch, log_start);
        }
        true
    }

    /// Forgets everything, for a log that starts anew.
    pub fn clear(&mut self) {
        self.starts.clear();
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = (Epoch, Offset)> + '_ {
        self.starts.iter().map(|(&epoch, &start)| (epoch, start))
    }

    /// Asserts `EpochsAscend`.
    pub fn check(&self, log_end: Offset) {
        let mut previous: Option<Offset> = None;
        for &start in self.starts.values() {
            assert!(previous.is_none_or(|previous| previous < start), "epoch starts ascend: {self:?}");
            assert!(start <= log_end, "no epoch starts past the log end {log_end}: {self:?}");
            previous = Some(start);
        }
    }
}
