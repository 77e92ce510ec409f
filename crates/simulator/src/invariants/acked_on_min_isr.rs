//! 8: at the moment of an acks=all success at least min.insync.replicas replicas held the record; under flush=commit,
//! on stable storage.

use std::collections::{BTreeMap, BTreeSet};

use minisr_logic::{BrokerId, Offset, TopicPartition};

use super::Invariant;
use crate::state::{Fact, Step};

/// Who holds each batch, or held it until an injected loss.
#[derive(Debug, Default)]
pub struct AckedOnMinIsr {
    holders: BTreeMap<(TopicPartition, Offset, u64), BTreeSet<BrokerId>>,
}

impl Invariant for AckedOnMinIsr {
    fn number(&self) -> u8 {
        8
    }

    fn name(&self) -> &'static str {
        "AckedOnMinIsr"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            match fact {
                Fact::Appended { place, from_index } => {
                    for entry in &step.state.replicas[place].log[*from_index..] {
                        self.holders.entry((place.0, entry.base, entry.bytes_hash)).or_default().insert(place.1);
                    }
                }
                Fact::Cut { place, entries, injected: false, .. } => {
                    for entry in entries {
                        if let Some(it) = self.holders.get_mut(&(place.0, entry.base, entry.bytes_hash)) {
                            it.remove(&place.1);
                        }
                    }
                }
                Fact::Acked { place, attempt, base, all: true } => {
                    let state = step.state;
                    // It answered and was reassigned elsewhere in one step.
                    let Some(replica) = state.replicas.get(place) else { continue };
                    let Some(entry) = replica.at(*base) else {
                        return Err(format!("{place:?} acknowledged {attempt:?} at {base} and holds nothing there"));
                    };
                    // As the leader knows it: a change of the setting takes a moment to reach it.
                    let min_isr = state.replicas[place].min_isr;
                    // Who has deleted the topic by now held the record all the same.
                    let counts = |broker: &BrokerId| {
                        !state.counts_flushed
                            || state.replica(place.0, *broker).is_none_or(|it| it.flushed >= entry.end)
                    };
                    let holders = self.holders.get(&(place.0, *base, entry.bytes_hash));
                    let held = holders.map_or(0, |it| it.iter().filter(|broker| counts(broker)).count());
                    if held < min_isr {
                        return Err(format!(
                            "{place:?} acknowledged the batch at {base}, which {held} replicas held ({holders:?}), not {}",
                            min_isr
                        ));
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
    use super::super::doctor::{Doctored, must_pass, must_ring, place};
    use super::*;

    fn acked_by(cluster: &mut Doctored, holders: &[i32]) {
        let mut last = None;
        for broker in holders {
            last = Some(cluster.append(*broker, 0));
            cluster.replica(*broker).flushed = Offset(4);
        }
        let last = last.expect("somebody holds it");
        cluster.facts.push(Fact::Acked { place: place(1), attempt: last.attempt, base: last.base, all: true });
    }

    #[test]
    fn acked_on_min_isr_rings_for_one_copy_under_min_isr_two() {
        must_ring(AckedOnMinIsr::default(), |cluster| acked_by(cluster, &[1]));
        must_pass(AckedOnMinIsr::default(), |cluster| acked_by(cluster, &[1, 3]));
    }

    #[test]
    fn acked_on_min_isr_rings_for_an_unflushed_copy_where_only_flushed_ones_count() {
        must_ring(AckedOnMinIsr::default(), |cluster| {
            cluster.state.counts_flushed = true;
            acked_by(cluster, &[1, 3]);
            cluster.replica(3).flushed = Offset(3);
        });
    }
}
