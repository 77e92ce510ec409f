//! What a leader tells about its in-sync replicas: who lags now, and who left or joined lately and why.
//!
//! Kept for each partition for as long as the process lives, over all its leaderships, and bounded: counts are exact,
//! of the changes themselves the last [`CHANGES_KEPT`] are remembered.

use std::collections::{BTreeSet, VecDeque};

use minisr_logic::metadata::Image;
use minisr_logic::partition::{IsrReason, LagKind};
use minisr_logic::{BrokerId, Epoch, Millis, TopicPartition};
use minisr_storage::Disk;

use crate::output::{Notice, Output};
use crate::partition::Partition;
use crate::shard::Shard;

/// Members that left or joined, of which a partition's history keeps the last so many.
pub const CHANGES_KEPT: usize = 64;

/// One member left or joined a committed ISR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IsrChange {
    /// Rises by one with each change that this process noted for the partition.
    pub number: u64,
    /// When this leader learnt of it.
    pub at: Millis,
    /// The epoch it led in.
    pub leader_epoch: Epoch,
    /// Who left or joined.
    pub broker: BrokerId,
    /// Joined; otherwise left.
    pub joined: bool,
    /// Why.
    pub reason: IsrReason,
    /// How many records it lacked when its removal was proposed, where that is known.
    pub lacked_records: Option<i64>,
    /// Members of the ISR afterwards.
    pub isr_size: usize,
}

/// What a leader knows about the ISR of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IsrReport {
    /// Committed changes in which somebody left, as far as this process led them.
    pub shrinks: u64,
    /// Committed changes in which somebody joined.
    pub expansions: u64,
    /// The newest changes, oldest first.
    pub changes: Vec<IsrChange>,
    /// Followers that lag, and how many records they lack (`None`: not heard from in this epoch).
    pub lagging: Vec<(BrokerId, LagKind, Option<i64>)>,
}

/// The counts and changes of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct IsrHistory {
    shrinks: u64,
    expansions: u64,
    noted: u64,
    changes: VecDeque<IsrChange>,
}

impl IsrHistory {
    /// Notes a committed change. `why` explains a member that left.
    fn note(
        &mut self,
        at: Millis,
        leader_epoch: Epoch,
        from: &BTreeSet<BrokerId>,
        to: &BTreeSet<BrokerId>,
        why: impl Fn(BrokerId) -> (IsrReason, Option<i64>),
    ) -> Vec<(BrokerId, IsrReason)> {
        let left = from.difference(to).map(|&broker| (broker, false, why(broker)));
        let joined = to.difference(from).map(|&broker| (broker, true, (IsrReason::CaughtUp, None)));
        let changes: Vec<_> = left.chain(joined).collect();
        self.shrinks += u64::from(changes.iter().any(|(_, joined, _)| !joined));
        self.expansions += u64::from(changes.iter().any(|(_, joined, _)| *joined));
        for &(broker, joined, (reason, lacked_records)) in &changes {
            self.noted += 1;
            if self.changes.len() == CHANGES_KEPT {
                self.changes.pop_front();
            }
            let (number, isr_size) = (self.noted, to.len());
            self.changes.push_back(IsrChange {
                number,
                at,
                leader_epoch,
                broker,
                joined,
                reason,
                lacked_records,
                isr_size,
            });
        }
        changes.into_iter().map(|(broker, _, (reason, _))| (broker, reason)).collect()
    }
}

impl<D: Disk> Partition<D> {
    /// The committed ISR of a partition that this broker leads has changed from `from`; `image` is the newest metadata,
    /// where that is what told it.
    pub(crate) fn note_isr_change(
        &mut self,
        now: Millis,
        from: &BTreeSet<BrokerId>,
        image: Option<&Image>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(leader) = self.replica.leader() else { return };
        let (key, to) = (self.key, leader.isr().settled());
        let why =
            |broker| leader.why_dropped(broker).unwrap_or_else(|| (removed_by_controller(image, key, broker), None));
        let reasons = self.isr_history.note(now, leader.epoch(), from, to, why);
        let members = |isr: &BTreeSet<BrokerId>| isr.iter().copied().collect();
        outputs.push(Output::Notice(Notice::IsrChanged {
            partition: key,
            from: members(from),
            to: members(to),
            reasons,
        }));
    }
}

/// Why the controller took a member out that its leader had not proposed to drop.
fn removed_by_controller(image: Option<&Image>, key: TopicPartition, broker: BrokerId) -> IsrReason {
    let Some(image) = image else { return IsrReason::Controller };
    if image.partition(key).is_some_and(|assigned| !assigned.has_replica(broker)) {
        return IsrReason::Unassigned;
    }
    match image.broker(broker) {
        None => IsrReason::Fenced,
        Some(registered) if registered.fenced => IsrReason::Fenced,
        Some(registered) if !registered.is_active() => IsrReason::ShuttingDown,
        Some(_) => IsrReason::Controller,
    }
}

impl<D: Disk> Shard<D> {
    /// What this broker knows about the ISR of a partition; `None` unless it leads it.
    #[must_use]
    pub fn isr_report(&self, now: Millis, key: TopicPartition) -> Option<IsrReport> {
        let partition = self.partitions.get(&key)?;
        let leader = partition.replica.leader()?;
        let history = &partition.isr_history;
        Some(IsrReport {
            shrinks: history.shrinks,
            expansions: history.expansions,
            changes: history.changes.iter().copied().collect(),
            lagging: leader.lagging(now, partition.replica.log()),
        })
    }
}
