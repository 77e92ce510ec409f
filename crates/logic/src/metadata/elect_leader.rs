//! Elections that are asked for: of the preferred leader, or of anybody who is left.

use super::apply::{partition_reply, put_partition};
use super::command::{Election, Reply};
use super::election::{Change, changed};
use super::errors::ElectLeaderError;
use super::image::{Image, Partition, Topic};
use crate::TopicPartition;

pub(super) fn elect_leader(
    image: &mut Image,
    key: TopicPartition,
    election: Election,
) -> Result<Reply, ElectLeaderError> {
    let topic = image.topic(key.topic).cloned().ok_or(ElectLeaderError::UnknownPartition)?;
    let partition = topic.partition(key.partition).ok_or(ElectLeaderError::UnknownPartition)?;
    let change = match election {
        Election::Preferred => preferred(partition)?,
        Election::Unclean => unclean(partition)?,
        Election::UncleanIfEnabled { by_default } => unclean_if_enabled(&topic, partition, by_default)?,
    };

    let new = changed(partition, change, topic.min_insync_replicas(partition), |it| image.is_active(it))
        .ok_or(ElectLeaderError::EligibleLeadersNotAvailable)?;
    put_partition(image, key, new.clone());
    Ok(partition_reply(new))
}

fn preferred(partition: &Partition) -> Result<Change<'static>, ElectLeaderError> {
    let preferred = partition.replicas[0];
    if partition.leader == Some(preferred) {
        return Err(ElectLeaderError::ElectionNotNeeded);
    }
    if !partition.isr.contains(&preferred) {
        return Err(ElectLeaderError::PreferredLeaderNotAvailable { preferred });
    }
    Ok(Change { prefer_first: true, ..Change::default() })
}

/// A partition that has a leader keeps it: nobody's records are lost for the asking. One without a leader has nobody
/// who could be elected cleanly, since elections happen as soon as somebody can be.
fn unclean(partition: &Partition) -> Result<Change<'static>, ElectLeaderError> {
    match partition.leader {
        Some(_) => Err(ElectLeaderError::ElectionNotNeeded),
        None => Ok(Change { may_be_unclean: true, ..Change::default() }),
    }
}

/// The setting may have changed since the controller looked.
fn unclean_if_enabled(
    topic: &Topic,
    partition: &Partition,
    by_default: bool,
) -> Result<Change<'static>, ElectLeaderError> {
    if !topic.unclean_election_enabled(by_default) {
        return Err(ElectLeaderError::EligibleLeadersNotAvailable);
    }
    unclean(partition)
}
