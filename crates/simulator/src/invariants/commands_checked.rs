//! 29, second half: every command that was accepted named the epochs that were in force when it was applied.

use minisr_logic::metadata::{Command, Image};
use minisr_logic::{BrokerEpoch, BrokerId};

use super::Invariant;
use crate::state::{Fact, Step};

/// Compares each accepted command with the image before it.
#[derive(Debug, Default)]
pub struct CommandsChecked;

impl Invariant for CommandsChecked {
    fn number(&self) -> u8 {
        29
    }

    fn name(&self) -> &'static str {
        "CommandsChecked"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Committed { before, command, accepted: true } = fact else { continue };
            let sound = step.state.image.check();
            sound.map_err(|violation| format!("{violation} after {command:?}"))?;
            check(before, command).map_err(|what| format!("{what} when {command:?} was applied"))?;
        }
        Ok(())
    }
}

fn check(image: &Image, command: &Command) -> Result<(), String> {
    let life = |id: BrokerId, epoch: BrokerEpoch| {
        let registered = image.broker(id).map(|it| it.epoch);
        if registered == Some(epoch) { Ok(()) } else { Err(format!("broker {id} was in life {registered:?}")) }
    };
    match command {
        Command::UnfenceBroker { id, epoch, .. }
        | Command::FenceBroker { id, epoch }
        | Command::BeginControlledShutdown { id, epoch } => life(*id, *epoch),
        Command::AllocateProducerIds { broker, broker_epoch } => life(*broker, *broker_epoch),
        Command::AlterPartition { key, broker, broker_epoch, leader_epoch, partition_epoch, .. } => {
            life(*broker, *broker_epoch)?;
            let Some(known) = image.partition(*key) else { return Err(format!("there was no {key:?}")) };
            let named = (Some(*broker), *leader_epoch, *partition_epoch);
            let current = (known.leader, known.leader_epoch, known.partition_epoch);
            if named == current { Ok(()) } else { Err(format!("leader and epochs were {current:?}")) }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::metadata::IsrMember;
    use minisr_logic::{Epoch, PartitionEpoch};

    use super::super::doctor::{Doctored, P0, must_pass, must_ring};
    use super::*;

    fn alter(cluster: &mut Doctored, broker: i32, life: i64, leader_epoch: i32, partition_epoch: i32) {
        let before = cluster.state.image.clone();
        let registered = before.broker(BrokerId(broker)).expect("registered").epoch;
        let broker_epoch = BrokerEpoch(registered.0 + life);
        let command = Command::AlterPartition {
            key: P0,
            broker: BrokerId(broker),
            broker_epoch,
            leader_epoch: Epoch(leader_epoch),
            partition_epoch: PartitionEpoch(partition_epoch),
            new_isr: vec![IsrMember { broker: BrokerId(broker), broker_epoch }],
        };
        cluster.facts.push(Fact::Committed { before, command, accepted: true });
    }

    #[test]
    fn commands_checked_rings_for_each_stale_epoch_and_for_a_stranger() {
        must_pass(CommandsChecked, |cluster| alter(cluster, 1, 0, 0, 0));
        must_ring(CommandsChecked, |cluster| alter(cluster, 1, -1, 0, 0));
        must_ring(CommandsChecked, |cluster| alter(cluster, 1, 0, 1, 0));
        must_ring(CommandsChecked, |cluster| alter(cluster, 1, 0, 0, 1));
        must_ring(CommandsChecked, |cluster| alter(cluster, 2, 0, 0, 0));
    }

    #[test]
    fn commands_checked_rings_when_another_life_is_fenced() {
        must_ring(CommandsChecked, |cluster| {
            let before = cluster.state.image.clone();
            let command = Command::FenceBroker { id: BrokerId(1), epoch: BrokerEpoch(99) };
            cluster.facts.push(Fact::Committed { before, command, accepted: true });
        });
    }
}
