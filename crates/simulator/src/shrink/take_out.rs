//! Taking events out: pieces of one class, pairs, and two writes that one can replace.

use super::Shrinker;
use crate::invariants::Violation;
use crate::schedule::{Action, Class, Schedule};

/// From how many events on pairs are not tried any more.
const PAIRS_EVENTS_MAX: usize = 24;

/// How many records one write may have in place of several.
const RECORDS_MAX: i32 = 12;

impl<R: Fn(&Schedule) -> Option<Violation>> Shrinker<R> {
    /// Takes out whatever can go.
    pub(super) fn take_out_all(&mut self) {
        for class in [Class::Fault, Class::Message, Class::Client] {
            self.take_out_pieces(class);
        }
        self.merge_writes();
        self.take_out_pairs();
    }

    /// Takes out events of one class, in ever smaller pieces.
    fn take_out_pieces(&mut self, class: Class) {
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
                let candidate = without(&self.best, &indexes[from..end.min(indexes.len())]);
                self.try_out(candidate);
                end = from;
            }
            piece /= 2;
        }
    }

    /// Takes out any two events of a short list, wherever they are: a fault and its end, a write and what befell it.
    fn take_out_pairs(&mut self) {
        let mut second = self.best.len();
        while second > 1 && self.best.len() <= PAIRS_EVENTS_MAX {
            second -= 1;
            for first in (0..second).rev() {
                if self.try_out(without(&self.best, &[first, second])) {
                    second -= 1;
                    break;
                }
            }
            second = second.min(self.best.len());
        }
    }

    /// Lets one write have the records of two to the same partition.
    fn merge_writes(&mut self) {
        let mut index = self.best.len();
        while index > 0 {
            index -= 1;
            let Some(Action::Produce { partition, records, .. }) =
                self.best.events.get(index).map(|it| it.action.clone())
            else {
                continue;
            };
            for other in (0..index).rev() {
                let Action::Produce { producer, partition: same, records: more } = self.best.events[other].action
                else {
                    continue;
                };
                if same == partition && records + more <= RECORDS_MAX {
                    let mut candidate = without(&self.best, &[index]);
                    candidate.events[other].action = Action::Produce { producer, partition, records: records + more };
                    self.try_out(candidate);
                    break;
                }
            }
        }
    }
}

/// The schedule without the events of these indexes, which ascend.
pub(super) fn without(schedule: &Schedule, gone: &[usize]) -> Schedule {
    let kept = schedule.events.iter().enumerate().filter(|(index, _)| gone.binary_search(index).is_err());
    Schedule { plan: schedule.plan.clone(), events: kept.map(|(_, event)| event.clone()).collect() }
}
