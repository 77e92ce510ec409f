//! 12: an ISR is empty exactly where nobody leads. (Eligible leader replicas are always on here.)

use minisr_logic::metadata::Partition;

use super::Invariant;
use crate::state::{Fact, Step};

/// Looks at the committed metadata after each command.
#[derive(Debug, Default)]
pub struct EmptyIsrWithoutLeader;

impl Invariant for EmptyIsrWithoutLeader {
    fn number(&self) -> u8 {
        12
    }

    fn name(&self) -> &'static str {
        "EmptyIsrWithoutLeader"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        if !step.facts.iter().any(|fact| matches!(fact, Fact::Committed { .. })) {
            return Ok(());
        }
        let odd = step.state.image.partitions().find(|(_, it)| is_odd(it));
        odd.map_or(Ok(()), |(key, it)| {
            Err(format!("partition {} has ISR {:?} and leader {:?}", key.partition, it.isr, it.leader))
        })
    }
}

fn is_odd(partition: &Partition) -> bool {
    partition.isr.is_empty() != partition.leader.is_none()
}

#[cfg(test)]
mod tests {
    use super::super::doctor::{Doctored, must_pass};
    use super::*;

    #[test]
    fn empty_isr_without_leader_rings_for_one_without_the_other() {
        must_pass(EmptyIsrWithoutLeader, |cluster| cluster.shrink_isr(&[1]));
        let sound = Doctored::sound().partition();
        assert!(!is_odd(&sound));
        assert!(is_odd(&Partition { isr: Vec::new(), ..sound.clone() }));
        assert!(is_odd(&Partition { leader: None, ..sound.clone() }));
        assert!(!is_odd(&Partition { isr: Vec::new(), leader: None, ..sound }));
    }
}
