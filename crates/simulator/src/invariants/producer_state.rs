//! 23: what a replica knows of its idempotent producers is what the whole log says of them, also after a restart or a
//! cut, when it was rebuilt. (Nothing expires and nothing is deleted from the front in the simulator.)
//!
//! Excused is a replica whose log failed, until its broker starts again: it had taken note of a batch that it then could
//! not write, and answers nobody any more.

use std::collections::BTreeMap;

use minisr_logic::Offset;
use minisr_logic::partition::{BATCHES_KEPT, SeenBatch, sequence_plus};

use super::Invariant;
use crate::state::{Entry, Fact, Place, Step};

/// All batches of each producer in each log, in order, with the producer epoch.
#[derive(Debug, Default)]
pub struct ProducerState {
    written: BTreeMap<Place, BTreeMap<i64, Vec<(i16, SeenBatch)>>>,
}

impl ProducerState {
    fn note(&mut self, step: &Step<'_>, fact: &Fact) {
        match fact {
            Fact::Cut { place, entries, .. } => {
                let Some(written) = self.written.get_mut(place) else { return };
                for id in entries.iter().filter_map(|it| it.producer).map(|it| it.0) {
                    let batches = written.entry(id).or_default();
                    batches.pop();
                    if batches.is_empty() {
                        written.remove(&id);
                    }
                }
            }
            Fact::Appended { place, from_index } => {
                let written = self.written.entry(*place).or_default();
                for entry in &step.state.replicas[place].log[*from_index..] {
                    if let Some((id, epoch, sequence)) = entry.producer {
                        written.entry(id).or_default().push((epoch, seen(entry, sequence)));
                    }
                }
            }
            _ => {}
        }
    }
}

fn seen(entry: &Entry, sequence: i32) -> SeenBatch {
    let records = i32::try_from(entry.end.0 - entry.base.0).expect("a batch has few records");
    SeenBatch {
        first_sequence: sequence,
        last_sequence: sequence_plus(sequence, records - 1),
        base_offset: entry.base,
        last_offset: Offset(entry.end.0 - 1),
    }
}

impl Invariant for ProducerState {
    fn number(&self) -> u8 {
        23
    }

    fn name(&self) -> &'static str {
        "ProducerState"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        step.facts.iter().for_each(|fact| self.note(step, fact));
        for (place, ..) in step.views().filter(|(place, ..)| !step.state.replicas[place].failed) {
            let known = &step.state.replicas[&place].bookkeeping.producers;
            let none = BTreeMap::new();
            let written = self.written.get(&place).unwrap_or(&none);
            if let Some(id) = written.keys().find(|id| known.iter().all(|it| it.id != **id)) {
                return Err(format!("{place:?} has forgotten producer {id}"));
            }
            for producer in known {
                let batches = written.get(&producer.id).map_or(&[][..], Vec::as_slice);
                let of_epoch = batches.iter().rev().take_while(|it| Some(it.0) == batches.last().map(|last| last.0));
                let mut last: Vec<SeenBatch> = of_epoch.take(BATCHES_KEPT).map(|it| it.1).collect();
                last.reverse();
                if batches.last().map(|it| it.0) != Some(producer.epoch) || last != producer.last_batches {
                    return Err(format!("{place:?} remembers {producer:?}, and its log holds {last:?} last"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::partition::KnownProducer;

    use super::super::doctor::{Doctored, must_pass, must_ring};
    use super::*;

    fn write(cluster: &mut Doctored, sequences: std::ops::Range<i32>) {
        for sequence in sequences {
            cluster.append(1, 0);
            cluster.replica(1).log.last_mut().expect("appended").producer = Some((7, 0, sequence));
        }
        // One fact for all of them, or each would be looked at several times.
        cluster.facts.truncate(1);
    }

    fn know(cluster: &mut Doctored, sequences: std::ops::Range<i32>) {
        let batch = |sequence: i32| SeenBatch {
            first_sequence: sequence,
            last_sequence: sequence,
            base_offset: Offset(3 + i64::from(sequence)),
            last_offset: Offset(3 + i64::from(sequence)),
        };
        let last_batches = sequences.map(batch).collect();
        cluster.replica(1).bookkeeping.producers = vec![KnownProducer { id: 7, epoch: 0, last_batches }];
    }

    #[test]
    fn producer_state_rings_unless_it_is_what_the_log_says() {
        must_pass(ProducerState::default(), |cluster| {
            write(cluster, 0..7);
            know(cluster, 2..7);
        });
        must_ring(ProducerState::default(), |cluster| {
            write(cluster, 0..7);
            know(cluster, 1..6);
        });
        must_ring(ProducerState::default(), |cluster| {
            write(cluster, 0..7);
            know(cluster, 3..7);
        });
    }

    #[test]
    fn producer_state_excuses_a_replica_whose_log_failed() {
        must_pass(ProducerState::default(), |cluster| {
            know(cluster, 0..1);
            cluster.replica(1).failed = true;
        });
    }

    #[test]
    fn producer_state_rings_for_a_forgotten_and_for_an_invented_producer() {
        must_ring(ProducerState::default(), |cluster| write(cluster, 0..2));
        must_ring(ProducerState::default(), |cluster| know(cluster, 0..1));
    }
}
