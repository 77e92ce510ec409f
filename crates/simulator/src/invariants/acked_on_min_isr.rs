//! 8: at the moment of an acks=all success at least min.insync.replicas replicas held the record; under flush=commit,
//! on stable storage.

use std::collections::{BTreeMap, BTreeSet};

use minisr_logic::{BrokerId, Offset, TopicPartition};

use super::Invariant;
use crate::state::{Fact, Step};

/// A batch: its partition, its offset, and what is in it.
type Batch = (TopicPartition, Offset, u64);

/// Who holds each batch, or held it until an injected loss.
#[derive(Debug, Default)]
pub struct AckedOnMinIsr {
    holders: BTreeMap<Batch, BTreeSet<BrokerId>>,
    /// Who held it until the partition was reassigned elsewhere.
    former: BTreeMap<Batch, BTreeSet<BrokerId>>,
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
                    let is_removed = !step.state.replicas.contains_key(place);
                    for entry in entries {
                        let batch = (place.0, entry.base, entry.bytes_hash);
                        if self.holders.get_mut(&batch).is_some_and(|it| it.remove(&place.1)) && is_removed {
                            self.former.entry(batch).or_default().insert(place.1);
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
                    let batch = (place.0, *base, entry.bytes_hash);
                    let holders = self.holders.get(&batch);
                    let held = holders.map_or(0, |it| it.iter().filter(|broker| counts(broker)).count());
                    // A leader that has not heard of the reassignment yet repeats what it once said of a duplicate:
                    // whose replica the operator has removed since held it all the same. Under flush=commit that is
                    // no excuse: what a removed replica had flushed cannot be told any more.
                    let epoch = replica.view.as_ref().and_then(|view| view.leader_epoch);
                    let is_deposed = state.image.partition(place.0).is_none_or(|it| Some(it.leader_epoch) > epoch);
                    let is_gone = |broker: &&BrokerId| state.replica(place.0, **broker).is_none();
                    let former = self.former.get(&batch).filter(|_| is_deposed && !state.counts_flushed);
                    let held = held + former.map_or(0, |it| it.iter().filter(is_gone).count());
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
    use minisr_logic::Epoch;

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

    /// Broker 3 held the batch until its replica was removed; then leader 1 of `epoch` acknowledges a duplicate of it.
    fn acked_after_removal(epoch: Epoch, counts_flushed: bool) -> Result<(), String> {
        let (mut invariant, mut cluster) = (AckedOnMinIsr::default(), Doctored::sound());
        cluster.check(&mut invariant)?;
        cluster.replica(1).min_isr = 3;
        acked_by(&mut cluster, &[1, 2, 3]);
        let acked = cluster.facts.pop().expect("the acknowledgement");
        cluster.check(&mut invariant)?;
        let entries = cluster.state.replicas.remove(&place(3)).expect("a replica").log;
        cluster.facts.push(Fact::Cut { place: place(3), entries, high_watermark: Offset::ZERO, injected: false });
        cluster.facts.push(acked);
        cluster.view(1).leader_epoch = Some(epoch);
        cluster.state.counts_flushed = counts_flushed;
        invariant.check(&cluster.step())
    }

    #[test]
    fn acked_on_min_isr_counts_removed_replicas_for_a_leader_that_has_not_heard_of_the_reassignment_only() {
        acked_after_removal(Epoch(0), false).expect_err("the present leader knows who has been removed");
        acked_after_removal(Epoch(-1), false).expect("it was committed with all three");
        acked_after_removal(Epoch(-1), true).expect_err("what the removed replica had flushed cannot be told");
    }
}
