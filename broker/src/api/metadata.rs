//! Metadata and DescribeCluster: who is there, who leads what, at the addresses of the listener that was asked.
//!
//! Naming an unknown topic creates it when both the broker's settings and the request allow that.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use minisr_logic::metadata::{Image, Partition, Registration, Topic, validate_topic_name};
use minisr_logic::{BrokerId, TopicId};
use minisr_wire::isr_report::REQUEST_TAG;
use minisr_wire::messages::describe_cluster_response::DescribeClusterBroker;
use minisr_wire::messages::metadata_request::MetadataRequestTopic;
use minisr_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use minisr_wire::messages::{
    DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse, TopicName,
};
use minisr_wire::{ErrorCode, RequestHead, StrBytes};

use super::error_code::{self, NamedBy};
use super::{Context, Session, admin, encode, isr_report, promise_task, reply};
use crate::config::Protocol;
use crate::control_handle::ProposeError;
use crate::transport::connection::{Closed, Handled};

/// How long a metadata request waits for the topics it creates; its client asks again when they are not there yet.
const CREATION_TIME_MAX: Duration = Duration::from_secs(5);

/// DescribeCluster's endpoint type for brokers, the only one that there is here.
const BROKER_ENDPOINTS: i8 = 1;

pub(super) fn handle(session: &Session, head: &RequestHead, request: MetadataRequest) -> Result<Handled, Closed> {
    let context = &session.context;
    let listener = session.peer.listener;
    let asked = Asked::from_request(head, request);
    let missing = asked.to_create(context);
    if missing.is_empty() {
        return reply(head, &asked.response(context, listener, head.api_version, &BTreeMap::new()));
    }
    let context = Rc::clone(context);
    let head = head.clone();
    Ok(promise_task(async move {
        let mut failed = BTreeMap::new();
        for name in missing {
            let creation = admin::create_topic_by_default(&context, &name);
            let code = match tokio::time::timeout(CREATION_TIME_MAX, creation).await {
                Ok(Ok(_)) => continue,
                Ok(Err(ProposeError::Refused(_) | ProposeError::Stopped))
                    if context.image().topic_by_name(&name).is_some() =>
                {
                    // Somebody else was faster.
                    continue;
                }
                Ok(Err(error @ ProposeError::Refused(_))) => error_code::propose(&error),
                // The client asks again.
                Ok(Err(_)) | Err(_) => ErrorCode::LEADER_NOT_AVAILABLE,
            };
            failed.insert(name, code);
        }
        encode(&head, &asked.response(&context, listener, head.api_version, &failed))
    }))
}

/// The topics a request names.
struct Asked {
    /// `None`: all.
    topics: Option<Vec<TopicNamed>>,
    allows_creation: bool,
    /// Whether the client asks for what leaders know about their ISR (ours, a tagged field).
    wants_isr_reports: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum TopicNamed {
    Name(String),
    Id(TopicId),
}

impl Asked {
    fn from_request(head: &RequestHead, request: MetadataRequest) -> Self {
        let version = head.api_version;
        let named = |topics: Vec<MetadataRequestTopic>| {
            let one = |topic: MetadataRequestTopic| match topic.name {
                Some(name) => TopicNamed::Name(name.as_str().to_owned()),
                None => TopicNamed::Id(TopicId(topic.topic_id.as_u128())),
            };
            // As in Kafka each is described once, however often it is named: an answer must not be larger by orders
            // than its question.
            let mut seen = BTreeSet::new();
            topics.into_iter().map(one).filter(|topic| seen.insert(topic.clone())).collect::<Vec<_>>()
        };
        let wants_isr_reports = request.unknown_tagged_fields.contains_key(&REQUEST_TAG);
        let topics = match request.topics {
            // Version 0 could not say "all" in any other way.
            Some(topics) if topics.is_empty() && version == 0 => None,
            topics => topics.map(named),
        };
        Self { topics, allows_creation: version < 4 || request.allow_auto_topic_creation, wants_isr_reports }
    }

    fn to_create(&self, context: &Context) -> Vec<String> {
        if !self.allows_creation || !context.settings.auto_create_topics_enable {
            return Vec::new();
        }
        let image = context.image();
        let missing = |topic: &TopicNamed| match topic {
            TopicNamed::Name(name) if image.topic_by_name(name).is_none() && validate_topic_name(name).is_ok() => {
                Some(name.clone())
            }
            _ => None,
        };
        self.topics.iter().flatten().filter_map(missing).collect()
    }

    fn response(
        &self,
        context: &Context,
        listener: Protocol,
        version: i16,
        failed: &BTreeMap<String, ErrorCode>,
    ) -> MetadataResponse {
        let image = context.image();
        let topics = match &self.topics {
            None => image.topics_by_name().map(|topic| describe_topic(&image, topic, listener, version)).collect(),
            Some(named) => named
                .iter()
                .map(|named| match named {
                    TopicNamed::Name(name) => match image.topic_by_name(name) {
                        Some(topic) => describe_topic(&image, topic, listener, version),
                        None => unknown_by_name(name, failed.get(name).copied()),
                    },
                    TopicNamed::Id(id) => match image.topic(*id) {
                        Some(topic) => describe_topic(&image, topic, listener, version),
                        None => MetadataResponseTopic::default()
                            .with_error_code(error_code::unknown_topic(NamedBy::Id).0)
                            .with_name((version < 12).then(TopicName::default))
                            .with_topic_id(uuid::Uuid::from_u128(id.0)),
                    },
                })
                .collect(),
        };
        let brokers = reachable(&image, listener).map(|(broker, host, port)| {
            MetadataResponseBroker::default()
                .with_node_id(broker.id.0.into())
                .with_host(host)
                .with_port(port)
                .with_rack(broker.rack.clone().map(StrBytes::from_string))
        });
        let response = MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_cluster_id(Some(StrBytes::from_string(context.settings.cluster_id.clone())))
            .with_controller_id(controller(context, &image).0.into())
            .with_topics(topics);
        if self.wants_isr_reports { isr_report::add(context, response) } else { response }
    }
}

fn unknown_by_name(name: &str, creation_failed: Option<ErrorCode>) -> MetadataResponseTopic {
    let code = match validate_topic_name(name) {
        Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        Ok(()) => creation_failed.unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    };
    MetadataResponseTopic::default()
        .with_error_code(code.0)
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
}

fn describe_topic(image: &Image, topic: &Topic, listener: Protocol, version: i16) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions);
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(uuid::Uuid::from_u128(topic.id.0))
        .with_partitions(
            partitions.map(|(index, it)| describe_partition(image, index, it, listener, version)).collect(),
        )
}

fn describe_partition(
    image: &Image,
    index: i32,
    partition: &Partition,
    listener: Protocol,
    version: i16,
) -> MetadataResponsePartition {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0.into()).collect::<Vec<_>>();
    // A leader that this client has no address for is as good as none.
    let leader =
        partition.leader.filter(|id| image.broker(*id).is_some_and(|it| it.listener(listener.name()).is_some()));
    let code = if leader.is_some() { ErrorCode::NONE } else { ErrorCode::LEADER_NOT_AVAILABLE };
    let offline: Vec<BrokerId> = partition.replicas.iter().copied().filter(|id| !image.is_active(*id)).collect();
    let described = MetadataResponsePartition::default()
        .with_error_code(code.0)
        .with_partition_index(index)
        .with_leader_id(leader.map_or(-1, |id| id.0).into())
        .with_replica_nodes(ids(&partition.replicas))
        .with_isr_nodes(ids(&partition.isr));
    let described = if version >= 5 { described.with_offline_replicas(ids(&offline)) } else { described };
    if version >= 7 { described.with_leader_epoch(partition.leader_epoch.0) } else { described }
}

/// The brokers that clients may use, with their addresses at `listener`. A broker that is about to stop is still
/// shown: it answers, and clients may be waiting for it.
fn reachable(image: &Image, listener: Protocol) -> impl Iterator<Item = (&Registration, StrBytes, i32)> {
    image.brokers().filter(|broker| !broker.fenced).filter_map(move |broker| {
        let address = broker.listener(listener.name())?;
        Some((broker, StrBytes::from_string(address.host.clone()), i32::from(address.port)))
    })
}

/// The active controller, or this broker, which forwards to it; −1 when not even this broker may be used.
fn controller(context: &Context, image: &Image) -> BrokerId {
    let usable = |id: &BrokerId| image.broker(*id).is_some_and(|broker| !broker.fenced);
    let known = context.control.controller_broker().into_iter().chain([context.settings.node_id]);
    known.into_iter().find(usable).unwrap_or(BrokerId(-1))
}

pub(super) fn describe_cluster(
    session: &Session,
    head: &RequestHead,
    request: &DescribeClusterRequest,
) -> Result<Handled, Closed> {
    let context = &session.context;
    if head.api_version >= 1 && request.endpoint_type != BROKER_ENDPOINTS {
        let refused = DescribeClusterResponse::default()
            .with_error_code(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE.0)
            .with_error_message(Some(StrBytes::from_static_str(
                "only broker endpoints can be described; controllers are not for clients",
            )));
        return reply(head, &refused);
    }
    let image = context.image();
    let brokers = reachable(&image, session.peer.listener).map(|(broker, host, port)| {
        DescribeClusterBroker::default()
            .with_broker_id(broker.id.0.into())
            .with_host(host)
            .with_port(port)
            .with_rack(broker.rack.clone().map(StrBytes::from_string))
    });
    let response = DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(context.settings.cluster_id.clone()))
        .with_controller_id(controller(context, &image).0.into())
        .with_brokers(brokers.collect());
    reply(head, &response)
}
