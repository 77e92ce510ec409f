//! What may be asked of the cluster metadata, and what is answered.

use std::collections::{BTreeMap, BTreeSet};

use super::image::Listener;
use crate::{BrokerEpoch, BrokerId, Epoch, PartitionEpoch, TopicId, TopicPartition};

/// How many producer ids one [`Command::AllocateProducerIds`] hands out (Kafka's block size).
pub const PRODUCER_ID_BLOCK_LEN: i64 = 1_000;

/// One entry of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Command {
    /// A broker process announces itself. The index of this entry becomes its broker epoch; it starts fenced.
    ///
    /// A repeat by the same incarnation is answered with the epoch it already has. Another incarnation is refused
    /// (101) until the registered one is fenced.
    RegisterBroker {
        /// The broker.
        id: BrokerId,
        /// Drawn anew by each process at its start.
        incarnation: u128,
        /// Where it can be reached.
        listeners: Vec<Listener>,
        /// Its rack, when set.
        rack: Option<String>,
        /// Whether its log certainly holds everything it ever acknowledged. If not, it loses its ISR and ELR seats
        /// with this very entry. A wiped or new directory is *not* clean.
        clean_for_data: bool,
        /// The broker epoch of its previous life as its own disk remembers it, if it does; it must be on disk before
        /// the broker first asks to be unfenced. If it is older than the last life that was ever unfenced the
        /// registration is refused as stale, with that life's epoch: then the broker names that one, and is not clean.
        previous_broker_epoch: Option<BrokerEpoch>,
    },
    /// A registered broker has caught up with the metadata log and may lead and follow.
    UnfenceBroker {
        /// The broker.
        id: BrokerId,
        /// Its broker epoch.
        epoch: BrokerEpoch,
        /// The last metadata log index it has applied; below its registration it stays fenced.
        applied_index: u64,
    },
    /// A broker's session ended: out of every ISR, its partitions elect new leaders, and it is fenced, in one step.
    FenceBroker {
        /// The broker.
        id: BrokerId,
        /// The broker epoch that the controller saw expire; a later life is not meant.
        epoch: BrokerEpoch,
    },
    /// A broker wants to stop: it gives up its leaderships and ISR seats but stays reachable. When
    /// [`Image::led_by`](super::Image::led_by) is 0 for it it may exit, and is then fenced.
    BeginControlledShutdown {
        /// The broker.
        id: BrokerId,
        /// Its broker epoch.
        epoch: BrokerEpoch,
    },
    /// Creates a topic.
    CreateTopic {
        /// Its name.
        name: String,
        /// Its id, drawn at random by the proposer.
        topic_id: TopicId,
        /// Where its replicas go.
        assignment: Assignment,
        /// Topic settings by Kafka's names.
        configs: BTreeMap<String, String>,
        /// The cluster's `min.insync.replicas`, for a topic that does not set its own. It is carried here because
        /// apply may look at no setting of the broker it happens to run on.
        default_min_insync_replicas: i32,
    },
    /// Deletes a topic. By id: a delayed request must not hit a recreated namesake.
    DeleteTopic {
        /// The topic.
        topic_id: TopicId,
    },
    /// A leader proposes a new ISR (KIP-497, KIP-903).
    AlterPartition {
        /// The partition.
        key: TopicPartition,
        /// The proposing leader.
        broker: BrokerId,
        /// Its broker epoch.
        broker_epoch: BrokerEpoch,
        /// The leader epoch in which it leads.
        leader_epoch: Epoch,
        /// The partition epoch on which the proposal is based.
        partition_epoch: PartitionEpoch,
        /// The proposed ISR, each member with the broker epoch under which it fetched.
        new_isr: Vec<IsrMember>,
    },
    /// Elects a leader of one partition, for another reason than that somebody joined or left.
    ElectLeader {
        /// The partition.
        key: TopicPartition,
        /// By which rule.
        election: Election,
    },
    /// Hands a broker a block of [`PRODUCER_ID_BLOCK_LEN`] producer ids that nobody else ever gets.
    AllocateProducerIds {
        /// The broker.
        broker: BrokerId,
        /// Its broker epoch.
        broker_epoch: BrokerEpoch,
    },
    /// Sets or removes topic settings.
    AlterTopicConfigs {
        /// The topic.
        topic_id: TopicId,
        /// Setting name to its new value; `None` removes it.
        changes: BTreeMap<String, Option<String>>,
    },
    /// Begins, redirects or cancels the reassignment of a partition.
    AlterReassignment {
        /// The partition.
        key: TopicPartition,
        /// The replicas it shall have, the preferred leader first; `None` cancels.
        target: Option<Vec<BrokerId>>,
    },
    /// Gives a topic more partitions.
    CreatePartitions {
        /// The topic.
        topic_id: TopicId,
        /// How many it shall have in all.
        count: i32,
        /// The replicas of each new one; placed like those of a new topic when `None`.
        assignments: Option<Vec<Vec<BrokerId>>>,
    },
    /// Forgets a broker that is fenced and holds no replica.
    UnregisterBroker {
        /// The broker.
        id: BrokerId,
        /// Its Raft directory, which leaves the controller quorum with it.
        directory: Option<u64>,
    },
    /// Makes a broker a voter of the controller quorum, or no voter any more. The active controller then changes the
    /// quorum, one member at a time.
    AlterVoter {
        /// The broker.
        id: BrokerId,
        /// What it shall be.
        is_voter: bool,
        /// `controller.quorum.voters`, which this changes if it is the first such command.
        listed: BTreeSet<BrokerId>,
    },
    /// Sets or removes settings of a broker that runs, or of all.
    AlterBrokerConfigs {
        /// The broker; all of them when `None`.
        broker: Option<BrokerId>,
        /// Setting name to its new value; `None` removes it.
        changes: BTreeMap<String, Option<String>>,
    },
}

/// By which rule [`Command::ElectLeader`] elects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Election {
    /// The preferred (first) replica, if it is in the ISR.
    Preferred,
    /// Any active replica, if there is no leader and none can be elected cleanly: an operator asks for it, knowing
    /// that committed records may be lost.
    Unclean,
    /// The same by setting: refused unless the topic's `unclean.leader.election.enable` allows it, or it has none and
    /// the brokers' does.
    UncleanIfEnabled {
        /// The brokers' `unclean.leader.election.enable`, as the proposing controller has it: apply may look at no
        /// setting of the broker it happens to run on.
        by_default: bool,
    },
}

/// Where a new topic's replicas go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Assignment {
    /// Replica i of partition p on broker (p + i) mod n of the usable brokers in order of id; alternating between the
    /// racks if every usable broker has one.
    Automatic {
        /// Number of partitions, at least 1 (defaults are resolved before proposing).
        partitions: i32,
        /// Copies of each, the leader's included, at least 1.
        replication_factor: i16,
    },
    /// The replicas of each partition, the preferred leader first.
    Manual(Vec<Vec<BrokerId>>),
}

/// A member of a proposed ISR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IsrMember {
    /// The broker.
    pub broker: BrokerId,
    /// The broker epoch its fetches carried.
    pub broker_epoch: BrokerEpoch,
}

/// The answer to an accepted command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reply {
    /// Done, nothing to tell.
    Done,
    /// The broker is registered.
    Registered {
        /// Its broker epoch.
        epoch: BrokerEpoch,
    },
    /// The topic exists.
    TopicCreated {
        /// Its id.
        topic_id: TopicId,
        /// Number of partitions.
        partitions: i32,
        /// Copies of the first partition.
        replication_factor: i16,
    },
    /// The partition's committed state after an ISR proposal or an election.
    Partition {
        /// The leader, if there is one.
        leader: Option<BrokerId>,
        /// The leader epoch.
        leader_epoch: Epoch,
        /// The ISR.
        isr: Vec<BrokerId>,
        /// The partition epoch.
        partition_epoch: PartitionEpoch,
    },
    /// A block of producer ids.
    ProducerIds {
        /// The first of them.
        first: i64,
        /// How many.
        len: i64,
    },
}
