//! The image: what the cluster is at one index of the metadata log.
//!
//! Cloning is cheap (a few reference counts) and so is changing one partition of a clone: maps and topics are shared
//! until they are written to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::reassignment::Reassignment;
use crate::{BrokerEpoch, BrokerId, Epoch, PartitionEpoch, TopicId, TopicPartition};

/// The cluster's metadata after all commands up to [`version`](Self::version).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Image {
    pub(super) version: u64,
    pub(super) brokers: Arc<BTreeMap<BrokerId, Arc<Registration>>>,
    pub(super) topics: Arc<BTreeMap<TopicId, Arc<Topic>>>,
    pub(super) topic_ids: Arc<BTreeMap<String, TopicId>>,
    pub(super) next_producer_id: i64,
    /// Settings given to a broker while it runs; under `None` those of all brokers.
    pub(super) broker_configs: Arc<BTreeMap<Option<BrokerId>, BTreeMap<String, String>>>,
    /// The brokers that should be voters, once a command has said so.
    pub(super) voters: Option<BTreeSet<BrokerId>>,
    /// Raft directories of brokers that were unregistered.
    pub(super) removed_directories: BTreeSet<u64>,
}

/// One address of a broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Listener {
    /// Listener name, such as `QUIC`, `PLAINTEXT` or `CONTROLLER`.
    pub name: String,
    /// Advertised host.
    pub host: String,
    /// Advertised port.
    pub port: u16,
}

/// What is known of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Registration {
    /// The broker.
    pub id: BrokerId,
    /// The log index of its registration.
    pub epoch: BrokerEpoch,
    /// The process that registered.
    pub incarnation: u128,
    /// Where it can be reached.
    pub listeners: Vec<Listener>,
    /// Its rack.
    pub rack: Option<String>,
    /// A fenced broker leads nothing, is in no ISR and is not shown to clients.
    pub fenced: bool,
    /// It is about to stop: it leads nothing and is in no ISR, but still answers.
    pub in_controlled_shutdown: bool,
    /// Whether this life began with everything that earlier lives had acknowledged.
    pub clean_for_data: bool,
    /// The broker epoch of the last life that was ever unfenced, so the last whose acknowledgements counted.
    pub last_unfenced_epoch: Option<BrokerEpoch>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its partitions; the position is the partition's index.
    pub partitions: Vec<Partition>,
    /// The settings given for it.
    pub configs: BTreeMap<String, String>,
    /// `min.insync.replicas` of the cluster when the topic was created.
    pub default_min_insync_replicas: i32,
}

/// The replicas of one partition, and who leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Partition {
    /// Assigned replicas; the first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// The in-sync replicas, in the order of `replicas`.
    pub isr: Vec<BrokerId>,
    /// The eligible leader replicas (KIP-966), in the order of `replicas`: they left the ISR while it was below
    /// min.insync.replicas, so the high watermark has not moved since, so they hold all that is committed.
    pub elr: Vec<BrokerId>,
    /// The latest leader, also when there is none now.
    pub last_known_leader: Option<BrokerId>,
    /// The leader; `None` exactly when the ISR is empty.
    pub leader: Option<BrokerId>,
    /// Raised whenever `leader` is set.
    pub leader_epoch: Epoch,
    /// Raised at every change of this record.
    pub partition_epoch: PartitionEpoch,
    /// The leader epoch that the latest unclean election began, if there ever was one: what had been committed before
    /// may be gone.
    pub last_unclean_epoch: Option<Epoch>,
    /// The reassignment under way; `replicas` then holds its origin and its target.
    pub reassignment: Option<Reassignment>,
}

/// How a topic differs between two images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicChange<'a> {
    /// New, or some partition or setting of it changed.
    Changed(&'a Arc<Topic>),
    /// Deleted.
    Deleted(&'a Arc<Topic>),
}

impl Image {
    /// The empty cluster, before the first command.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The index of the last applied log entry.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Notes that the entry at `index` is none of ours (a blank or membership entry of the log).
    ///
    /// # Panics
    /// When `index` was already applied.
    pub fn skip(&mut self, index: u64) {
        assert!(index > self.version, "entry {index} skipped after version {}", self.version);
        self.version = index;
    }

    /// Every registered broker, fenced ones included, in order of id.
    pub fn brokers(&self) -> impl Iterator<Item = &Registration> {
        self.brokers.values().map(Arc::as_ref)
    }

    /// One broker.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Registration> {
        self.brokers.get(&id).map(Arc::as_ref)
    }

    /// Whether a broker may lead and be in ISRs: registered, not fenced, not shutting down.
    #[must_use]
    pub fn is_active(&self, id: BrokerId) -> bool {
        self.broker(id).is_some_and(Registration::is_active)
    }

    /// Every topic, in order of id.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// Every topic, in order of name.
    pub fn topics_by_name(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topic_ids.values().map(|id| &self.topics[id])
    }

    /// A topic by its id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// A topic by its name.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    /// One partition.
    #[must_use]
    pub fn partition(&self, key: TopicPartition) -> Option<&Partition> {
        self.topic(key.topic)?.partition(key.partition)
    }

    /// Every partition with its key, in order.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        self.topics().flat_map(|topic| {
            (0..).zip(&topic.partitions).map(|(index, it)| (TopicPartition { topic: topic.id, partition: index }, it))
        })
    }

    /// How many partitions a broker leads.
    #[must_use]
    pub fn led_by(&self, id: BrokerId) -> usize {
        self.partitions().filter(|(_, partition)| partition.leader == Some(id)).count()
    }

    /// The partitions that an unclean election by setting would give a leader: nobody leads, nobody can be elected
    /// cleanly, some replica is active, and the topic's `unclean.leader.election.enable`, or `by_default`, allows it.
    pub fn awaiting_unclean_election(&self, by_default: bool) -> impl Iterator<Item = TopicPartition> {
        self.topics().filter(move |topic| topic.unclean_election_enabled(by_default)).flat_map(move |topic| {
            (0..)
                .zip(&topic.partitions)
                .filter(|(_, it)| it.leader.is_none() && it.replicas.iter().any(|id| self.is_active(*id)))
                .map(|(index, _)| TopicPartition { topic: topic.id, partition: index })
        })
    }

    /// The brokers that should be voters of the controller quorum; `None` until a command has changed them, so that
    /// `controller.quorum.voters` counts.
    #[must_use]
    pub fn voters(&self) -> Option<&BTreeSet<BrokerId>> {
        self.voters.as_ref()
    }

    /// Raft directories that must leave the controller quorum for good.
    #[must_use]
    pub fn removed_directories(&self) -> &BTreeSet<u64> {
        &self.removed_directories
    }

    /// The partitions that are being reassigned.
    pub fn reassigning(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        self.partitions().filter(|(_, partition)| partition.reassignment.is_some())
    }

    /// The first producer id not yet handed out.
    #[must_use]
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// The topics that differ from `earlier`, found by comparing references, so in time proportional to the number
    /// of topics. Works between any two images of one log, also when many versions (a snapshot) lie between them.
    pub fn topic_changes<'a>(&'a self, earlier: &'a Self) -> Vec<TopicChange<'a>> {
        if Arc::ptr_eq(&self.topics, &earlier.topics) {
            return Vec::new();
        }
        let deleted = earlier.topics.values().filter(|topic| !self.topics.contains_key(&topic.id));
        let changed = self.topics.values().filter(|topic| {
            earlier.topics.get(&topic.id).is_none_or(|before| !Arc::ptr_eq(before, topic) && before != *topic)
        });
        deleted.map(TopicChange::Deleted).chain(changed.map(TopicChange::Changed)).collect()
    }
}

impl Registration {
    /// Whether it may lead and be in ISRs.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// Its address under a listener name.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.name == name)
    }
}

impl Topic {
    /// One partition by its index.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// `min.insync.replicas` in force for a partition of this topic: the topic's setting or the cluster's, never more
    /// than there are replicas (during a reassignment: were before it).
    #[must_use]
    pub fn min_insync_replicas(&self, partition: &Partition) -> usize {
        let configured = self.configs.get(MIN_INSYNC_REPLICAS).and_then(|value| value.parse::<i32>().ok());
        let wanted = configured.unwrap_or(self.default_min_insync_replicas).max(1);
        usize::try_from(wanted).expect("at least 1").min(partition.settled_replication_factor())
    }

    /// `unclean.leader.election.enable` in force for this topic: its own setting or the brokers'.
    #[must_use]
    pub fn unclean_election_enabled(&self, by_default: bool) -> bool {
        self.configs.get(UNCLEAN_LEADER_ELECTION_ENABLE).map_or(by_default, |value| value.eq_ignore_ascii_case("true"))
    }
}

impl Partition {
    /// Whether a broker holds a replica.
    #[must_use]
    pub fn has_replica(&self, id: BrokerId) -> bool {
        self.replicas.contains(&id)
    }

    /// The leader epoch if `id` leads.
    #[must_use]
    pub fn led_in(&self, id: BrokerId) -> Option<Epoch> {
        (self.leader == Some(id)).then_some(self.leader_epoch)
    }
}

/// The topic settings that apply itself needs.
pub(super) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
pub(super) const UNCLEAN_LEADER_ELECTION_ENABLE: &str = "unclean.leader.election.enable";
