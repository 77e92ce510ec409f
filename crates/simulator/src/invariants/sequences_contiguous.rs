//! 22: per partition, producer id and producer epoch, sequences in a log follow one another without gap or repeat.

use std::collections::BTreeMap;

use super::Invariant;
use crate::state::{Entry, Fact, Place, Step};

/// Epoch and last sequence of every batch of each producer in each log, in order.
#[derive(Debug, Default)]
pub struct SequencesContiguous {
    written: BTreeMap<(Place, i64), Vec<(i16, i32)>>,
}

impl Invariant for SequencesContiguous {
    fn number(&self) -> u8 {
        22
    }

    fn name(&self) -> &'static str {
        "SequencesContiguous"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            match fact {
                Fact::Cut { place, entries, .. } => {
                    for (id, ..) in entries.iter().filter_map(|it| it.producer) {
                        self.written.entry((*place, id)).or_default().pop();
                    }
                }
                Fact::Appended { place, from_index } => {
                    let entries = &step.state.replicas[place].log[*from_index..];
                    entries.iter().try_for_each(|entry| self.append(*place, entry))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl SequencesContiguous {
    fn append(&mut self, place: Place, entry: &Entry) -> Result<(), String> {
        let Some((id, epoch, sequence)) = entry.producer else { return Ok(()) };
        let written = self.written.entry((place, id)).or_default();
        let in_line = match written.last() {
            None => true,
            Some((last_epoch, _)) if epoch > *last_epoch => sequence == 0,
            Some((last_epoch, last)) => epoch == *last_epoch && sequence == last.wrapping_add(1) & i32::MAX,
        };
        if !in_line {
            return Err(format!(
                "{place:?} holds producer {id} epoch {epoch} sequence {sequence} at {} after {:?}",
                entry.base,
                written.last()
            ));
        }
        let records = i32::try_from(entry.end.0 - entry.base.0).expect("a batch has few records");
        written.push((epoch, sequence.wrapping_add(records - 1) & i32::MAX));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::doctor::{Doctored, must_pass, must_ring};
    use super::*;

    fn write(cluster: &mut Doctored, batches: &[(i16, i32)]) {
        for (epoch, sequence) in batches {
            cluster.append(1, 0);
            cluster.replica(1).log.last_mut().expect("appended").producer = Some((7, *epoch, *sequence));
        }
        // One fact for all of them, or each would be looked at several times.
        cluster.facts.truncate(1);
    }

    #[test]
    fn sequences_contiguous_rings_for_gap_repeat_and_old_epoch() {
        must_pass(SequencesContiguous::default(), |cluster| write(cluster, &[(0, 3), (0, 4), (1, 0)]));
        must_ring(SequencesContiguous::default(), |cluster| write(cluster, &[(0, 3), (0, 5)]));
        must_ring(SequencesContiguous::default(), |cluster| write(cluster, &[(0, 3), (0, 3)]));
        must_ring(SequencesContiguous::default(), |cluster| write(cluster, &[(1, 0), (0, 4)]));
        must_ring(SequencesContiguous::default(), |cluster| write(cluster, &[(0, 3), (1, 1)]));
    }

    #[test]
    fn sequences_contiguous_forgets_what_was_cut() {
        let (mut invariant, mut cluster) = (SequencesContiguous::default(), Doctored::sound());
        write(&mut cluster, &[(0, 0), (0, 1)]);
        cluster.check(&mut invariant).expect("in line");
        let entries = cluster.replica(1).log.split_off(4);
        let high_watermark = minisr_logic::Offset(3);
        let place = super::super::doctor::place(1);
        cluster.facts.push(Fact::Cut { place, entries, high_watermark, injected: false });
        cluster.check(&mut invariant).expect("a cut");
        write(&mut cluster, &[(0, 1)]);
        cluster.check(&mut invariant).expect("in line again");
    }
}
