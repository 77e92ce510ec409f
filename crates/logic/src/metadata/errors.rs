//! Why a command was refused: one enum per operation, each variant with the facts a log line needs and Kafka's code.

use std::error::Error;
use std::fmt;

use super::growth::{AlterVoterError, BrokerConfigError, CreatePartitionsError, UnregisterError};
use super::reassignment::ReassignmentError;
use super::topic_name::TopicNameError;
use crate::{BrokerEpoch, BrokerId, Epoch, PartitionEpoch, TopicId};

/// A refused command of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CommandError {
    /// Registering a broker.
    Register(RegisterError),
    /// Unfencing a broker.
    Unfence(UnfenceError),
    /// Fencing or stopping a broker, or handing it producer ids.
    BrokerEpoch(BrokerEpochError),
    /// Creating a topic.
    CreateTopic(CreateTopicError),
    /// Deleting a topic.
    DeleteTopic(DeleteTopicError),
    /// Changing an ISR.
    AlterPartition(AlterPartitionError),
    /// Electing a leader on request.
    ElectLeader(ElectLeaderError),
    /// Changing topic settings.
    TopicConfig(TopicConfigError),
    /// Reassigning a partition.
    Reassignment(ReassignmentError),
    /// Adding partitions.
    CreatePartitions(CreatePartitionsError),
    /// Unregistering a broker.
    Unregister(UnregisterError),
    /// Changing the voters.
    AlterVoter(AlterVoterError),
    /// Changing a broker's settings.
    BrokerConfig(BrokerConfigError),
}

/// The command named a broker epoch that is not (or no longer) the registered one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BrokerEpochError {
    /// The broker.
    pub broker: BrokerId,
    /// The epoch in the command.
    pub epoch: BrokerEpoch,
    /// The registered epoch, if the broker is registered at all.
    pub registered: Option<BrokerEpoch>,
}

/// Why a registration was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RegisterError {
    /// Another process holds this id and is not fenced.
    DuplicateBrokerRegistration {
        /// The broker id.
        broker: BrokerId,
        /// The epoch of the registration in force.
        registered: BrokerEpoch,
    },
    /// The registration knows of no life as late as the last unfenced one: it is a delayed one of an earlier process,
    /// or the disk is older than what this broker has acknowledged (a wiped directory, a restored backup). A live
    /// process with such a disk registers again, as not clean, naming `last_unfenced`.
    StaleRegistration {
        /// The broker id.
        broker: BrokerId,
        /// The previous life that the registration names.
        previous: Option<BrokerEpoch>,
        /// The last life that was unfenced.
        last_unfenced: BrokerEpoch,
    },
}

/// Why a broker stays fenced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum UnfenceError {
    /// The epoch is not the registered one.
    BrokerEpoch(BrokerEpochError),
    /// The broker has not yet applied its own registration, so it may act on a picture from an earlier life.
    NotCaughtUp {
        /// The broker.
        broker: BrokerId,
        /// The index it has applied.
        applied_index: u64,
        /// The index of its registration.
        registered_index: u64,
    },
}

/// Why a topic was not created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CreateTopicError {
    /// The name is not allowed.
    InvalidName(TopicNameError),
    /// The name differs from an existing one only in '.' and '_', which metric names cannot tell apart.
    NameCollides {
        /// The existing topic.
        existing: String,
    },
    /// A topic of this name exists.
    TopicAlreadyExists {
        /// The name.
        name: String,
    },
    /// The drawn id is in use: draw another.
    TopicIdInUse {
        /// The id.
        topic_id: TopicId,
    },
    /// Fewer than 1 or too many partitions.
    InvalidPartitions {
        /// The number asked for.
        partitions: i64,
    },
    /// Below 1, or above the number of usable brokers.
    InvalidReplicationFactor {
        /// The number asked for.
        replication_factor: i16,
        /// Usable brokers.
        usable_brokers: usize,
    },
    /// Some usable brokers have a rack and some have none, so replicas cannot be spread over racks.
    MixedRacks {
        /// One that has none.
        without_rack: BrokerId,
    },
    /// A manual assignment names unknown, repeated or only unusable brokers, or differs in length.
    InvalidReplicaAssignment {
        /// The first partition that is wrong.
        partition: i32,
        /// What is wrong with it.
        reason: AssignmentFault,
    },
    /// A setting's value is not allowed.
    InvalidConfig {
        /// The setting.
        name: String,
        /// The value.
        value: String,
    },
}

/// What is wrong with a manual assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AssignmentFault {
    /// No replicas.
    Empty,
    /// A broker occurs twice.
    Repeated(BrokerId),
    /// A broker is not registered.
    Unknown(BrokerId),
    /// Its length differs from that of partition 0.
    Uneven,
    /// None of its brokers is usable now.
    AllUnusable,
}

/// Why a topic was not deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum DeleteTopicError {
    /// No topic has this id.
    UnknownTopicId {
        /// The id.
        topic_id: TopicId,
    },
}

/// Why an ISR proposal was refused, in the order in which the checks are made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AlterPartitionError {
    /// 77: the proposer registered again since.
    BrokerEpoch(BrokerEpochError),
    /// 100: no such topic (any more).
    UnknownTopicId {
        /// The id.
        topic_id: TopicId,
    },
    /// 3: the topic has no such partition.
    UnknownPartition {
        /// The index.
        partition: i32,
    },
    /// 41: the proposer knows more than this replica of the metadata.
    AheadOfController {
        /// Leader epoch in the request and here.
        leader_epoch: (Epoch, Epoch),
        /// Partition epoch in the request and here.
        partition_epoch: (PartitionEpoch, PartitionEpoch),
    },
    /// 74: there was an election since.
    FencedLeaderEpoch {
        /// The epoch in the request.
        requested: Epoch,
        /// The epoch here.
        current: Epoch,
    },
    /// 42: the proposer does not lead.
    NotLeader {
        /// Who does.
        leader: Option<BrokerId>,
    },
    /// 95: the record changed since.
    InvalidUpdateVersion {
        /// The epoch in the request.
        requested: PartitionEpoch,
        /// The epoch here.
        current: PartitionEpoch,
    },
    /// 42: the proposal names a broker that holds no replica, or one twice.
    NotReplica {
        /// The broker.
        broker: BrokerId,
    },
    /// 42: the proposal lacks the leader.
    LeaderMissing,
    /// 107: a member is fenced, shutting down, unknown, or registered again since it fetched.
    IneligibleReplica {
        /// The broker.
        broker: BrokerId,
    },
}

/// Why a leader was not elected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ElectLeaderError {
    /// 3: no such partition.
    UnknownPartition,
    /// 84: the preferred leader leads already; or, for an unclean election, somebody does.
    ElectionNotNeeded,
    /// 80: the preferred leader is not in the ISR.
    PreferredLeaderNotAvailable {
        /// The preferred leader.
        preferred: BrokerId,
    },
    /// 83: no replica is active, or the settings do not allow an unclean election (any more).
    EligibleLeadersNotAvailable,
}

/// Why topic settings were not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TopicConfigError {
    /// No topic has this id.
    UnknownTopicId {
        /// The id.
        topic_id: TopicId,
    },
    /// A setting's value is not allowed.
    InvalidConfig {
        /// The setting.
        name: String,
        /// The value.
        value: String,
    },
}

impl CommandError {
    /// Kafka's error code.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::Register(it) => it.kafka_code(),
            Self::Unfence(it) => it.kafka_code(),
            Self::BrokerEpoch(it) => it.kafka_code(),
            Self::CreateTopic(it) => it.kafka_code(),
            Self::DeleteTopic(it) => it.kafka_code(),
            Self::AlterPartition(it) => it.kafka_code(),
            Self::ElectLeader(it) => it.kafka_code(),
            Self::TopicConfig(it) => it.kafka_code(),
            Self::Reassignment(it) => it.kafka_code(),
            Self::CreatePartitions(it) => it.kafka_code(),
            Self::Unregister(it) => it.kafka_code(),
            Self::AlterVoter(it) => it.kafka_code(),
            Self::BrokerConfig(it) => it.kafka_code(),
        }
    }
}

impl BrokerEpochError {
    /// Kafka's error code: STALE_BROKER_EPOCH.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        77
    }
}

impl RegisterError {
    /// Kafka's error code.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::DuplicateBrokerRegistration { .. } => 101,
            Self::StaleRegistration { .. } => 77,
        }
    }
}

impl UnfenceError {
    /// Kafka's error code; 0 for "not yet", since a heartbeat is then answered with "still fenced" and no error.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::BrokerEpoch(it) => it.kafka_code(),
            Self::NotCaughtUp { .. } => 0,
        }
    }
}

impl CreateTopicError {
    /// Kafka's error code.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::InvalidName(_) | Self::NameCollides { .. } => 17,
            Self::TopicAlreadyExists { .. } => 36,
            Self::TopicIdInUse { .. } | Self::MixedRacks { .. } => 42,
            Self::InvalidPartitions { .. } => 37,
            Self::InvalidReplicationFactor { .. } => 38,
            Self::InvalidReplicaAssignment { .. } => 39,
            Self::InvalidConfig { .. } => 40,
        }
    }
}

impl DeleteTopicError {
    /// Kafka's error code.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::UnknownTopicId { .. } => 100,
        }
    }
}

impl AlterPartitionError {
    /// Kafka's error code.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::BrokerEpoch(it) => it.kafka_code(),
            Self::UnknownTopicId { .. } => 100,
            Self::UnknownPartition { .. } => 3,
            Self::AheadOfController { .. } => 41,
            Self::FencedLeaderEpoch { .. } => 74,
            Self::NotLeader { .. } | Self::NotReplica { .. } | Self::LeaderMissing => 42,
            Self::InvalidUpdateVersion { .. } => 95,
            Self::IneligibleReplica { .. } => 107,
        }
    }
}

impl ElectLeaderError {
    /// Kafka's error code.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::UnknownPartition => 3,
            Self::ElectionNotNeeded => 84,
            Self::PreferredLeaderNotAvailable { .. } => 80,
            Self::EligibleLeadersNotAvailable => 83,
        }
    }
}

impl TopicConfigError {
    /// Kafka's error code.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::UnknownTopicId { .. } => 100,
            Self::InvalidConfig { .. } => 40,
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register(it) => it.fmt(f),
            Self::Unfence(it) => it.fmt(f),
            Self::BrokerEpoch(it) => it.fmt(f),
            Self::CreateTopic(it) => it.fmt(f),
            Self::DeleteTopic(it) => it.fmt(f),
            Self::AlterPartition(it) => it.fmt(f),
            Self::ElectLeader(it) => it.fmt(f),
            Self::TopicConfig(it) => it.fmt(f),
            Self::Reassignment(it) => it.fmt(f),
            Self::CreatePartitions(it) => it.fmt(f),
            Self::Unregister(it) => it.fmt(f),
            Self::AlterVoter(it) => it.fmt(f),
            Self::BrokerConfig(it) => it.fmt(f),
        }
    }
}

impl fmt::Display for BrokerEpochError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.registered {
            Some(registered) => {
                write!(f, "broker {} has epoch {registered}, not {}", self.broker, self.epoch)
            }
            None => write!(f, "broker {} is not registered", self.broker),
        }
    }
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateBrokerRegistration { broker, registered } => {
                write!(f, "broker {broker} is registered by another process (epoch {registered}) that is not fenced")
            }
            Self::StaleRegistration { broker, previous: Some(previous), last_unfenced } => {
                write!(f, "broker {broker} knows of its life of epoch {previous}, and there was one of {last_unfenced}")
            }
            Self::StaleRegistration { broker, previous: None, last_unfenced } => {
                write!(f, "broker {broker} knows of no earlier life, and there was one of epoch {last_unfenced}")
            }
        }
    }
}

impl fmt::Display for UnfenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokerEpoch(it) => it.fmt(f),
            Self::NotCaughtUp { broker, applied_index, registered_index } => write!(
                f,
                "broker {broker} has applied metadata up to {applied_index}, short of its registration at \
                 {registered_index}"
            ),
        }
    }
}

impl fmt::Display for CreateTopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName(it) => it.fmt(f),
            Self::NameCollides { existing } => write!(f, "the name collides with topic '{existing}'"),
            Self::TopicAlreadyExists { name } => write!(f, "topic '{name}' already exists"),
            Self::TopicIdInUse { topic_id } => write!(f, "{topic_id:?} is in use"),
            Self::InvalidPartitions { partitions } => write!(
                f,
                "number of partitions {partitions} is not between 1 and {}",
                super::placement::PARTITIONS_PER_TOPIC_MAX
            ),
            Self::InvalidReplicationFactor { replication_factor, .. } if *replication_factor < 1 => {
                write!(f, "replication factor {replication_factor} is below 1")
            }
            Self::InvalidReplicationFactor { replication_factor, usable_brokers } => {
                write!(f, "replication factor {replication_factor} is more than the {usable_brokers} usable brokers")
            }
            Self::MixedRacks { without_rack } => write!(
                f,
                "some brokers have a broker.rack and broker {without_rack} has none: give every broker one, or none, or \
                 name the replicas"
            ),
            Self::InvalidReplicaAssignment { partition, reason } => {
                write!(f, "the assignment of partition {partition} {reason}")
            }
            Self::InvalidConfig { name, value } => write!(f, "'{value}' is not a valid value of {name}"),
        }
    }
}

impl fmt::Display for AssignmentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "is empty"),
            Self::Repeated(broker) => write!(f, "names broker {broker} twice"),
            Self::Unknown(broker) => write!(f, "names broker {broker}, which is not registered"),
            Self::Uneven => write!(f, "has another number of replicas than partition 0"),
            Self::AllUnusable => write!(f, "has no broker that is usable now"),
        }
    }
}

impl fmt::Display for DeleteTopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTopicId { topic_id } => write!(f, "no topic has {topic_id:?}"),
        }
    }
}

impl fmt::Display for AlterPartitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokerEpoch(it) => it.fmt(f),
            Self::UnknownTopicId { topic_id } => write!(f, "no topic has {topic_id:?}"),
            Self::UnknownPartition { partition } => write!(f, "the topic has no partition {partition}"),
            Self::AheadOfController { leader_epoch, partition_epoch } => write!(
                f,
                "the request is ahead: leader epoch {} against {}, partition epoch {} against {}",
                leader_epoch.0, leader_epoch.1, partition_epoch.0, partition_epoch.1
            ),
            Self::FencedLeaderEpoch { requested, current } => {
                write!(f, "leader epoch {requested} ended; it is {current} now")
            }
            Self::NotLeader { leader: Some(leader) } => write!(f, "broker {leader} leads"),
            Self::NotLeader { leader: None } => write!(f, "nobody leads"),
            Self::InvalidUpdateVersion { requested, current } => {
                write!(f, "partition epoch {requested} is past; it is {current} now")
            }
            Self::NotReplica { broker } => write!(f, "broker {broker} is no replica, or is named twice"),
            Self::LeaderMissing => write!(f, "the proposed ISR lacks the leader"),
            Self::IneligibleReplica { broker } => write!(f, "broker {broker} may not join the ISR now"),
        }
    }
}

impl fmt::Display for ElectLeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPartition => write!(f, "no such partition"),
            Self::ElectionNotNeeded => write!(f, "the partition has the leader it should have"),
            Self::PreferredLeaderNotAvailable { preferred } => {
                write!(f, "the preferred leader {preferred} is not in the ISR")
            }
            Self::EligibleLeadersNotAvailable => write!(f, "no replica is available that may lead"),
        }
    }
}

impl fmt::Display for TopicConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTopicId { topic_id } => write!(f, "no topic has {topic_id:?}"),
            Self::InvalidConfig { name, value } => write!(f, "'{value}' is not a valid value of {name}"),
        }
    }
}

macro_rules! composed {
    ($($variant:ident($inner:ty)),* $(,)?) => {$(
        impl From<$inner> for CommandError {
            fn from(it: $inner) -> Self {
                Self::$variant(it)
            }
        }

        impl Error for $inner {}
    )*};
}

composed! {
    Reassignment(ReassignmentError),
    CreatePartitions(CreatePartitionsError),
    Unregister(UnregisterError),
    AlterVoter(AlterVoterError),
    BrokerConfig(BrokerConfigError),
    Register(RegisterError),
    Unfence(UnfenceError),
    BrokerEpoch(BrokerEpochError),
    CreateTopic(CreateTopicError),
    DeleteTopic(DeleteTopicError),
    AlterPartition(AlterPartitionError),
    ElectLeader(ElectLeaderError),
    TopicConfig(TopicConfigError),
}

impl Error for CommandError {}

impl From<BrokerEpochError> for UnfenceError {
    fn from(it: BrokerEpochError) -> Self {
        Self::BrokerEpoch(it)
    }
}

impl From<BrokerEpochError> for AlterPartitionError {
    fn from(it: BrokerEpochError) -> Self {
        Self::BrokerEpoch(it)
    }
}

impl From<TopicNameError> for CreateTopicError {
    fn from(it: TopicNameError) -> Self {
        Self::InvalidName(it)
    }
}
