//! Carries the shard's ISR proposals to the controller, and the answers back.

use minisr_logic::metadata::{AlterPartitionError as Refusal, Command, CommandError, IsrMember, Reply};
use minisr_replica::{AlterPartition, AlterPartitionError, Event, IsrCommitted};

use crate::control_handle::{ControlHandle, ProposeError};
use crate::shard::ShardHandle;

pub(super) async fn propose(control: ControlHandle, shard: ShardHandle, proposal: AlterPartition) {
    let AlterPartition { partition, correlation, leader: proposing, .. } = proposal;
    if !proposal.dropped.is_empty() {
        tracing::info!(?partition, dropped = ?proposal.dropped, "in-sync replicas lag and are to leave");
    }
    let command = Command::AlterPartition {
        key: partition,
        broker: proposal.leader,
        broker_epoch: proposal.broker_epoch,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        new_isr: proposal
            .new_isr
            .into_iter()
            .map(|(broker, broker_epoch)| IsrMember { broker, broker_epoch })
            .collect(),
    };
    let result = match control.propose(command).await {
        // 108: the change was applied and completed a reassignment that gave the lead away. Metadata will tell.
        Ok(Reply::Partition { leader, .. }) if leader != Some(proposing) => Err(AlterPartitionError::MetadataBehind),
        Ok(Reply::Partition { leader_epoch, isr, partition_epoch, .. }) => {
            Ok(IsrCommitted { leader_epoch, partition_epoch, isr })
        }
        Ok(other) => unreachable!("AlterPartition answered with {other:?}"),
        Err(error) => {
            tracing::debug!(?partition, %error, "ISR proposal not applied");
            Err(what_the_leader_may_do(&error))
        }
    };
    // The answer must not overtake the metadata that it rests on: were min.insync.replicas raised just before a
    // shrink, a leader that has heard of the shrink only would commit alone, and the ELR would not hold it.
    shard.publish(control.image());
    shard.answer(Event::AlterPartitionReply { partition, correlation, result });
}

/// Going back to the committed ISR is allowed only when the proposal was surely not applied, this time *and* in any
/// earlier attempt; a controller that could not be reached says nothing about earlier attempts.
fn what_the_leader_may_do(error: &ProposeError) -> AlterPartitionError {
    let ProposeError::Refused(CommandError::AlterPartition(refusal)) = error else {
        return AlterPartitionError::Unknown;
    };
    match refusal {
        Refusal::IneligibleReplica { .. } => AlterPartitionError::IneligibleReplica,
        Refusal::UnknownTopicId { .. }
        | Refusal::UnknownPartition { .. }
        | Refusal::FencedLeaderEpoch { .. }
        | Refusal::NotLeader { .. }
        | Refusal::InvalidUpdateVersion { .. }
        | Refusal::NotReplica { .. }
        | Refusal::LeaderMissing => AlterPartitionError::MetadataBehind,
        // The applying replica of the metadata is behind, or this broker registers anew: it is sent again.
        Refusal::AheadOfController { .. } | Refusal::BrokerEpoch(_) => AlterPartitionError::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::{BrokerId, Epoch};

    use super::*;

    #[test]
    fn isr_proposal_is_taken_back_only_when_surely_never_applied() {
        let refused = |refusal| ProposeError::Refused(CommandError::AlterPartition(refusal));
        for unanswered in
            [ProposeError::NoController, ProposeError::TimedOut, ProposeError::Overloaded, ProposeError::Stopped]
        {
            assert_eq!(what_the_leader_may_do(&unanswered), AlterPartitionError::Unknown);
        }
        let ineligible = refused(Refusal::IneligibleReplica { broker: BrokerId(2) });
        assert_eq!(what_the_leader_may_do(&ineligible), AlterPartitionError::IneligibleReplica);
        let fenced = refused(Refusal::FencedLeaderEpoch { requested: Epoch(1), current: Epoch(2) });
        assert_eq!(what_the_leader_may_do(&fenced), AlterPartitionError::MetadataBehind);
    }
}
