//! AlterPartitionReassignments, ListPartitionReassignments and CreatePartitions. Any broker takes them and forwards
//! them to the controller; each partition (or topic) is a command of its own, answered when it was applied here.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use minisr_logic::metadata::{Command, Partition, Topic};
use minisr_logic::{BrokerId, TopicPartition};
use minisr_wire::messages::alter_partition_reassignments_request::ReassignablePartition;
use minisr_wire::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use minisr_wire::messages::create_partitions_request::CreatePartitionsTopic;
use minisr_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use minisr_wire::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use minisr_wire::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, CreatePartitionsRequest,
    CreatePartitionsResponse, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};
use minisr_wire::{ErrorCode, RequestHead, StrBytes};

use super::admin::{Refusal, propose, repeated, time_max, validate};
use super::error_code::{self, NamedBy};
use super::{Context, Session, encode, promise_task, reply};
use crate::transport::connection::{Closed, Handled};

pub(super) fn alter(
    session: &Session,
    head: &RequestHead,
    request: AlterPartitionReassignmentsRequest,
) -> Result<Handled, Closed> {
    let context = Rc::clone(&session.context);
    let head = head.clone();
    Ok(promise_task(async move {
        let time_max = time_max(request.timeout_ms);
        let keeps_factor = head.api_version >= 1 && !request.allow_replication_factor_change;
        let mut response = AlterPartitionReassignmentsResponse::default();
        for topic in request.topics {
            let mut answered = ReassignableTopicResponse::default().with_name(topic.name.clone());
            for asked in topic.partitions {
                let altered = alter_one(&context, &topic.name, &asked, keeps_factor, time_max).await;
                let result = ReassignablePartitionResponse::default().with_partition_index(asked.partition_index);
                answered.partitions.push(match altered {
                    Ok(()) => result.with_error_message(None),
                    Err((code, reason)) => {
                        result.with_error_code(code.0).with_error_message(Some(StrBytes::from_string(reason)))
                    }
                });
            }
            response.responses.push(answered);
        }
        encode(&head, &response.with_error_message(None))
    }))
}

async fn alter_one(
    context: &Context,
    topic: &TopicName,
    asked: &ReassignablePartition,
    keeps_factor: bool,
    time_max: Duration,
) -> Result<(), Refusal> {
    let topic = known(context, topic)?;
    let target: Option<Vec<BrokerId>> =
        asked.replicas.as_ref().map(|replicas| replicas.iter().map(|id| BrokerId(id.0)).collect());
    if let (true, Some(target), Some(partition)) = (keeps_factor, &target, topic.partition(asked.partition_index)) {
        let settled = partition.reassignment.as_ref().map_or(&partition.replicas, |it| &it.target);
        if settled.len() != target.len() {
            let reason = "the request forbids a change of the replication factor".to_owned();
            return Err((ErrorCode::INVALID_REPLICATION_FACTOR, reason));
        }
    }
    let key = TopicPartition { topic: topic.id, partition: asked.partition_index };
    propose(context, Command::AlterReassignment { key, target }, time_max).await.map(drop)
}

fn known(context: &Context, name: &TopicName) -> Result<Arc<Topic>, Refusal> {
    let unknown = || (error_code::unknown_topic(NamedBy::Name), "there is no such topic".to_owned());
    context.image().topic_by_name(name).cloned().ok_or_else(unknown)
}

pub(super) fn list(
    session: &Session,
    head: &RequestHead,
    request: &ListPartitionReassignmentsRequest,
) -> Result<Handled, Closed> {
    let image = session.context.image();
    let is_asked = |topic: &Topic, index: i32| match &request.topics {
        None => true,
        Some(topics) => topics
            .iter()
            .any(|asked| asked.name.as_str() == topic.name.as_str() && asked.partition_indexes.contains(&index)),
    };
    let mut found: BTreeMap<&str, Vec<OngoingPartitionReassignment>> = BTreeMap::new();
    for (key, partition) in image.reassigning() {
        let topic = image.topic(key.topic).expect("listed");
        if is_asked(topic, key.partition) {
            found.entry(topic.name.as_str()).or_default().push(ongoing(key.partition, partition));
        }
    }
    let topics = found.into_iter().map(|(name, partitions)| {
        let name = TopicName(StrBytes::from_string(name.to_owned()));
        OngoingTopicReassignment::default().with_name(name).with_partitions(partitions)
    });
    let response = ListPartitionReassignmentsResponse::default().with_error_message(None);
    reply(head, &response.with_topics(topics.collect()))
}

fn ongoing(index: i32, partition: &Partition) -> OngoingPartitionReassignment {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0.into()).collect();
    OngoingPartitionReassignment::default()
        .with_partition_index(index)
        .with_replicas(ids(&partition.replicas))
        .with_adding_replicas(ids(&partition.adding_replicas()))
        .with_removing_replicas(ids(&partition.removing_replicas()))
}

pub(super) fn create_partitions(
    session: &Session,
    head: &RequestHead,
    request: CreatePartitionsRequest,
) -> Result<Handled, Closed> {
    let context = Rc::clone(&session.context);
    let head = head.clone();
    Ok(promise_task(async move {
        let time_max = time_max(request.timeout_ms);
        let repeated = repeated(request.topics.iter().map(|topic| topic.name.as_str()));
        let mut response = CreatePartitionsResponse::default();
        for topic in request.topics {
            let grown = if repeated.contains(topic.name.as_str()) {
                Err((ErrorCode::INVALID_REQUEST, "the request names this topic more than once".to_owned()))
            } else {
                grow(&context, &topic, request.validate_only, time_max).await
            };
            let result = CreatePartitionsTopicResult::default().with_name(topic.name);
            response.results.push(match grown {
                Ok(()) => result,
                Err((code, reason)) => {
                    result.with_error_code(code.0).with_error_message(Some(StrBytes::from_string(reason)))
                }
            });
        }
        encode(&head, &response)
    }))
}

async fn grow(
    context: &Context,
    asked: &CreatePartitionsTopic,
    validate_only: bool,
    time_max: Duration,
) -> Result<(), Refusal> {
    let topic = known(context, &asked.name)?;
    let assignments = asked.assignments.as_ref().map(|assignments| {
        assignments.iter().map(|it| it.broker_ids.iter().map(|id| BrokerId(id.0)).collect()).collect()
    });
    let command = Command::CreatePartitions { topic_id: topic.id, count: asked.count, assignments };
    if validate_only {
        return validate(context, command).map(drop);
    }
    propose(context, command, time_max).await.map(drop)
}
