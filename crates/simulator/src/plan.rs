//! What a seed decides before the run begins: the size of the cluster, its settings, the clients, and how often which
//! fault strikes. Each fault is switched on for a part of the seeds only (swarm testing), since faults mask each
//! other when all happen all the time.

use minisr_replica::FlushPolicy;

use crate::dice::Dice;

/// The plan of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed it was drawn from.
    pub seed: u64,
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
    /// `replica.fetch.wait.max.ms`.
    pub fetch_wait_max_ms: u64,
    /// `num.replica.fetchers`.
    pub replica_fetchers: u32,
    /// How long faults and load last.
    pub safety_ms: u64,
    /// Producers.
    pub producers: u32,
    /// Consumers.
    pub consumers: u32,
    /// Mean pause between two batches of one producer.
    pub produce_pause_ms: u64,
    /// Mean pause between two faults.
    pub fault_pause_ms: u64,
    /// Largest ordinary network delay.
    pub delay_max_ms: u64,
    /// Messages lost, of 1,000.
    pub loss_permille: u64,
    /// Requests delivered twice, of 1,000.
    pub duplicate_permille: u64,
    /// Messages that take many times longer than usual, of 1,000.
    pub slow_permille: u64,
    /// Controller proposals or their answers lost, of 1,000.
    pub proposal_loss_permille: u64,
    /// Relative weights of the faults, by [`FaultKind`].
    pub weights: [u64; FaultKind::ALL.len()],
}

/// What may be done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// kill -9: the page cache survives.
    KillProcess,
    /// The machine loses power: un-flushed data is gone, in part or whole.
    PowerLoss,
    /// All brokers are killed at once (power loss where that is switched on, otherwise processes).
    KillAll,
    /// SIGSTOP, later SIGCONT.
    Pause,
    /// SIGTERM, later a start.
    CleanRestart,
    /// One direction of one link is cut.
    CutOneWay,
    /// A broker is cut off from everybody.
    Isolate,
    /// A broker is cut off from the controller only.
    CutController,
    /// Another controller takes over.
    ControllerChange,
    /// The controller fences a live broker.
    FalseFence,
    /// Leadership is given back to the preferred replicas.
    PreferredElection,
}

impl FaultKind {
    /// All of them, in the order of [`Plan::weights`].
    pub const ALL: [Self; 11] = [
        Self::KillProcess,
        Self::PowerLoss,
        Self::KillAll,
        Self::Pause,
        Self::CleanRestart,
        Self::CutOneWay,
        Self::Isolate,
        Self::CutController,
        Self::ControllerChange,
        Self::FalseFence,
        Self::PreferredElection,
    ];

    /// Name for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KillProcess => "kill-process",
            Self::PowerLoss => "power-loss",
            Self::KillAll => "kill-all",
            Self::Pause => "pause",
            Self::CleanRestart => "clean-restart",
            Self::CutOneWay => "cut-one-way",
            Self::Isolate => "isolate",
            Self::CutController => "cut-controller",
            Self::ControllerChange => "controller-change",
            Self::FalseFence => "false-fence",
            Self::PreferredElection => "preferred-election",
        }
    }
}

impl Plan {
    /// Draws the plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        // Another stream than the run's own, so that a setting given on the command line does not shift the plan.
        let mut dice = Dice::new(seed ^ 0x9e37_79b9_7f4a_7c15);
        let brokers = *dice.pick(&[3, 3, 3, 3, 4, 5]);
        let replication_factor = *dice.pick(&[1, 2, 2, 3, 3, 3, 3]);
        let min_insync_replicas = dice.between(1, replication_factor) as i32;
        let flush = match dice.below(4) {
            0 | 1 => FlushPolicy::Never,
            2 => FlushPolicy::Interval { interval_ms: dice.between(20, 2_000) },
            _ => FlushPolicy::Commit,
        };
        let session_timeout_ms = dice.between(600, 2_500);
        let lag_time_max_ms = dice.between(400, 2_500);
        let rate = |dice: &mut Dice, on_permille: u64, max: u64| {
            if dice.chance(on_permille) { dice.between(1, max) } else { 0 }
        };
        let mut weights = [0; FaultKind::ALL.len()];
        for (weight, kind) in weights.iter_mut().zip(FaultKind::ALL) {
            let on_permille = match kind {
                FaultKind::PowerLoss => 450,
                FaultKind::KillAll => 200,
                _ => 550,
            };
            *weight = rate(&mut dice, on_permille, 10);
        }
        Self {
            seed,
            brokers,
            partitions: dice.between(1, 3) as i32,
            replication_factor: replication_factor as i16,
            min_insync_replicas,
            flush,
            segment_bytes: *dice.pick(&[600, 2_000, 1 << 20]),
            session_timeout_ms,
            heartbeat_interval_ms: session_timeout_ms / dice.between(3, 6),
            lag_time_max_ms,
            fetch_wait_max_ms: (lag_time_max_ms / dice.between(3, 6)).max(80),
            replica_fetchers: dice.between(1, 2) as u32,
            safety_ms: dice.between(4_000, 15_000),
            producers: dice.between(1, 4) as u32,
            consumers: dice.between(1, 2) as u32,
            produce_pause_ms: dice.between(20, 300),
            fault_pause_ms: dice.between(150, 2_000),
            delay_max_ms: dice.between(2, 40),
            loss_permille: rate(&mut dice, 400, 40),
            duplicate_permille: rate(&mut dice, 400, 60),
            slow_permille: rate(&mut dice, 400, 60),
            proposal_loss_permille: rate(&mut dice, 400, 150),
            weights,
        }
    }

    /// How long a healed cluster may take until everything is back: lag time plus a session, plus what the glue
    /// needs (metadata, a refused registration, a proposal that waits for its retry).
    #[must_use]
    pub const fn convergence_ms(&self) -> u64 {
        2 * (self.lag_time_max_ms + self.session_timeout_ms) + 6_000
    }

    /// Draws a fault; `None` when this seed has none at all.
    pub fn draw_fault(&self, dice: &mut Dice) -> Option<FaultKind> {
        let total: u64 = self.weights.iter().sum();
        if total == 0 {
            return None;
        }
        let mut left = dice.below(total);
        for (kind, weight) in FaultKind::ALL.into_iter().zip(self.weights) {
            if left < weight {
                return Some(kind);
            }
            left -= weight;
        }
        unreachable!("the weights add up to the total");
    }
}
