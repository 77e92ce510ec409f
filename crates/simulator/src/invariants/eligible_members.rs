//! 14: no broker that is fenced or stopping is in an ISR, and nobody enters one on the strength of another life than
//! the registered one (KIP-903).

use minisr_logic::BrokerId;
use minisr_logic::metadata::{Command, Image, Partition};

use super::Invariant;
use crate::state::{Fact, Step};

/// Looks at each committed command and at the metadata after it.
#[derive(Debug, Default)]
pub struct EligibleMembers;

impl Invariant for EligibleMembers {
    fn number(&self) -> u8 {
        14
    }

    fn name(&self) -> &'static str {
        "EligibleMembers"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Committed { before, command, accepted } = fact else { continue };
            let image = &step.state.image;
            if let Some((key, id)) = image.partitions().find_map(|(key, it)| Some((key, idle_member(image, it)?))) {
                return Err(format!("broker {id} is fenced or stopping, in the ISR of partition {}", key.partition));
            }
            let Command::AlterPartition { key, new_isr, .. } = command else { continue };
            let Some(old) = before.partition(*key).filter(|_| *accepted) else { continue };
            for member in new_isr.iter().filter(|it| !old.isr.contains(&it.broker)) {
                let registered = before.broker(member.broker).map(|it| it.epoch);
                if registered != Some(member.broker_epoch) {
                    return Err(format!(
                        "broker {} entered the ISR of partition {} for its life {}; registered is {registered:?}",
                        member.broker, key.partition, member.broker_epoch
                    ));
                }
            }
        }
        Ok(())
    }
}

fn idle_member(image: &Image, partition: &Partition) -> Option<BrokerId> {
    partition.isr.iter().copied().find(|id| !image.is_active(*id))
}

#[cfg(test)]
mod tests {
    use minisr_logic::metadata::IsrMember;
    use minisr_logic::{BrokerEpoch, Epoch, PartitionEpoch};

    use super::super::doctor::{Doctored, P0, must_pass, must_ring};
    use super::*;

    /// Broker 3 enters the ISR, for the life before or after the registered one by so much.
    fn join(cluster: &mut Doctored, life: i64, accepted: bool) {
        cluster.shrink_isr(&[1, 2]);
        cluster.facts.clear();
        let before = cluster.state.image.clone();
        let member = |id: i32| {
            let BrokerEpoch(epoch) = before.broker(BrokerId(id)).expect("registered").epoch;
            IsrMember { broker: BrokerId(id), broker_epoch: BrokerEpoch(if id == 3 { epoch + life } else { epoch }) }
        };
        let command = Command::AlterPartition {
            key: P0,
            broker: BrokerId(1),
            broker_epoch: member(1).broker_epoch,
            leader_epoch: Epoch(0),
            partition_epoch: PartitionEpoch(1),
            new_isr: vec![member(1), member(2), member(3)],
        };
        cluster.facts.push(Fact::Committed { before, command, accepted });
    }

    #[test]
    fn eligible_members_rings_for_a_member_of_another_life() {
        must_pass(EligibleMembers, |cluster| join(cluster, 0, true));
        must_pass(EligibleMembers, |cluster| join(cluster, -1, false));
        must_ring(EligibleMembers, |cluster| join(cluster, -1, true));
    }

    #[test]
    fn eligible_members_rings_for_a_fenced_member() {
        let mut cluster = Doctored::sound();
        let before = cluster.partition();
        assert_eq!(idle_member(&cluster.state.image, &before), None);
        let id = BrokerId(3);
        let epoch = cluster.state.image.broker(id).expect("registered").epoch;
        cluster.apply(Command::FenceBroker { id, epoch });
        // As if it had kept its seat.
        assert_eq!(idle_member(&cluster.state.image, &before), Some(id));
    }
}
