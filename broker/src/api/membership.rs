//! DescribeQuorum, AddRaftVoter, RemoveRaftVoter and UnregisterBroker: who belongs to the cluster.
//!
//! A change of the voters is first a command in the metadata log (the wish, which outlives a change of the controller)
//! and then, by the active controller, a change of the Raft membership. It is answered when the membership has it. A
//! second change is refused while the first is under way: two at once could leave two majorities that do not overlap
//! (bug 27 of the zoo; Raft's joint configuration forbids it too).

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use minisr_logic::BrokerId;
use minisr_logic::metadata::{Command, Image};
use minisr_wire::messages::describe_quorum_response::{PartitionData, ReplicaState, TopicData};
use minisr_wire::messages::{
    AddRaftVoterRequest, AddRaftVoterResponse, DescribeQuorumRequest, DescribeQuorumResponse, RemoveRaftVoterRequest,
    RemoveRaftVoterResponse, UnregisterBrokerRequest, UnregisterBrokerResponse,
};
use minisr_wire::{ErrorCode, RequestHead, StrBytes};
use uuid::Uuid;

use super::admin::{Refusal, propose, time_max};
use super::{Context, Session, encode, promise_task, reply};
use crate::control_handle::{Quorum, QuorumMember};
use crate::limits;
use crate::transport::connection::{Closed, Handled};

/// What Kafka calls the log of the controllers.
const METADATA_TOPIC: &str = "__cluster_metadata";

pub(super) fn describe_quorum(
    session: &Session,
    head: &RequestHead,
    request: &DescribeQuorumRequest,
) -> Result<Handled, Closed> {
    let quorum = session.context.control.quorum();
    let state = |member: &QuorumMember| {
        let directory = if head.api_version >= 2 { directory_id(member.node) } else { Uuid::nil() };
        ReplicaState::default()
            .with_replica_id(member.broker.0.into())
            .with_replica_directory_id(directory)
            .with_log_end_offset(member.log_end.map_or(-1, |end| i64::try_from(end).unwrap_or(i64::MAX)))
    };
    let topics = request.topics.iter().map(|topic| {
        let is_known = topic.topic_name.as_str() == METADATA_TOPIC;
        let partitions = topic.partitions.iter().map(|asked| {
            let partition = PartitionData::default().with_partition_index(asked.partition_index);
            if !is_known || asked.partition_index != 0 {
                return partition.with_error_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
            }
            partition
                .with_leader_id(quorum.leader.map_or(-1, |id| id.0).into())
                .with_leader_epoch(i32::try_from(quorum.term).unwrap_or(i32::MAX))
                .with_high_watermark(i64::try_from(session.context.image().version()).unwrap_or(i64::MAX))
                .with_current_voters(quorum.voters.iter().map(state).collect())
                .with_observers(quorum.observers.iter().map(state).collect())
        });
        TopicData::default().with_topic_name(topic.topic_name.clone()).with_partitions(partitions.collect())
    });
    reply(head, &DescribeQuorumResponse::default().with_topics(topics.collect()))
}

/// A Raft directory's id as Kafka writes directory ids.
fn directory_id(node: u64) -> Uuid {
    Uuid::from_u128(u128::from(node))
}

pub(super) fn add_voter(
    session: &Session,
    head: &RequestHead,
    request: AddRaftVoterRequest,
) -> Result<Handled, Closed> {
    let context = Rc::clone(&session.context);
    let head = head.clone();
    Ok(promise_task(async move {
        let cluster = request.cluster_id.as_ref();
        let id = BrokerId(request.voter_id);
        let time_max = time_max(request.timeout_ms);
        let altered = alter_voter(&context, cluster, id, request.voter_directory_id, true, time_max).await;
        let (code, reason) = altered.err().unwrap_or_default();
        let message = (!code.is_ok()).then(|| StrBytes::from_string(reason));
        encode(&head, &AddRaftVoterResponse::default().with_error_code(code.0).with_error_message(message))
    }))
}

pub(super) fn remove_voter(
    session: &Session,
    head: &RequestHead,
    request: RemoveRaftVoterRequest,
) -> Result<Handled, Closed> {
    let context = Rc::clone(&session.context);
    let head = head.clone();
    Ok(promise_task(async move {
        let cluster = request.cluster_id.as_ref();
        let id = BrokerId(request.voter_id);
        let time_max = Duration::from_millis(limits::ADMIN_TIMEOUT_MS_MAX);
        let altered = alter_voter(&context, cluster, id, request.voter_directory_id, false, time_max).await;
        let (code, reason) = altered.err().unwrap_or_default();
        let message = (!code.is_ok()).then(|| StrBytes::from_string(reason));
        encode(&head, &RemoveRaftVoterResponse::default().with_error_code(code.0).with_error_message(message))
    }))
}

async fn alter_voter(
    context: &Context,
    cluster: Option<&StrBytes>,
    id: BrokerId,
    directory: Uuid,
    is_voter: bool,
    time_max: Duration,
) -> Result<(), Refusal> {
    if let Some(cluster) = cluster.filter(|it| it.as_str() != context.settings.cluster_id) {
        return Err((ErrorCode::INCONSISTENT_CLUSTER_ID, format!("this cluster is not '{cluster}'")));
    }
    let quorum = context.control.quorum();
    let Some(member) = quorum.members().find(|it| it.broker == id) else {
        let reason = format!("broker {id} is not part of the controller quorum; start it, so that it follows first");
        return Err((ErrorCode::INVALID_REQUEST, reason));
    };
    if !directory.is_nil() && directory != directory_id(member.node) {
        let reason = format!("broker {id} has another directory now: {}", directory_id(member.node));
        return Err((ErrorCode::INVALID_REQUEST, reason));
    }
    if is_changing(&context.image(), &quorum) {
        let reason = "another change of the voters is under way".to_owned();
        return Err((ErrorCode::REQUEST_TIMED_OUT, reason));
    }
    let listed: BTreeSet<BrokerId> = context.settings.controller_quorum_voters.keys().copied().collect();
    let began = tokio::time::Instant::now();
    propose(context, Command::AlterVoter { id, is_voter, listed }, time_max).await?;
    let has_it = |quorum: &Quorum| quorum.voters.iter().any(|it| it.broker == id) == is_voter;
    let left = time_max.saturating_sub(began.elapsed());
    let mut changes = context.control.watch_quorum();
    match tokio::time::timeout(left, changes.wait_for(has_it)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => {
            let reason = "the wish is recorded, and the voters have not changed in time".to_owned();
            Err((ErrorCode::REQUEST_TIMED_OUT, reason))
        }
    }
}

/// Whether the voters are not yet what the last command asked for.
fn is_changing(image: &Image, quorum: &Quorum) -> bool {
    let present: BTreeSet<BrokerId> = quorum.voters.iter().map(|it| it.broker).collect();
    image.voters().is_some_and(|wanted| *wanted != present)
}

pub(super) fn unregister(
    session: &Session,
    head: &RequestHead,
    request: &UnregisterBrokerRequest,
) -> Result<Handled, Closed> {
    let context = Rc::clone(&session.context);
    let head = head.clone();
    let id = BrokerId(request.broker_id.0);
    Ok(promise_task(async move {
        let done = unregister_one(&context, id).await;
        let (code, reason) = done.err().unwrap_or_default();
        let message = (!code.is_ok()).then(|| StrBytes::from_string(reason));
        encode(&head, &UnregisterBrokerResponse::default().with_error_code(code.0).with_error_message(message))
    }))
}

async fn unregister_one(context: &Context, id: BrokerId) -> Result<(), Refusal> {
    let quorum = context.control.quorum();
    if quorum.voters.is_empty() {
        return Err((ErrorCode::NOT_CONTROLLER, "this broker does not know the voters yet".to_owned()));
    }
    // The command knows only what commands have said of the voters.
    if quorum.voters.iter().any(|it| it.broker == id) {
        let reason = format!("broker {id} is a voter of the controller quorum; demote it first");
        return Err((ErrorCode::INVALID_REQUEST, reason));
    }
    let directory = quorum.observers.iter().find(|it| it.broker == id).map(|it| it.node);
    let time_max = Duration::from_millis(limits::ADMIN_TIMEOUT_MS_MAX);
    propose(context, Command::UnregisterBroker { id, directory }, time_max).await.map(drop)
}
