//! Which leaderships should go back to the preferred leaders, as `leader.imbalance.per.broker.percentage` means it.

use std::collections::BTreeMap;

use super::image::Image;
use crate::{BrokerId, TopicPartition};

impl Image {
    /// The partitions whose preferred leader is in the ISR but does not lead.
    pub fn imbalanced(&self) -> impl Iterator<Item = TopicPartition> {
        self.partitions()
            .filter(|(_, it)| it.leader != Some(it.replicas[0]) && it.isr.contains(&it.replicas[0]))
            .map(|(key, _)| key)
    }

    /// Those of them whose preferred leader lacks more than `percentage_max` percent of the partitions that it should
    /// lead, so that a single election lost does not move anything. A partition that is being reassigned waits. At most
    /// `count_max`, the first in order.
    #[must_use]
    pub fn to_rebalance(&self, percentage_max: u32, count_max: usize) -> Vec<TopicPartition> {
        /// Of the partitions whose preferred leader a broker is: how many there are, how many it does not lead.
        #[derive(Default)]
        struct Preferred {
            all: u64,
            not_led: u64,
        }
        let mut by_broker: BTreeMap<BrokerId, Preferred> = BTreeMap::new();
        for (_, partition) in self.partitions() {
            let preferred = by_broker.entry(partition.replicas[0]).or_default();
            preferred.all += 1;
            preferred.not_led += u64::from(partition.leader != Some(partition.replicas[0]));
        }
        let lacks_too_many = |id: &BrokerId| {
            let preferred = &by_broker[id];
            preferred.not_led * 100 > preferred.all * u64::from(percentage_max)
        };
        let preferred_of = |key: &TopicPartition| self.partition(*key).expect("one of its partitions").replicas[0];
        let is_settled = |key: &TopicPartition| self.partition(*key).is_some_and(|it| it.reassignment.is_none());
        let wanted = self.imbalanced().filter(|key| is_settled(key) && lacks_too_many(&preferred_of(key)));
        wanted.take(count_max).collect()
    }
}
