//! IncrementalAlterConfigs and DescribeConfigs, for topics and for what of a broker can be changed while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use minisr_logic::BrokerId;
use minisr_logic::metadata::{Command, DYNAMIC_BROKER_CONFIGS, Image, Topic};
use minisr_wire::messages::describe_configs_request::DescribeConfigsResource;
use minisr_wire::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use minisr_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use minisr_wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use minisr_wire::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use minisr_wire::{ErrorCode, RequestHead, StrBytes};

use super::admin::{Refusal, propose, time_max};
use super::error_code::{self, NamedBy};
use super::{Context, Session, encode, promise_task, reply, topic_configs};
use crate::limits;
use crate::transport::connection::{Closed, Handled};

/// `ConfigResource.Type` of Kafka.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// `AlterConfigOp.OpType` of Kafka.
const SET: i8 = 0;
const DELETE: i8 = 1;
/// `DescribeConfigsResponse.ConfigSource` of Kafka.
const TOPIC_CONFIG: i8 = 1;
const DYNAMIC_BROKER_CONFIG: i8 = 2;
const DYNAMIC_DEFAULT_BROKER_CONFIG: i8 = 3;
const STATIC_BROKER_CONFIG: i8 = 4;

pub(super) fn alter(
    session: &Session,
    head: &RequestHead,
    request: IncrementalAlterConfigsRequest,
) -> Result<Handled, Closed> {
    let context = Rc::clone(&session.context);
    let head = head.clone();
    Ok(promise_task(async move {
        let mut response = IncrementalAlterConfigsResponse::default();
        for resource in request.resources {
            let altered = alter_one(&context, &resource, request.validate_only).await;
            let result = AlterConfigsResourceResponse::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name);
            response.responses.push(match altered {
                Ok(()) => result.with_error_message(None),
                Err((code, reason)) => {
                    result.with_error_code(code.0).with_error_message(Some(StrBytes::from_string(reason)))
                }
            });
        }
        encode(&head, &response)
    }))
}

async fn alter_one(context: &Context, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    let changes = resource.configs.iter().map(change).collect::<Result<BTreeMap<_, _>, Refusal>>()?;
    let command = match named(&context.image(), resource.resource_type, &resource.resource_name)? {
        Resource::Topic(topic) => {
            // What is taken back need not be known: it may be of an earlier version.
            let mut set = changes.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
            set.try_for_each(|(name, value)| topic_configs::check(name, value))?;
            Command::AlterTopicConfigs { topic_id: topic.id, changes }
        }
        Resource::Broker(broker) => Command::AlterBrokerConfigs { broker, changes },
    };
    if validate_only {
        return super::admin::validate(context, command).map(drop);
    }
    let time_max = time_max(i32::try_from(limits::ADMIN_TIMEOUT_MS_MAX).unwrap_or(i32::MAX));
    propose(context, command, time_max).await.map(drop)
}

fn change(config: &AlterableConfig) -> Result<(String, Option<String>), Refusal> {
    let value = match (config.config_operation, &config.value) {
        (SET, Some(value)) => Some(value.as_str().to_owned()),
        (DELETE, _) => None,
        (SET, None) => return Err((ErrorCode::INVALID_REQUEST, format!("{} has no value", config.name))),
        (other, _) => {
            let reason = format!("operation {other} on {}: only SET and DELETE are served", config.name);
            return Err((ErrorCode::INVALID_REQUEST, reason));
        }
    };
    Ok((config.name.as_str().to_owned(), value))
}

/// What a request means by a type and a name.
enum Resource {
    Topic(std::sync::Arc<Topic>),
    /// All brokers when `None`.
    Broker(Option<BrokerId>),
}

fn named(image: &Image, kind: i8, name: &StrBytes) -> Result<Resource, Refusal> {
    match kind {
        TOPIC => match image.topic_by_name(name) {
            Some(topic) => Ok(Resource::Topic(topic.clone())),
            None => Err((error_code::unknown_topic(NamedBy::Name), "there is no such topic".to_owned())),
        },
        BROKER if name.is_empty() => Ok(Resource::Broker(None)),
        BROKER => match name.parse().map(BrokerId) {
            Ok(id) if image.broker(id).is_some() => Ok(Resource::Broker(Some(id))),
            _ => Err((ErrorCode::INVALID_REQUEST, format!("there is no broker '{name}'"))),
        },
        other => Err((ErrorCode::INVALID_REQUEST, format!("configurations of type {other} are not served"))),
    }
}

pub(super) fn describe(
    session: &Session,
    head: &RequestHead,
    request: &DescribeConfigsRequest,
) -> Result<Handled, Closed> {
    let image = session.context.image();
    // Each is described once, however often it is named: an answer must not be larger by orders than its question.
    let mut seen = BTreeSet::new();
    let named_once = request.resources.iter().filter(|it| seen.insert((it.resource_type, &it.resource_name)));
    let results = named_once.map(|asked| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name.clone());
        match named(&image, asked.resource_type, &asked.resource_name) {
            Ok(resource) => {
                result.with_error_message(None).with_configs(values(&session.context, &image, &resource, asked))
            }
            Err((code, reason)) => {
                result.with_error_code(code.0).with_error_message(Some(StrBytes::from_string(reason)))
            }
        }
    });
    reply(head, &DescribeConfigsResponse::default().with_results(results.collect()))
}

fn values(
    context: &Context,
    image: &Image,
    resource: &Resource,
    asked: &DescribeConfigsResource,
) -> Vec<DescribeConfigsResourceResult> {
    let mut found: BTreeMap<String, (String, i8)> = BTreeMap::new();
    match resource {
        Resource::Topic(topic) => {
            let default = topic.default_min_insync_replicas.to_string();
            found.insert("min.insync.replicas".to_owned(), (default, STATIC_BROKER_CONFIG));
            let own = topic.configs.iter().map(|(name, value)| (name.clone(), (value.clone(), TOPIC_CONFIG)));
            found.extend(own);
        }
        Resource::Broker(broker) => {
            let id = broker.unwrap_or(context.settings.node_id);
            for name in DYNAMIC_BROKER_CONFIGS {
                let given = match broker {
                    Some(_) => image.own_broker_config(id, name).map(|value| (value, DYNAMIC_BROKER_CONFIG)),
                    None => None,
                };
                let given = given
                    .or_else(|| image.default_broker_config(name).map(|value| (value, DYNAMIC_DEFAULT_BROKER_CONFIG)));
                if let Some((value, source)) = given {
                    found.insert(name.to_owned(), (value.to_owned(), source));
                }
            }
        }
    }
    // As in Kafka an empty list of keys asks for everything, like null.
    let is_asked = |name: &str| match &asked.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == name),
        _ => true,
    };
    let describe = |(name, (value, source)): (String, (String, i8))| {
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_string(name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_config_source(source)
    };
    found.into_iter().filter(|(name, _)| is_asked(name)).map(describe).collect()
}
