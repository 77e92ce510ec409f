//! Makes a failing schedule small: takes events out as long as the same invariant is still violated.
//!
//! Delta debugging (Zeller and Hildebrandt), class by class: first faults, then messages, then what clients do, and
//! again until nothing more can go (`take_out`). Then two writes become one, and the plan and the details of what is
//! left are made plain, where that keeps the failure (`plainer`).
//!
//! Some failures hang on a coincidence of delays that every event taken out disturbs, so that a long list is left of
//! which hardly anything matters. Where more than [`STORY_EVENTS`] are left, a part is taken out at random and the
//! ordinary delays are drawn anew, until the coincidence comes about with fewer events (`other_dice`).
//!
//! Whatever is tried counts only if it violates the same invariant as the schedule at the beginning.

mod other_dice;
mod plainer;
mod take_out;

use crate::invariants::Violation;
use crate::plan::Rates;
use crate::schedule::Schedule;

/// How many events make a story that a person can follow. A longer one is worth more effort.
pub const STORY_EVENTS: usize = 10;

/// How often a schedule may be run, at most: about a minute.
const RUNS_MAX: u32 = 8_000;

/// Shrinks a schedule that fails. `run` says what a schedule violates.
///
/// A schedule that does not fail is returned as it is.
pub fn shrink(schedule: Schedule, run: impl Fn(&Schedule) -> Option<Violation>) -> Schedule {
    let Some(violation) = run(&schedule) else { return schedule };
    let mut shrinker = Shrinker { best: schedule, violated: violation, run, runs: 1 };
    // Rates play no part in a replay.
    shrinker.best.plan.rates = Rates::default();
    shrinker.settle();
    while shrinker.best.len() > STORY_EVENTS && shrinker.with_other_dice() {
        shrinker.settle();
    }
    shrinker.best
}

struct Shrinker<R> {
    best: Schedule,
    violated: Violation,
    run: R,
    runs: u32,
}

impl<R: Fn(&Schedule) -> Option<Violation>> Shrinker<R> {
    /// Everything that makes it smaller step by step, until no step does.
    fn settle(&mut self) {
        for _ in 0..6 {
            let before = self.best.clone();
            self.take_out_all();
            self.plainer_plan();
            self.plainer_events();
            if self.best == before {
                return;
            }
        }
    }

    /// Keeps a candidate if it fails in the same way.
    fn try_out(&mut self, candidate: Schedule) -> bool {
        if self.is_spent() || candidate == self.best {
            return false;
        }
        self.runs += 1;
        let fails = (self.run)(&candidate).is_some_and(|it| it.is_like(&self.violated));
        if fails {
            self.best = candidate;
        }
        fails
    }

    const fn is_spent(&self) -> bool {
        self.runs >= RUNS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::schedule::{Action, Class, Event, Parameters};

    fn violation(name: &'static str) -> Violation {
        Violation { number: 0, name, what: String::new() }
    }

    fn story() -> Schedule {
        let mut events: Vec<Event> = (0..200_u32)
            .map(|at| Event {
                at_ms: u64::from(at),
                action: Action::Produce { producer: at % 3, partition: 0, records: 2 },
            })
            .collect();
        for at_ms in [20, 90, 160] {
            let parameters = Parameters::default().with("broker", at_ms).with("for", 5);
            events.push(Event { at_ms, action: Action::Fault { name: "pause", parameters } });
        }
        events.sort_by_key(|it| it.at_ms);
        Schedule { plan: Plan::draw(1), events }
    }

    fn times(schedule: &Schedule) -> Vec<u64> {
        schedule.events.iter().map(|it| it.at_ms).collect()
    }

    #[test]
    fn shrink_leaves_only_what_the_failure_needs() {
        let needed = |schedule: &Schedule| {
            let at = |ms| schedule.events.iter().any(|it| it.at_ms == ms && it.class() == Class::Client);
            let paused = schedule.events.iter().any(|it| it.at_ms == 90 && it.class() == Class::Fault);
            (at(17) && at(101) && paused).then(|| violation("Wanted"))
        };
        let shrunk = shrink(story(), needed);
        assert_eq!(times(&shrunk), [17, 90, 101]);
        assert_eq!(shrunk.plan.rates, Rates::default());
    }

    #[test]
    fn shrink_does_not_take_another_failure_for_the_same() {
        // Fewer than ten events fail in another way.
        let other = |schedule: &Schedule| Some(violation(if schedule.len() < 10 { "Other" } else { "Wanted" }));
        assert_eq!(shrink(story(), other).len(), 10);
        // So do the very events of which the failure consists, under any other dice than those of the beginning.
        let other = |schedule: &Schedule| {
            let same = schedule.plan.seed == 1 && schedule.len() >= 20;
            Some(violation(if same { "Wanted" } else { "Other" }))
        };
        assert_eq!(shrink(story(), other).len(), 20);
    }

    #[test]
    fn shrink_returns_what_does_not_fail_as_it_is() {
        assert_eq!(shrink(story(), |_| None), story());
    }

    #[test]
    fn shrink_takes_two_events_out_together_that_cannot_go_alone() {
        // Two writes that are far apart fail together with either both of the outer pauses or none of them.
        let needed = |schedule: &Schedule| {
            let paused = |ms| schedule.events.iter().any(|it| it.at_ms == ms && it.class() == Class::Fault);
            let writes = schedule.events.iter().filter(|it| it.class() == Class::Client).count();
            (paused(20) == paused(160) && paused(90) && writes >= 2).then(|| violation("Wanted"))
        };
        let shrunk = shrink(story(), needed);
        assert_eq!(shrunk.len(), 3, "{:?}", times(&shrunk));
    }

    #[test]
    fn shrink_puts_the_records_of_several_writes_into_one() {
        let records = |schedule: &Schedule| -> i32 {
            schedule
                .events
                .iter()
                .map(|it| if let Action::Produce { records, .. } = it.action { records } else { 0 })
                .sum()
        };
        let shrunk = shrink(story(), |schedule| (records(schedule) >= 6).then(|| violation("Wanted")));
        assert_eq!((shrunk.len(), records(&shrunk)), (1, 6));
    }

    #[test]
    fn shrink_draws_the_delays_anew_when_too_much_is_left() {
        // Nothing can go under the dice of the beginning; under others a few writes will do, if the delays are right.
        let needed = |schedule: &Schedule| {
            let few = schedule.plan.seed % 5 == 3 && schedule.len() >= 4;
            (few || schedule.len() == 203).then(|| violation("Wanted"))
        };
        let shrunk = shrink(story(), needed);
        assert_eq!((shrunk.len(), shrunk.plan.seed % 5), (4, 3));
    }

    #[test]
    fn shrink_ends_after_so_many_runs() {
        let runs = std::cell::Cell::new(0);
        shrink(story(), |schedule| {
            runs.set(runs.get() + 1);
            (schedule.len() >= 100).then(|| violation("Wanted"))
        });
        assert!(runs.get() <= RUNS_MAX, "{} runs", runs.get());
    }
}
