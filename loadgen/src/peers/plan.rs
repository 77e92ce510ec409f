//! What is measured of whom, and in which order.
//!
//! There are two stages. In the first everybody does as much as it can, one cluster at a time while the others stand still.
//! In the second all run, at rates that leave the machine time: half of the maximum that the yardstick reached in the
//! first ([`Measure::HalfRate`]), or single records.
//!
//! Within a stage every repeat has every measure of every peer once, shuffled by the seed, so that a slow minute of the
//! machine falls on everybody. In the first stage a peer's measures follow one another, so that it stands still once
//! in a repeat.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::PeersArguments;
use crate::cli::SweepArguments;
use crate::plan::{Acks, Phase};
use crate::settings::{Settings, TargetKind, TransportKind};

/// Linger of small records and of the half rate: Kafka's own default since 4.0 (KIP-1030).
const LINGER_US: u64 = 5_000;

/// One thing that is measured of every peer, always with RF 3, acks=all and min.insync.replicas 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Most 1 KiB records through one partition, batches of 64 KiB.
    OnePartition,
    /// The same through 16 partitions.
    ManyPartitions,
    /// Most 100 B records through 16 partitions.
    SmallRecords,
    /// Response time of 1 KiB records through 16 partitions at half of what the yardstick reaches.
    HalfRate,
    /// Response time of single 1 KiB records at 1,000/s through one partition.
    SingleRecords,
}

impl Measure {
    /// In the order of the table.
    pub const ALL: [Self; 5] =
        [Self::OnePartition, Self::ManyPartitions, Self::SmallRecords, Self::HalfRate, Self::SingleRecords];

    /// Name on the command line and in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnePartition => "throughput-1",
            Self::ManyPartitions => "throughput-16",
            Self::SmallRecords => "small-records",
            Self::HalfRate => "half-rate",
            Self::SingleRecords => "single-records",
        }
    }

    /// The phase of the sweep that measures it.
    pub const fn phase(self) -> Phase {
        match self {
            Self::OnePartition | Self::ManyPartitions | Self::SmallRecords => Phase::Max,
            Self::HalfRate | Self::SingleRecords => Phase::Rate,
        }
    }

    /// Whether it can be measured without knowing what the yardstick reaches.
    const fn is_of_first_stage(self) -> bool {
        matches!(self.phase(), Phase::Max)
    }

    /// The settings with which a peer is measured. `rate_records_s` is that of the half rate.
    pub fn settings(self, arguments: &PeersArguments, way: &Way, rate_records_s: Option<f64>) -> Result<Settings> {
        let (partitions, record_size) = match self {
            Self::OnePartition | Self::SingleRecords => (1, 1024),
            Self::ManyPartitions | Self::HalfRate => (16, 1024),
            Self::SmallRecords => (16, 100),
        };
        let (rate, linger, duration) = match self {
            Self::HalfRate => (rate_records_s, LINGER_US, arguments.duration),
            _ => (Some(1_000.0), 0, arguments.single_duration),
        };
        let sweep = SweepArguments {
            acks: Some(vec![Acks::All]),
            replication_factor: Some(vec![3]),
            min_insync_replicas: Some(vec![2]),
            phases: Some(vec![self.phase()]),
            partitions: Some(partitions),
            record_size: Some(record_size),
            batch_bytes: Some(64 << 10),
            rate,
            linger: Some(linger),
            max_linger: Some(if self == Self::SmallRecords { LINGER_US } else { 0 }),
            duration: Some(duration),
            max_duration: Some(arguments.max_duration),
            repeats: Some(arguments.repeats),
            seed: Some(arguments.seed),
            warm_records: Some(0),
            memory_warm_mib: Some(arguments.memory_warm_mib),
            no_ceiling: true,
            ..way.sweep_arguments(arguments)
        };
        Settings::resolve(&sweep)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Measure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|measure| measure.name() == text)
            .ok_or_else(|| format!("the measures are {names}, not {text}"))
    }
}

/// Who is measured, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// The embedded cluster of minisr.
    Minisr(TransportKind),
    /// The embedded cluster of Apache Kafka.
    Kafka,
    /// The cluster given by `--bootstrap`, under this name.
    Named(String),
}

impl Way {
    /// Name in files.
    pub fn name(&self) -> String {
        match self {
            Self::Minisr(transport) => format!("minisr-{transport}"),
            Self::Kafka => "kafka".to_owned(),
            Self::Named(name) => name.clone(),
        }
    }

    /// What says where it is and what it is.
    pub fn sweep_arguments(&self, arguments: &PeersArguments) -> SweepArguments {
        match self {
            Self::Minisr(transport) => {
                SweepArguments { transport: Some(*transport), set: arguments.set.clone(), ..SweepArguments::default() }
            }
            Self::Kafka => SweepArguments {
                target: Some(TargetKind::Kafka),
                set: arguments.kafka_settings(),
                ..SweepArguments::default()
            },
            Self::Named(_) => SweepArguments {
                bootstrap: arguments.bootstrap.clone(),
                transport: Some(TransportKind::Tcp),
                ca: arguments.ca.clone(),
                security: arguments.security.clone(),
                ..SweepArguments::default()
            },
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// What.
    pub measure: Measure,
    /// Whose, as an index.
    pub peer: usize,
    /// First is 1.
    pub repeat: u32,
}

/// The turns of both stages.
pub fn turns(measures: &[Measure], peers: usize, repeats: u32, seed: u64) -> [Vec<Turn>; 2] {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    [true, false].map(|first| {
        let of_stage = measures.iter().filter(|measure| measure.is_of_first_stage() == first);
        let mut stage = Vec::new();
        for repeat in 1..=repeats {
            let of_peer = |peer: usize| of_stage.clone().map(move |&measure| Turn { measure, peer, repeat });
            let mut in_turn: Vec<usize> = (0..peers).collect();
            if first {
                in_turn.shuffle(&mut random);
                for peer in in_turn {
                    let mut turns: Vec<Turn> = of_peer(peer).collect();
                    turns.shuffle(&mut random);
                    stage.extend(turns);
                }
            } else {
                let mut turns: Vec<Turn> = in_turn.into_iter().flat_map(of_peer).collect();
                turns.shuffle(&mut random);
                stage.extend(turns);
            }
        }
        stage
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_turns_are_shuffled_by_the_seed_and_every_repeat_has_everybody() {
        let [first, second] = turns(&Measure::ALL, 3, 5, 7);
        assert_eq!((first.len(), second.len()), (3 * 3 * 5, 2 * 3 * 5));
        assert_eq!(turns(&Measure::ALL, 3, 5, 7)[0], first, "the same seed gives the same order");
        assert_ne!(turns(&Measure::ALL, 3, 5, 8)[0], first);
        let of =
            |repeat: u32| first.iter().filter(move |turn| turn.repeat == repeat).map(|turn| (turn.measure, turn.peer));
        assert!(!of(1).eq(of(2)), "repeats have orders of their own");
        let mut in_turn: Vec<_> = of(3).map(|(_, peer)| peer).collect();
        in_turn.dedup();
        assert_eq!(in_turn.len(), 3, "one cluster at a time does as much as it can");
        let mut everybody: Vec<_> = of(3).collect();
        everybody.sort_unstable();
        everybody.dedup();
        assert_eq!(everybody.len(), 9);
        assert!(first.iter().all(|turn| turn.measure.phase() == Phase::Max));
    }

    #[test]
    fn peers_are_measured_with_the_same_settings_but_for_the_way_to_them() {
        let arguments = PeersArguments::for_tests();
        let settings = |way: Way| {
            let mut settings = Measure::HalfRate.settings(&arguments, &way, Some(30_000.0)).unwrap();
            settings.set.clear();
            serde_json::to_value(settings).unwrap()
        };
        let (ours, mut theirs) = (settings(Way::Minisr(TransportKind::Tcp)), settings(Way::Kafka));
        assert_eq!(theirs["target"], "kafka");
        theirs["target"] = ours["target"].clone();
        assert_eq!(ours, theirs);
        assert_eq!(ours["rate_records_s"], 30_000.0);
    }
}
