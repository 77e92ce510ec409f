//! Where the replicas of a new topic go.

use super::command::Assignment;
use super::errors::{AssignmentFault, CreateTopicError};
use super::image::{Image, Registration};
use super::racks::spread_over_racks;
use crate::BrokerId;

/// Most partitions that one CreateTopic may ask for.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 10_000;

/// Why replicas cannot be placed. Creating a topic and adding partitions to one each turn all of these into a refusal
/// of their own: a command that is in the log is applied by every broker, so none of them may be without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PlacementError {
    /// Below 1, or above the number of usable brokers.
    ReplicationFactor { replication_factor: i16, usable_brokers: usize },
    /// Some usable brokers have a rack and this one has none.
    MixedRacks { without_rack: BrokerId },
    /// The given replicas of this partition are wrong.
    Assignment { partition: i32, reason: AssignmentFault },
}

impl From<PlacementError> for CreateTopicError {
    fn from(error: PlacementError) -> Self {
        match error {
            PlacementError::ReplicationFactor { replication_factor, usable_brokers } => {
                Self::InvalidReplicationFactor { replication_factor, usable_brokers }
            }
            PlacementError::MixedRacks { without_rack } => Self::MixedRacks { without_rack },
            PlacementError::Assignment { partition, reason } => Self::InvalidReplicaAssignment { partition, reason },
        }
    }
}

/// The replicas of each partition, or why there cannot be any.
pub(super) fn place(image: &Image, assignment: &Assignment) -> Result<Vec<Vec<BrokerId>>, CreateTopicError> {
    match assignment {
        Assignment::Automatic { partitions, replication_factor } => {
            if !(1..=PARTITIONS_PER_TOPIC_MAX).contains(partitions) {
                return Err(CreateTopicError::InvalidPartitions { partitions: i64::from(*partitions) });
            }
            let count = usize::try_from(*partitions).expect("checked to be positive");
            Ok(spread(image, 0..count, *replication_factor)?)
        }
        Assignment::Manual(partitions) => {
            if partitions.is_empty() || partitions.len() > PARTITIONS_PER_TOPIC_MAX as usize {
                return Err(CreateTopicError::InvalidPartitions { partitions: partitions.len() as i64 });
            }
            validate(image, 0, partitions[0].len(), partitions)?;
            Ok(partitions.clone())
        }
    }
}

/// The replicas of partitions that a topic with `copies` replicas each gets in addition.
pub(super) fn place_more(
    image: &Image,
    new: std::ops::Range<usize>,
    copies: usize,
    assignments: Option<&[Vec<BrokerId>]>,
) -> Result<Vec<Vec<BrokerId>>, PlacementError> {
    match assignments {
        None => spread(image, new, i16::try_from(copies).expect("a replication factor")),
        Some(assignments) => {
            let first = i32::try_from(new.start).expect("partition indexes are i32");
            validate(image, first, copies, assignments)?;
            Ok(assignments.to_vec())
        }
    }
}

/// Without racks: replica i of partition p on broker (p + i) mod n: P0 = [1,2,3], P1 = [2,3,1] and so on, so that
/// leaders and followers are spread evenly and the layout can be foretold. If every usable broker has a rack: see
/// [`super::racks`]. If only some have: refused, as by Kafka's tools, since either rule would break a promise.
fn spread(
    image: &Image,
    partitions: std::ops::Range<usize>,
    replication_factor: i16,
) -> Result<Vec<Vec<BrokerId>>, PlacementError> {
    let usable: Vec<&Registration> = image.brokers().filter(|it| it.is_active()).collect();
    let copies = usize::try_from(replication_factor).unwrap_or(0);
    if copies == 0 || copies > usable.len() {
        return Err(PlacementError::ReplicationFactor { replication_factor, usable_brokers: usable.len() });
    }
    let racks: Vec<(BrokerId, &str)> = usable.iter().filter_map(|it| Some((it.id, it.rack.as_deref()?))).collect();
    if racks.is_empty() {
        let on = |step: usize| usable[step % usable.len()].id;
        return Ok(partitions.map(|p| (0..copies).map(|i| on(p + i)).collect()).collect());
    }
    match usable.iter().find(|it| it.rack.is_none()) {
        Some(it) => Err(PlacementError::MixedRacks { without_rack: it.id }),
        None => Ok(spread_over_racks(&racks, partitions, copies)),
    }
}

fn validate(image: &Image, first: i32, copies: usize, partitions: &[Vec<BrokerId>]) -> Result<(), PlacementError> {
    for (partition, replicas) in (first..).zip(partitions) {
        let fault = |reason| PlacementError::Assignment { partition, reason };
        if replicas.is_empty() {
            return Err(fault(AssignmentFault::Empty));
        }
        if replicas.len() != copies {
            return Err(fault(AssignmentFault::Uneven));
        }
        for (i, replica) in replicas.iter().enumerate() {
            if image.broker(*replica).is_none() {
                return Err(fault(AssignmentFault::Unknown(*replica)));
            }
            if replicas[..i].contains(replica) {
                return Err(fault(AssignmentFault::Repeated(*replica)));
            }
        }
        if !replicas.iter().any(|it| image.broker(*it).is_some_and(Registration::is_active)) {
            return Err(fault(AssignmentFault::AllUnusable));
        }
    }
    Ok(())
}
