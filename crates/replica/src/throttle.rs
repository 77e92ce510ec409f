//! The replication throttle (KIP-73): two rates of this broker, one for what it sends as a leader and one for what it
//! fetches as a follower.
//!
//! Only replicas outside the ISR are throttled, and only those that their topic lists, so that a throttle never slows
//! a copy that an acknowledgement waits for. What is over the rate is put off, not refused: a leader answers with
//! nothing and keeps the fetch waiting, a follower leaves the partition out of its fetches, and both look again when
//! the debt is paid off. Each answer is a batch at least, so the rate holds on average, not over every moment.

use std::collections::BTreeSet;

use minisr_logic::metadata::{
    FOLLOWER_THROTTLED_RATE, FOLLOWER_THROTTLED_REPLICAS, Image, LEADER_THROTTLED_RATE, LEADER_THROTTLED_REPLICAS,
    ThrottledReplicas, Topic,
};
use minisr_logic::{BrokerId, Millis, TopicPartition};
use minisr_storage::Disk;

use crate::shard::Shard;

/// One answer carries what this time allows.
const SHARE_MS: u64 = 50;
/// What was not used is saved for this long.
const SAVED_MS: u64 = 100;

/// One direction's rate and what may be moved now.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Throttle {
    rate_bytes_per_s: Option<u64>,
    /// Thousandths of a byte that may be moved now; negative is a debt.
    left: i128,
    at: Millis,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { rate_bytes_per_s: None, left: 0, at: Millis(0) }
    }
}

/// Both directions.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Throttles {
    pub(crate) leader: Throttle,
    pub(crate) follower: Throttle,
}

/// Which replicas of a topic are throttled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Throttled {
    leader: ThrottledReplicas,
    follower: ThrottledReplicas,
}

impl Throttled {
    pub(crate) fn of(topic: &Topic) -> Self {
        Self {
            leader: topic.throttled_replicas(LEADER_THROTTLED_REPLICAS),
            follower: topic.throttled_replicas(FOLLOWER_THROTTLED_REPLICAS),
        }
    }

    /// Whether `broker` sends this partition to catching-up replicas under its leader's rate.
    pub(crate) fn as_leader(&self, key: TopicPartition, broker: BrokerId) -> bool {
        self.leader.contains(key.partition, broker)
    }

    /// Whether `broker` fetches this partition, while it catches up, under its follower's rate.
    pub(crate) fn as_follower(&self, key: TopicPartition, broker: BrokerId) -> bool {
        self.follower.contains(key.partition, broker)
    }
}

impl Throttle {
    /// Time has passed. Returns whether it may be used again only now.
    fn refill(&mut self, now: Millis) -> bool {
        let Some(rate) = self.rate_bytes_per_s else { return false };
        let was_open = self.is_open();
        let elapsed_ms = now.since(self.at);
        self.at = self.at.max(now);
        // Bytes per second are thousandths of a byte per millisecond.
        let earned = i128::from(rate) * i128::from(elapsed_ms);
        self.left = (self.left + earned).min(i128::from(rate) * i128::from(SAVED_MS));
        self.is_open() && !was_open
    }

    /// Whether anything may be moved now.
    pub(crate) fn is_open(&self) -> bool {
        self.rate_bytes_per_s.is_none() || self.left > 0
    }

    /// How much one answer may carry for one partition.
    pub(crate) fn share_bytes(&self) -> usize {
        let share = |rate: u64| usize::try_from(rate.saturating_mul(SHARE_MS) / 1_000).unwrap_or(usize::MAX).max(1);
        self.rate_bytes_per_s.map_or(usize::MAX, share)
    }

    /// So much was moved.
    pub(crate) fn spend(&mut self, bytes: usize) {
        if self.rate_bytes_per_s.is_some() {
            self.left -= i128::try_from(bytes).unwrap_or(i128::MAX / 2_000) * 1_000;
        }
    }

    /// When it will be open again, if it is not.
    fn next_deadline(&self) -> Option<Millis> {
        let rate = self.rate_bytes_per_s.filter(|_| !self.is_open())?;
        let wait_ms = -self.left / i128::from(rate.max(1)) + 1;
        Some(self.at.plus(u64::try_from(wait_ms).unwrap_or(u64::MAX)))
    }

    fn set_rate(&mut self, now: Millis, rate: Option<u64>) {
        if self.rate_bytes_per_s != rate {
            *self = Self { rate_bytes_per_s: rate, left: 1, at: now };
        }
    }
}

impl Throttles {
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        [self.leader.next_deadline(), self.follower.next_deadline()].into_iter().flatten().min()
    }
}

impl<D: Disk> Shard<D> {
    /// The rates as metadata has them now.
    pub(crate) fn set_throttles(&mut self, now: Millis, image: &Image) {
        let rate = |setting: &str| image.throttled_rate(self.config.broker, setting);
        let (leader, follower) = (rate(LEADER_THROTTLED_RATE), rate(FOLLOWER_THROTTLED_RATE));
        self.throttles.leader.set_rate(now, leader);
        self.throttles.follower.set_rate(now, follower);
        self.resume_throttled(true, true);
    }

    /// At the beginning of a step: whoever had to wait for a rate may go on if its time has come.
    pub(crate) fn refill_throttles(&mut self, now: Millis) {
        let leader = self.throttles.leader.refill(now);
        let follower = self.throttles.follower.refill(now);
        if leader || follower {
            self.resume_throttled(leader, follower);
        }
    }

    fn resume_throttled(&mut self, leader: bool, follower: bool) {
        let me = self.config.broker;
        let mut asks_anew = BTreeSet::new();
        for (key, partition) in &self.partitions {
            let throttled = &partition.settings.throttled;
            if leader && partition.replica.leader().is_some() && throttled.as_leader(*key, me) {
                self.touched.insert(*key);
            }
            if follower && !partition.is_in_sync && throttled.as_follower(*key, me) {
                asks_anew.insert(*key);
            }
        }
        for key in asks_anew {
            self.fetchers.question_changed(key);
        }
    }

    /// Whether this fetching replica is under the leader's rate.
    pub(crate) fn is_throttled_as_leader(&self, key: TopicPartition, follower: BrokerId) -> bool {
        self.partitions.get(&key).is_some_and(|partition| {
            let is_outside = partition.replica.leader().is_some_and(|it| !it.isr().maximal_contains(follower));
            is_outside && partition.settings.throttled.as_leader(key, self.config.broker)
        })
    }

    /// Whether this broker fetches the partition under its follower's rate.
    pub(crate) fn is_throttled_as_follower(&self, key: TopicPartition) -> bool {
        self.partitions.get(&key).is_some_and(|partition| {
            !partition.is_in_sync && partition.settings.throttled.as_follower(key, self.config.broker)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(rate: u64) -> Throttle {
        let mut throttle = Throttle::default();
        throttle.set_rate(Millis(1_000), Some(rate));
        throttle
    }

    #[test]
    fn throttle_rate_holds_on_average_however_large_the_answers_are() {
        for answer in [100, 5_000, 70_000] {
            let mut throttle = throttle(100_000);
            let (mut now, mut moved) = (Millis(1_000), 0);
            while now < Millis(61_000) {
                throttle.refill(now);
                if throttle.is_open() {
                    throttle.spend(answer);
                    moved += answer;
                }
                now = throttle.next_deadline().unwrap_or(now).max(now.plus(1));
            }
            assert!(moved.abs_diff(6_000_000_usize) <= 100_000, "{answer}: {moved}");
        }
    }

    #[test]
    fn throttle_that_was_idle_saves_little() {
        let mut throttle = throttle(1_000_000);
        throttle.refill(Millis(3_600_000));
        let mut moved = 0;
        while throttle.is_open() {
            throttle.spend(10_000);
            moved += 10_000;
        }
        assert_eq!(moved, 100_000);
    }

    #[test]
    fn throttle_that_is_closed_says_when_it_opens_and_is_then_open() {
        let mut throttle = throttle(10);
        throttle.spend(1_000_000);
        assert!(!throttle.is_open());
        let at = throttle.next_deadline().expect("closed");
        assert!(!throttle.clone().refill(Millis(at.0 - 2)));
        assert!(throttle.refill(at) && throttle.is_open());
        assert_eq!(throttle.next_deadline(), None);
    }

    #[test]
    fn throttle_without_a_rate_is_always_open() {
        let mut throttle = throttle(1);
        throttle.spend(1_000);
        throttle.set_rate(Millis(2_000), None);
        throttle.spend(usize::MAX);
        assert!(throttle.is_open() && throttle.share_bytes() == usize::MAX);
    }
}
