//! ElectLeaders: elections that an operator asks for (KIP-460). Any broker takes them and forwards them to the
//! controller, one command for each partition.

use std::rc::Rc;
use std::time::Duration;

use minisr_logic::TopicPartition;
use minisr_logic::metadata::{Command, CommandError, ElectLeaderError, Election, Image, Reply};
use minisr_wire::messages::elect_leaders_request::TopicPartitions;
use minisr_wire::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use minisr_wire::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use minisr_wire::{ErrorCode, RequestHead, StrBytes};
use tokio::time::{Instant, timeout_at};

use super::admin::time_max;
use super::{Context, Session, encode, error_code, promise_task};
use crate::control_handle::ProposeError;
use crate::transport::connection::{Closed, Handled};

pub(super) fn handle(session: &Session, head: &RequestHead, request: ElectLeadersRequest) -> Result<Handled, Closed> {
    let context = Rc::clone(&session.context);
    let head = head.clone();
    Ok(promise_task(async move {
        let Some(election) = election(&head, &request) else {
            return encode(&head, &ElectLeadersResponse::default().with_error_code(ErrorCode::INVALID_REQUEST.0));
        };
        let time_max = time_max(request.timeout_ms);
        encode(&head, &elect(&context, election, request.topic_partitions, time_max).await)
    }))
}

/// Version 0 knows preferred leaders only; its field then has its default.
fn election(head: &RequestHead, request: &ElectLeadersRequest) -> Option<Election> {
    match request.election_type {
        _ if head.api_version == 0 => Some(Election::Preferred),
        0 => Some(Election::Preferred),
        1 => Some(Election::Unclean),
        _ => None,
    }
}

async fn elect(
    context: &Context,
    election: Election,
    asked: Option<Vec<TopicPartitions>>,
    time_max: Duration,
) -> ElectLeadersResponse {
    let deadline = Instant::now() + time_max;
    let is_for_all = asked.is_none();
    let asked = asked.unwrap_or_else(|| every_partition(&context.image()));
    let mut response = ElectLeadersResponse::default();
    for topic in asked {
        let id = context.image().topic_by_name(&topic.topic).map(|topic| topic.id);
        let mut results = Vec::with_capacity(topic.partitions.len());
        for index in topic.partitions {
            let elected = match id.map(|topic| TopicPartition { topic, partition: index }) {
                Some(key) => elect_one(context, key, election, deadline).await,
                None => Err(refused(ElectLeaderError::UnknownPartition)),
            };
            // Whoever asks for all wants to hear of those where something was to be done.
            if !(is_for_all && elected == Err(refused(ElectLeaderError::ElectionNotNeeded))) {
                results.push(partition_result(index, elected));
            }
        }
        if !results.is_empty() {
            response
                .replica_election_results
                .push(ReplicaElectionResult::default().with_topic(topic.topic).with_partition_result(results));
        }
    }
    response
}

fn every_partition(image: &Image) -> Vec<TopicPartitions> {
    let partitions = |count: usize| (0..).take(count).collect();
    let name = |name: &str| TopicName(StrBytes::from_string(name.to_owned()));
    image
        .topics_by_name()
        .map(|topic| {
            TopicPartitions::default().with_topic(name(&topic.name)).with_partitions(partitions(topic.partitions.len()))
        })
        .collect()
}

async fn elect_one(
    context: &Context,
    key: TopicPartition,
    election: Election,
    deadline: Instant,
) -> Result<Reply, ProposeError> {
    // Most partitions of a cluster have the leader they should have; the log need not hear of each.
    if already_led(&context.image(), key, election) {
        return Err(refused(ElectLeaderError::ElectionNotNeeded));
    }
    let elected = timeout_at(deadline, context.propose(Command::ElectLeader { key, election })).await;
    let elected = elected.unwrap_or(Err(ProposeError::TimedOut));
    match (&elected, election) {
        (Ok(Reply::Partition { leader, leader_epoch, .. }), Election::Unclean) => {
            tracing::warn!(?key, ?leader, %leader_epoch, "unclean election on request: committed records may be lost");
        }
        (Ok(Reply::Partition { leader, leader_epoch, .. }), _) => {
            tracing::info!(?key, ?leader, %leader_epoch, "preferred leader elected on request");
        }
        _ => {}
    }
    elected
}

fn already_led(image: &Image, key: TopicPartition, election: Election) -> bool {
    image.partition(key).is_some_and(|partition| match election {
        Election::Preferred => partition.leader == Some(partition.replicas[0]),
        Election::Unclean | Election::UncleanIfEnabled { .. } => partition.leader.is_some(),
    })
}

fn refused(error: ElectLeaderError) -> ProposeError {
    ProposeError::Refused(CommandError::ElectLeader(error))
}

fn partition_result(index: i32, elected: Result<Reply, ProposeError>) -> PartitionResult {
    let result = PartitionResult::default().with_partition_id(index);
    match elected {
        Ok(_) => result.with_error_message(None),
        Err(error) => result
            .with_error_code(error_code::propose(&error).0)
            .with_error_message(Some(StrBytes::from_string(sentence(&error)))),
    }
}

fn sentence(error: &ProposeError) -> String {
    match error {
        ProposeError::Refused(refusal) => refusal.to_string(),
        other => other.to_string(),
    }
}
