//! The follower of a partition: where it fetches next, and what it does with each answer.
//!
//! For an answer: [`Follower::is_current`] first (trap 17), then a diverging epoch leads to
//! [`Follower::truncation_point`] and nothing else (traps 1–3 and 5), then each batch passes
//! [`Follower::check_batch`], is written as it is and noted with [`Follower::appended`], and only then
//! [`Follower::adopt`] takes over the leader's high watermark and log start.
//!
//! Truncation is by epoch, never by high watermark. It is a loop: after each cut the next fetch carries the epoch of
//! the new last batch, until the leader finds this log a prefix of its own.

use super::epochs::EpochEnd;
use super::replica::LogState;
use crate::zoo::{self, Bug};
use crate::{BrokerId, Epoch, Offset};

/// A follower's state beyond its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Follower {
    leader: Option<BrokerId>,
    epoch: Epoch,
}

/// Where a follower stands: what its next fetch says, and what an answer is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The leader epoch it follows in.
    pub epoch: Epoch,
    /// Its log end.
    pub fetch_offset: Offset,
    /// The newest epoch in its log.
    pub last_fetched_epoch: Option<Epoch>,
    /// Its log start.
    pub log_start: Offset,
    /// The high watermark it knows.
    pub high_watermark: Offset,
    /// Everything below is on its stable storage.
    pub flushed: Offset,
}

/// What to do about an answer that says the fetch offset is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfRange {
    /// The leader's log ends before this one (only after an unclean election): cut to its end.
    TruncateTo(Offset),
    /// The leader's log begins past this one's end: drop everything and begin there.
    RestartAt(Offset),
    /// The ranges fit again; ask once more.
    Retry,
}

/// Why a fetched batch may not be appended. The leader is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnfitBatch {
    /// It does not begin at this log's end.
    NotAtLogEnd {
        /// This log's end.
        log_end: Offset,
        /// Where the batch begins.
        base_offset: Offset,
    },
    /// It is of a later leader epoch than the one followed.
    EpochAhead {
        /// The batch's epoch.
        epoch: Epoch,
    },
    /// It is of an earlier epoch than the batch before it.
    EpochBehind {
        /// The batch's epoch.
        epoch: Epoch,
    },
}

impl Follower {
    /// Follows `leader` in `epoch`.
    #[must_use]
    pub fn new(leader: Option<BrokerId>, epoch: Epoch) -> Self {
        Self { leader, epoch }
    }

    /// The leader, if there is one.
    #[must_use]
    pub fn leader(&self) -> Option<BrokerId> {
        self.leader
    }

    /// The epoch it follows in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self, log: &LogState) -> Position {
        Position {
            epoch: self.epoch,
            fetch_offset: log.cursors.written(),
            last_fetched_epoch: log.epochs.latest().map(|(epoch, _)| epoch),
            log_start: log.cursors.log_start(),
            high_watermark: log.cursors.high_watermark(),
            flushed: log.cursors.flushed(),
        }
    }

    /// Whether an answer to a fetch from `asked` still fits: same leader epoch, same log end, same last epoch.
    #[must_use]
    pub fn is_current(&self, log: &LogState, asked: &Position) -> bool {
        let position = self.position(log);
        if zoo::planted(Bug::OldResponseAppended) {
            return asked.fetch_offset == position.fetch_offset;
        }
        (asked.epoch, asked.fetch_offset, asked.last_fetched_epoch)
            == (position.epoch, position.fetch_offset, position.last_fetched_epoch)
    }

    /// Where to cut, given where the leader says that an epoch ends. The cut must be carried out with
    /// [`LogState::truncate`] also when it leaves the log's length alone, since it removes conflicting epochs.
    #[must_use]
    pub fn truncation_point(&self, log: &LogState, leader_end: EpochEnd) -> Offset {
        let log_end = log.cursors.written();
        let to = match log.epochs.end_offset_for(leader_end.epoch, log_end) {
            Some(own) if own.epoch == leader_end.epoch => own.end_offset.min(leader_end.end_offset),
            // Here the epoch asked about is unknown; cut what came after the nearest lower one and ask again.
            Some(own) => own.end_offset,
            None => leader_end.end_offset,
        };
        to.min(log_end).max(log.cursors.log_start())
    }

    /// Whether a fetched batch continues this log, in the leader's order.
    pub fn check_batch(&self, log: &LogState, base_offset: Offset, epoch: Epoch) -> Result<(), UnfitBatch> {
        let log_end = log.admitted_end();
        if base_offset != log_end {
            return Err(UnfitBatch::NotAtLogEnd { log_end, base_offset });
        }
        if epoch > self.epoch {
            return Err(UnfitBatch::EpochAhead { epoch });
        }
        if log.epochs.latest().is_some_and(|(latest, _)| epoch < latest) {
            return Err(UnfitBatch::EpochBehind { epoch });
        }
        Ok(())
    }

    /// The batches are in the log, which now ends at `end`. Their epochs were noted before they were written.
    pub fn appended(&self, log: &mut LogState, end: Offset) {
        assert_eq!(end, log.admitted_end(), "what was admitted is what was written");
        log.cursors.advance_written(end);
    }

    /// Takes over the leader's high watermark, up to this log's end, and its log start. Returns whether the log
    /// start rose.
    pub fn adopt(&self, log: &mut LogState, high_watermark: Offset, log_start: Offset) -> bool {
        log.cursors.follow_high_watermark(high_watermark);
        let log_start = log_start.min(log.cursors.high_watermark());
        let rises = log_start > log.cursors.log_start();
        if rises {
            log.raise_log_start(log_start);
        }
        rises
    }

    /// What to do when the leader says that the fetch offset is outside its log.
    #[must_use]
    pub fn out_of_range(&self, log: &LogState, leader_start: Offset, leader_end: Offset) -> OutOfRange {
        let log_end = log.cursors.written();
        if leader_start > log_end {
            OutOfRange::RestartAt(leader_start)
        } else if leader_end < log_end {
            // The cut may not go below this log's start; a leader that ends before it replaces the log altogether.
            if leader_end < log.cursors.log_start() {
                OutOfRange::RestartAt(leader_start)
            } else {
                OutOfRange::TruncateTo(leader_end)
            }
        } else if zoo::planted(Bug::EpochCacheLate) && log.cursors.high_watermark() < log_end {
            OutOfRange::TruncateTo(log.cursors.high_watermark())
        } else {
            OutOfRange::Retry
        }
    }
}
