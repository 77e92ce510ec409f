//! The settings of one topic: its own where it has them, else the broker's.

use minisr_logic::metadata::Topic;
use minisr_storage::{LogConfig, Retention};

use crate::config::TopicDefaults;
use crate::throttle::Throttled;

/// What a partition's log needs to know of its topic's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicSettings {
    pub(crate) log: LogConfig,
    pub(crate) retention: Retention,
    pub(crate) max_message_bytes: usize,
    pub(crate) throttled: Throttled,
}

impl TopicSettings {
    /// The settings in force. A broker refuses a value that cannot be read before it is in the metadata; were one there
    /// nevertheless, the broker's own setting would be in force.
    pub(crate) fn of(topic: &Topic, defaults: &TopicDefaults) -> Self {
        let own = |name: &str| topic.configs.get(name).and_then(|value| value.parse::<i64>().ok());
        let mut settings = Self::default_for(defaults);
        if let Some(bytes) = own("segment.bytes") {
            settings.log.segment_bytes = segment_bytes(bytes);
        }
        if let Some(ms) = own("segment.ms") {
            settings.log.segment_ms = ms;
        }
        if let Some(bytes) = own("index.interval.bytes").and_then(|bytes| u32::try_from(bytes).ok()) {
            settings.log.index_interval_bytes = bytes;
        }
        if let Some(preallocate) = topic.configs.get("preallocate").and_then(|value| value.parse().ok()) {
            settings.log.preallocate = preallocate;
        }
        if let Some(ms) = own("retention.ms") {
            settings.retention.retention_ms = ms;
        }
        if let Some(bytes) = own("retention.bytes") {
            settings.retention.retention_bytes = bytes;
        }
        if let Some(bytes) = own("max.message.bytes").and_then(|bytes| usize::try_from(bytes).ok()) {
            settings.max_message_bytes = bytes;
        }
        settings.throttled = Throttled::of(topic);
        settings
    }

    /// The broker's settings, for a log that is opened before any metadata is known.
    pub(crate) fn default_for(defaults: &TopicDefaults) -> Self {
        let unlimited = |limit: Option<u64>| limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        Self {
            log: LogConfig {
                segment_bytes: segment_bytes(i64::try_from(defaults.segment_bytes).unwrap_or(i64::MAX)),
                segment_ms: i64::try_from(defaults.segment_ms).unwrap_or(i64::MAX),
                index_interval_bytes: u32::try_from(defaults.index_interval_bytes).unwrap_or(u32::MAX),
                segment_index_bytes: defaults.segment_index_bytes,
                preallocate: defaults.preallocate,
                ..LogConfig::default()
            },
            retention: Retention {
                retention_ms: unlimited(defaults.retention_ms),
                retention_bytes: unlimited(defaults.retention_bytes),
            },
            max_message_bytes: defaults.max_message_bytes,
            throttled: Throttled::default(),
        }
    }
}

/// Positions in a segment have 32 bits with a sign.
fn segment_bytes(bytes: i64) -> u32 {
    u32::try_from(bytes.clamp(1, i64::from(i32::MAX))).expect("clamped")
}
