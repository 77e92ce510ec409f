//! Who leads: the change of one partition's record when its ISR or the set of active brokers changes.
//!
//! Order (semantics reference §2.6): the current leader if it is still an active ISR member; the first active ISR
//! member in assignment order; if the ISR is empty, the first active ELR member, which then is the whole ISR; else
//! nobody. A replica outside both sets is elected only where [`Change::may_be_unclean`] says so: the last-known leader
//! if it is active, else the first active one in assignment order, with ISR := {it}. The record then says in which
//! leader epoch that was ([`Partition::last_unclean_epoch`]), so that whoever checks for lost records can tell.

use super::image::Partition;
use super::reassignment::{self, Reassignment};
use crate::zoo::{self, Bug};
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
    /// The new replicas, with the reassignment under way then. Whoever is not among them leaves ISR and ELR.
    pub assignment: Option<(&'a [BrokerId], Option<&'a Reassignment>)>,
}

/// The partition's record after `change`, with a leader elected if needed; `None` when nothing differs.
pub(super) fn changed(
    old: &Partition,
    change: Change<'_>,
    min_insync_replicas: usize,
    is_active: impl Fn(BrokerId) -> bool,
) -> Option<Partition> {
    let replicas = change.assignment.map_or(old.replicas.as_slice(), |(replicas, _)| replicas);
    let reassignment = change.assignment.map_or(old.reassignment.as_ref(), |(_, reassignment)| reassignment);
    let wanted_isr = change.isr.unwrap_or(&old.isr);
    let is_unclean = |id: BrokerId| change.unclean == Some(id);
    let mut new = Partition {
        replicas: replicas.to_vec(),
        isr: in_assignment_order(replicas, |id| wanted_isr.contains(&id) && !is_unclean(id)),
        reassignment: reassignment.cloned(),
        ..old.clone()
    };
    reassignment::complete(&mut new);
    let was_eligible = |id: BrokerId| (old.isr.contains(&id) || old.elr.contains(&id)) && !is_unclean(id);

    let clean = elect(old, &new, change.prefer_first, &is_active).or_else(|| {
        if !new.isr.is_empty() {
            return None;
        }
        let heir = new.replicas.iter().copied().find(|id| was_eligible(*id) && is_active(*id));
        let anybody = || new.replicas.iter().copied().find(|id| zoo::planted(Bug::UncleanElection) && is_active(*id));
        let heir = heir.or_else(anybody)?;
        new.isr = vec![heir];
        Some(heir)
    });
    let unclean = match clean {
        None if change.may_be_unclean => any_active(&new, &is_active),
        _ => None,
    };
    if let Some(leader) = unclean {
        new.isr = vec![leader];
    }
    new.leader = clean.or(unclean);
    // Whoever was elected out of an empty ISR may be all that a reassignment was waiting for.
    reassignment::complete(&mut new);
    // After an unclean election nobody else holds what counts from now on.
    let is_below_min = new.isr.len() < min_insync_replicas.min(new.settled_replication_factor());
    new.elr = if is_below_min && unclean.is_none() {
        in_assignment_order(&new.replicas, |id| was_eligible(id) && !new.isr.contains(&id))
    } else {
        Vec::new()
    };

    let removes = old.replicas.iter().any(|id| !new.has_replica(*id));
    if new.leader != old.leader || removes {
        new.leader_epoch = Epoch(old.leader_epoch.0 + 1);
    }
    new.last_unclean_epoch = unclean.map(|_| new.leader_epoch).or(old.last_unclean_epoch);
    new.last_known_leader = new.leader.or(old.leader).or(old.last_known_leader).filter(|id| new.has_replica(*id));
    (new != *old).then(|| Partition { partition_epoch: PartitionEpoch(old.partition_epoch.0 + 1), ..new })
}

/// The leader out of a non-empty ISR.
fn elect(
    old: &Partition,
    new: &Partition,
    prefer_first: bool,
    is_active: &impl Fn(BrokerId) -> bool,
) -> Option<BrokerId> {
    let can_lead = |id: &BrokerId| new.isr.contains(id) && is_active(*id);
    let preferred = new.replicas.first().copied().filter(|id| prefer_first && can_lead(id));
    preferred.or(old.leader.filter(can_lead)).or_else(|| new.replicas.iter().copied().find(can_lead))
}

/// Whoever may lead when everything that must hold it has been lost: the last-known leader is likely to hold most.
fn any_active(partition: &Partition, is_active: &impl Fn(BrokerId) -> bool) -> Option<BrokerId> {
    let last_known = partition.last_known_leader.filter(|id| partition.has_replica(*id) && is_active(*id));
    last_known.or_else(|| partition.replicas.iter().copied().find(|id| is_active(*id)))
}

fn in_assignment_order(replicas: &[BrokerId], keep: impl Fn(BrokerId) -> bool) -> Vec<BrokerId> {
    replicas.iter().copied().filter(|id| keep(*id)).collect()
}
