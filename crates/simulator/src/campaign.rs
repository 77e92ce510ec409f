//! Runs seeds: each twice, since a run that cannot be repeated cannot be trusted or replayed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::cluster::{Cluster, Outcome, faults};
use crate::invariants::Violation;
use crate::plan::Plan;
use crate::schedule::Schedule;
use crate::shrink::shrink;
use crate::trace::Keep;

/// Why a seed failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What is wrong, in a sentence.
    pub what: String,
    /// The last lines of the trace, as far as they are known.
    pub tail: Vec<String>,
    /// The violated invariant; `None` when two runs of one seed differ.
    pub violation: Option<Violation>,
}

/// What all runs together were like.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: u64,
    /// Steps of shards, one run of each seed counted.
    pub steps: u64,
    /// What happened how often.
    pub counts: BTreeMap<&'static str, u64>,
}

/// What must have happened somewhere in a large campaign: a campaign that never exercised it proves nothing.
pub const MUST_HAPPEN: [&str; 15] = [
    "acked-all",
    "clean-stops",
    "elections",
    "elr-elections",
    "isr-changes",
    "leaderships-taken",
    "logs-cut-by-crash",
    "messages-lost",
    "messages-repeated",
    "proposal-answers-lost",
    "proposals-lost",
    "records-consumed",
    "tails-lost",
    "truncations",
    "pauses-outlived",
];

/// From how many seeds on [`MUST_HAPPEN`] and every fault are demanded.
const COVERAGE_SEEDS_MIN: u64 = 100;

impl Summary {
    /// Adds one seed.
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        for (what, count) in &outcome.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// What should have happened in so many seeds and did not.
    #[must_use]
    pub fn never_happened(&self) -> Vec<&'static str> {
        if self.seeds < COVERAGE_SEEDS_MIN {
            return Vec::new();
        }
        let faults = faults::ALL.iter().filter(|it| it.seeds_permille > 0).map(|it| it.name);
        MUST_HAPPEN.into_iter().chain(faults).filter(|it| self.counts.get(it).is_none_or(|count| *count == 0)).collect()
    }
}

/// Runs a plan twice and compares the traces.
pub fn run_twice(plan: &Plan, canary: bool) -> Result<Outcome, Failure> {
    let seed = plan.seed;
    let first = run_once(plan, canary, Keep::Tail);
    if let Some(violation) = first.violation {
        return Err(Failure { seed, what: violation.to_string(), tail: first.tail, violation: Some(violation) });
    }
    let second = run_once(plan, canary, Keep::Tail);
    if first.trace_hash != second.trace_hash {
        return Err(Failure { seed, what: first_difference(plan, canary), tail: Vec::new(), violation: None });
    }
    Ok(first)
}

/// Runs a plan once, drawing the events. They are in the outcome.
#[must_use]
pub fn run_once(plan: &Plan, canary: bool, keep: Keep) -> Outcome {
    let cluster = Cluster::new(plan.clone(), keep);
    if canary { cluster.with_canary().run() } else { cluster.run() }
}

/// Runs a schedule. Nothing is drawn but the ordinary delays.
#[must_use]
pub fn replay(schedule: &Schedule, keep: Keep) -> Outcome {
    Cluster::new(schedule.plan.clone(), keep).with_events(schedule.events.clone()).run()
}

/// The schedule of a seed, and what running it was like.
#[must_use]
pub fn record(plan: &Plan, canary: bool) -> (Schedule, Outcome) {
    let outcome = run_once(plan, canary, Keep::Tail);
    (Schedule { plan: plan.clone(), events: outcome.events.clone() }, outcome)
}

/// Shrinks the schedule of a failing seed to a short story; `None` if the seed does not fail.
#[must_use]
pub fn shrink_seed(plan: &Plan, canary: bool) -> Option<Schedule> {
    let (schedule, outcome) = record(plan, canary);
    outcome.violation?;
    Some(shrink(schedule, |schedule| replay(schedule, Keep::Tail).violation))
}

/// Runs many seeds on all cores; stops at the first failure (the lowest failed seed of those that had begun).
pub fn run_seeds(
    seeds: Range<u64>,
    adjust: impl Fn(&mut Plan) + Sync,
    progress: impl Fn(u64) + Sync,
) -> (Summary, Option<Failure>) {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let result = Mutex::new((Summary::default(), None::<Failure>));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let mut plan = Plan::draw(seed);
            adjust(&mut plan);
            let outcome = run_twice(&plan, false);
            let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(outcome) => result.0.add(&outcome),
                Err(failure) => {
                    stop.store(true, Ordering::Relaxed);
                    if result.1.as_ref().is_none_or(|known| failure.seed < known.seed) {
                        result.1 = Some(failure);
                    }
                }
            }
            progress(result.0.seeds);
        }
    };
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    result.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a plan twice more, every line kept, and quotes the first that differs.
fn first_difference(plan: &Plan, canary: bool) -> String {
    let first = run_once(plan, canary, Keep::All).lines;
    let second = run_once(plan, canary, Keep::All).lines;
    let differs = first.iter().zip(&second).position(|(a, b)| a != b);
    match differs {
        Some(at) => format!("two runs differ, first in line {}:\n  {}\n  {}", at + 1, first[at], second[at]),
        None => format!("two runs differ; one has {} lines, the other {}", first.len(), second.len()),
    }
}
