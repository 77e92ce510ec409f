//! Who leads: the change of one partition's record when its ISR or the set of active brokers changes.
//!
//! Order (semantics reference §2.6): the current leader if it is still an active ISR member; the first active ISR
//! member in assignment order; if the ISR is empty, the first active ELR member, which then is the whole ISR; else
//! nobody. Never a replica outside both sets.

use super::image::Partition;
use crate::{BrokerId, Epoch, PartitionEpoch};

/// What should change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change<'a> {
    /// The new ISR, if it changes. Order does not matter.
    pub isr: Option<&'a [BrokerId]>,
    /// A broker that restarted without everything it had acknowledged: out of ISR and ELR.
    pub unclean: Option<BrokerId>,
    /// Give the lead to the preferred replica if it is in the ISR.
    pub prefer_first: bool,
}

/// The partition's record after `change`, with a leader elected if needed; `None` when nothing differs.
pub(super) fn changed(
    old: &Partition,
    change: Change<'_>,
    min_insync_replicas: usize,
    is_active: impl Fn(BrokerId) -> bool,
) -> Option<Partition> {
    let wanted_isr = change.isr.unwrap_or(&old.isr);
    let is_unclean = |id: BrokerId| change.unclean == Some(id);
    let mut isr = in_assignment_order(old, |id| wanted_isr.contains(&id) && !is_unclean(id));
    let was_eligible = |id: BrokerId| (old.isr.contains(&id) || old.elr.contains(&id)) && !is_unclean(id);

    let leader = elect(old, &isr, change.prefer_first, &is_active).or_else(|| {
        if !isr.is_empty() {
            return None;
        }
        let heir = old.replicas.iter().copied().find(|id| was_eligible(*id) && is_active(*id))?;
        isr = vec![heir];
        Some(heir)
    });
    let elr = if isr.len() < min_insync_replicas {
        in_assignment_order(old, |id| was_eligible(id) && !isr.contains(&id))
    } else {
        Vec::new()
    };

    let leader_epoch = if leader == old.leader { old.leader_epoch } else { Epoch(old.leader_epoch.0 + 1) };
    let last_known_leader = leader.or(old.leader).or(old.last_known_leader);
    let new = Partition {
        replicas: old.replicas.clone(),
        isr,
        elr,
        last_known_leader,
        leader,
        leader_epoch,
        partition_epoch: old.partition_epoch,
    };
    (new != *old).then(|| Partition { partition_epoch: PartitionEpoch(old.partition_epoch.0 + 1), ..new })
}

/// The leader out of a non-empty ISR.
fn elect(
    old: &Partition,
    isr: &[BrokerId],
    prefer_first: bool,
    is_active: &impl Fn(BrokerId) -> bool,
) -> Option<BrokerId> {
    let can_lead = |id: &BrokerId| isr.contains(id) && is_active(*id);
    let preferred = old.replicas.first().copied().filter(|id| prefer_first && can_lead(id));
    preferred.or(old.leader.filter(can_lead)).or_else(|| old.replicas.iter().copied().find(can_lead))
}

fn in_assignment_order(partition: &Partition, keep: impl Fn(BrokerId) -> bool) -> Vec<BrokerId> {
    partition.replicas.iter().copied().filter(|id| keep(*id)).collect()
}
