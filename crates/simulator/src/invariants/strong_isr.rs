//! 13 (StrongIsr): every committed ISR member's log reaches the current leader's high watermark, with the same content,
//! barring an injected loss.

use std::collections::BTreeSet;

use minisr_logic::TopicPartition;

use super::Invariant;
use crate::state::{Fact, State, Step};

/// Looks at the partitions that a step touched.
#[derive(Debug, Default)]
pub struct StrongIsr;

impl Invariant for StrongIsr {
    fn number(&self) -> u8 {
        13
    }

    fn name(&self) -> &'static str {
        "StrongIsr"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        let mut touched: BTreeSet<TopicPartition> = step.changed.iter().map(|(place, _)| place.0).collect();
        for fact in step.facts {
            match fact {
                Fact::Cut { place, .. } => {
                    touched.insert(place.0);
                }
                Fact::Committed { .. } => touched.extend(step.state.image.partitions().map(|(key, _)| key)),
                _ => {}
            }
        }
        touched.into_iter().try_for_each(|partition| check(step.state, partition))
    }
}

fn check(state: &State, partition: TopicPartition) -> Result<(), String> {
    let Some(record) = state.image.partition(partition) else { return Ok(()) };
    let Some(leader) = record.leader else { return Ok(()) };
    let Some(leading) = state.replica(partition, leader) else { return Ok(()) };
    // A broker that does not know yet that it leads, or leads in another epoch, has nothing to say.
    let Some(view) = leading.as_leader().filter(|it| it.leader_epoch == Some(record.leader_epoch)) else {
        return Ok(());
    };
    let last_committed = leading.below(view.high_watermark).last();
    for member in record.isr.iter().filter(|id| **id != leader) {
        let holds = |it: &crate::state::Replica| {
            it.damaged || last_committed.is_none_or(|entry| it.at(entry.base) == Some(entry))
        };
        if !state.replica(partition, *member).is_some_and(holds) && last_committed.is_some() {
            return Err(format!(
                "broker {member} is in the ISR of partition {} and its log ends at {:?}, short of the high watermark {} \
                 of leader {leader} in epoch {}",
                partition.partition,
                state.replica(partition, *member).map(crate::state::Replica::end),
                view.high_watermark,
                record.leader_epoch,
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::doctor::{must_pass, must_ring};
    use super::*;

    #[test]
    fn strong_isr_rings_for_a_member_that_is_short_or_other() {
        must_ring(StrongIsr, |cluster| cluster.replica(3).log.truncate(2));
        must_ring(StrongIsr, |cluster| cluster.replica(3).log[2].prefix_hash += 1);
        must_pass(StrongIsr, |cluster| {
            cluster.replica(3).log.truncate(2);
            cluster.replica(3).damaged = true;
        });
    }
}
