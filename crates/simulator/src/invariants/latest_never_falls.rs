//! 4, as clients see it (KIP-207): where a leader says that the log ends is never below what a leader of the same or an
//! earlier epoch has said, unless an injected loss took records below that.

use std::collections::BTreeMap;

use minisr_logic::{Epoch, Offset, TopicPartition};

use super::Invariant;
use crate::state::{Fact, Step};

/// The highest answer in each leader epoch.
#[derive(Debug, Default)]
pub struct LatestNeverFalls {
    listed: BTreeMap<TopicPartition, BTreeMap<Epoch, Offset>>,
}

impl Invariant for LatestNeverFalls {
    fn number(&self) -> u8 {
        4
    }

    fn name(&self) -> &'static str {
        "LatestNeverFalls"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            match fact {
                Fact::Cut { place, entries, injected: true, .. } => {
                    let Some(lowest) = entries.first().map(|it| it.base) else { continue };
                    let answers = self.listed.entry(place.0).or_default();
                    answers.values_mut().for_each(|it| *it = lowest.min(*it));
                }
                // An unclean election, on request, gives up what only others held, and they may still answer.
                Fact::Listed { place, .. } if step.state.had_unclean_election(place.0) => {}
                Fact::Listed { place, epoch, latest } => {
                    let answers = self.listed.entry(place.0).or_default();
                    let before =
                        answers.range(..=*epoch).max_by_key(|it| it.1).map(|(epoch, latest)| (*epoch, *latest));
                    if let Some((earlier, higher)) = before.filter(|it| it.1 > *latest) {
                        return Err(format!(
                            "{place:?} says in epoch {epoch} that its log ends at {latest}; in epoch {earlier} it ended at {higher}"
                        ));
                    }
                    answers.insert(*epoch, *latest);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::doctor::{Doctored, must_pass, must_ring, place};
    use super::*;

    fn listed(cluster: &mut Doctored, broker: i32, epoch: i32, latest: i64) {
        cluster.facts.push(Fact::Listed { place: place(broker), epoch: Epoch(epoch), latest: Offset(latest) });
    }

    #[test]
    fn latest_never_falls_rings_when_a_new_leader_answers_from_a_stale_high_watermark() {
        must_ring(LatestNeverFalls::default(), |cluster| {
            listed(cluster, 1, 0, 3);
            listed(cluster, 2, 1, 2);
        });
    }

    #[test]
    fn latest_never_falls_excuses_a_deposed_leader_and_what_a_loss_took() {
        must_pass(LatestNeverFalls::default(), |cluster| {
            listed(cluster, 2, 1, 3);
            listed(cluster, 1, 0, 2);
        });
        must_pass(LatestNeverFalls::default(), |cluster| {
            listed(cluster, 1, 0, 3);
            let entries = cluster.replica(1).log.split_off(2);
            cluster.facts.push(Fact::Cut { place: place(1), entries, high_watermark: Offset(3), injected: true });
            listed(cluster, 2, 1, 2);
        });
    }
}
