//! Which replicas are throttled, and to what rate (KIP-73).
//!
//! Two rates per broker, one for what it sends as a leader and one for what it fetches as a follower, and two lists
//! per topic that say whose replication counts. Only replicas **outside** the ISR are ever throttled: a throttle slows
//! those that catch up and never those that acknowledge.

use std::collections::BTreeSet;

use super::image::{Image, Topic};
use crate::BrokerId;

/// Bytes per second that a broker, as a leader, sends to throttled replicas.
pub const LEADER_THROTTLED_RATE: &str = "leader.replication.throttled.rate";
/// Bytes per second that a broker, as a follower, fetches of throttled replicas.
pub const FOLLOWER_THROTTLED_RATE: &str = "follower.replication.throttled.rate";
/// Topic: the replicas whose *leader's* rate applies: `*`, or `partition:broker` with commas, the broker being the
/// leader's.
pub const LEADER_THROTTLED_REPLICAS: &str = "leader.replication.throttled.replicas";
/// Topic: the replicas whose follower's rate applies, written alike, the broker being the follower's.
pub const FOLLOWER_THROTTLED_REPLICAS: &str = "follower.replication.throttled.replicas";

/// Which of a topic's replicas a throttle concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ThrottledReplicas {
    /// None: the setting is absent or empty.
    #[default]
    None,
    /// `*`: all of them.
    All,
    /// These.
    Listed(BTreeSet<(i32, BrokerId)>),
}

impl ThrottledReplicas {
    /// Reads the setting's value.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "" => Some(Self::None),
            "*" => Some(Self::All),
            list => {
                let entry = |text: &str| {
                    let (partition, broker) = text.trim().split_once(':')?;
                    let (partition, broker) = (partition.parse::<i32>().ok()?, broker.parse::<i32>().ok()?);
                    (partition >= 0 && broker >= 0).then_some((partition, BrokerId(broker)))
                };
                list.split(',').map(entry).collect::<Option<_>>().map(Self::Listed)
            }
        }
    }

    /// Whether it names this replica.
    #[must_use]
    pub fn contains(&self, partition: i32, broker: BrokerId) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Listed(listed) => listed.contains(&(partition, broker)),
        }
    }
}

impl Topic {
    /// One of the two lists of throttled replicas, by the setting's name.
    #[must_use]
    pub fn throttled_replicas(&self, setting: &str) -> ThrottledReplicas {
        self.configs.get(setting).and_then(|value| ThrottledReplicas::parse(value)).unwrap_or_default()
    }
}

impl Image {
    /// A setting that was given to a broker while it ran, or to all of them.
    #[must_use]
    pub fn broker_config(&self, broker: BrokerId, name: &str) -> Option<&str> {
        self.own_broker_config(broker, name).or_else(|| self.default_broker_config(name))
    }

    /// A setting that was given to one broker while it ran.
    #[must_use]
    pub fn own_broker_config(&self, broker: BrokerId, name: &str) -> Option<&str> {
        self.broker_configs.get(&Some(broker))?.get(name).map(String::as_str)
    }

    /// A setting that was given to all brokers while they ran.
    #[must_use]
    pub fn default_broker_config(&self, name: &str) -> Option<&str> {
        self.broker_configs.get(&None)?.get(name).map(String::as_str)
    }

    /// A throttle's rate in bytes per second, if there is one.
    #[must_use]
    pub fn throttled_rate(&self, broker: BrokerId, setting: &str) -> Option<u64> {
        self.broker_config(broker, setting)?.parse().ok()
    }
}

/// The settings of a broker that can be changed while it runs.
pub const DYNAMIC_BROKER_CONFIGS: [&str; 2] = [LEADER_THROTTLED_RATE, FOLLOWER_THROTTLED_RATE];

/// Whether a broker's setting may be given (or, without a value, taken back) while it runs.
pub(super) fn is_valid_broker_config(name: &str, value: Option<&str>) -> bool {
    let is_rate = |value: &str| value.parse::<u64>().is_ok_and(|rate| rate >= 1);
    DYNAMIC_BROKER_CONFIGS.contains(&name) && value.is_none_or(is_rate)
}

/// Whether a topic's setting is none of the lists here, or is one with a value that can be read.
pub(super) fn is_valid_topic_config(name: &str, value: &str) -> bool {
    let is_list = [LEADER_THROTTLED_REPLICAS, FOLLOWER_THROTTLED_REPLICAS].contains(&name);
    !is_list || ThrottledReplicas::parse(value).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttled_replicas_are_read_as_kafka_writes_them() {
        let listed = ThrottledReplicas::parse("0:1, 3:2").expect("a list");
        assert!(listed.contains(0, BrokerId(1)) && listed.contains(3, BrokerId(2)));
        assert!(!listed.contains(0, BrokerId(2)));
        assert!(ThrottledReplicas::parse("*").expect("all").contains(7, BrokerId(9)));
        assert_eq!(ThrottledReplicas::parse(""), Some(ThrottledReplicas::None));
        for wrong in ["1", "1:", "a:1", "-1:1", "1:1,", "1:1;2:2"] {
            assert_eq!(ThrottledReplicas::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn throttle_rates_of_zero_or_below_are_refused() {
        for value in ["0", "-1", "fast", ""] {
            assert!(!is_valid_broker_config(LEADER_THROTTLED_RATE, Some(value)), "{value}");
        }
        assert!(is_valid_broker_config(FOLLOWER_THROTTLED_RATE, Some("1000000")));
        assert!(is_valid_broker_config(FOLLOWER_THROTTLED_RATE, None));
        assert!(!is_valid_broker_config("node.id", Some("1")));
    }
}
