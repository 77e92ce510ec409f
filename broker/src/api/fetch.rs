//! Fetch, by consumers and by other brokers' replicas: the whole life of a request, top to bottom.
//!
//! The long poll lives in the shard: it answers when enough data is there, when a follower's knowledge of the high
//! watermark is stale, or when the wait is over; never by a timer of ours. Records go out as slices of what the shard
//! read. Fetch sessions (KIP-227) are declined with session id 0.

use std::rc::Rc;

use bytes::Bytes;
use minisr_logic::metadata::Image;
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, Offset, TopicId, TopicPartition};
use minisr_replica::{FetchError, FetchPartition, FetchReply, FetchRequest, Fetched, Isolation, Reader};
use minisr_wire::messages::fetch_request::FetchPartition as AskedPartition;
use minisr_wire::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use minisr_wire::messages::{FetchRequest as KafkaFetchRequest, FetchResponse, TopicName};
use minisr_wire::scatter::encode_fetch_response_with;
use minisr_wire::{ErrorCode, RequestHead, StrBytes};

use super::error_code::{self, NamedBy};
use super::{Context, Session};
use crate::config::Protocol;
use crate::limits;
use crate::transport::connection::{Closed, Frame, Handled};

/// The tagged field of a partition in a Fetch request that carries how far the follower's log is on stable storage:
/// an i64, big-endian (PROTOCOL.md).
pub const FLUSHED_OFFSET_TAG: i32 = 100;

pub(super) fn handle(session: &Session, head: &RequestHead, request: KafkaFetchRequest) -> Result<Handled, Closed> {
    let context = &session.context;
    if let Some(code) = refuse(session, &request) {
        let refused = FetchResponse::default().with_error_code(code.0);
        return encode(head, &with_every_partition_refused(refused, request, code), &[]).map(Handled::Reply);
    }

    let reader = reader(&request);
    let (reply, partitions) = Reply::new(session, head, &request);
    if partitions.is_empty() {
        return reply.encode(context, FetchReply::default()).map(Handled::Reply);
    }
    // An error must not wait for data that other partitions do not have.
    let is_urgent = reply.topics.iter().any(|topic| topic.partitions.iter().any(|(_, decided)| decided.is_refused()));
    let max_wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0).min(limits::FETCH_WAIT_MS_MAX);
    let bytes_max = match reader {
        Reader::Replica { .. } => request.max_bytes,
        Reader::Consumer { .. } => request.max_bytes.min(context.settings.fetch_max_bytes),
    };
    let bytes_max = usize::try_from(bytes_max).unwrap_or(0);
    let fetching = context.shard.fetch(FetchRequest {
        reader,
        client_rack: client_rack(head.api_version, request.rack_id.as_str(), reader),
        max_wait_ms: if is_urgent { 0 } else { max_wait_ms },
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
        max_bytes: bytes_max,
        partitions,
    });

    match fetching.take_if_done() {
        Some(fetched) => reply.encode(context, fetched).map(Handled::Reply),
        None => {
            let context = Rc::clone(context);
            let promise = Box::pin(async move { reply.encode(&context, fetching.await) });
            Ok(Handled::Later { promise, bytes_max })
        }
    }
}

/// Reasons to refuse the request as a whole.
fn refuse(session: &Session, request: &KafkaFetchRequest) -> Option<ErrorCode> {
    // We never hand out a session, so any that is named is unknown; the client then starts over without one.
    if request.session_id != 0 {
        return Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }
    let claimed = claimed_replica(request)?;
    (!session.may_act_as(claimed)).then_some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
}

fn claimed_replica(request: &KafkaFetchRequest) -> Option<BrokerId> {
    // From version 15 on the id moved into a structure of its own; the other place keeps its default.
    let id = request.replica_id.0.max(request.replica_state.replica_id.0);
    (id >= 0).then_some(BrokerId(id))
}

fn reader(request: &KafkaFetchRequest) -> Reader {
    match claimed_replica(request) {
        Some(id) => {
            let epoch = request.replica_state.replica_epoch;
            Reader::Replica { id, broker_epoch: (epoch >= 0).then_some(BrokerEpoch(epoch)) }
        }
        None if request.isolation_level == 1 => Reader::Consumer { isolation: Isolation::ReadCommitted },
        None => Reader::Consumer { isolation: Isolation::ReadUncommitted },
    }
}

/// From version 11 on a consumer can be sent to a follower (KIP-392), so followers serve it too.
fn client_rack(version: i16, rack: &str, reader: Reader) -> Option<String> {
    (version >= 11 && matches!(reader, Reader::Consumer { .. })).then(|| rack.to_owned())
}

fn with_every_partition_refused(
    mut response: FetchResponse,
    request: KafkaFetchRequest,
    code: ErrorCode,
) -> FetchResponse {
    for topic in request.topics {
        let refused = |asked: &AskedPartition| refused_partition(asked.partition, code);
        let partitions = topic.partitions.iter().map(refused).collect();
        response.responses.push(
            FetchableTopicResponse::default()
                .with_topic(topic.topic)
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions),
        );
    }
    response
}

fn refused_partition(index: i32, code: ErrorCode) -> PartitionData {
    PartitionData::default()
        .with_partition_index(index)
        .with_error_code(code.0)
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_records(Some(Bytes::new()))
}

/// What is known of a partition's answer before the shard is asked.
enum Decided {
    /// The shard decides; answers come in the order of the questions.
    ByShard(TopicPartition),
    Refused(ErrorCode),
}

impl Decided {
    fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

struct ReplyTopic {
    name: TopicName,
    id: TopicId,
    partitions: Vec<(i32, Decided)>,
}

/// The reply under construction: the request's topics and partitions in their order.
struct Reply {
    head: RequestHead,
    listener: Protocol,
    topics: Vec<ReplyTopic>,
}

impl Reply {
    fn new(session: &Session, head: &RequestHead, request: &KafkaFetchRequest) -> (Self, Vec<FetchPartition>) {
        let image = session.context.image();
        let named_by = if head.api_version >= 13 { NamedBy::Id } else { NamedBy::Name };
        let mut asked = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let known = match named_by {
                NamedBy::Id => image.topic(TopicId(topic.topic_id.as_u128())),
                NamedBy::Name => image.topic_by_name(&topic.topic),
            };
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition;
                let decided = match known {
                    None => Decided::Refused(error_code::unknown_topic(named_by)),
                    Some(topic) if topic.partition(index).is_none() => {
                        Decided::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
                    }
                    Some(topic) => {
                        let key = TopicPartition { topic: topic.id, partition: index };
                        asked.push(question(key, partition));
                        Decided::ByShard(key)
                    }
                };
                partitions.push((index, decided));
            }
            let id = known.map_or(TopicId(topic.topic_id.as_u128()), |known| known.id);
            topics.push(ReplyTopic { name: topic.topic.clone(), id, partitions });
        }
        (Self { head: head.clone(), listener: session.peer.listener, topics }, asked)
    }

    fn encode(self, context: &Context, fetched: FetchReply) -> Result<Frame, Closed> {
        let image = context.image();
        let version = self.head.api_version;
        let mut answers = fetched.partitions.into_iter().peekable();
        let mut leaders = Vec::new();
        let mut records = Vec::new();
        let mut response = FetchResponse::default();
        for topic in self.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for (index, decided) in topic.partitions {
                let (answer, pieces) = match decided {
                    Decided::Refused(code) => (refused_partition(index, code), Vec::new()),
                    Decided::ByShard(key) => {
                        // Where nothing is new a replica may be told nothing.
                        let Some(answer) = answers.next_if(|answer| answer.partition == key) else { continue };
                        match answer.result {
                            Ok(mut fetched) => {
                                let pieces = std::mem::take(&mut fetched.records);
                                (fetched_partition(index, &fetched, version), pieces)
                            }
                            Err(error) => {
                                (failed_partition(index, &error, version, &image, key, &mut leaders), Vec::new())
                            }
                        }
                    }
                };
                context.metrics.fetched_bytes.add(pieces.iter().map(|piece| piece.len() as u64).sum());
                partitions.push(answer);
                records.push(pieces);
            }
            if partitions.is_empty() {
                continue;
            }
            response.responses.push(
                FetchableTopicResponse::default()
                    .with_topic(topic.name)
                    .with_topic_id(uuid::Uuid::from_u128(topic.id.0))
                    .with_partitions(partitions),
            );
        }
        assert!(answers.next().is_none(), "the shard answers what it was asked, in that order");
        if version >= 16 {
            response.node_endpoints = endpoints(&image, &mut leaders, self.listener);
        }
        encode(&self.head, &response, &records)
    }
}

fn question(key: TopicPartition, asked: &AskedPartition) -> FetchPartition {
    let flushed = asked.unknown_tagged_fields.get(&FLUSHED_OFFSET_TAG);
    FetchPartition {
        partition: key,
        current_leader_epoch: (asked.current_leader_epoch >= 0).then_some(Epoch(asked.current_leader_epoch)),
        fetch_offset: Offset(asked.fetch_offset),
        last_fetched_epoch: (asked.last_fetched_epoch >= 0).then_some(Epoch(asked.last_fetched_epoch)),
        log_start: (asked.log_start_offset >= 0).then_some(Offset(asked.log_start_offset)),
        flushed: flushed.and_then(|bytes| Some(Offset(i64::from_be_bytes(bytes[..].try_into().ok()?)))),
        high_watermark: (asked.high_watermark != i64::MAX).then_some(Offset(asked.high_watermark)),
        max_bytes: usize::try_from(asked.partition_max_bytes).unwrap_or(0),
    }
}

/// The answer but for its records, which are laid into the frame without a copy.
fn fetched_partition(index: i32, fetched: &Fetched, version: i16) -> PartitionData {
    let answer = PartitionData::default()
        .with_partition_index(index)
        .with_high_watermark(fetched.high_watermark.0)
        .with_last_stable_offset(fetched.last_stable.0)
        .with_log_start_offset(fetched.log_start.0)
        .with_preferred_read_replica(fetched.preferred_read_replica.map_or(-1, |id| id.0).into())
        .with_records(Some(Bytes::new()));
    match fetched.diverging {
        Some(end) if version >= 12 => {
            let end = EpochEndOffset::default().with_epoch(end.epoch.0).with_end_offset(end.end_offset.0);
            answer.with_diverging_epoch(end)
        }
        _ => answer,
    }
}

fn failed_partition(
    index: i32,
    error: &FetchError,
    version: i16,
    image: &Image,
    key: TopicPartition,
    leaders: &mut Vec<BrokerId>,
) -> PartitionData {
    let mut answer = refused_partition(index, error_code::fetch(error));
    match error {
        // A follower decides by these two whether to truncate or to start over, without asking again.
        FetchError::OffsetOutOfRange { log_start, log_end } => {
            answer.log_start_offset = log_start.0;
            answer.high_watermark = log_end.0;
        }
        FetchError::NotLeader | FetchError::FencedLeaderEpoch { .. } if version >= 12 => {
            if let Some(partition) = image.partition(key) {
                leaders.extend(partition.leader);
                answer.current_leader = LeaderIdAndEpoch::default()
                    .with_leader_id(partition.leader.map_or(-1, |id| id.0).into())
                    .with_leader_epoch(partition.leader_epoch.0);
            }
        }
        _ => {}
    }
    answer
}

/// Where the partitions are led instead, so that a client need not ask for metadata first (KIP-951).
fn endpoints(image: &Image, leaders: &mut Vec<BrokerId>, listener: Protocol) -> Vec<NodeEndpoint> {
    leaders.sort_unstable();
    leaders.dedup();
    let endpoint = |id: &BrokerId| {
        let broker = image.broker(*id)?;
        let address = broker.listener(listener.name())?;
        Some(
            NodeEndpoint::default()
                .with_node_id(id.0.into())
                .with_host(StrBytes::from_string(address.host.clone()))
                .with_port(i32::from(address.port))
                .with_rack(broker.rack.clone().map(StrBytes::from_string)),
        )
    };
    leaders.iter().filter_map(endpoint).collect()
}

/// `records` holds the records of each partition of the response, in order.
fn encode(head: &RequestHead, response: &FetchResponse, records: &[Vec<Bytes>]) -> Result<Frame, Closed> {
    let records_of = |_: &_, position: usize| records.get(position).map(Vec::as_slice).unwrap_or_default();
    encode_fetch_response_with(head.correlation_id, response, head.api_version, records_of)
        .map(|chunks| Frame::Chunks(chunks.into_pieces()))
        .map_err(|error| Closed::Invalid(format!("a Fetch reply cannot be encoded: {error}")))
}
