//! 8: at the moment of an acks=all success at least min.insync.replicas replicas held the record; under flush=commit,
//! on stable storage.

use std::collections::{BTreeMap, BTreeSet};

use minisr_logic::metadata::Image;
use minisr_logic::{BrokerId, Epoch, Offset, TopicPartition};

use super::Invariant;
use crate::state::{Entry, Fact, Place, State, Step};

/// A batch: its partition, its offset, and what is in it.
type Batch = (TopicPartition, Offset, u64);

/// Who holds each batch, or held it until an injected loss.
#[derive(Debug, Default)]
pub struct AckedOnMinIsr {
    holders: BTreeMap<Batch, BTreeSet<BrokerId>>,
    /// Who held it until the partition was reassigned elsewhere, and the leader epoch that the removal began.
    former: BTreeMap<Batch, BTreeMap<BrokerId, Epoch>>,
    /// The leader epoch that began when a replica was last taken out of the assignment.
    removals: BTreeMap<Place, Epoch>,
    /// Up to where each replica had its log on stable storage when its view last changed.
    flushed: BTreeMap<Place, Offset>,
}

impl AckedOnMinIsr {
    fn note_removals(&mut self, before: &Image, after: &Image) {
        for (key, old) in before.partitions() {
            let Some(new) = after.partition(key).filter(|new| new.replicas != old.replicas) else { continue };
            for id in old.replicas.iter().filter(|id| !new.replicas.contains(id)) {
                self.removals.insert((key, *id), new.leader_epoch);
            }
        }
    }

    fn note_cut(&mut self, place: Place, entries: &[Entry], state: &State) {
        let is_removed = !state.replicas.contains_key(&place);
        let removal = self.removals.get(&place).copied().filter(|_| is_removed);
        let flushed = self.flushed.get(&place).copied().unwrap_or(Offset::ZERO);
        for entry in entries {
            let batch = (place.0, entry.base, entry.bytes_hash);
            let held = self.holders.get_mut(&batch).is_some_and(|it| it.remove(&place.1));
            let counted = held && (!state.counts_flushed || entry.end <= flushed);
            if let (true, Some(epoch)) = (counted, removal) {
                self.former.entry(batch).or_default().insert(place.1, epoch);
            }
        }
    }
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
                    self.note_cut(*place, entries, step.state);
                }
                Fact::Committed { before, accepted: true, .. } => self.note_removals(before, &step.state.image),
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
                    // A leader that has not heard of a removal yet, which began a later leader epoch than its own,
                    // goes by what the removed replica had told it, or repeats what it once said of a duplicate: the
                    // replica held it all the same, also if it has been given back since and is empty now.
                    let epoch = replica.view.as_ref().and_then(|view| view.leader_epoch);
                    let counts_twice = |broker: &BrokerId| holders.is_some_and(|it| it.contains(broker));
                    let was_held =
                        |(broker, removal): &(&BrokerId, &Epoch)| Some(**removal) > epoch && !counts_twice(broker);
                    let former = self.former.get(&batch);
                    let held = held + former.map_or(0, |it| it.iter().filter(was_held).count());
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
        self.flushed.extend(step.views().map(|(place, ..)| (place, step.state.replicas[&place].flushed)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::metadata::Command;

    use super::super::doctor::{Doctored, P0, must_pass, must_ring, place};
    use super::*;
    use crate::state::Replica;

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

    fn reassign(cluster: &mut Doctored, target: &[i32]) {
        let target = Some(target.iter().copied().map(BrokerId).collect());
        cluster.apply(Command::AlterReassignment { key: P0, target });
    }

    /// Broker 3 held the batch until its replica was removed, which began epoch 1, and `given_back` says whether it is
    /// back, empty; then leader 1 of `epoch` acknowledges the batch. `flushed`: only what was flushed counts, and broker
    /// 3 had flushed up to there.
    fn acked_after_removal(epoch: i32, given_back: bool, flushed: Option<i64>) -> Result<(), String> {
        let (mut invariant, mut cluster) = (AckedOnMinIsr::default(), Doctored::sound());
        cluster.state.counts_flushed = flushed.is_some();
        cluster.check(&mut invariant)?;
        cluster.replica(1).min_isr = 3;
        acked_by(&mut cluster, &[1, 2, 3]);
        let acked = cluster.facts.pop().expect("the acknowledgement");
        cluster.replica(3).flushed = Offset(flushed.unwrap_or(0));
        cluster.check(&mut invariant)?;
        reassign(&mut cluster, &[1, 2]);
        assert_eq!(cluster.partition().leader_epoch, Epoch(1));
        cluster.check(&mut invariant)?;
        let removed = cluster.state.replicas.remove(&place(3)).expect("a replica");
        let entries = removed.log.clone();
        cluster.facts.push(Fact::Cut { place: place(3), entries, high_watermark: Offset::ZERO, injected: false });
        invariant.check(&cluster.step())?;
        cluster.facts.clear();
        if given_back {
            reassign(&mut cluster, &[1, 2, 3]);
            cluster.state.replicas.insert(place(3), Replica { log: Vec::new(), ..removed });
            cluster.check(&mut invariant)?;
        }
        cluster.facts.push(acked);
        cluster.view(1).leader_epoch = Some(Epoch(epoch));
        invariant.check(&cluster.step())
    }

    #[test]
    fn acked_on_min_isr_counts_removed_replicas_for_a_leader_that_has_not_heard_of_the_reassignment_only() {
        for given_back in [false, true] {
            acked_after_removal(1, given_back, None).expect_err("the leader of epoch 1 knows who has been removed");
            acked_after_removal(0, given_back, None).expect("it was replicated to all three");
            acked_after_removal(1, given_back, Some(4)).expect_err("it knows that also under flush=commit");
            acked_after_removal(0, given_back, Some(4)).expect("all three had flushed it");
            acked_after_removal(0, given_back, Some(3)).expect_err("broker 3 had not flushed it when it was removed");
        }
    }

    /// Broker 3 never held the batch; it is removed and given back.
    #[test]
    fn acked_on_min_isr_rings_when_the_removed_replica_never_held_it() {
        let (mut invariant, mut cluster) = (AckedOnMinIsr::default(), Doctored::sound());
        cluster.check(&mut invariant).expect("sound");
        acked_by(&mut cluster, &[1]);
        let acked = cluster.facts.pop().expect("the acknowledgement");
        reassign(&mut cluster, &[1, 2]);
        let entries = cluster.state.replicas.remove(&place(3)).expect("a replica").log;
        cluster.facts.push(Fact::Cut { place: place(3), entries, high_watermark: Offset::ZERO, injected: false });
        cluster.facts.push(acked);
        invariant.check(&cluster.step()).expect_err("one copy");
    }
}
