//! Making plain what is left: the settings of the plan, and each detail of each event.

use super::Shrinker;
use crate::invariants::Violation;
use crate::plan::Plan;
use crate::schedule::{Action, Effect, Event, Schedule};

impl<R: Fn(&Schedule) -> Option<Violation>> Shrinker<R> {
    fn try_plan(&mut self, change: impl FnOnce(&mut Plan)) {
        let mut candidate = self.best.clone();
        change(&mut candidate.plan);
        self.try_out(candidate);
    }

    pub(super) fn plainer_plan(&mut self) {
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
    pub(super) fn plainer_events(&mut self) {
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
