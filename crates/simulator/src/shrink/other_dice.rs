//! Taking a part out and drawing the ordinary delays anew.
//!
//! What a plan's seed still decides in a replay are the delays and pauses of the ordinary course. A failure that needs
//! some of them to coincide needs *any* such coincidence, not the one it was found with.

use super::take_out::without;
use super::{STORY_EVENTS, Shrinker};
use crate::dice::Roll;
use crate::invariants::Violation;
use crate::schedule::{Action, Schedule};

impl<R: Fn(&Schedule) -> Option<Violation>> Shrinker<R> {
    /// Tries other dice with fewer events until that fails too, or no more runs are left.
    pub(super) fn with_other_dice(&mut self) -> bool {
        while !self.is_spent() {
            let mut roll = Roll::of(u64::from(self.runs));
            let len = self.best.len();
            // A few or many: down to a story at once, if that is enough.
            let most = (len - STORY_EVENTS / 2).max(1);
            let count = *roll.pick(&[1, 1 + len / 8, 1 + len / 4, 1 + len / 2, most]);
            let mut gone: Vec<usize> = (0..count.min(most)).map(|_| roll.below(len as u64) as usize).collect();
            gone.sort_unstable();
            gone.dedup();
            let mut candidate = without(&self.best, &gone);
            candidate.plan.seed = u64::from(self.runs);
            if roll.chance(500) {
                draw_losses(&mut candidate, &mut roll);
            }
            if roll.chance(250) {
                hurry(&mut candidate);
            }
            if self.try_out(candidate) {
                return true;
            }
        }
        false
    }
}

/// Other losses of the same power failures: which of the un-flushed data is left.
fn draw_losses(schedule: &mut Schedule, roll: &mut Roll) {
    for event in &mut schedule.events {
        if let Action::Fault { parameters, .. } = &mut event.action
            && parameters.maybe("salt").is_some()
        {
            *parameters = parameters.clone().with("salt", roll.below(1_000));
        }
    }
}

/// Everything in half the time.
fn hurry(schedule: &mut Schedule) {
    let first = schedule.events.first().map_or(0, |event| event.at_ms);
    schedule.events.iter_mut().for_each(|event| event.at_ms = first + (event.at_ms - first) / 2);
}
