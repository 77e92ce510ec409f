//! 9: an attempt that was answered with "nothing appended" (19 among them) is in no log, ever.

use std::collections::BTreeSet;

use super::Invariant;
use crate::state::{Attempt, Fact, Step};

/// Attempts that were refused, and attempts that are in some log.
#[derive(Debug, Default)]
pub struct RefusedAbsent {
    refused: BTreeSet<Attempt>,
    present: BTreeSet<Attempt>,
}

impl Invariant for RefusedAbsent {
    fn number(&self) -> u8 {
        9
    }

    fn name(&self) -> &'static str {
        "RefusedAbsent"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            match fact {
                Fact::Appended { place, from_index } => {
                    for entry in &step.state.replicas[place].log[*from_index..] {
                        self.present.insert(entry.attempt);
                        if self.refused.contains(&entry.attempt) {
                            return Err(format!(
                                "{:?} was refused and is at {} of {place:?}",
                                entry.attempt, entry.base
                            ));
                        }
                    }
                }
                Fact::Refused { partition, attempt } => {
                    self.refused.insert(*attempt);
                    if self.present.contains(attempt) {
                        return Err(format!("{attempt:?} was refused by {partition:?} and is in a log"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::doctor::{P0, must_ring};
    use super::*;

    #[test]
    fn refused_absent_rings_for_a_refusal_before_and_after_the_append() {
        must_ring(RefusedAbsent::default(), |cluster| {
            cluster.facts.push(Fact::Refused { partition: P0, attempt: Attempt(103) });
            cluster.append(1, 0);
        });
        must_ring(RefusedAbsent::default(), |cluster| {
            let entry = cluster.append(1, 0);
            cluster.facts.push(Fact::Refused { partition: P0, attempt: entry.attempt });
        });
    }
}
