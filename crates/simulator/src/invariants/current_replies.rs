//! A follower appends only from answers to what it asked in the leader epoch that it is in (trap 17): an answer of an
//! earlier epoch may carry what a deposed leader wrote.

use super::Invariant;
use crate::state::{Fact, Step};

/// Compares the epoch of each answered fetch with what the broker had been told by then.
#[derive(Debug, Default)]
pub struct CurrentReplies;

impl Invariant for CurrentReplies {
    fn number(&self) -> u8 {
        0
    }

    fn name(&self) -> &'static str {
        "CurrentReplies"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::FetchAnswered { place, asked, known } = fact else { continue };
            let grew =
                || step.facts.iter().any(|it| matches!(it, Fact::Appended { place: grown, .. } if grown == place));
            if asked != known && grew() {
                return Err(format!(
                    "{place:?} was told of epoch {known}, and appended what it had asked for in {asked}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::Epoch;

    use super::super::doctor::{Doctored, must_pass, must_ring, place};
    use super::*;

    fn answered(cluster: &mut Doctored, asked: i32, known: i32) {
        cluster.facts.push(Fact::FetchAnswered { place: place(2), asked: Epoch(asked), known: Epoch(known) });
    }

    #[test]
    fn current_replies_rings_when_an_old_answer_is_appended() {
        must_pass(CurrentReplies, |cluster| {
            answered(cluster, 0, 0);
            cluster.append(2, 0);
        });
        must_pass(CurrentReplies, |cluster| answered(cluster, 0, 1));
        must_ring(CurrentReplies, |cluster| {
            answered(cluster, 0, 1);
            cluster.append(2, 0);
        });
    }
}
