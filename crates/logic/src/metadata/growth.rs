//! Growing and shrinking: more partitions for a topic, brokers that leave, voters of the controller quorum, and the
//! brokers' settings that can be changed while they run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::command::Reply;
use super::errors::AssignmentFault;
use super::image::{Image, Topic};
use super::placement::{PARTITIONS_PER_TOPIC_MAX, PlacementError, place_more};
use super::throttle::is_valid_broker_config;
use crate::{BrokerId, TopicId, TopicPartition};

/// Why a topic did not get more partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CreatePartitionsError {
    /// No topic has this id.
    UnknownTopicId {
        /// The id.
        topic_id: TopicId,
    },
    /// Not more than there are, or too many.
    InvalidPartitions {
        /// How many there are.
        current: usize,
        /// How many there should be.
        wanted: i32,
    },
    /// There are fewer usable brokers than the topic's replication factor.
    InvalidReplicationFactor {
        /// The topic's.
        replication_factor: i16,
        /// Usable brokers.
        usable_brokers: usize,
    },
    /// The assignment does not fit.
    InvalidReplicaAssignment {
        /// The first partition that is wrong.
        partition: i32,
        /// What is wrong with it.
        reason: AssignmentFault,
    },
    /// The assignment does not name exactly the new partitions.
    AssignmentCount {
        /// How many partitions are new.
        wanted: usize,
        /// How many are assigned.
        given: usize,
    },
    /// Some usable brokers have a rack and some have none, so replicas cannot be spread over racks.
    MixedRacks {
        /// One that has none.
        without_rack: BrokerId,
    },
}

/// Why a broker was not unregistered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum UnregisterError {
    /// It is not registered.
    UnknownBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// It is alive.
    NotFenced {
        /// The broker.
        broker: BrokerId,
    },
    /// Partitions are still assigned to it.
    HoldsReplicas {
        /// The broker.
        broker: BrokerId,
        /// How many.
        replicas: usize,
        /// One of them.
        first: TopicPartition,
    },
    /// It is a voter of the controller quorum.
    IsVoter {
        /// The broker.
        broker: BrokerId,
    },
}

/// Why the voters of the controller quorum stay what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AlterVoterError {
    /// Only a registered broker can become a voter.
    UnknownBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// It is a voter already.
    DuplicateVoter {
        /// The broker.
        broker: BrokerId,
    },
    /// It is no voter.
    VoterNotFound {
        /// The broker.
        broker: BrokerId,
    },
    /// The only voter.
    LastVoter {
        /// The broker.
        broker: BrokerId,
    },
}

/// Why a broker's settings were not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum BrokerConfigError {
    /// No such broker.
    UnknownBroker {
        /// The broker.
        broker: BrokerId,
    },
    /// Not a setting that can be changed while the broker runs, or not a value of it.
    InvalidConfig {
        /// The setting.
        name: String,
        /// The value.
        value: String,
    },
}

pub(super) fn create_partitions(
    image: &mut Image,
    topic_id: TopicId,
    count: i32,
    assignments: Option<&[Vec<BrokerId>]>,
) -> Result<Reply, CreatePartitionsError> {
    let topic = image.topic(topic_id).cloned().ok_or(CreatePartitionsError::UnknownTopicId { topic_id })?;
    let current = topic.partitions.len();
    let wanted = usize::try_from(count).unwrap_or(0);
    if wanted <= current || count > PARTITIONS_PER_TOPIC_MAX {
        return Err(CreatePartitionsError::InvalidPartitions { current, wanted: count });
    }
    let new = wanted - current;
    if let Some(given) = assignments.map(<[_]>::len).filter(|given| *given != new) {
        return Err(CreatePartitionsError::AssignmentCount { wanted: new, given });
    }
    let first = &topic.partitions[0];
    let copies = first.reassignment.as_ref().map_or(first.replicas.len(), |it| it.target.len());
    let placed = place_more(image, current..wanted, copies, assignments)?;
    let mut topic = Topic::clone(&topic);
    for replicas in placed {
        let partition = super::apply::first_record(image, replicas);
        super::check::assert_partition(image, &partition);
        topic.partitions.push(partition);
    }
    Arc::make_mut(&mut image.topics).insert(topic_id, Arc::new(topic));
    Ok(Reply::Done)
}

pub(super) fn unregister(image: &mut Image, id: BrokerId, directory: Option<u64>) -> Result<Reply, UnregisterError> {
    let broker = image.broker(id).ok_or(UnregisterError::UnknownBroker { broker: id })?;
    if image.voters().is_some_and(|voters| voters.contains(&id)) {
        return Err(UnregisterError::IsVoter { broker: id });
    }
    let mut held = image.partitions().filter(|(_, it)| it.has_replica(id)).map(|(key, _)| key);
    if let Some(first) = held.next() {
        return Err(UnregisterError::HoldsReplicas { broker: id, replicas: 1 + held.count(), first });
    }
    drop(held);
    if !broker.fenced {
        return Err(UnregisterError::NotFenced { broker: id });
    }
    Arc::make_mut(&mut image.brokers).remove(&id);
    if image.broker_configs.contains_key(&Some(id)) {
        Arc::make_mut(&mut image.broker_configs).remove(&Some(id));
    }
    image.removed_directories.extend(directory);
    Ok(Reply::Done)
}

pub(super) fn alter_voter(
    image: &mut Image,
    id: BrokerId,
    is_voter: bool,
    listed: &BTreeSet<BrokerId>,
) -> Result<Reply, AlterVoterError> {
    let mut voters = image.voters.clone().unwrap_or_else(|| listed.clone());
    if is_voter {
        if image.broker(id).is_none() {
            return Err(AlterVoterError::UnknownBroker { broker: id });
        }
        if !voters.insert(id) {
            return Err(AlterVoterError::DuplicateVoter { broker: id });
        }
    } else {
        if !voters.remove(&id) {
            return Err(AlterVoterError::VoterNotFound { broker: id });
        }
        if voters.is_empty() {
            return Err(AlterVoterError::LastVoter { broker: id });
        }
    }
    image.voters = Some(voters);
    Ok(Reply::Done)
}

pub(super) fn alter_broker_configs(
    image: &mut Image,
    broker: Option<BrokerId>,
    changes: BTreeMap<String, Option<String>>,
) -> Result<Reply, BrokerConfigError> {
    if let Some(broker) = broker.filter(|id| image.broker(*id).is_none()) {
        return Err(BrokerConfigError::UnknownBroker { broker });
    }
    let invalid = |name: &str, value: Option<&String>| !is_valid_broker_config(name, value.map(String::as_str));
    if let Some((name, value)) = changes.iter().find(|(name, value)| invalid(name, value.as_ref())) {
        let value = value.clone().unwrap_or_default();
        return Err(BrokerConfigError::InvalidConfig { name: name.clone(), value });
    }
    let configs = Arc::make_mut(&mut image.broker_configs).entry(broker).or_default();
    for (name, value) in changes {
        match value {
            Some(value) => configs.insert(name, value),
            None => configs.remove(&name),
        };
    }
    Ok(Reply::Done)
}

impl CreatePartitionsError {
    /// Kafka's error code.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::UnknownTopicId { .. } => 100,
            Self::InvalidPartitions { .. } => 37,
            Self::InvalidReplicationFactor { .. } => 38,
            Self::InvalidReplicaAssignment { .. } | Self::AssignmentCount { .. } => 39,
            Self::MixedRacks { .. } => 42,
        }
    }
}

impl UnregisterError {
    /// Kafka's error code.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::UnknownBroker { .. } => 102,
            Self::NotFenced { .. } | Self::HoldsReplicas { .. } | Self::IsVoter { .. } => 42,
        }
    }
}

impl AlterVoterError {
    /// Kafka's error code.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::UnknownBroker { .. } => 102,
            Self::DuplicateVoter { .. } => 126,
            Self::VoterNotFound { .. } => 127,
            Self::LastVoter { .. } => 42,
        }
    }
}

impl BrokerConfigError {
    /// Kafka's error code.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::UnknownBroker { .. } => 42,
            Self::InvalidConfig { .. } => 40,
        }
    }
}

impl From<PlacementError> for CreatePartitionsError {
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

impl fmt::Display for CreatePartitionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTopicId { topic_id } => write!(f, "no topic has {topic_id:?}"),
            Self::InvalidPartitions { current, wanted } => write!(
                f,
                "the topic has {current} partitions; {wanted} is not more, or is above {PARTITIONS_PER_TOPIC_MAX}"
            ),
            Self::InvalidReplicationFactor { replication_factor, usable_brokers } => {
                write!(f, "replication factor {replication_factor} is more than the {usable_brokers} usable brokers")
            }
            Self::InvalidReplicaAssignment { partition, reason } => {
                write!(f, "the assignment of partition {partition} {reason}")
            }
            Self::AssignmentCount { wanted, given } => {
                write!(f, "{wanted} partitions are new, and {given} are assigned")
            }
            Self::MixedRacks { without_rack } => write!(
                f,
                "some brokers have a broker.rack and broker {without_rack} has none: give every broker one, or none, or \
                 name the replicas"
            ),
        }
    }
}

impl fmt::Display for UnregisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownBroker { broker } => write!(f, "broker {broker} is not registered"),
            Self::NotFenced { broker } => write!(f, "broker {broker} is alive; stop it first"),
            Self::HoldsReplicas { broker, replicas, first } => write!(
                f,
                "broker {broker} still holds {replicas} replicas, one of them of partition {} of {:?}; move them first",
                first.partition, first.topic
            ),
            Self::IsVoter { broker } => {
                write!(f, "broker {broker} is a voter of the controller quorum; demote it first")
            }
        }
    }
}

impl fmt::Display for AlterVoterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownBroker { broker } => write!(f, "broker {broker} is not registered"),
            Self::DuplicateVoter { broker } => write!(f, "broker {broker} is a voter already"),
            Self::VoterNotFound { broker } => write!(f, "broker {broker} is no voter"),
            Self::LastVoter { broker } => write!(f, "broker {broker} is the only voter"),
        }
    }
}

impl fmt::Display for BrokerConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownBroker { broker } => write!(f, "broker {broker} is not registered"),
            Self::InvalidConfig { name, value } => {
                write!(f, "'{name}={value}' is not a setting that can be changed while a broker runs")
            }
        }
    }
}
