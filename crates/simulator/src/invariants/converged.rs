//! 31: with faults healed and no load, every replica is in the ISR again and all high watermarks equal the log ends.
//!
//! Excused is only a partition that nobody may lead: ISR and ELR empty, because power losses took un-flushed data.

use minisr_logic::TopicPartition;
use minisr_logic::metadata::Partition;

use super::Invariant;
use crate::state::{State, Step};

/// Looks at the end of a run.
#[derive(Debug, Default)]
pub struct Converged {
    /// Whether any injected loss cut a log.
    losses: bool,
}

impl Invariant for Converged {
    fn number(&self) -> u8 {
        31
    }

    fn name(&self) -> &'static str {
        "Converged"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        self.losses |= step.facts.iter().any(|fact| matches!(fact, crate::state::Fact::PowerLost { .. }));
        Ok(())
    }

    fn check_end(&mut self, state: &State) -> Result<(), String> {
        unfinished(state, self.losses).map_or(Ok(()), Err)
    }
}

/// What is not yet as it should be, if anything.
#[must_use]
pub fn unfinished(state: &State, losses: bool) -> Option<String> {
    if let Some(broker) = state.image.brokers().find(|it| !it.is_active()) {
        return Some(format!("broker {} is still fenced or stopping", broker.id));
    }
    state.image.partitions().find_map(|(key, record)| unfinished_partition(state, key, record, losses))
}

fn unfinished_partition(state: &State, key: TopicPartition, record: &Partition, losses: bool) -> Option<String> {
    let name = key.partition;
    let Some(leader) = record.leader else {
        let excused = losses && record.elr.is_empty() && !state.counts_flushed;
        return (!excused)
            .then(|| format!("partition {name} has no leader; ISR {:?}, ELR {:?}", record.isr, record.elr));
    };
    if record.isr.len() < record.replicas.len() {
        return Some(format!("partition {name} has ISR {:?} of {:?}", record.isr, record.replicas));
    }
    let end = state.replica(key, leader)?.end();
    record.replicas.iter().find_map(|id| {
        let replica = state.replica(key, *id)?;
        let Some(view) = &replica.view else { return Some(format!("broker {id} does not host partition {name}")) };
        (replica.end() != end || view.high_watermark != end || view.leader_epoch != Some(record.leader_epoch)).then(
            || {
                format!(
                    "broker {id} has partition {name} up to {} with high watermark {}; the leader {leader} is at {end}",
                    replica.end(),
                    view.high_watermark
                )
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use minisr_logic::Offset;
    use minisr_logic::metadata::{Command, apply};

    use super::super::doctor::{Doctored, place};
    use super::*;

    #[test]
    fn converged_rings_for_a_replica_that_stays_behind() {
        let doctors: [fn(&mut Doctored); 4] = [
            |cluster| cluster.replica(3).log.truncate(2),
            |cluster| cluster.view(3).high_watermark = Offset(2),
            |cluster| cluster.replica(3).view = None,
            |cluster| {
                let id = place(3).1;
                let epoch = cluster.state.image.broker(id).expect("registered").epoch;
                let index = cluster.state.image.version() + 1;
                apply(&mut cluster.state.image, index, Command::FenceBroker { id, epoch }).expect("fenced");
            },
        ];
        Converged::default().check_end(&Doctored::sound().state).expect("sound");
        for doctor in doctors {
            let mut cluster = Doctored::sound();
            doctor(&mut cluster);
            Converged::default().check_end(&cluster.state).expect_err("must ring");
        }
    }
}
