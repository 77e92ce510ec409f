//! Makes a failing schedule small: takes events out as long as the same invariant is still violated.
//!
//! Delta debugging (Zeller and Hildebrandt), class by class: first faults, then messages, then what clients do, and
//! again until nothing more can go. Then the plan and the details of what is left are made plain, where that keeps
//! the failure.

use crate::invariants::Violation;
use crate::plan::{Plan, Rates};
use crate::schedule::{Action, Class, Effect, Event, Schedule};

/// How often a schedule may be run, at most.
const RUNS_MAX: u32 = 4_000;

/// Shrinks a schedule that fails. `run` says what a schedule violates.
///
/// A schedule that does not fail is returned as it is.
pub fn shrink(schedule: Schedule, run: impl Fn(&Schedule) -> Option<Violation>) -> Schedule {
    let Some(violation) = run(&schedule) else { return schedule };
    let mut shrinker = Shrinker { best: schedule, violated: violation, run, runs: 1 };
    // Rates play no part in a replay.
    shrinker.best.plan.rates = Rates::default();
    let mut rounds = 0;
    loop {
        let before = shrinker.best.clone();
        for class in [Class::Fault, Class::Message, Class::Client] {
            shrinker.take_out(class);
        }
        shrinker.plainer_plan();
        shrinker.plainer_events();
        rounds += 1;
        if shrinker.best == before || rounds == 6 {
            return shrinker.best;
        }
    }
}

struct Shrinker<R> {
    best: Schedule,
    violated: Violation,
    run: R,
    runs: u32,
}

impl<R: Fn(&Schedule) -> Option<Violation>> Shrinker<R> {
    /// Keeps a candidate if it fails in the same way.
    fn try_out(&mut self, candidate: Schedule) -> bool {
        if self.runs >= RUNS_MAX || candidate == self.best {
            return false;
        }
        self.runs += 1;
        let fails = (self.run)(&candidate).is_some_and(|it| it.is_like(&self.violated));
        if fails {
            self.best = candidate;
        }
        fails
    }

    /// Takes out events of one class, in ever smaller pieces.
    fn take_out(&mut self, class: Class) {
        let of_class = |schedule: &Schedule| -> Vec<usize> {
            schedule.events.iter().enumerate().filter(|(_, it)| it.class() == class).map(|(index, _)| index).collect()
        };
        let mut piece = of_class(&self.best).len();
        while piece > 0 {
            // From the end: what happens late depends on what happened before.
            let mut end = of_class(&self.best).len();
            while end > 0 {
                let from = end.saturating_sub(piece);
                let indexes = of_class(&self.best);
                let gone = &indexes[from..end.min(indexes.len())];
                let mut candidate = self.best.clone();
                let mut index = 0;
                candidate.events.retain(|_| {
                    index += 1;
                    gone.binary_search(&(index - 1)).is_err()
                });
                self.try_out(candidate);
                end = from;
            }
            piece /= 2;
        }
    }

    fn try_plan(&mut self, change: impl FnOnce(&mut Plan)) {
        let mut candidate = self.best.clone();
        change(&mut candidate.plan);
        self.try_out(candidate);
    }

    fn plainer_plan(&mut self) {
        let quiet = Plan::quiet();
        self.try_plan(|plan| plan.consumers = 0);
        self.try_plan(|plan| plan.calm = true);
        self.try_plan(|plan| plan.delay_max_ms = quiet.delay_max_ms.min(plan.delay_max_ms));
        self.try_plan(|plan| plan.segment_bytes = quiet.segment_bytes);
        self.try_plan(|plan| plan.flush = quiet.flush);
        self.try_plan(|plan| plan.replica_fetchers = 1);
        let last = self.best.events.iter().map(|it| it.at_ms).max().unwrap_or(0);
        self.try_plan(|plan| plan.safety_ms = plan.safety_ms.min(last));
        let used = self.best.events.iter().filter_map(|it| match it.action {
            Action::Produce { producer, partition, .. } => Some((producer as usize + 1, partition + 1)),
            _ => None,
        });
        let (producers, partitions) = used.fold((1, 1), |a, b| (a.0.max(b.0), a.1.max(b.1)));
        self.try_plan(|plan| plan.producers.truncate(producers));
        self.try_plan(|plan| plan.partitions = plan.partitions.min(partitions));
        self.try_plan(|plan| plan.brokers = plan.brokers.min(3));
    }

    /// Each detail of each event as small as it can be.
    fn plainer_events(&mut self) {
        for index in 0..self.best.events.len() {
            for plainer in plainer(&self.best.events[index]) {
                let mut candidate = self.best.clone();
                candidate.events[index] = plainer;
                self.try_out(candidate);
            }
        }
    }
}

fn plainer(event: &Event) -> Vec<Event> {
    let with = |action| Event { at_ms: event.at_ms, action };
    match &event.action {
        Action::Produce { producer, partition, records } => {
            let (producer, partition) = (*producer, *partition);
            let fewer = Action::Produce { producer, partition, records: 1 };
            let first = Action::Produce { producer: 0, partition, records: *records };
            vec![with(fewer), with(first)]
        }
        Action::Message { kind, from, to, effect: Effect::Slow { .. }, .. } => {
            vec![with(Action::Message { kind: *kind, from: *from, to: *to, nth: 0, effect: Effect::Lost })]
        }
        Action::Message { .. } => Vec::new(),
        Action::Fault { name, parameters } => {
            let luck = parameters.maybe("salt").filter(|it| *it > 0).map(|_| parameters.clone().with("salt", 0));
            let unnoticed = parameters.maybe("noticed").map(|_| parameters.clone().without("noticed"));
            let candidates = luck.into_iter().chain(unnoticed);
            candidates.map(|parameters| with(Action::Fault { name, parameters })).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Parameters;

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

    #[test]
    fn shrink_leaves_only_what_the_failure_needs() {
        let needed = |schedule: &Schedule| {
            let at = |ms| schedule.events.iter().any(|it| it.at_ms == ms && it.class() == Class::Client);
            let paused = schedule.events.iter().any(|it| it.at_ms == 90 && it.class() == Class::Fault);
            (at(17) && at(101) && paused).then(|| violation("Wanted"))
        };
        let shrunk = shrink(story(), needed);
        let left: Vec<u64> = shrunk.events.iter().map(|it| it.at_ms).collect();
        assert_eq!(left, [17, 90, 101]);
        assert_eq!(shrunk.plan.rates, Rates::default());
    }

    #[test]
    fn shrink_does_not_take_another_failure_for_the_same() {
        // Fewer than ten events fail in another way.
        let other = |schedule: &Schedule| Some(violation(if schedule.len() < 10 { "Other" } else { "Wanted" }));
        assert_eq!(shrink(story(), other).len(), 10);
    }

    #[test]
    fn shrink_returns_what_does_not_fail_as_it_is() {
        assert_eq!(shrink(story(), |_| None), story());
    }
}
