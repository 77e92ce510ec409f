//! The durability table: how many replicas may be lost together, for every replication factor, min.insync.replicas and
//! acks, until writing stops or acknowledged data is gone. Here the half that the simulator measures, over every choice
//! of victims and several seeds; `minisr-chaos durability` measures the same with processes.

pub mod table;

use std::fmt;

use minisr_logic::BrokerId;

use crate::cluster::Cluster;
use crate::plan::{Plan, ProducerKind};
use crate::trace::Keep;

/// Brokers of the cluster; the controller stands apart.
const BROKERS: i32 = 5;

/// What is done to a victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Killed, and started again when the cluster heals.
    Kill,
    /// Killed, and its disk is gone for ever.
    Wipe,
}

/// How many replicas are in sync before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InSync {
    /// All of them.
    Full,
    /// No more than min.insync.replicas.
    Minimal,
}

/// What producers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Acks {
    /// Nothing.
    None,
    /// The leader.
    Leader,
    /// Every replica in sync.
    All,
}

impl fmt::Display for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "0",
            Self::Leader => "1",
            Self::All => "all",
        })
    }
}

/// The settings of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Replicas of the partition.
    pub replication_factor: i32,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// acks of the writer.
    pub acks: Acks,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Whether a write sent after the losses was acknowledged; with acks=0, whether it could be read.
    pub writes_survive: bool,
    /// Whether a leader served reads after the losses.
    pub reads_survive: bool,
    /// Writes acknowledged.
    pub acked: usize,
    /// Of these, gone after healing.
    pub lost: usize,
    /// Whether every replica came back in sync.
    pub healed: bool,
    /// An invariant that was violated.
    pub violation: Option<String>,
}

/// How many losses a row survives; each is the largest number for which it and all smaller ones do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survives {
    /// Writing, all replicas in sync before.
    pub writing: i32,
    /// Acknowledged data, when the lost come back.
    pub data_killed: i32,
    /// Acknowledged data, when the lost are gone for ever and all replicas were in sync.
    pub data_wiped: i32,
    /// The same when no more than min.insync.replicas were in sync: what is guaranteed.
    pub data_wiped_minimal: i32,
    /// Runs that say so.
    pub runs: u64,
}

/// Every row: replication factor 1 to 3, min.insync.replicas up to it, each acks.
pub fn rows() -> impl Iterator<Item = Settings> {
    (1..=3).flat_map(|replication_factor| {
        (1..=replication_factor).flat_map(move |min_insync_replicas| {
            [Acks::None, Acks::Leader, Acks::All].map(|acks| Settings { replication_factor, min_insync_replicas, acks })
        })
    })
}

/// Loses `victims` in one run.
#[must_use]
pub fn round(settings: Settings, victims: &[BrokerId], loss: Loss, in_sync: InSync, seed: u64) -> Round {
    let producer = match settings.acks {
        Acks::None => ProducerKind::None,
        Acks::Leader => ProducerKind::Leader,
        Acks::All => ProducerKind::All,
    };
    let plan = Plan {
        seed,
        calm: false,
        brokers: BROKERS,
        replication_factor: i16::try_from(settings.replication_factor).expect("1 to 3"),
        min_insync_replicas: settings.min_insync_replicas,
        producers: vec![producer],
        consumers: 0,
        delay_max_ms: 4,
        ..Plan::quiet()
    };
    Cluster::new(plan, Keep::Tail).run_durability(victims, loss, in_sync, settings.acks == Acks::None)
}

/// Every choice of victims, `seeds` times, up to the number of losses at which the answer is no. An error is an
/// invariant that was violated, or a number of losses that some runs survive and others do not where they must agree.
pub fn survives(settings: Settings, seeds: u64) -> Result<Survives, String> {
    let mut survives = Survives::default();
    let most = settings.replication_factor;
    survives.writing =
        boundary(settings, Loss::Kill, InSync::Full, most, seeds, &mut survives.runs, |it| it.writes_survive)?;
    let kept = |round: &Round| round.lost == 0;
    survives.data_killed = boundary(settings, Loss::Kill, InSync::Full, most, seeds, &mut survives.runs, kept)?;
    survives.data_wiped = boundary(settings, Loss::Wipe, InSync::Full, most, seeds, &mut survives.runs, kept)?;
    let most = settings.min_insync_replicas;
    survives.data_wiped_minimal =
        boundary(settings, Loss::Wipe, InSync::Minimal, most, seeds, &mut survives.runs, kept)?;
    Ok(survives)
}

/// The largest number of losses up to which every run is fine.
fn boundary(
    settings: Settings,
    loss: Loss,
    in_sync: InSync,
    most: i32,
    seeds: u64,
    runs: &mut u64,
    is_fine: impl Fn(&Round) -> bool,
) -> Result<i32, String> {
    for losses in 1..=most {
        for victims in choices(settings.replication_factor, losses) {
            for seed in 0..seeds {
                *runs += 1;
                let round = round(settings, &victims, loss, in_sync, seed);
                if let Some(violation) = &round.violation {
                    return Err(format!("{settings:?}, {victims:?} lost ({loss:?}), seed {seed}: {violation}"));
                }
                if round.acked == 0 {
                    return Err(format!("{settings:?}, {victims:?} lost ({loss:?}), seed {seed}: nothing was written"));
                }
                if loss == Loss::Kill && !round.healed {
                    return Err(format!("{settings:?}, {victims:?} killed, seed {seed}: the cluster did not heal"));
                }
                if !is_fine(&round) {
                    return Ok(losses - 1);
                }
            }
        }
    }
    Ok(most)
}

/// Every choice of `count` of the partition's replicas, which are on brokers 1 to `replicas`.
fn choices(replicas: i32, count: i32) -> Vec<Vec<BrokerId>> {
    (0_u32..1 << replicas)
        .filter(|set| set.count_ones() == count.unsigned_abs())
        .map(|set| (0..replicas).filter(|at| set >> at & 1 == 1).map(|at| BrokerId(at + 1)).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_choices_are_all_and_each_once() {
        assert_eq!(choices(3, 2).len(), 3);
        assert_eq!(choices(3, 3), [[1, 2, 3].map(BrokerId)]);
        assert_eq!(rows().count(), 18);
    }

    #[test]
    fn durability_two_of_three_lost_with_min_isr_three_stops_writing_and_loses_nothing() {
        let settings = Settings { replication_factor: 3, min_insync_replicas: 3, acks: Acks::All };
        for victims in choices(3, 2) {
            let round = round(settings, &victims, Loss::Wipe, InSync::Full, 7);
            assert_eq!(round.violation, None);
            assert!(!round.writes_survive && round.reads_survive, "{victims:?}: {round:?}");
            assert!(round.acked > 50 && round.lost == 0, "{victims:?}: {round:?}");
        }
    }

    #[test]
    fn durability_a_leader_that_acknowledges_alone_loses_what_it_did() {
        let settings = Settings { replication_factor: 3, min_insync_replicas: 2, acks: Acks::Leader };
        let lost = choices(3, 1).into_iter().map(|victims| round(settings, &victims, Loss::Kill, InSync::Full, 7).lost);
        let lost: Vec<usize> = lost.collect();
        assert!(lost.iter().any(|lost| *lost > 0), "{lost:?}: the check sees a loss where there is one");
    }
}
