//! Reassignment: the replicas of a partition change while it serves.
//!
//! ```text
//!   replicas O ── alter(T) ──> replicas T ∪ O ── the ISR covers T ──> replicas T      (inside apply, whatever did it)
//!                                   │
//!                                   └── cancel ──> replicas O
//! ```
//!
//! Rules kept here:
//! * It completes in the very entry that makes the ISR cover the target; no second decision can come in between.
//! * Whenever a replica is removed the leader epoch rises, also when the leader stays: a leader then forgets what it
//!   knew of its followers, so a replica that is removed and added again is never credited with the log it once had
//!   (bug 11 of the zoo).
//! * While it runs, min.insync.replicas is capped at the *original* number of replicas: raising the replication factor
//!   must not stop the writers until the new copies have caught up, and lowering it weakens nothing before its end.
//! * Neither cancelling nor a new target ever leaves a partition to an unclean election: what would is refused, and an
//!   in-sync replica of an abandoned target stays until the new target is in sync.

use std::fmt;

use super::command::Reply;
use super::election::{Change, changed};
use super::errors::AssignmentFault;
use super::image::{Image, Partition};
use crate::{BrokerId, TopicId, TopicPartition};

/// A reassignment under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Reassignment {
    /// The replicas before it, to which cancelling goes back.
    pub original: Vec<BrokerId>,
    /// The replicas after it.
    pub target: Vec<BrokerId>,
}

/// Why a reassignment was not begun or cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ReassignmentError {
    /// No topic has this id.
    UnknownTopicId {
        /// The id.
        topic_id: TopicId,
    },
    /// The topic has no such partition.
    UnknownPartition {
        /// The index.
        partition: i32,
    },
    /// The target is empty, or names a broker twice or an unknown one.
    InvalidTarget {
        /// What is wrong with it.
        reason: AssignmentFault,
    },
    /// There is nothing to cancel.
    NoReassignmentInProgress,
    /// None of the original replicas is known to hold everything (or none of these is alive while another leads).
    CancelNeedsUncleanElection,
}

impl Partition {
    /// Replicas that the reassignment under way adds.
    #[must_use]
    pub fn adding_replicas(&self) -> Vec<BrokerId> {
        self.replicas_outside(|it| &it.original)
    }

    /// Replicas that the reassignment under way will remove.
    #[must_use]
    pub fn removing_replicas(&self) -> Vec<BrokerId> {
        self.replicas_outside(|it| &it.target)
    }

    fn replicas_outside(&self, set: impl Fn(&Reassignment) -> &Vec<BrokerId>) -> Vec<BrokerId> {
        let Some(set) = self.reassignment.as_ref().map(set) else { return Vec::new() };
        self.replicas.iter().copied().filter(|id| !set.contains(id)).collect()
    }

    /// How many replicas min.insync.replicas is capped at.
    pub(super) fn settled_replication_factor(&self) -> usize {
        self.reassignment.as_ref().map_or(self.replicas.len(), |it| it.original.len())
    }
}

/// Begins, redirects (`Some`) or cancels (`None`) a reassignment.
pub(super) fn alter_reassignment(
    image: &mut Image,
    key: TopicPartition,
    target: Option<&[BrokerId]>,
) -> Result<Reply, ReassignmentError> {
    let topic = image.topic(key.topic).cloned().ok_or(ReassignmentError::UnknownTopicId { topic_id: key.topic })?;
    let partition =
        topic.partition(key.partition).ok_or(ReassignmentError::UnknownPartition { partition: key.partition })?;
    let (replicas, reassignment) = match target {
        Some(target) => {
            validate(image, target)?;
            begun(partition, target)
        }
        None => (cancelled(image, partition)?, None),
    };
    let change = Change { assignment: Some((&replicas, reassignment.as_ref())), ..Change::default() };
    let new = changed(partition, change, topic.min_insync_replicas(partition), |it| image.is_active(it));
    let settled = new.clone().unwrap_or_else(|| partition.clone());
    if let Some(new) = new {
        super::apply::put_partition(image, key, new);
    }
    Ok(super::apply::partition_reply(settled))
}

fn validate(image: &Image, target: &[BrokerId]) -> Result<(), ReassignmentError> {
    let fault = |reason| Err(ReassignmentError::InvalidTarget { reason });
    if target.is_empty() {
        return fault(AssignmentFault::Empty);
    }
    for (i, id) in target.iter().enumerate() {
        if image.broker(*id).is_none() {
            return fault(AssignmentFault::Unknown(*id));
        }
        if target[..i].contains(id) {
            return fault(AssignmentFault::Repeated(*id));
        }
    }
    Ok(())
}

/// The replicas and the record of a reassignment to `target`. An earlier one that is still under way is redirected:
/// its origin stays the origin, and of its own additions only those are kept that somebody may depend on.
fn begun(partition: &Partition, target: &[BrokerId]) -> (Vec<BrokerId>, Option<Reassignment>) {
    let original = partition.reassignment.as_ref().map_or(&partition.replicas, |it| &it.original).clone();
    let is_needed = |id: &BrokerId| {
        original.contains(id)
            || partition.isr.contains(id)
            || partition.elr.contains(id)
            || partition.last_known_leader == Some(*id)
    };
    let mut replicas = target.to_vec();
    replicas.extend(partition.replicas.iter().copied().filter(|id| !target.contains(id) && is_needed(id)));
    (replicas, Some(Reassignment { original, target: target.to_vec() }))
}

/// The replicas after cancelling, if that leaves the partition as able to lead as it was.
fn cancelled(image: &Image, partition: &Partition) -> Result<Vec<BrokerId>, ReassignmentError> {
    let Some(Reassignment { original, .. }) = &partition.reassignment else {
        return Err(ReassignmentError::NoReassignmentInProgress);
    };
    let complete = |id: &&BrokerId| partition.isr.contains(id) || partition.elr.contains(id);
    let heirs: Vec<BrokerId> = original.iter().filter(complete).copied().collect();
    let stays_led = partition.leader.is_none() || heirs.iter().any(|id| image.is_active(*id));
    if heirs.is_empty() || !stays_led {
        return Err(ReassignmentError::CancelNeedsUncleanElection);
    }
    Ok(original.clone())
}

/// Ends the reassignment if the ISR covers its target. The leader is elected by the caller, out of what is left.
pub(super) fn complete(partition: &mut Partition) {
    let Some(Reassignment { target, .. }) = &partition.reassignment else { return };
    if !target.iter().all(|id| partition.isr.contains(id)) {
        return;
    }
    partition.replicas.clone_from(target);
    // The ISR covered the target and is cut down to it, so nobody is left who could be eligible beside it.
    partition.isr.clone_from(target);
    partition.elr.clear();
    partition.reassignment = None;
}

/// What is wrong with the record of a reassignment, if anything is (part of invariant 11).
pub(super) fn fault(partition: &Partition) -> Option<&'static str> {
    let Reassignment { original, target } = partition.reassignment.as_ref()?;
    let repeats = |ids: &[BrokerId]| ids.iter().enumerate().any(|(i, id)| ids[..i].contains(id));
    let assigned = |ids: &[BrokerId]| ids.iter().all(|id| partition.has_replica(*id));
    let faults = [
        ("a reassignment from or to nothing", original.is_empty() || target.is_empty()),
        ("a reassignment lists a replica twice", repeats(original) || repeats(target)),
        ("the origin or target of a reassignment is not assigned", !assigned(original) || !assigned(target)),
        ("a finished reassignment is still recorded", target.iter().all(|id| partition.isr.contains(id))),
    ];
    faults.into_iter().find_map(|(fault, broken)| broken.then_some(fault))
}

impl ReassignmentError {
    /// Kafka's error code.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::UnknownTopicId { .. } => 100,
            Self::UnknownPartition { .. } => 3,
            Self::InvalidTarget { .. } | Self::CancelNeedsUncleanElection => 39,
            Self::NoReassignmentInProgress => 85,
        }
    }
}

impl fmt::Display for ReassignmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTopicId { topic_id } => write!(f, "no topic has {topic_id:?}"),
            Self::UnknownPartition { partition } => write!(f, "the topic has no partition {partition}"),
            Self::InvalidTarget { reason } => write!(f, "the target {reason}"),
            Self::NoReassignmentInProgress => write!(f, "no reassignment of this partition is in progress"),
            Self::CancelNeedsUncleanElection => {
                write!(f, "none of the original replicas could lead without an unclean election; let it finish instead")
            }
        }
    }
}
