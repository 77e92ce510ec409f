//! 7: every acks=all success is readable at its offset once things are healed.

use std::collections::BTreeMap;

use minisr_logic::{Offset, TopicPartition};

use super::Invariant;
use crate::state::{Fact, State, Step};

/// What was acknowledged: partition and offset of each batch, and the hash of its bytes.
#[derive(Debug, Default)]
pub struct AckedReadable {
    acked: BTreeMap<(TopicPartition, Offset), u64>,
    /// Batches of which an injected loss destroyed some copy: [`super::leader_completeness`] judges those.
    hurt: BTreeMap<TopicPartition, Offset>,
}

impl Invariant for AckedReadable {
    fn number(&self) -> u8 {
        7
    }

    fn name(&self) -> &'static str {
        "AckedReadable"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            match fact {
                Fact::Acked { place, attempt, base, all: true } if !step.state.had_unclean_election(place.0) => {
                    // It answered and was reassigned elsewhere in one step.
                    let Some(replica) = step.state.replicas.get(place) else { continue };
                    let Some(entry) = replica.at(*base) else {
                        return Err(format!("{place:?} acknowledged {attempt:?} at {base} and holds nothing there"));
                    };
                    let first = *self.acked.entry((place.0, *base)).or_insert(entry.bytes_hash);
                    if first != entry.bytes_hash {
                        return Err(format!("two batches were acknowledged at {base} of {:?}", place.0));
                    }
                }
                Fact::Cut { place, entries, injected: true, .. } => {
                    if let Some(entry) = entries.first() {
                        let lowest = self.hurt.entry(place.0).or_insert(entry.base);
                        *lowest = entry.base.min(*lowest);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_end(&mut self, state: &State) -> Result<(), String> {
        for ((partition, base), hash) in &self.acked {
            if state.had_unclean_election(*partition) {
                continue;
            }
            let Some(leader) = state.image.partition(*partition).and_then(|it| it.leader) else { continue };
            let Some(replica) = state.replica(*partition, leader) else {
                return Err(format!("the leader {leader} of {partition:?} has no replica"));
            };
            let readable = replica.view.as_ref().is_some_and(|view| {
                replica.at(*base).is_some_and(|it| it.bytes_hash == *hash && it.end <= view.high_watermark)
            });
            // A batch whose every copy was destroyed is excused; whether it was every copy is checked elsewhere.
            let excused = self.hurt.get(partition).is_some_and(|lowest| lowest <= base) && replica.end() <= *base;
            if !readable && !excused {
                return Err(format!("the acknowledged batch at {base} of {partition:?} cannot be read"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::doctor::{Doctored, must_ring, place};
    use super::*;
    use crate::state::Attempt;

    fn acked(cluster: &mut Doctored, base: i64) {
        cluster.facts.push(Fact::Acked { place: place(1), attempt: Attempt(1), base: Offset(base), all: true });
    }

    #[test]
    fn acked_readable_rings_for_an_ack_without_a_batch() {
        must_ring(AckedReadable::default(), |cluster| acked(cluster, 3));
    }

    #[test]
    fn acked_readable_rings_for_a_batch_that_is_gone_or_other_in_the_end() {
        let doctors: [fn(&mut Doctored); 3] = [
            |cluster| cluster.replica(1).log.truncate(2),
            |cluster| cluster.replica(1).log[2].bytes_hash += 1,
            |cluster| cluster.view(1).high_watermark = Offset(2),
        ];
        for doctor in doctors {
            let (mut invariant, mut cluster) = (AckedReadable::default(), Doctored::sound());
            acked(&mut cluster, 2);
            cluster.check(&mut invariant).expect("sound");
            invariant.check_end(&cluster.state).expect("sound");
            doctor(&mut cluster);
            invariant.check_end(&cluster.state).expect_err("must ring");
        }
    }
}
