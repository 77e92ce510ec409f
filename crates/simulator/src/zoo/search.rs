//! Looking for a planted bug, and for false alarms where none is planted.

use minisr_logic::zoo::{Bug, plant};
use minisr_storage::zoo::Flaw;

use super::mix::Mix;
use crate::campaign::{run_once, shrink_seed};
use crate::schedule::Schedule;
use crate::trace::Keep;

/// How a bug was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catch {
    /// The invariant that rang, or [`crate::invariants::Violation::ASSERTION`].
    pub by: String,
    /// The seed that showed it.
    pub seed: u64,
    /// What it said.
    pub what: String,
}

/// One search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// How many seeds were run, the catching one included.
    pub seeds: u64,
    /// How it ended; `None` when the seeds ran out.
    pub catch: Option<Catch>,
}

/// Runs on the clean code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clean {
    /// The mix.
    pub mix: Mix,
    /// How many seeds were run.
    pub seeds: u64,
    /// A false alarm, or a bug that nobody planted.
    pub alarm: Option<Catch>,
}

/// Runs something in this thread with a bug planted, and takes it out again.
pub fn with_planted<T>(bug: Option<Bug>, run: impl FnOnce() -> T) -> T {
    let flaw = (bug == Some(Bug::TornMiddleSegment)).then_some(Flaw::TornMiddleSegment);
    plant(bug);
    minisr_storage::zoo::plant(flaw);
    let result = run();
    plant(None);
    minisr_storage::zoo::plant(None);
    result
}

/// Runs seeds from `start` on until the bug is caught, at most `seeds_max`.
#[must_use]
pub fn search(bug: Bug, start: u64, seeds_max: u64) -> Search {
    let caught = first_alarm(Some(bug), Mix::of(bug), start, seeds_max);
    Search { seeds: caught.as_ref().map_or(seeds_max, |catch| catch.seed - start + 1), catch: caught }
}

/// Runs seeds of a mix on the clean code.
#[must_use]
pub fn clean(mix: Mix, start: u64, seeds: u64) -> Clean {
    let alarm = first_alarm(None, mix, start, seeds);
    Clean { mix, seeds: alarm.as_ref().map_or(seeds, |catch| catch.seed - start + 1), alarm }
}

fn first_alarm(bug: Option<Bug>, mix: Mix, start: u64, seeds: u64) -> Option<Catch> {
    (start..start + seeds).find_map(|seed| alarm(bug, mix, seed))
}

/// Runs one seed.
fn alarm(bug: Option<Bug>, mix: Mix, seed: u64) -> Option<Catch> {
    let plan = mix.plan(seed);
    let violation = with_planted(bug, || run_once(&plan, false, Keep::Tail)).violation?;
    Some(Catch { by: violation.name.to_owned(), seed, what: violation.what })
}

/// The shortest schedule found that still shows a bug in the way in which a seed showed it.
#[must_use]
pub fn shrunk(bug: Bug, seed: u64) -> Option<Schedule> {
    let plan = Mix::of(bug).plan(seed);
    with_planted(Some(bug), || shrink_seed(&plan, false))
}
