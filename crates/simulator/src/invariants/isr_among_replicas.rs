//! 11: the ISR and the ELR are among the assigned replicas and apart from one another; a leader is in its ISR.

use minisr_logic::BrokerId;
use minisr_logic::metadata::Partition;

use super::Invariant;
use crate::state::{Fact, Step};

/// Looks at the committed metadata after each command.
#[derive(Debug, Default)]
pub struct IsrAmongReplicas;

impl Invariant for IsrAmongReplicas {
    fn number(&self) -> u8 {
        11
    }

    fn name(&self) -> &'static str {
        "IsrAmongReplicas"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        if !step.facts.iter().any(|fact| matches!(fact, Fact::Committed { .. })) {
            return Ok(());
        }
        let image = &step.state.image;
        let unsound = image.partitions().find_map(|(key, it)| fault(it).map(|fault| (key.partition, fault, it)));
        unsound.map_or(Ok(()), |(partition, fault, it)| Err(format!("partition {partition}: {fault}: {it:?}")))
    }
}

fn fault(partition: &Partition) -> Option<&'static str> {
    let Partition { replicas, isr, elr, leader, .. } = partition;
    let repeats = |ids: &[BrokerId]| ids.iter().enumerate().any(|(index, id)| ids[..index].contains(id));
    let faults = [
        ("there are no replicas", replicas.is_empty()),
        ("a broker is listed twice", repeats(replicas) || repeats(isr) || repeats(elr)),
        ("a member of the ISR is no replica", isr.iter().any(|id| !replicas.contains(id))),
        ("a member of the ELR is no replica", elr.iter().any(|id| !replicas.contains(id))),
        ("a broker is in ISR and ELR", elr.iter().any(|id| isr.contains(id))),
        ("the leader is not in the ISR", leader.is_some_and(|id| !isr.contains(&id))),
    ];
    faults.into_iter().find_map(|(fault, broken)| broken.then_some(fault))
}

#[cfg(test)]
mod tests {
    use super::super::doctor::{Doctored, must_pass};
    use super::*;

    #[test]
    fn isr_among_replicas_rings_for_each_fault() {
        let doctors: [fn(&mut Partition); 6] = [
            |it| it.replicas.clear(),
            |it| it.isr.push(BrokerId(1)),
            |it| it.isr.push(BrokerId(4)),
            |it| it.elr.push(BrokerId(4)),
            |it| it.elr.push(BrokerId(2)),
            |it| it.isr.retain(|id| *id != BrokerId(1)),
        ];
        must_pass(IsrAmongReplicas, |cluster| cluster.shrink_isr(&[1, 2]));
        for doctor in doctors {
            let mut partition = Doctored::sound().partition();
            assert_eq!(fault(&partition), None);
            doctor(&mut partition);
            fault(&partition).expect("must ring");
        }
    }
}
