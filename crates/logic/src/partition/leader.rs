//! The leader of a partition: admits batches, credits followers, moves the high watermark, answers producers, and
//! proposes the ISR. The only place where a high watermark advances by decision.
//!
//! Calling order: [`Leader::admit`], then the bytes are written, then [`Leader::written`]; [`Leader::flushed`] when a
//! sync ended; [`Leader::check_follower`] and [`super::Replica::check_position`], and only if these find the follower's
//! log a prefix of this one, [`Leader::follower_fetched`]; [`Leader::tick`] when [`Leader::next_deadline`] is reached. After any of them,
//! drain [`Leader::pop_decided`] and [`Leader::take_proposal`].
//!
//! Rules kept here: the high watermark does not move while the committed ISR is below min.insync.replicas
//! (`HighWatermarkNeedsMinIsr`, 16); it moves only to an offset that every member of the maximal ISR has reported **in this
//! leader epoch** (15); follower progress counts only after the divergence check and for the registered broker epoch
//! (traps 4 and 10); a follower joins the ISR only at or past both the high watermark and the start of this epoch
//! (trap 6).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::acks::{Acks, AppendError, PendingAcks, Ticket, Waiting};
use super::isr::{AlterPartitionError, Isr, IsrCommitted};
use super::lag::{IsrReason, LagKind};
use super::producers::{BatchSummary, SequenceCheck};
use super::replica::{LogState, Members, Settings};
use crate::zoo::{self, Bug};
use crate::{BrokerEpoch, BrokerId, Epoch, Millis, Offset};

/// How far a follower's idea of the high watermark is behind the leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwedHighWatermark {
    /// It has the newest.
    Nothing,
    /// It has been told none in this leader epoch. It should learn it at once: it may be the next leader.
    First,
    /// It was told an older one. The next records will bring the newer one too, if they come soon.
    Newer,
}

/// A leader's state beyond its log.
#[derive(Clone, Debug, Hash)]
pub struct Leader {
    me: BrokerId,
    epoch: Epoch,
    epoch_start: Offset,
    settings: Settings,
    members: Members,
    isr: Isr,
    followers: BTreeMap<BrokerId, FollowerProgress>,
    acks: PendingAcks,
    decided: VecDeque<(Ticket, Result<Committed, AppendError>)>,
    proposal_to_send: bool,
    /// Why the members left that the last shrink proposed here drops, and how many records each lacked.
    dropped: BTreeMap<BrokerId, (IsrReason, Option<i64>)>,
    leading_since: Millis,
    /// The proposed members, each in the life in which it was proposed.
    proposed: Vec<(BrokerId, BrokerEpoch)>,
    next_lag_check: Millis,
}

/// What a leader knows of one follower, all of it from this leader epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FollowerProgress {
    /// Its log end as it counts; `None` until its first fetch in this epoch.
    counted: Option<Offset>,
    /// When it last held everything this leader had.
    last_caught_up: Option<Millis>,
    /// When it last fetched, and the leader's log end at that time.
    last_fetch: Option<(Millis, Offset)>,
    /// Where its log begins, as its last fetch said.
    log_start: Option<Offset>,
    /// Whether an answer in this epoch has carried the high watermark.
    high_watermark_told: bool,
    /// Its registration when it last fetched.
    broker_epoch: Option<BrokerEpoch>,
}

/// What [`Leader::admit`] decided to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// Write it here, stamped with this epoch. With `acks=all` its ticket is queued already.
    Write {
        /// Offset of its first record.
        base_offset: Offset,
        /// This leader's epoch.
        epoch: Epoch,
    },
    /// It is in the log already; write nothing. With `acks=all` its ticket waits like the original's.
    Duplicate {
        /// Offset of its first record.
        base_offset: Offset,
    },
}

/// An acknowledged batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Committed {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The epoch it was written in; `None` for a duplicate.
    pub epoch: Option<Epoch>,
}

/// Why a follower's fetch is refused before anything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerRefusal {
    /// Not one of the partition's replicas.
    NotReplica,
    /// Not the registered life of that broker.
    StaleBrokerEpoch,
}

/// An ISR proposal to carry to the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedIsr {
    /// Comes back with the answer.
    pub correlation: u64,
    /// The members, each with its registration as this leader knows it.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// The settled members that it leaves out, and why.
    pub dropped: Vec<(BrokerId, IsrReason)>,
}

impl Leader {
    /// Takes the lead in `epoch`. The epoch's start has been recorded in `log` by the caller (and made durable before
    /// the first write).
    #[must_use]
    pub fn new(
        now: Millis,
        me: BrokerId,
        epoch: Epoch,
        members: Members,
        isr: Isr,
        log: &LogState,
        settings: Settings,
    ) -> Self {
        let noted = log.epochs.start_of(epoch);
        let late = zoo::planted(Bug::EpochCacheLate).then(|| log.cursors.written());
        let epoch_start = noted.or(late).expect("a new leader records its epoch before it leads");
        assert_eq!(epoch_start, log.cursors.written(), "a new leader's epoch starts at its log end");
        assert!(isr.settled().contains(&me), "a leader is in its ISR (invariant 11)");
        let followers = members
            .ids()
            .filter(|&id| id != me)
            .map(|id| {
                // Members of the ISR get a full lag window; the rest must prove themselves.
                let last_caught_up = isr.settled().contains(&id).then_some(now);
                (id, FollowerProgress { last_caught_up, ..FollowerProgress::default() })
            })
            .collect();
        let next_lag_check = now.plus(settings.lag_check_ms());
        Self {
            me,
            epoch,
            epoch_start,
            settings,
            members,
            isr,
            followers,
            acks: PendingAcks::default(),
            decided: VecDeque::new(),
            proposal_to_send: false,
            dropped: BTreeMap::new(),
            leading_since: now,
            proposed: Vec::new(),
            next_lag_check,
        }
    }

    /// Planted bug 122: what was known of those who are still followers in another epoch.
    pub(super) fn remember_followers(&mut self, before: &Self) {
        for (id, follower) in &mut self.followers {
            *follower = before.followers.get(id).copied().unwrap_or(*follower);
        }
    }

    /// The broker it runs on.
    #[must_use]
    pub fn me(&self) -> BrokerId {
        self.me
    }

    /// The epoch it leads in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where that epoch begins.
    #[must_use]
    pub fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// Settled and proposed ISR.
    #[must_use]
    pub fn isr(&self) -> &Isr {
        &self.isr
    }

    /// Producers that wait for the high watermark.
    #[must_use]
    pub fn waiting_acks(&self) -> usize {
        self.acks.len()
    }

    /// What is known of a follower.
    #[must_use]
    pub fn follower(&self, id: BrokerId) -> Option<&FollowerProgress> {
        self.followers.get(&id)
    }

    /// Decides about a producer's batch. Refusals change nothing. `Write` must be followed by the write and
    /// [`Self::written`], or, when the write fails, by the end of this replica: sequence and ticket are taken already.
    pub fn admit(
        &mut self,
        now: Millis,
        log: &mut LogState,
        ticket: Ticket,
        batch: &BatchSummary,
        acks: Acks,
        timeout_ms: u64,
    ) -> Result<Admitted, AppendError> {
        if acks == Acks::All {
            self.refuse_below_min_isr_at_append()?;
        }
        let (admitted, needs) = match log.producers.check(batch)? {
            SequenceCheck::Duplicate(seen) => {
                (Admitted::Duplicate { base_offset: seen.base_offset }, seen.last_offset.plus(1))
            }
            SequenceCheck::Fresh => {
                let base_offset = log.admitted_end();
                if zoo::planted(Bug::EpochCacheLate) {
                    log.epochs.assign(self.epoch, base_offset);
                }
                log.producers.record(now, batch, base_offset);
                let end = base_offset.plus(i64::from(batch.records));
                log.note_admitted(end);
                (Admitted::Write { base_offset, epoch: self.epoch }, end)
            }
        };
        if let (Admitted::Duplicate { base_offset }, true) = (admitted, zoo::planted(Bug::DuplicateAnsweredEarly)) {
            self.decided.push_back((ticket, Ok(Committed { base_offset, epoch: None })));
        } else if acks == Acks::All {
            let (base_offset, epoch) = match admitted {
                Admitted::Write { base_offset, epoch } => (base_offset, Some(epoch)),
                Admitted::Duplicate { base_offset } => (base_offset, None),
            };
            self.acks.push(needs, Waiting { ticket, base_offset, epoch, deadline: now.plus(timeout_ms) });
            // A duplicate of something committed long ago is answered here and now.
            self.decide_reached(log.cursors.high_watermark());
        }
        Ok(admitted)
    }

    fn refuse_below_min_isr_at_append(&self) -> Result<(), AppendError> {
        let (isr, min_isr) = (self.isr.settled().len(), self.members.min_isr());
        if isr < min_isr { Err(AppendError::NotEnoughReplicas { isr, min_isr }) } else { Ok(()) }
    }

    /// Everything admitted is in the log, which now ends at `end`.
    pub fn written(&mut self, now: Millis, log: &mut LogState, end: Offset) {
        assert_eq!(end, log.admitted_end(), "what was admitted is what was written");
        log.cursors.advance_written(end);
        if self.settings.lag_max_messages.is_some() {
            // Now or never: the followers' waiting fetches are answered in this very step.
            self.propose_shrink(now, log);
        }
        self.advance_high_watermark(now, log);
    }

    /// Everything below `end` is on stable storage.
    pub fn flushed(&mut self, now: Millis, log: &mut LogState, end: Offset) {
        log.cursors.advance_flushed(end);
        self.advance_high_watermark(now, log);
    }

    /// Whether this fetch may be served to a replica at all: who it is, in which life.
    pub fn check_follower(&self, id: BrokerId, broker_epoch: Option<BrokerEpoch>) -> Result<(), FollowerRefusal> {
        if id == self.me || !self.followers.contains_key(&id) {
            return Err(FollowerRefusal::NotReplica);
        }
        if broker_epoch != self.members.broker_epoch(id) && !zoo::planted(Bug::CheckThenUse) {
            return Err(FollowerRefusal::StaleBrokerEpoch);
        }
        Ok(())
    }

    /// Credits a fetch whose epoch and divergence checks have passed: the follower holds everything below
    /// `fetch_offset`, and everything below `flushed` on stable storage (one that does not say fetches only from there).
    /// Returns whether anything came of it but that the follower was heard from: it holds more or less than before, the
    /// high watermark rose, or there is a proposal to send.
    pub fn follower_fetched(
        &mut self,
        now: Millis,
        log: &mut LogState,
        id: BrokerId,
        fetch_offset: Offset,
        flushed: Option<Offset>,
    ) -> bool {
        let log_end = log.cursors.written();
        assert!(fetch_offset <= log_end, "the range check comes before the credit");
        let high_watermark = log.cursors.high_watermark();
        let counted = log.cursors.policy().counted(fetch_offset, flushed.unwrap_or(fetch_offset));
        let broker_epoch = self.members.broker_epoch(id);
        let Some(follower) = self.followers.get_mut(&id) else { return false };
        let has_moved = follower.counted != Some(counted) || follower.broker_epoch != broker_epoch;
        follower.fetched(now, counted, log_end);
        follower.broker_epoch = broker_epoch;
        self.propose_expansion(now, log, id);
        self.advance_high_watermark(now, log);
        has_moved || high_watermark < log.cursors.high_watermark() || self.proposal_to_send
    }

    /// Notes where a follower's log begins.
    pub fn follower_begins_at(&mut self, id: BrokerId, log_start: Offset) {
        if let Some(follower) = self.followers.get_mut(&id) {
            follower.log_start = Some(log_start);
        }
    }

    /// What a follower whose log ends at `log_end`, and which says that it knows `known`, has yet to be told of the high
    /// watermark, so when its waiting fetch should return. What it was sent says nothing: answers get lost. One that
    /// does not say what it knows learns of a newer one with records, or when its wait is over.
    #[must_use]
    pub fn owed_high_watermark(
        &self,
        id: BrokerId,
        log: &LogState,
        log_end: Offset,
        known: Option<Offset>,
    ) -> OwedHighWatermark {
        // It takes over no more than its own log holds.
        let is_behind = known.is_some_and(|known| known < log.cursors.high_watermark().min(log_end));
        match self.followers.get(&id) {
            None => OwedHighWatermark::Nothing,
            Some(follower) if !follower.high_watermark_told => OwedHighWatermark::First,
            Some(_) if is_behind => OwedHighWatermark::Newer,
            Some(_) => OwedHighWatermark::Nothing,
        }
    }

    /// Notes that an answer to this follower carries the high watermark.
    pub fn high_watermark_told(&mut self, id: BrokerId) {
        if let Some(follower) = self.followers.get_mut(&id) {
            follower.high_watermark_told = true;
        }
    }

    /// New metadata of the same leader epoch: members, their registrations, min.insync.replicas, and the ISR if the
    /// partition epoch has risen. Returns the ISR before, if it changed.
    pub fn update(
        &mut self,
        now: Millis,
        log: &mut LogState,
        members: Members,
        isr: Isr,
    ) -> Option<BTreeSet<BrokerId>> {
        self.followers.retain(|id, _| members.contains(*id));
        for id in members.ids().filter(|&id| id != self.me) {
            let follower = self.followers.entry(id).or_default();
            // Another life of that broker: what was known of its log is not true any more (traps 10 and 11).
            if follower.broker_epoch.is_some() && follower.broker_epoch != members.broker_epoch(id) {
                let last_caught_up = isr.settled().contains(&id).then_some(now);
                *follower = FollowerProgress { last_caught_up, ..FollowerProgress::default() };
            }
        }
        self.members = members;
        let (settled, partition_epoch) = (isr.settled().clone(), isr.partition_epoch());
        let before = self.isr.settle(settled, partition_epoch).filter(|before| before != self.isr.settled());
        if before.is_some() {
            self.note_joiners(now, before.as_ref());
            self.proposal_to_send = false;
        }
        if self.isr.proposal().is_none() {
            self.proposal_to_send = false;
        }
        self.advance_high_watermark(now, log);
        before
    }

    /// The controller answered a proposal. Returns the ISR before, if it changed.
    pub fn alter_partition_reply(
        &mut self,
        now: Millis,
        log: &mut LogState,
        correlation: u64,
        result: Result<IsrCommitted, AlterPartitionError>,
    ) -> Option<BTreeSet<BrokerId>> {
        let before = match result {
            Ok(committed) if committed.leader_epoch == self.epoch => {
                let before = self.isr.settle(committed.isr.into_iter().collect(), committed.partition_epoch);
                self.note_joiners(now, before.as_ref());
                before.filter(|before| before != self.isr.settled())
            }
            // The answer is about another epoch: this leader is deposed and metadata is on its way.
            Ok(_) => None,
            Err(error) => {
                if self.isr.refused(now, correlation, error, self.settings.alter_partition_retry_ms) {
                    self.dropped.clear();
                }
                None
            }
        };
        self.advance_high_watermark(now, log);
        before
    }

    /// A member that has just joined starts its lag window now.
    fn note_joiners(&mut self, now: Millis, before: Option<&BTreeSet<BrokerId>>) {
        let Some(before) = before else { return };
        for (id, follower) in &mut self.followers {
            if self.isr.settled().contains(id) && !before.contains(id) {
                follower.last_caught_up = Some(follower.last_caught_up.map_or(now, |at| at.max(now)));
            }
        }
    }

    /// Time has passed: expires tickets, checks for lag, repeats an unanswered proposal.
    pub fn tick(&mut self, now: Millis, log: &mut LogState) {
        while let Some(waiting) = self.acks.pop_expired(now) {
            self.decided.push_back((waiting.ticket, Err(AppendError::TimedOut)));
        }
        if self.next_lag_check <= now {
            self.next_lag_check = now.plus(self.settings.lag_check_ms());
            self.propose_shrink(now, log);
            // Whoever has left the caught-up set no longer holds the high watermark back.
            self.advance_high_watermark(now, log);
        }
        if self.isr.resend_due(now, self.settings.alter_partition_retry_ms).is_some() {
            self.proposal_to_send = true;
        }
    }

    /// When [`Self::tick`] is due. Lag is checked by whoever keeps the period (see [`Settings::lag_check_ms`]).
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let lag_check = (!self.followers.is_empty()).then_some(self.next_lag_check);
        [self.acks.next_deadline(), self.isr.resend_at(), lag_check].into_iter().flatten().min()
    }

    /// The next producer to answer.
    pub fn pop_decided(&mut self) -> Option<(Ticket, Result<Committed, AppendError>)> {
        self.decided.pop_front()
    }

    /// The proposal to send to the controller, if there is one to send now.
    pub fn take_proposal(&mut self) -> Option<ProposedIsr> {
        if !std::mem::take(&mut self.proposal_to_send) {
            return None;
        }
        let proposal = self.isr.proposal()?;
        let isr =
            if zoo::planted(Bug::RemoveAndReAdd) { self.registered(&proposal.isr) } else { self.proposed.clone() };
        let leaving = self.isr.settled().difference(&proposal.isr);
        let dropped = leaving.filter_map(|id| Some((*id, self.why_dropped(*id)?.0))).collect();
        Some(ProposedIsr { correlation: proposal.correlation, isr, dropped })
    }

    /// Leadership is over: everyone who waits learns `error`.
    pub fn resign(mut self, error: AppendError) -> VecDeque<(Ticket, Result<Committed, AppendError>)> {
        while let Some(waiting) = self.acks.pop_any() {
            let result = match error {
                AppendError::LeadershipLost if zoo::planted(Bug::AckAfterStepDown) => {
                    Ok(Committed { base_offset: waiting.base_offset, epoch: waiting.epoch })
                }
                error => Err(error),
            };
            self.decided.push_back((waiting.ticket, result));
        }
        self.decided
    }

    /// Followers that lag, how, and how many records they lack (`None`: not heard from in this epoch).
    #[must_use]
    pub fn lagging(&self, now: Millis, log: &LogState) -> Vec<(BrokerId, LagKind, Option<i64>)> {
        let log_end = log.cursors.written();
        let kind = |id: BrokerId, follower: &FollowerProgress| {
            let fetches = self.has_fetched_lately(now, follower);
            if !self.isr.settled().contains(&id) {
                // One that is fenced does not catch up, however lately it was heard from.
                let catches_up = fetches && self.members.is_eligible(id);
                return Some(if catches_up { LagKind::Bootstrapping } else { LagKind::Stuck });
            }
            if self.is_caught_up(now, follower, log_end) {
                return None;
            }
            Some(if fetches { LagKind::Slow } else { LagKind::Stuck })
        };
        self.followers.iter().filter_map(|(&id, it)| Some((id, kind(id, it)?, it.lacks(log_end)))).collect()
    }

    /// Why `member` was dropped by the last shrink that this leader proposed, and how many records it lacked then.
    #[must_use]
    pub fn why_dropped(&self, member: BrokerId) -> Option<(IsrReason, Option<i64>)> {
        self.dropped.get(&member).copied()
    }

    // ---- the high watermark -------------------------------------------------------------------------------------

    /// Raises the high watermark as far as the rules allow and decides the tickets it passes.
    fn advance_high_watermark(&mut self, now: Millis, log: &mut LogState) {
        if self.isr.settled().len() < self.members.min_isr() && !zoo::planted(Bug::AckWithoutMinIsr) {
            return;
        }
        let Some(candidate) = self.high_watermark_candidate(now, log) else { return };
        if candidate > log.cursors.high_watermark() {
            log.cursors.raise_high_watermark(candidate);
            self.decide_reached(candidate);
        }
    }

    /// The lowest log end of all that count: this leader, the maximal ISR, and whoever is about to join it.
    /// `None` while one of them has not been heard from in this epoch.
    fn high_watermark_candidate(&self, now: Millis, log: &LogState) -> Option<Offset> {
        let log_end = log.cursors.written();
        let mut candidate = log.cursors.local_acked();
        for (&id, follower) in &self.followers {
            if self.counts_towards_commit(now, id, follower, log_end) {
                candidate = candidate.min(follower.counted?);
            }
        }
        Some(candidate)
    }

    fn counts_towards_commit(&self, now: Millis, id: BrokerId, follower: &FollowerProgress, log_end: Offset) -> bool {
        if zoo::planted(Bug::NotMaximalIsr) {
            return self.isr.settled().contains(&id);
        }
        if let (true, Some(proposal)) = (zoo::planted(Bug::AssumedShrink), self.isr.proposal()) {
            return proposal.isr.contains(&id);
        }
        self.isr.maximal_contains(id)
            || (follower.counted.is_some() && self.members.is_eligible(id) && self.is_caught_up(now, follower, log_end))
    }

    /// Answers those whom the high watermark has reached, after the second look at min.insync.replicas.
    fn decide_reached(&mut self, high_watermark: Offset) {
        while let Some(waiting) = self.acks.pop_reached(high_watermark) {
            let result = self
                .refuse_below_min_isr_at_ack()
                .map(|()| Committed { base_offset: waiting.base_offset, epoch: waiting.epoch });
            self.decided.push_back((waiting.ticket, result));
        }
    }

    fn refuse_below_min_isr_at_ack(&self) -> Result<(), AppendError> {
        let (isr, min_isr) = (self.isr.maximal_len(), self.members.min_isr());
        if isr < min_isr && !zoo::planted(Bug::AckWithoutMinIsr) {
            return Err(AppendError::NotEnoughReplicasAfterAppend { isr, min_isr });
        }
        Ok(())
    }

    // ---- the ISR ------------------------------------------------------------------------------------------------

    /// In step by every rule in force: by time (it holds everything, or did so within the lag time), and by messages
    /// where that rule is on.
    fn is_caught_up(&self, now: Millis, follower: &FollowerProgress, log_end: Offset) -> bool {
        self.is_caught_up_by_time(now, follower, log_end) && !self.lacks_too_many(follower, log_end)
    }

    fn is_caught_up_by_time(&self, now: Millis, follower: &FollowerProgress, log_end: Offset) -> bool {
        follower.counted == Some(log_end)
            || follower.last_caught_up.is_some_and(|at| now.since(at) <= self.settings.replica_lag_time_max_ms)
    }

    /// By the legacy rule. One that was not heard from in this epoch lacks an unknown number: time decides about it.
    fn lacks_too_many(&self, follower: &FollowerProgress, log_end: Offset) -> bool {
        let (Some(rule), Some(records)) = (self.settings.lag_max_messages, follower.lacks(log_end)) else {
            return false;
        };
        rule.exceeded_by(records)
    }

    /// Whether it is not silent: a fetch within the lag time, or a leader too young to tell.
    fn has_fetched_lately(&self, now: Millis, follower: &FollowerProgress) -> bool {
        let last = follower.last_fetch.map_or(self.leading_since, |(at, _)| at);
        now.since(last) <= self.settings.replica_lag_time_max_ms
    }

    /// Proposes to drop members that lag.
    fn propose_shrink(&mut self, now: Millis, log: &LogState) {
        if !self.isr.may_propose(now) {
            return;
        }
        let log_end = log.cursors.written();
        let lags = |id: &BrokerId| {
            if *id == self.me {
                return None;
            }
            let Some(follower) = self.followers.get(id) else { return Some((*id, (IsrReason::Unassigned, None))) };
            if self.is_caught_up(now, follower, log_end) {
                return None;
            }
            let reason = match self.is_caught_up_by_time(now, follower, log_end) {
                true => IsrReason::Messages,
                false if self.has_fetched_lately(now, follower) => IsrReason::Slow,
                false => IsrReason::Stuck,
            };
            Some((*id, (reason, follower.lacks(log_end))))
        };
        let dropped: BTreeMap<_, _> = self.isr.settled().iter().filter_map(lags).collect();
        if dropped.is_empty() {
            return;
        }
        let kept: BTreeSet<BrokerId> =
            self.isr.settled().iter().copied().filter(|id| !dropped.contains_key(id)).collect();
        self.dropped = dropped;
        self.propose(now, kept);
    }

    /// Proposes to add a follower that holds all that may be committed.
    fn propose_expansion(&mut self, now: Millis, log: &LogState, id: BrokerId) {
        if !self.isr.may_propose(now) || self.isr.settled().contains(&id) || !self.may_join(log, id) {
            return;
        }
        let mut isr = self.isr.settled().clone();
        isr.insert(id);
        // A shrink that the controller makes from here on has reasons of its own.
        self.dropped.clear();
        self.propose(now, isr);
    }

    fn may_join(&self, log: &LogState, id: BrokerId) -> bool {
        let holds_enough = self.followers.get(&id).and_then(|follower| follower.counted).is_some_and(|counted| {
            let reaches_epoch = counted >= self.epoch_start || zoo::planted(Bug::JoinIsrOnStaleHighWatermark);
            counted >= log.cursors.high_watermark() && reaches_epoch
        });
        holds_enough && self.members.is_eligible(id)
    }

    /// Each member is proposed in the life that fetched. The proposal may be sent again when that life is over, and
    /// must not speak for the next one, which may have lost what this one had (traps 9 and 10).
    fn propose(&mut self, now: Millis, isr: BTreeSet<BrokerId>) {
        self.proposed = self.registered(&isr);
        self.isr.propose(now, isr, self.settings.alter_partition_retry_ms);
        self.proposal_to_send = true;
    }

    fn registered(&self, isr: &BTreeSet<BrokerId>) -> Vec<(BrokerId, BrokerEpoch)> {
        isr.iter().filter_map(|&id| Some((id, self.members.broker_epoch(id)?))).collect()
    }
}

impl FollowerProgress {
    /// Where its log begins; `None` until a fetch said so.
    #[must_use]
    pub fn log_start(&self) -> Option<Offset> {
        self.log_start
    }

    /// Its log end as it counts; `None` until its first fetch in this epoch.
    #[must_use]
    pub fn counted(&self) -> Option<Offset> {
        self.counted
    }

    /// How many records it lacks of a log that ends at `log_end`; `None` until its first fetch in this epoch.
    fn lacks(&self, log_end: Offset) -> Option<i64> {
        self.counted.map(|counted| log_end.0 - counted.0)
    }

    /// Takes a fetch into account. `log_end` is the leader's, taken before anything is read.
    fn fetched(&mut self, now: Millis, counted: Offset, log_end: Offset) {
        if counted >= log_end {
            self.last_caught_up = Some(now);
        } else if let Some((previous, log_end_then)) = self.last_fetch
            && counted >= log_end_then
        {
            self.last_caught_up = Some(self.last_caught_up.map_or(previous, |at| at.max(previous)));
        }
        self.counted = Some(counted);
        self.last_fetch = Some((now, log_end));
    }
}
