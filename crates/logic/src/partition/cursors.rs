//! The positions of one replica's log, and their one order.
//!
//! ```text
//!                       committed                     appended here
//!  ├───────────────────────┬──────────────────┬──────────────┤
//!  log_start ≤ last_stable ≤ high_watermark ≤ local_acked ≤ written      on a leader
//!  log_start ≤ last_stable ≤ high_watermark ≤              written      on a follower
//! ```
//!
//! Invariant `CursorsOrdered` (3). `written` is the log end (LEO): bytes handed to the file system. `flushed` means
//! on stable storage, nothing weaker. **Which of the two counts towards an acknowledgement is said here only**:
//! `local_acked` is `written`, or under `flush=commit` the lower of `written` and `flushed`.

use crate::Offset;
use crate::zoo::{self, Bug};

/// What a replica's copy must be before it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AckPolicy {
    /// Written: replication is the durability.
    #[default]
    Written,
    /// On stable storage (`flush=commit`).
    Flushed,
}

/// The positions. Fields are read through getters; each change keeps the order or panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursors {
    policy: AckPolicy,
    log_start: Offset,
    last_stable: Offset,
    high_watermark: Offset,
    flushed: Offset,
    written: Offset,
}

impl Cursors {
    /// The positions of a recovered log. The high watermark is clamped into the log: its checkpoint may be older than
    /// a retention pass or newer than a lost tail.
    #[must_use]
    pub fn recovered(
        policy: AckPolicy,
        log_start: Offset,
        high_watermark: Offset,
        flushed: Offset,
        written: Offset,
    ) -> Self {
        assert!(log_start <= written, "a log does not end at {written} before it starts at {log_start}");
        let high_watermark = high_watermark.clamp(log_start, written);
        let flushed = flushed.clamp(log_start, written);
        let cursors = Self { policy, log_start, last_stable: high_watermark, high_watermark, flushed, written };
        cursors.check_follower();
        cursors
    }

    /// First offset kept.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// First offset that may belong to an open transaction; the high watermark while there are no transactions.
    #[must_use]
    pub fn last_stable(&self) -> Offset {
        self.last_stable
    }

    /// First offset not known to be committed.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Everything below is on stable storage.
    #[must_use]
    pub fn flushed(&self) -> Offset {
        self.flushed
    }

    /// The log end: the next offset to write.
    #[must_use]
    pub fn written(&self) -> Offset {
        self.written
    }

    /// Everything below counts as held by this replica.
    #[must_use]
    pub fn local_acked(&self) -> Offset {
        self.policy.counted(self.written, self.flushed)
    }

    /// What counts as held.
    #[must_use]
    pub fn policy(&self) -> AckPolicy {
        self.policy
    }

    /// The log now ends at `end`.
    pub fn advance_written(&mut self, end: Offset) {
        assert!(end >= self.written, "the log end goes from {} back to {end} only by truncation", self.written);
        self.written = end;
    }

    /// Everything below `end` is on stable storage. A sync may end after a truncation, so `end` is capped.
    pub fn advance_flushed(&mut self, end: Offset) {
        self.flushed = self.flushed.max(end.min(self.written));
    }

    /// A leader found more records committed.
    pub fn raise_high_watermark(&mut self, to: Offset) {
        assert!(to > self.high_watermark, "the high watermark rises from {}, not to {to}", self.high_watermark);
        assert!(to <= self.local_acked(), "nothing above {} counts here, {to} cannot be committed", self.local_acked());
        self.high_watermark = to;
        self.last_stable = to;
    }

    /// A follower heard the leader's high watermark: it takes the lower of that and its own log end.
    ///
    /// It does not fall here although a new leader may still report a lower one: what was committed stays so.
    pub fn follow_high_watermark(&mut self, of_leader: Offset) {
        self.high_watermark = self.high_watermark.max(of_leader.min(self.written));
        self.last_stable = self.high_watermark;
    }

    /// A new leader whose own copy counts only up to `local_acked` starts with a high watermark within it.
    pub fn lower_high_watermark_to_acked(&mut self) {
        self.high_watermark = self.high_watermark.min(self.local_acked()).max(self.log_start);
        self.last_stable = self.high_watermark;
    }

    /// Data below `to` is gone (retention, or adopted from the leader). Never passes the high watermark.
    pub fn raise_log_start(&mut self, to: Offset) {
        assert!(to <= self.high_watermark, "log start {to} would pass the high watermark {}", self.high_watermark);
        self.log_start = self.log_start.max(to);
        self.last_stable = self.last_stable.max(self.log_start);
        self.flushed = self.flushed.max(self.log_start);
    }

    /// A follower cut its log: it ends at `to`, at or above its start.
    pub fn truncate(&mut self, to: Offset) {
        assert!(to >= self.log_start && to <= self.written, "cut at {to} is outside {self:?}");
        self.written = to;
        self.flushed = self.flushed.min(to);
        self.high_watermark = self.high_watermark.min(to);
        self.last_stable = self.last_stable.min(to);
    }

    /// A follower dropped everything and begins anew at `at`.
    pub fn restart(&mut self, at: Offset) {
        *self =
            Self { policy: self.policy, log_start: at, last_stable: at, high_watermark: at, flushed: at, written: at };
    }

    /// Asserts `CursorsOrdered` for a leader.
    pub fn check_leader(&self) {
        self.check_follower();
        assert!(self.high_watermark <= self.local_acked(), "high watermark past what counts here: {self:?}");
        assert!(self.local_acked() <= self.written, "more counts than is written: {self:?}");
    }

    /// Asserts `CursorsOrdered` for a follower or an idle replica.
    pub fn check_follower(&self) {
        assert!(self.log_start <= self.last_stable, "log start past last stable: {self:?}");
        assert!(self.last_stable <= self.high_watermark, "last stable past high watermark: {self:?}");
        assert!(self.high_watermark <= self.written, "high watermark past the log end: {self:?}");
        assert!(self.log_start <= self.flushed && self.flushed <= self.written, "flushed outside the log: {self:?}");
    }
}

impl AckPolicy {
    /// How far a replica counts that has written and flushed this far.
    #[must_use]
    pub fn counted(self, written: Offset, flushed: Offset) -> Offset {
        match self {
            Self::Written => written,
            Self::Flushed if zoo::planted(Bug::AckBeforeFlush) => written,
            Self::Flushed => written.min(flushed),
        }
    }
}
