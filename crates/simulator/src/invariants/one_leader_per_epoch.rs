//! 1: per partition and leader epoch at most one broker ever leads.

use std::collections::BTreeMap;

use minisr_logic::{BrokerId, Epoch, TopicPartition};
use minisr_replica::RoleName;

use super::Invariant;
use crate::state::Step;

/// Who led in which epoch.
#[derive(Debug, Default)]
pub struct OneLeaderPerEpoch {
    leaders: BTreeMap<(TopicPartition, Option<Epoch>), BrokerId>,
}

impl Invariant for OneLeaderPerEpoch {
    fn number(&self) -> u8 {
        1
    }

    fn name(&self) -> &'static str {
        "OneLeaderPerEpoch"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for ((partition, broker), _, view) in step.views().filter(|(_, _, view)| view.role == RoleName::Leader) {
            let first = *self.leaders.entry((partition, view.leader_epoch)).or_insert(broker);
            if first != broker {
                return Err(format!(
                    "brokers {first} and {broker} both led partition {} in epoch {:?}",
                    partition.partition, view.leader_epoch
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::doctor::must_ring;
    use super::*;

    #[test]
    fn one_leader_per_epoch_rings_for_a_second_leader() {
        must_ring(OneLeaderPerEpoch::default(), |cluster| cluster.view(2).role = RoleName::Leader);
    }
}
