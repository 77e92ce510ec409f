//! Who leads: the change of one partition's record when its ISR or the set of active brokers changes.
//!
//! Order (semantics reference §2.6): the current leader if it is still an active ISR member; the first active ISR
//! member in assignment order; if the ISR is empty, the first active ELR member, which then is the whole ISR; else
//! nobody. A replica outside both sets is elected only where [`Change::may_be_unclean`] says so: the last-known leader
//! if it is active, else the first active one in assignment order, with ISR := {it}. The record then says in which
//! leader epoch that was ([`Partition::last_unclean_epoch`]), so that whoever checks for lost records can tell.

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
    /// If nobody can be elected otherwise, elect any active replica.
    pub may_be_unclean: bool,
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

    let clean = elect(old, &isr, change.prefer_first, &is_active).or_else(|| {
        if !isr.is_empty() {
            return None;
        }
        let heir = old.replicas.iter().copied().find(|id| was_eligible(*id) && is_active(*id))?;
        isr = vec![heir];
        Some(heir)
    });
    let unclean = match clean {
        None if change.may_be_unclean => any_active(old, &is_active),
        _ => None,
    };
    if let Some(leader) = unclean {
        isr = vec![leader];
    }
    let leader = clean.or(unclean);
    // After an unclean election nobody else holds what counts from now on.
    let elr = if isr.len() < min_insync_replicas && unclean.is_none() {
        in_assignment_order(old, |id| was_eligible(id) && !isr.contains(&id))
    } else {
        Vec::new()
    };

    let leader_epoch = if leader == old.leader { old.leader_epoch } else { Epoch(old.leader_epoch.0 + 1) };
    let last_unclean_epoch = unclean.map(|_| leader_epoch).or(old.last_unclean_epoch);
    let last_known_leader = leader.or(old.leader).or(old.last_known_leader);
    let new = Partition {
        replicas: old.replicas.clone(),
        isr,
        elr,
        last_known_leader,
        leader,
        leader_epoch,
        partition_epoch: old.partition_epoch,
        last_unclean_epoch,
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

/// Whoever may lead when everything that must hold it has been lost: the last-known leader is likely to hold most.
fn any_active(old: &Partition, is_active: &impl Fn(BrokerId) -> bool) -> Option<BrokerId> {
    let last_known = old.last_known_leader.filter(|id| old.has_replica(*id) && is_active(*id));
    last_known.or_else(|| old.replicas.iter().copied().find(|id| is_active(*id)))
}

fn in_assignment_order(partition: &Partition, keep: impl Fn(BrokerId) -> bool) -> Vec<BrokerId> {
    partition.replicas.iter().copied().filter(|id| keep(*id)).collect()
}
