//! CreateTopics and DeleteTopics. Any broker takes them and forwards them to the controller; the reply is sent when
//! the change was applied to this broker's metadata too.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use minisr_logic::metadata::{self, Assignment, Command, Reply};
use minisr_logic::{BrokerId, TopicId};
use minisr_wire::messages::create_topics_request::CreatableTopic;
use minisr_wire::messages::create_topics_response::CreatableTopicResult;
use minisr_wire::messages::delete_topics_response::DeletableTopicResult;
use minisr_wire::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use minisr_wire::{ErrorCode, RequestHead, StrBytes};

use super::error_code::{self, NamedBy};
use super::{Context, Session, encode, promise_task, topic_configs};
use crate::control_handle::ProposeError;
use crate::limits;
use crate::transport::connection::{Closed, Handled};

/// −1 in a request: as many as the settings say.
const BY_DEFAULT: i32 = -1;

/// A refusal: the code and a sentence.
pub(super) type Refusal = (ErrorCode, String);

pub(super) fn create_topics(
    session: &Session,
    head: &RequestHead,
    request: CreateTopicsRequest,
) -> Result<Handled, Closed> {
    let context = Rc::clone(&session.context);
    let head = head.clone();
    Ok(promise_task(async move {
        let time_max = time_max(request.timeout_ms);
        let repeated = repeated(request.topics.iter().map(|topic| topic.name.as_str()));
        let mut response = CreateTopicsResponse::default();
        for topic in request.topics {
            let created = if repeated.contains(topic.name.as_str()) {
                Err((ErrorCode::INVALID_REQUEST, "the request names this topic more than once".to_owned()))
            } else {
                create_topic(&context, &topic, request.validate_only, time_max).await
            };
            response.topics.push(creation_result(topic.name, created, head.api_version));
        }
        encode(&head, &response)
    }))
}

async fn create_topic(
    context: &Context,
    topic: &CreatableTopic,
    validate_only: bool,
    time_max: Duration,
) -> Result<Reply, Refusal> {
    let command = creation_command(context, topic)?;
    if validate_only {
        return validate(context, command);
    }
    propose(context, command, time_max).await
}

/// Creates `name` as `num.partitions` and `default.replication.factor` say.
pub(super) async fn create_topic_by_default(context: &Context, name: &str) -> Result<Reply, ProposeError> {
    context.propose(creation(context, name, default_assignment(context, BY_DEFAULT, -1), BTreeMap::new())).await
}

fn creation_command(context: &Context, topic: &CreatableTopic) -> Result<Command, Refusal> {
    let assignment = if topic.assignments.is_empty() {
        default_assignment(context, topic.num_partitions, topic.replication_factor)
    } else {
        manual_assignment(topic)?
    };
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            return Err((ErrorCode::INVALID_CONFIG, format!("{} has no value", config.name)));
        };
        topic_configs::check(&config.name, value)?;
        configs.insert(config.name.as_str().to_owned(), value.as_str().to_owned());
    }
    Ok(creation(context, &topic.name, assignment, configs))
}

fn creation(context: &Context, name: &str, assignment: Assignment, configs: BTreeMap<String, String>) -> Command {
    Command::CreateTopic {
        name: name.to_owned(),
        topic_id: TopicId(uuid::Uuid::new_v4().as_u128()),
        assignment,
        configs,
        default_min_insync_replicas: context.settings.min_insync_replicas,
    }
}

fn default_assignment(context: &Context, partitions: i32, replication_factor: i16) -> Assignment {
    let settings = &context.settings;
    Assignment::Automatic {
        partitions: if partitions == BY_DEFAULT { settings.num_partitions } else { partitions },
        replication_factor: match replication_factor {
            -1 => settings.default_replication_factor,
            given => given,
        },
    }
}

fn manual_assignment(topic: &CreatableTopic) -> Result<Assignment, Refusal> {
    if topic.num_partitions != BY_DEFAULT || topic.replication_factor != -1 {
        let reason = "with an assignment, partitions and replication factor must be -1".to_owned();
        return Err((ErrorCode::INVALID_REQUEST, reason));
    }
    let mut replicas = BTreeMap::new();
    for assignment in &topic.assignments {
        let brokers: Vec<BrokerId> = assignment.broker_ids.iter().map(|id| BrokerId(id.0)).collect();
        replicas.insert(assignment.partition_index, brokers);
    }
    if replicas.len() != topic.assignments.len() || !replicas.keys().copied().eq(0..replicas.len() as i32) {
        let reason = "the assignment must name each partition from 0 on once".to_owned();
        return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, reason));
    }
    Ok(Assignment::Manual(replicas.into_values().collect()))
}

fn creation_result(name: TopicName, created: Result<Reply, Refusal>, version: i16) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(name);
    match created {
        Ok(Reply::TopicCreated { topic_id, partitions, replication_factor }) => {
            let result = result.with_topic_id(uuid::Uuid::from_u128(topic_id.0));
            match version {
                5.. => result
                    .with_num_partitions(partitions)
                    .with_replication_factor(replication_factor)
                    .with_configs(Some(Vec::new())),
                _ => result,
            }
        }
        Ok(other) => unreachable!("CreateTopic answered with {other:?}"),
        Err((code, reason)) => {
            let result = result.with_error_code(code.0).with_error_message(Some(StrBytes::from_string(reason)));
            if version >= 5 { result.with_configs(None) } else { result }
        }
    }
}

pub(super) fn delete_topics(
    session: &Session,
    head: &RequestHead,
    request: DeleteTopicsRequest,
) -> Result<Handled, Closed> {
    let context = Rc::clone(&session.context);
    let head = head.clone();
    Ok(promise_task(async move {
        let time_max = time_max(request.timeout_ms);
        let by_state = request.topics.into_iter().map(|topic| (topic.name, topic.topic_id));
        let by_name = request.topic_names.into_iter().map(|name| (Some(name), uuid::Uuid::nil()));
        let mut response = DeleteTopicsResponse::default();
        for (name, id) in by_state.chain(by_name) {
            let known = match &name {
                Some(name) => context.image().topic_by_name(name).cloned(),
                None => context.image().topic(TopicId(id.as_u128())).cloned(),
            };
            let named_by = if name.is_some() { NamedBy::Name } else { NamedBy::Id };
            let deleted = match &known {
                None => Err((error_code::unknown_topic(named_by), "there is no such topic".to_owned())),
                Some(topic) => propose(&context, Command::DeleteTopic { topic_id: topic.id }, time_max).await,
            };
            let name = name.or_else(|| known.as_ref().map(|topic| TopicName(StrBytes::from(topic.name.clone()))));
            let id = known.as_ref().map_or(id, |topic| uuid::Uuid::from_u128(topic.id.0));
            response.responses.push(deletion_result(name, id, deleted, head.api_version));
        }
        encode(&head, &response)
    }))
}

fn deletion_result(
    name: Option<TopicName>,
    id: uuid::Uuid,
    deleted: Result<Reply, Refusal>,
    version: i16,
) -> DeletableTopicResult {
    let result = DeletableTopicResult::default().with_name(name);
    let result = if version >= 6 { result.with_topic_id(id) } else { result };
    match deleted {
        Ok(_) => result,
        Err((code, reason)) if version >= 5 => {
            result.with_error_code(code.0).with_error_message(Some(StrBytes::from_string(reason)))
        }
        Err((code, _)) => result.with_error_code(code.0),
    }
}

/// What applying a command would say now: it is applied to a copy.
pub(super) fn validate(context: &Context, command: Command) -> Result<Reply, Refusal> {
    let mut image = (*context.image()).clone();
    let index = image.version() + 1;
    metadata::apply(&mut image, index, command).map_err(|error| {
        let error = ProposeError::Refused(error);
        (error_code::propose(&error), error.to_string())
    })
}

pub(super) async fn propose(context: &Context, command: Command, time_max: Duration) -> Result<Reply, Refusal> {
    let proposed = tokio::time::timeout(time_max, context.propose(command)).await;
    proposed.unwrap_or(Err(ProposeError::TimedOut)).map_err(|error| (error_code::propose(&error), error.to_string()))
}

pub(super) fn time_max(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0).clamp(1, limits::ADMIN_TIMEOUT_MS_MAX))
}

pub(super) fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).map(str::to_owned).collect()
}
