//! What the benches work on: batches of the sizes that the sweep uses, a leader's decisions alone, and a cluster of
//! three brokers as its metadata describes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use minisr_logic::metadata::{Assignment, Command, Image, Reply, apply};
use minisr_logic::partition::{AckPolicy, Cursors, EpochCache, LogState, Members, Producers, Replica, Settings, View};
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, Millis, Offset, PartitionEpoch, TopicId, TopicPartition};
use minisr_wire::batch::{BatchBuilder, Producer, RecordSize};

/// The value of every record.
pub const VALUE: [u8; 1000] = [b'v'; 1000];

/// When every batch begins, by its producer's clock.
pub const TIMESTAMP_MS: i64 = 1_700_000_000_000;

/// A batch of records with 1,000-byte values, as near to `bytes` as they fit, as a producer sends it.
#[must_use]
pub fn batch(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(bytes);
    let record = RecordSize::of(None, Some(&VALUE), &[]).bytes_max();
    for at in 0..(bytes / record).max(1) {
        builder.append(TIMESTAMP_MS + at as i64, None, Some(&VALUE), &[]);
    }
    builder.finish(Producer::NONE)
}

/// Who follows broker 1.
pub const FOLLOWERS: [BrokerId; 2] = [BrokerId(2), BrokerId(3)];

/// Broker 1, leading a partition of three in-sync replicas that needs two.
#[must_use]
pub fn leader() -> Replica {
    let cursors = Cursors::recovered(AckPolicy::Written, Offset::ZERO, Offset::ZERO, Offset::ZERO, Offset::ZERO);
    let log = LogState::new(cursors, EpochCache::default(), Producers::default());
    let settings =
        Settings { replica_lag_time_max_ms: 30_000, lag_max_messages: None, alter_partition_retry_ms: 1_000 };
    let brokers = [1, 2, 3].map(BrokerId);
    let members = Members::new(brokers.map(|id| (id, Some((BrokerEpoch(i64::from(id.0)), true)))), 2);
    let isr = brokers.into_iter().collect();
    let mut replica = Replica::new(BrokerId(1), settings, log);
    let view =
        View { leader: Some(BrokerId(1)), leader_epoch: Epoch(1), partition_epoch: PartitionEpoch(1), isr, members };
    replica.apply(Millis(0), view);
    replica
}

/// Three registered brokers, and one-partition topics that broker 1 leads.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// As every broker sees it.
    pub image: Arc<Image>,
    /// The registration of each broker.
    pub registrations: BTreeMap<BrokerId, BrokerEpoch>,
}

/// A topic on all three brokers that needs two of them.
pub const REPLICATED: &str = "replicated";

/// A topic on broker 1 alone.
pub const SINGLE: &str = "single";

impl Metadata {
    /// Registers and unfences brokers 1 to 3, then creates [`REPLICATED`] and [`SINGLE`].
    #[must_use]
    pub fn of_three_brokers() -> Self {
        let mut image = Image::new();
        let mut index = 0;
        let mut command = |command: Command| {
            index += 1;
            apply(&mut image, index, command).expect("a command that can be applied")
        };
        let mut registrations = BTreeMap::new();
        for id in [1, 2, 3].map(BrokerId) {
            let registered = command(Command::RegisterBroker {
                id,
                incarnation: id.0.unsigned_abs().into(),
                listeners: Vec::new(),
                rack: None,
                clean_for_data: true,
                previous_broker_epoch: None,
            });
            let Reply::Registered { epoch } = registered else { panic!("{registered:?} is no registration") };
            registrations.insert(id, epoch);
            let applied_index = epoch.0.unsigned_abs();
            command(Command::UnfenceBroker { id, epoch, applied_index });
        }
        for (name, topic_id, replicas, min_isr) in [(REPLICATED, 7, &[1, 2, 3][..], 2), (SINGLE, 8, &[1][..], 1)] {
            let replicas = replicas.iter().copied().map(BrokerId).collect();
            command(Command::CreateTopic {
                name: name.to_owned(),
                topic_id: TopicId(topic_id),
                assignment: Assignment::Manual(vec![replicas]),
                configs: BTreeMap::new(),
                default_min_insync_replicas: min_isr,
            });
        }
        Self { image: Arc::new(image), registrations }
    }

    /// The one partition of a topic.
    ///
    /// # Panics
    /// There is no such topic.
    #[must_use]
    pub fn partition(&self, topic: &str) -> TopicPartition {
        let topic = self.image.topic_by_name(topic).expect("one of the two topics");
        TopicPartition { topic: topic.id, partition: 0 }
    }

    /// A broker's registration.
    ///
    /// # Panics
    /// There is no such broker.
    #[must_use]
    pub fn registration(&self, id: BrokerId) -> BrokerEpoch {
        self.registrations[&id]
    }
}
