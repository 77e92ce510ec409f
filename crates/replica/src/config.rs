//! What a shard must be told once: its broker's id and the settings that concern replicas.
//!
//! Names and defaults are Kafka's, with the unit last. The broker reads them from its settings file and checks their
//! ranges; topic-level settings override [`TopicDefaults`] through the metadata image.

use minisr_logic::BrokerId;
use minisr_logic::partition::{LagMaxMessages, Settings};

/// When data counts as stored, `log.flush.policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushPolicy {
    /// Kafka's default: replication is the durability, the kernel writes when it likes.
    #[default]
    Never,
    /// Every log with un-flushed data is synced once per interval; acknowledgements do not wait for it.
    Interval {
        /// `log.flush.interval.ms`.
        interval_ms: u64,
    },
    /// A replica's copy counts only once it is on stable storage.
    Commit,
}

/// To which replica a leader sends consumers, `replica.selector.class`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplicaSelector {
    /// To none: they read at the leader.
    #[default]
    Leader,
    /// To an in-sync follower in their own rack.
    RackAware,
}

/// Topic settings that apply where a topic sets none of its own.
#[derive(Clone, Debug)]
pub struct TopicDefaults {
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u32,
    /// `preallocate`.
    pub preallocate: bool,
    /// `retention.ms`; `None` keeps data for ever.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`; `None` keeps any amount.
    pub retention_bytes: Option<u64>,
    /// `max.message.bytes`: the largest batch a producer may append.
    pub max_message_bytes: usize,
}

impl Default for TopicDefaults {
    fn default() -> Self {
        Self {
            min_insync_replicas: 1,
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            preallocate: true,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            max_message_bytes: 1_048_588,
        }
    }
}

/// Everything a [`crate::Shard`] must be told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// `node.id`.
    pub broker: BrokerId,
    /// When data counts as stored.
    pub flush: FlushPolicy,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_time_max_ms: u64,
    /// `replica.lag.max.messages` and its comparison: a legacy rule, off by default.
    pub replica_lag_max_messages: Option<LagMaxMessages>,
    /// `replica.fetch.wait.max.ms`.
    pub replica_fetch_wait_max_ms: u64,
    /// `replica.fetch.min.bytes`.
    pub replica_fetch_min_bytes: usize,
    /// `replica.fetch.max.bytes`, for each partition.
    pub replica_fetch_max_bytes: usize,
    /// `replica.fetch.response.max.bytes`, for each response.
    pub replica_fetch_response_max_bytes: usize,
    /// `replica.fetch.backoff.ms`.
    pub replica_fetch_backoff_ms: u64,
    /// `num.replica.fetchers`: fetch loops for each leader broker.
    pub num_replica_fetchers: u32,
    /// After this long without an answer a fetch counts as failed, `replica.socket.timeout.ms`.
    pub replica_socket_timeout_ms: u64,
    /// `replica.high.watermark.delay.max.ms`: how long a newer high watermark may wait for records to travel with. 0
    /// answers a follower's waiting fetch at once, so that its gap is one round trip.
    pub replica_high_watermark_delay_max_ms: u64,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub high_watermark_checkpoint_interval_ms: u64,
    /// `log.flush.offset.checkpoint.interval.ms`: how often the recovery points are written.
    pub recovery_point_checkpoint_interval_ms: u64,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval_ms: u64,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: u64,
    /// Pause before an unanswered or refused ISR proposal is sent again.
    pub alter_partition_retry_ms: u64,
    /// `replica.selector.class`.
    pub replica_selector: ReplicaSelector,
    /// Topic settings where a topic has none of its own.
    pub topic: TopicDefaults,
}

impl Config {
    /// Kafka's defaults for this broker.
    #[must_use]
    pub fn new(broker: BrokerId) -> Self {
        Self {
            broker,
            flush: FlushPolicy::Never,
            replica_lag_time_max_ms: 30_000,
            replica_lag_max_messages: None,
            replica_fetch_wait_max_ms: 500,
            replica_fetch_min_bytes: 1,
            replica_fetch_max_bytes: 1 << 20,
            replica_fetch_response_max_bytes: 10 << 20,
            replica_fetch_backoff_ms: 1_000,
            num_replica_fetchers: 1,
            replica_socket_timeout_ms: 30_000,
            replica_high_watermark_delay_max_ms: 5,
            high_watermark_checkpoint_interval_ms: 5_000,
            recovery_point_checkpoint_interval_ms: 60_000,
            retention_check_interval_ms: 300_000,
            producer_id_expiration_ms: 86_400_000,
            alter_partition_retry_ms: 500,
            replica_selector: ReplicaSelector::default(),
            topic: TopicDefaults::default(),
        }
    }

    /// What decisions need of these settings.
    pub(crate) fn logic(&self) -> Settings {
        Settings {
            replica_lag_time_max_ms: self.replica_lag_time_max_ms,
            lag_max_messages: self.replica_lag_max_messages,
            alter_partition_retry_ms: self.alter_partition_retry_ms,
        }
    }
}
