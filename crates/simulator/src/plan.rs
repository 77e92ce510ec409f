//! What a seed decides before the run begins: the size of the cluster, its settings, the clients, and how often which
//! fault strikes. Each fault is switched on for a part of the seeds only (swarm testing), since faults mask each
//! other when all happen all the time.

use std::collections::BTreeMap;

use minisr_replica::{FlushPolicy, LagComparison, LagMaxMessages};

use crate::cluster::faults::{self, FaultType};
use crate::dice::{Dice, Roll};

/// The plan of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed it was drawn from, and of all that is drawn in the run.
    pub seed: u64,
    /// Whether pauses that are otherwise drawn are the shortest ones; for shrunk failures.
    pub calm: bool,
    /// Brokers, ids from 1.
    pub brokers: i32,
    /// Partitions of the one topic.
    pub partitions: i32,
    /// Copies of each.
    pub replication_factor: i16,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// When data counts as stored.
    pub flush: FlushPolicy,
    /// `segment.bytes`, small in some runs so that logs roll.
    pub segment_bytes: u64,
    /// `broker.session.timeout.ms`.
    pub session_timeout_ms: u64,
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: u64,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max_ms: u64,
    /// `replica.lag.max.messages`, the legacy rule, on in a part of the seeds.
    pub lag_max_messages: Option<LagMaxMessages>,
    /// `replica.fetch.wait.max.ms`.
    pub fetch_wait_max_ms: u64,
    /// `replica.high.watermark.delay.max.ms`.
    pub high_watermark_delay_max_ms: u64,
    /// `num.replica.fetchers`.
    pub replica_fetchers: u32,
    /// How long faults and load last.
    pub safety_ms: u64,
    /// How often, of 1,000, what a broker learns of the metadata reaches its shard together with what comes next.
    pub together_permille: u64,
    /// How often, of 1,000, a broker takes an append in and settles later, as when it has further requests at hand.
    pub turn_permille: u64,
    /// Largest ordinary network delay.
    pub delay_max_ms: u64,
    /// Producers.
    pub producers: Vec<ProducerKind>,
    /// Consumers.
    pub consumers: u32,
    /// What is drawn while the seed runs, and recorded as events.
    pub rates: Rates,
}

/// How often what is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Mean pause between two batches of one producer.
    pub produce_pause_ms: u64,
    /// Mean pause between two faults.
    pub fault_pause_ms: u64,
    /// Messages lost, of 1,000.
    pub loss_permille: u64,
    /// Requests delivered twice, of 1,000.
    pub duplicate_permille: u64,
    /// Messages that take many times longer than usual, of 1,000.
    pub slow_permille: u64,
    /// Controller proposals or their answers lost, of 1,000.
    pub proposal_loss_permille: u64,
    /// Relative weights of the faults, by name.
    pub weights: BTreeMap<&'static str, u64>,
}

/// What a producer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProducerKind {
    /// acks=all, idempotent.
    Idempotent,
    /// acks=all.
    All,
    /// acks=1.
    Leader,
    /// acks=0.
    None,
}

impl Plan {
    /// Draws the plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, false);
        let mut roll = dice.roll(0, "plan", 0);
        let brokers = *roll.pick(&[3, 3, 3, 3, 4, 5]);
        let replication_factor = *roll.pick(&[1, 2, 2, 3, 3, 3, 3]);
        let min_insync_replicas = roll.between(1, replication_factor) as i32;
        let flush = match roll.below(4) {
            0 | 1 => FlushPolicy::Never,
            2 => FlushPolicy::Interval { interval_ms: roll.between(20, 2_000) },
            _ => FlushPolicy::Commit,
        };
        let session_timeout_ms = roll.between(600, 2_500);
        let lag_time_max_ms = roll.between(400, 2_500);
        // Each has a roll of its own, so that a new one does not change the others.
        let weight = |it: &FaultType| (it.name, rate(&mut dice.roll(0, it.name, 0), it.seeds_permille, 10));
        let weights = faults::ALL.iter().map(weight).collect();
        let mut legacy = dice.roll(0, "replica.lag.max.messages", 0);
        let lag_max_messages = legacy.chance(150).then(|| LagMaxMessages {
            limit: legacy.between(1, 8),
            comparison: *legacy.pick(&[LagComparison::Greater, LagComparison::GreaterOrEqual]),
        });
        let mut rates = dice.roll(0, "rates", 0);
        // Most load is acks=all and idempotent: that is what may not be lost.
        let kinds = [
            ProducerKind::Idempotent,
            ProducerKind::Idempotent,
            ProducerKind::All,
            ProducerKind::Leader,
            ProducerKind::None,
        ];
        let producers = (0..roll.between(1, 4)).map(|_| *roll.pick(&kinds)).collect();
        Self {
            seed,
            calm: false,
            brokers,
            partitions: roll.between(1, 3) as i32,
            replication_factor: replication_factor as i16,
            min_insync_replicas,
            flush,
            segment_bytes: *roll.pick(&[600, 2_000, 1 << 20]),
            session_timeout_ms,
            heartbeat_interval_ms: session_timeout_ms / roll.between(3, 6),
            lag_time_max_ms,
            lag_max_messages,
            high_watermark_delay_max_ms: *dice.roll(0, "replica.high.watermark.delay.max.ms", 0).pick(&[0, 5, 5, 100]),
            fetch_wait_max_ms: (lag_time_max_ms / roll.between(3, 6)).max(80),
            replica_fetchers: roll.between(1, 2) as u32,
            safety_ms: roll.between(4_000, 15_000),
            together_permille: rate(&mut dice.roll(0, "together", 0), 500, 900),
            turn_permille: rate(&mut dice.roll(0, "turns", 0), 500, 900),
            delay_max_ms: roll.between(2, 40),
            producers,
            consumers: roll.between(1, 2) as u32,
            rates: Rates {
                produce_pause_ms: rates.between(20, 300),
                fault_pause_ms: *rates.pick(&[60, 150, 300, 600, 1_000, 2_000]),
                loss_permille: rate(&mut rates, 400, 40),
                duplicate_permille: rate(&mut rates, 400, 60),
                slow_permille: rate(&mut rates, 400, 60),
                proposal_loss_permille: rate(&mut rates, 400, 150),
                weights,
            },
        }
    }

    /// How long a healed cluster may take until everything is back: lag time plus a session, plus what the glue
    /// needs (metadata, a refused registration, a proposal that waits for its retry).
    #[must_use]
    pub const fn convergence_ms(&self) -> u64 {
        2 * (self.lag_time_max_ms + self.session_timeout_ms) + 6_000
    }
}

impl Rates {
    /// Draws a fault; `None` when this seed has none at all.
    pub fn draw_fault(&self, roll: &mut Roll) -> Option<FaultType> {
        let total: u64 = self.weights.values().sum();
        if total == 0 {
            return None;
        }
        let mut left = roll.below(total);
        for (name, weight) in &self.weights {
            if left < *weight {
                return faults::named(name);
            }
            left -= weight;
        }
        unreachable!("the weights add up to the total");
    }
}

fn rate(roll: &mut Roll, on_permille: u64, max: u64) -> u64 {
    if roll.chance(on_permille) { roll.between(1, max) } else { 0 }
}
