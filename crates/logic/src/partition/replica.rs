//! [`Replica`]: one partition's copy on one broker: its log's state, and its role.
//!
//! A role is taken per leader epoch. Every rise of the leader epoch ends the old role and begins a new one, also when
//! the leader stays the same (trap 22): a leader forgets what it knew of its followers, a follower starts its
//! divergence check anew. Metadata never goes back: a lower leader epoch, or a lower partition epoch within the same
//! one, is ignored (invariant 2).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::acks::{AppendError, Ticket};
use super::cursors::Cursors;
use super::epochs::{EpochCache, EpochEnd};
use super::follower::Follower;
use super::isr::Isr;
use super::lag::LagMaxMessages;
use super::leader::{Committed, Leader};
use super::producers::Producers;
use crate::zoo::{self, Bug};
use crate::{BrokerEpoch, BrokerId, Epoch, Millis, Offset, PartitionEpoch};

/// The settings that decisions depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// `replica.lag.time.max.ms`.
    pub replica_lag_time_max_ms: u64,
    /// `replica.lag.max.messages` with its comparison: a legacy rule, off by default.
    pub lag_max_messages: Option<LagMaxMessages>,
    /// Pause before an ISR proposal without a certain outcome is sent again.
    pub alter_partition_retry_ms: u64,
}

impl Settings {
    /// How often a leader looks for laggards: so that a removal takes 1 to 1.5 times the lag time.
    #[must_use]
    pub fn lag_check_ms(&self) -> u64 {
        (self.replica_lag_time_max_ms / 2).max(1)
    }
}

/// The assigned replicas, their brokers' registrations, and min.insync.replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Members {
    brokers: BTreeMap<BrokerId, Option<(BrokerEpoch, bool)>>,
    min_isr: usize,
}

impl Members {
    /// `replicas` with, for each that is registered, its broker epoch and whether it may be in an ISR (not fenced, not
    /// shutting down). `min_insync_replicas` is capped at the number of replicas.
    #[must_use]
    pub fn new(
        replicas: impl IntoIterator<Item = (BrokerId, Option<(BrokerEpoch, bool)>)>,
        min_insync_replicas: usize,
    ) -> Self {
        let brokers: BTreeMap<_, _> = replicas.into_iter().collect();
        let min_isr = min_insync_replicas.min(brokers.len());
        Self { brokers, min_isr }
    }

    /// The assigned replicas.
    pub fn ids(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.brokers.keys().copied()
    }

    /// Whether `id` is one of them.
    #[must_use]
    pub fn contains(&self, id: BrokerId) -> bool {
        self.brokers.contains_key(&id)
    }

    /// The registration of `id`.
    #[must_use]
    pub fn broker_epoch(&self, id: BrokerId) -> Option<BrokerEpoch> {
        self.brokers.get(&id).copied().flatten().map(|(epoch, _)| epoch)
    }

    /// Whether `id` may join an ISR.
    #[must_use]
    pub fn is_eligible(&self, id: BrokerId) -> bool {
        self.brokers.get(&id).copied().flatten().is_some_and(|(_, eligible)| eligible)
    }

    /// min.insync.replicas, capped at the number of replicas.
    #[must_use]
    pub fn min_isr(&self) -> usize {
        self.min_isr
    }
}

/// What the metadata says of the partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Who leads.
    pub leader: Option<BrokerId>,
    /// Since which election.
    pub leader_epoch: Epoch,
    /// The version of all this.
    pub partition_epoch: PartitionEpoch,
    /// The committed ISR.
    pub isr: BTreeSet<BrokerId>,
    /// The replicas.
    pub members: Members,
}

/// A replica's log as decisions see it.
#[derive(Clone, Debug, Hash)]
pub struct LogState {
    /// Its positions.
    pub cursors: Cursors,
    /// Where its leader epochs begin.
    pub epochs: EpochCache,
    /// Its idempotent producers.
    pub producers: Producers,
    admitted: Offset,
}

impl LogState {
    /// The state of a recovered log.
    #[must_use]
    pub fn new(cursors: Cursors, mut epochs: EpochCache, producers: Producers) -> Self {
        // Epochs of a lost tail go, and with them elections without records at the very end: the next epoch this
        // replica takes part in would replace them anyway.
        epochs.truncate_suffix(cursors.written());
        Self { cursors, epochs, producers, admitted: cursors.written() }
    }

    /// The end of what was admitted: the log end, once the step's writes are done.
    #[must_use]
    pub fn admitted_end(&self) -> Offset {
        self.admitted
    }

    /// More is about to be written, up to `end`.
    pub fn note_admitted(&mut self, end: Offset) {
        assert!(end > self.admitted, "each batch takes at least one offset");
        self.admitted = end;
    }

    /// The log was cut to end at `to` (≤ its end; equal when only epochs conflict). Producer state that reaches past
    /// the cut must be rebuilt by the caller.
    pub fn truncate(&mut self, to: Offset) {
        assert_eq!(self.admitted, self.cursors.written(), "no write is under way while the log is cut");
        self.cursors.truncate(to);
        self.epochs.truncate_suffix(to);
        self.admitted = to;
    }

    /// Everything was dropped; the log begins anew at `at`.
    pub fn restart(&mut self, at: Offset) {
        assert_eq!(self.admitted, self.cursors.written(), "no write is under way while the log is dropped");
        self.cursors.restart(at);
        self.epochs.clear();
        self.producers.clear();
        self.admitted = at;
    }

    /// Data below `to` is gone.
    pub fn raise_log_start(&mut self, to: Offset) {
        self.cursors.raise_log_start(to);
        self.epochs.truncate_prefix(to);
    }
}

/// What a replica does.
#[derive(Clone, Debug, Hash)]
pub enum Role {
    /// Leads.
    Leader(Box<Leader>),
    /// Follows, or waits for a leader.
    Follower(Follower),
    /// Nothing: no metadata yet, or its log failed.
    Offline,
}

/// What new metadata changed.
#[derive(Debug, Default)]
pub struct Applied {
    /// A new leader epoch began: whatever was under way in the old one is void.
    pub new_epoch: bool,
    /// The committed ISR before, if this leader's changed without a new leader epoch.
    pub isr_before: Option<BTreeSet<BrokerId>>,
    /// Producers that waited for a leadership that is over.
    pub resigned: VecDeque<(Ticket, Result<Committed, AppendError>)>,
}

/// Why a request that names a leader epoch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochRefusal {
    /// 74: older than this replica's.
    Fenced {
        /// This replica's leader epoch.
        current: Epoch,
    },
    /// 75: newer than this replica's.
    Unknown {
        /// This replica's leader epoch.
        current: Epoch,
    },
}

/// How a reader's position relates to this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionCheck {
    /// The reader's log is a prefix of this one.
    Prefix,
    /// The reader's last epoch ends earlier here: it must cut. Nothing is credited.
    Diverging(EpochEnd),
    /// The offset lies outside this log, or this log knows nothing of the epoch.
    OutOfRange,
}

/// One partition's copy on one broker.
#[derive(Clone, Debug, Hash)]
pub struct Replica {
    me: BrokerId,
    settings: Settings,
    log: LogState,
    leader_epoch: Option<Epoch>,
    partition_epoch: PartitionEpoch,
    role: Role,
    failed: bool,
}

impl Replica {
    /// A replica without a role.
    #[must_use]
    pub fn new(me: BrokerId, settings: Settings, log: LogState) -> Self {
        Self {
            me,
            settings,
            log,
            leader_epoch: None,
            partition_epoch: PartitionEpoch(-1),
            role: Role::Offline,
            failed: false,
        }
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> &LogState {
        &self.log
    }

    /// Its log, for writes that a role's methods do not cover (truncation, retention, recovery).
    pub fn log_mut(&mut self) -> &mut LogState {
        &mut self.log
    }

    /// What it does.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The leader epoch it acts in; `None` before the first metadata.
    #[must_use]
    pub fn leader_epoch(&self) -> Option<Epoch> {
        self.leader_epoch
    }

    /// The newest partition epoch it has seen.
    #[must_use]
    pub fn partition_epoch(&self) -> PartitionEpoch {
        match &self.role {
            Role::Leader(leader) => leader.isr().partition_epoch(),
            _ => self.partition_epoch,
        }
    }

    /// The leader's side, if it leads.
    #[must_use]
    pub fn leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        }
    }

    /// The leader's side, with the log, if it leads.
    pub fn as_leader(&mut self) -> Option<(&mut Leader, &mut LogState)> {
        match &mut self.role {
            Role::Leader(leader) => Some((leader, &mut self.log)),
            _ => None,
        }
    }

    /// The follower's side, with the log, if it follows.
    pub fn as_follower(&mut self) -> Option<(&mut Follower, &mut LogState)> {
        match &mut self.role {
            Role::Follower(follower) => Some((follower, &mut self.log)),
            _ => None,
        }
    }

    /// Whether its log failed; it stays without a role until reopened.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Takes new metadata. When this makes it a leader, its epoch's start is recorded, and the caller must make
    /// that durable before the next append.
    pub fn apply(&mut self, now: Millis, view: View) -> Applied {
        if self.failed || self.leader_epoch.is_some_and(|seen| view.leader_epoch < seen) {
            return Applied::default();
        }
        if self.leader_epoch == Some(view.leader_epoch) {
            return self.update(now, view);
        }
        let predecessor = self.leader().filter(|_| zoo::planted(Bug::MetadataSkipped)).cloned();
        if let Role::Follower(before) = &self.role
            && before.leader() == view.leader
            && zoo::planted(Bug::SkipTruncation)
        {
            // As if the logs had been compared in this epoch already.
            self.log.epochs.assign(view.leader_epoch, self.log.cursors.written());
        }
        let resigned = self.end_role(AppendError::LeadershipLost);
        self.leader_epoch = Some(view.leader_epoch);
        self.partition_epoch = view.partition_epoch;
        if view.leader == Some(self.me) {
            self.begin_leading(now, view, predecessor);
        } else {
            self.role = Role::Follower(Follower::new(view.leader, view.leader_epoch));
        }
        Applied { new_epoch: true, isr_before: None, resigned }
    }

    /// `predecessor` is what the planted bug 122 remembers, if this replica led before.
    fn begin_leading(&mut self, now: Millis, view: View, predecessor: Option<Leader>) {
        let epoch = view.leader_epoch;
        assert!(
            self.log.epochs.latest().is_none_or(|(latest, _)| latest < epoch),
            "epoch {epoch} is new to the log of whoever leads it: {:?}",
            self.log.epochs
        );
        if !zoo::planted(Bug::EpochCacheLate) {
            self.log.epochs.assign(epoch, self.log.cursors.written());
        }
        if zoo::planted(Bug::NoDedupAfterFailover) {
            self.log.producers.clear();
        }
        self.log.cursors.lower_high_watermark_to_acked();
        let first_correlation = u64::from(epoch.0.unsigned_abs()) << 32;
        let isr = Isr::settled_at(view.isr, view.partition_epoch).numbered_from(first_correlation);
        let mut leader = Leader::new(now, self.me, epoch, view.members, isr, &self.log, self.settings);
        if let Some(before) = predecessor {
            leader.remember_followers(&before);
        }
        // A sole member of the ISR commits what it has.
        let end = self.log.cursors.written();
        leader.written(now, &mut self.log, end);
        self.role = Role::Leader(Box::new(leader));
    }

    /// The same leader epoch, perhaps with another ISR or other registrations.
    fn update(&mut self, now: Millis, view: View) -> Applied {
        self.partition_epoch = self.partition_epoch.max(view.partition_epoch);
        let Role::Leader(leader) = &mut self.role else { return Applied::default() };
        let isr = Isr::settled_at(view.isr, view.partition_epoch);
        let isr_before = leader.update(now, &mut self.log, view.members, isr);
        Applied { isr_before, ..Applied::default() }
    }

    /// The log failed: no role until it is reopened. Returns the producers that waited.
    pub fn fail(&mut self) -> VecDeque<(Ticket, Result<Committed, AppendError>)> {
        self.failed = true;
        self.end_role(AppendError::StorageFailed)
    }

    fn end_role(&mut self, error: AppendError) -> VecDeque<(Ticket, Result<Committed, AppendError>)> {
        // What a leader has seen the replica has seen, also when it leads no more (2).
        self.partition_epoch = self.partition_epoch();
        match std::mem::replace(&mut self.role, Role::Offline) {
            Role::Leader(leader) => leader.resign(error),
            Role::Follower(_) | Role::Offline => VecDeque::new(),
        }
    }

    /// Whether a request that names a leader epoch may be served. One that names none may.
    pub fn check_epoch(&self, requested: Option<Epoch>) -> Result<(), EpochRefusal> {
        let (Some(requested), Some(current)) = (requested, self.leader_epoch) else { return Ok(()) };
        if zoo::planted(Bug::UnfencedFetch) {
            return Ok(());
        }
        match requested.cmp(&current) {
            std::cmp::Ordering::Less => Err(EpochRefusal::Fenced { current }),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(EpochRefusal::Unknown { current }),
        }
    }

    /// Whether a reader at `fetch_offset`, whose last record is of `last_fetched_epoch`, has a prefix of this log.
    /// `limit` is the end that this reader may know of.
    #[must_use]
    pub fn check_position(
        &self,
        fetch_offset: Offset,
        last_fetched_epoch: Option<Epoch>,
        limit: Offset,
    ) -> PositionCheck {
        if let (Some(last), true) = (last_fetched_epoch, zoo::planted(Bug::EpochlessEndOffset)) {
            match self.log.epochs.end_offset_for(last, self.log.cursors.written()) {
                Some(end) if end.end_offset < fetch_offset => {
                    return PositionCheck::Diverging(EpochEnd { epoch: last, ..end });
                }
                _ => {}
            }
        } else if let (Some(last), false) = (last_fetched_epoch, zoo::planted(Bug::TruncateToHighWatermark)) {
            match self.log.epochs.end_offset_for(last, self.log.cursors.written()) {
                None => return PositionCheck::OutOfRange,
                Some(end) if end.epoch < last || end.end_offset < fetch_offset => return PositionCheck::Diverging(end),
                Some(_) => {}
            }
        }
        let inside = self.log.cursors.log_start() <= fetch_offset && fetch_offset <= limit;
        if inside { PositionCheck::Prefix } else { PositionCheck::OutOfRange }
    }

    /// Whether a leader knows what is committed: its high watermark has reached the start of its epoch (KIP-207).
    #[must_use]
    pub fn knows_high_watermark(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => self.log.cursors.high_watermark() >= leader.epoch_start(),
            _ => false,
        }
    }

    /// Asserts the invariants of one replica: `CursorsOrdered`, `EpochsAscend`.
    pub fn check(&self) {
        match &self.role {
            Role::Leader(leader) => {
                self.log.cursors.check_leader();
                let latest = self.log.epochs.latest().map(|(epoch, _)| epoch);
                let newest = latest == Some(leader.epoch()) || zoo::planted(Bug::EpochCacheLate);
                assert!(newest, "a leader's epoch {} is the newest, not {latest:?}", leader.epoch());
            }
            Role::Follower(follower) => {
                self.log.cursors.check_follower();
                let latest = self.log.epochs.latest().map(|(epoch, _)| epoch);
                assert!(
                    latest.is_none_or(|latest| latest <= follower.epoch()),
                    "batch epochs never pass the leader epoch"
                );
            }
            Role::Offline => self.log.cursors.check_follower(),
        }
        self.log.epochs.check(self.log.cursors.written());
    }
}
