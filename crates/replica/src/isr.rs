//! ISR proposals on their way to the controller and back.
//!
//! What is proposed, and what an answer means, is decided in [`minisr_logic::partition`]. Here a proposal gets the
//! epochs that the controller compares, and an answer finds its leader.

use std::collections::BTreeSet;

use minisr_logic::partition::IsrCommitted;
use minisr_logic::{BrokerId, Millis, TopicPartition};
use minisr_storage::Disk;

use crate::error::AlterPartitionError;
use crate::output::{AlterPartition, Notice, Output};
use crate::shard::Shard;

impl<D: Disk> Shard<D> {
    /// Sends the proposal of this partition, if it has one to send.
    pub(crate) fn send_proposal(&mut self, key: TopicPartition, outputs: &mut Vec<Output>) {
        let Some(broker_epoch) = self.broker_epoch else { return };
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        let Some((leader, _)) = partition.replica.as_leader() else { return };
        let Some(proposed) = leader.take_proposal() else { return };
        outputs.push(Output::Notice(Notice::IsrProposed {
            partition: key,
            from: members(leader.isr().settled()),
            to: proposed.isr.iter().map(|(id, _)| *id).collect(),
        }));
        outputs.push(Output::AlterPartition(AlterPartition {
            partition: key,
            correlation: proposed.correlation,
            leader: self.config.broker,
            broker_epoch,
            leader_epoch: leader.epoch(),
            partition_epoch: leader.isr().partition_epoch(),
            new_isr: proposed.isr,
            dropped: proposed.dropped,
        }));
    }

    pub(crate) fn on_alter_partition_reply(
        &mut self,
        now: Millis,
        key: TopicPartition,
        correlation: u64,
        result: Result<IsrCommitted, AlterPartitionError>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        // No longer the leader: the answer is about a leadership that is over.
        let Some((leader, log)) = partition.replica.as_leader() else { return };
        if let Some(from) = leader.alter_partition_reply(now, log, correlation, result) {
            partition.note_isr_change(now, &from, None, outputs);
        }
        self.touched.insert(key);
    }
}

pub(crate) fn members(isr: &BTreeSet<BrokerId>) -> Vec<BrokerId> {
    isr.iter().copied().collect()
}
