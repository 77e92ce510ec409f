//! Produce: the whole life of a request, top to bottom.
//!
//! The batches are checked and handed to the shard as they lie in the request's frame; nobody parses or copies
//! records. For that the frame is cut up where the batches are, once nobody else looks at it: each batch is then a buffer
//! that the shard may stamp in place. All batches of one request go into one step of the shard, so they wake each follower once and share one
//! flush. The request's timeout is kept by the shard.

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use bytes::{Buf as _, Bytes, BytesMut};
use minisr_logic::metadata::{Image, Topic};
use minisr_logic::{BrokerId, TopicPartition};
use minisr_replica::{Acks, Append, BatchSummary, ProducerBatch};
use minisr_wire::batch::{self, BatchView, Codec};
use minisr_wire::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use minisr_wire::messages::{ProduceRequest, ProduceResponse, TopicName};
use minisr_wire::{ErrorCode, RequestHead, StrBytes};

use super::{Context, Session, error_code};
use crate::config::{Protocol, Settings};
use crate::limits;
use crate::shard::{AppendResult, wall_clock_ms};
use crate::transport::connection::{Closed, Frame, Handled};

pub(super) fn handle(
    session: &Session,
    head: &RequestHead,
    request: ProduceRequest,
    frame: Bytes,
) -> Result<Handled, Closed> {
    let context = &session.context;
    let acks = match request.acks {
        0 => Some(Acks::None),
        1 => Some(Acks::Leader),
        -1 => Some(Acks::All),
        _ => None,
    };
    let timeout_ms = u64::try_from(request.timeout_ms).unwrap_or(0).min(limits::PRODUCE_TIMEOUT_MS_MAX);

    let (reply, accepted) = check(session, head, request, &frame, acks);
    let acks = acks.unwrap_or(Acks::None);
    context.metrics.batches_appended.add(accepted.len() as u64);
    context.metrics.appended_bytes.add(accepted.iter().map(|accepted| accepted.batch.len() as u64).sum());
    let mut batches = cut(frame, accepted.iter().map(|accepted| accepted.batch.clone()));
    let append_batch = |index: usize, ticket| {
        let Accepted { partition, summary, .. } = accepted[index];
        let batch = std::mem::take(&mut batches[index]);
        Append { ticket, partition, batch, summary, acks, timeout_ms }
    };
    let appends = context.shard.append(accepted.len(), append_batch);

    match appends.take_if_done() {
        Some(results) if reply.expects_none => reply.close_if_failed(&results),
        Some(results) => reply.encode(context, &results).map(Handled::Reply),
        // The shard answers acks=0 in the same step; were it to answer later, there would be nobody to tell.
        None if reply.expects_none => Ok(Handled::NoReply),
        None => {
            let context = Rc::clone(context);
            let promise = Box::pin(async move { reply.encode(&context, &appends.await) });
            Ok(Handled::Later { promise, bytes_max: 0 })
        }
    }
}

/// A batch that may be appended, as far as can be told without its partition's log.
struct Accepted {
    partition: TopicPartition,
    /// Where it lies in the frame.
    batch: Range<usize>,
    summary: BatchSummary,
}

/// Takes the batches, which lie one behind the other, out of their frame: without a copy when this is its only holder, as
/// it is unless the frame is a small one that came together with others.
fn cut(frame: Bytes, batches: impl Iterator<Item = Range<usize>>) -> Vec<BytesMut> {
    let mut rest = frame.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let mut at = 0;
    let mut take = |range: Range<usize>| {
        rest.advance(range.start - at);
        at = range.end;
        rest.split_to(range.len())
    };
    batches.map(&mut take).collect()
}

/// Where `part` lies in `frame`, of which it is a slice: decoding shares records and does not copy them.
fn place_in(frame: &Bytes, part: &Bytes) -> Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(frame.as_ptr() as usize);
    let range = start..start.wrapping_add(part.len());
    assert!(range.start <= range.end && range.end <= frame.len(), "decoded records are a slice of their frame");
    range
}

/// What is known of a partition's answer before the shard is asked.
enum Decided {
    /// The shard decides: an index into its results.
    ByShard(usize),
    /// Refused, with nothing appended.
    Refused(ErrorCode, String),
}

/// The reply under construction: the request's topics and partitions in their order.
struct Reply {
    head: RequestHead,
    listener: Protocol,
    expects_none: bool,
    topics: Vec<(TopicName, Vec<(i32, Decided)>)>,
}

/// Everything that can be refused by looking at the request, the settings and the metadata.
fn check(
    session: &Session,
    head: &RequestHead,
    request: ProduceRequest,
    frame: &Bytes,
    acks: Option<Acks>,
) -> (Reply, Vec<Accepted>) {
    let context = &session.context;
    let image = context.image();
    let now_ms = wall_clock_ms();
    let mut batches = Vec::new();
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic_data in request.topic_data {
        let topic = image.topic_by_name(&topic_data.name);
        let mut partitions = Vec::with_capacity(topic_data.partition_data.len());
        for partition_data in topic_data.partition_data {
            let index = partition_data.index;
            let decided = match (acks, topic.filter(|topic| topic.partition(index).is_some())) {
                (None, _) => {
                    let reason = format!("acks={} is none of -1, 0 and 1", request.acks);
                    Decided::Refused(ErrorCode::INVALID_REQUIRED_ACKS, reason)
                }
                (_, None) => Decided::Refused(
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    "there is no such topic or partition".to_owned(),
                ),
                (Some(_), Some(topic)) => {
                    let batch = partition_data.records.unwrap_or_default();
                    match check_batch(&context.settings, topic, &batch, head.api_version, now_ms) {
                        Ok(summary) => {
                            let partition = TopicPartition { topic: topic.id, partition: index };
                            batches.push(Accepted { partition, batch: place_in(frame, &batch), summary });
                            Decided::ByShard(batches.len() - 1)
                        }
                        Err((code, reason)) => Decided::Refused(code, reason),
                    }
                }
            };
            partitions.push((index, decided));
        }
        // A name of its own: the decoded one shares the frame.
        topics.push((TopicName(StrBytes::from_string(topic_data.name.to_string())), partitions));
    }
    let expects_none = request.acks == 0;
    (Reply { head: head.clone(), listener: session.peer.listener, expects_none, topics }, batches)
}

fn check_batch(
    settings: &Settings,
    topic: &Topic,
    batch: &[u8],
    version: i16,
    now_ms: i64,
) -> Result<BatchSummary, (ErrorCode, String)> {
    if batch.is_empty() {
        return Err((ErrorCode::INVALID_RECORD, "there is no batch".to_owned()));
    }
    // The size limit is the shard's, which knows the topic's setting.
    let view = batch::check_produce(batch, version, usize::MAX).map_err(|error| (error.code(), error.to_string()))?;
    if view.is_transactional() {
        return Err((ErrorCode::INVALID_TXN_STATE, "this broker has no transactions".to_owned()));
    }
    check_timestamps(settings, topic, &view, now_ms).map_err(|reason| (ErrorCode::INVALID_TIMESTAMP, reason))?;
    if settings.validate_records && view.codec() == Codec::None {
        check_records(&view).map_err(|reason| (ErrorCode::INVALID_RECORD, reason))?;
    }
    let producer = (view.producer_id() >= 0).then(|| ProducerBatch {
        id: view.producer_id(),
        epoch: view.producer_epoch(),
        base_sequence: view.base_sequence(),
    });
    Ok(BatchSummary { records: view.last_offset_delta() + 1, max_timestamp_ms: view.max_timestamp(), producer })
}

/// The batch's earliest and latest timestamps as its header tells them. Without a timestamp (−1) there is no bound.
fn check_timestamps(settings: &Settings, topic: &Topic, view: &BatchView<'_>, now_ms: i64) -> Result<(), String> {
    let bound = |name: &str, default: u64| {
        let of_topic = topic.configs.get(name).and_then(|value| value.parse().ok());
        i64::try_from(of_topic.unwrap_or(default)).unwrap_or(i64::MAX)
    };
    let after_ms = bound("message.timestamp.after.max.ms", settings.log_message_timestamp_after_max_ms);
    let before_ms = bound("message.timestamp.before.max.ms", settings.log_message_timestamp_before_max_ms);
    let (first, last) = (view.base_timestamp(), view.max_timestamp());
    if last >= 0 && last > now_ms.saturating_add(after_ms) {
        return Err(format!("timestamp {last} is more than {after_ms} ms ahead of {now_ms}"));
    }
    if first >= 0 && first < now_ms.saturating_sub(before_ms) {
        return Err(format!("timestamp {first} is more than {before_ms} ms behind {now_ms}"));
    }
    Ok(())
}

/// `validate.records`: walks the records as Kafka does.
fn check_records(view: &BatchView<'_>) -> Result<(), String> {
    for record in batch::records(view).map_err(|error| error.to_string())? {
        record.map_err(|error| error.to_string())?;
    }
    Ok(())
}

impl Reply {
    fn close_if_failed(&self, results: &[AppendResult]) -> Result<Handled, Closed> {
        for (topic, partitions) in &self.topics {
            for (index, decided) in partitions {
                let reason = match decided {
                    Decided::Refused(_, reason) => reason.clone(),
                    Decided::ByShard(at) => match &results[*at] {
                        Ok(_) => continue,
                        Err(error) => error.to_string(),
                    },
                };
                return Err(Closed::UnacknowledgedFailure(format!("{}-{index}: {reason}", topic.as_str())));
            }
        }
        Ok(Handled::NoReply)
    }

    fn encode(self, context: &Context, results: &[AppendResult]) -> Result<Frame, Closed> {
        let mut response = ProduceResponse::default();
        let image = context.image();
        let mut leaders = Leaders::default();
        for (name, partitions) in self.topics {
            let answers = partitions.into_iter().map(|(index, decided)| {
                let answer = PartitionProduceResponse::default().with_index(index).with_base_offset(-1);
                let (code, reason) = match decided {
                    Decided::Refused(code, reason) => (code, reason),
                    Decided::ByShard(at) => match &results[at] {
                        Ok(appended) => {
                            return answer
                                .with_base_offset(appended.base_offset.0)
                                .with_log_append_time_ms(-1)
                                .with_log_start_offset(appended.log_start.0);
                        }
                        Err(error) => (error_code::append(error), error.to_string()),
                    },
                };
                let answer = answer
                    .with_error_code(code.0)
                    .with_log_append_time_ms(-1)
                    .with_log_start_offset(-1)
                    .with_error_message(Some(StrBytes::from_string(reason)));
                match code {
                    ErrorCode::NOT_LEADER_OR_FOLLOWER if self.head.api_version >= 10 => {
                        answer.with_current_leader(leaders.of(&image, &name, index))
                    }
                    _ => answer,
                }
            });
            let answers = answers.collect();
            response.responses.push(TopicProduceResponse::default().with_name(name).with_partition_responses(answers));
        }
        response.node_endpoints = leaders.endpoints(&image, self.listener);
        super::encode(&self.head, &response)
    }
}

/// Where the partitions are led instead, so that a client need not ask for metadata first (KIP-951).
#[derive(Default)]
struct Leaders(BTreeSet<BrokerId>);

impl Leaders {
    fn of(&mut self, image: &Image, topic: &str, index: i32) -> LeaderIdAndEpoch {
        let Some(partition) = image.topic_by_name(topic).and_then(|topic| topic.partition(index)) else {
            return LeaderIdAndEpoch::default();
        };
        self.0.extend(partition.leader);
        LeaderIdAndEpoch::default()
            .with_leader_id(partition.leader.map_or(-1, |id| id.0).into())
            .with_leader_epoch(partition.leader_epoch.0)
    }

    fn endpoints(&self, image: &Image, listener: Protocol) -> Vec<NodeEndpoint> {
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
        self.0.iter().filter_map(endpoint).collect()
    }
}
