//! ListOffsets and OffsetForLeaderEpoch: positions in the logs this broker leads. Answered at once.

use minisr_logic::{BrokerId, Epoch, TopicPartition};
use minisr_replica::{Isolation, OffsetSpec, Reader};
use minisr_wire::messages::list_offsets_request::ListOffsetsPartition;
use minisr_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use minisr_wire::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use minisr_wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use minisr_wire::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use minisr_wire::{ErrorCode, RequestHead};

use super::{Session, error_code, reply};
use crate::transport::connection::{Closed, Handled};

/// Timestamps with a meaning of their own.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// The earliest offset on this broker's own disk; there is no tiered storage, so it is the earliest of all.
const EARLIEST_LOCAL: i64 = -4;

pub(super) fn list_offsets(
    session: &Session,
    head: &RequestHead,
    request: ListOffsetsRequest,
) -> Result<Handled, Closed> {
    let authorized = authorized_replica(session, request.replica_id.0);
    let reader = match authorized {
        // No broker epoch is needed: reading an offset acknowledges nothing.
        Ok(Some(id)) => Reader::Replica { id, broker_epoch: None },
        _ if request.isolation_level == 1 => Reader::Consumer { isolation: Isolation::ReadCommitted },
        _ => Reader::Consumer { isolation: Isolation::ReadUncommitted },
    };
    let mut response = ListOffsetsResponse::default();
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|asked| match authorized {
            Ok(_) => list_offset(session, &topic.name, asked, reader, head.api_version),
            Err(code) => unlisted(asked.partition_index, code),
        });
        let partitions = partitions.collect();
        response.topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    reply(head, &response)
}

fn list_offset(
    session: &Session,
    topic: &str,
    asked: &ListOffsetsPartition,
    reader: Reader,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let index = asked.partition_index;
    let Some(key) = partition_key(session, topic, index) else {
        return unlisted(index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    let spec = match asked.timestamp {
        LATEST => OffsetSpec::Latest,
        EARLIEST | EARLIEST_LOCAL => OffsetSpec::Earliest,
        MAX_TIMESTAMP => OffsetSpec::MaxTimestamp,
        timestamp if timestamp >= 0 => OffsetSpec::Timestamp(timestamp),
        _ => return unlisted(index, ErrorCode::UNSUPPORTED_VERSION),
    };
    match session.context.shard.list_offset(key, spec, reader, epoch(asked.current_leader_epoch)) {
        Ok(listed) => {
            let answer = ListOffsetsPartitionResponse::default()
                .with_partition_index(index)
                .with_offset(listed.offset.map_or(-1, |offset| offset.0))
                .with_timestamp(listed.timestamp_ms.unwrap_or(-1));
            match listed.leader_epoch {
                Some(epoch) if version >= 4 => answer.with_leader_epoch(epoch.0),
                _ => answer,
            }
        }
        Err(error) => unlisted(index, error_code::list_offsets(&error)),
    }
}

fn unlisted(index: i32, code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(code.0)
        .with_offset(-1)
        .with_timestamp(-1)
}

pub(super) fn epoch_ends(
    session: &Session,
    head: &RequestHead,
    request: OffsetForLeaderEpochRequest,
) -> Result<Handled, Closed> {
    let authorized = authorized_replica(session, request.replica_id.0);
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|asked| match authorized {
            Ok(_) => epoch_end(session, &topic.topic, asked),
            Err(code) => endless(asked, code),
        });
        let partitions = partitions.collect();
        response.topics.push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions));
    }
    reply(head, &response)
}

fn epoch_end(session: &Session, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let Some(key) = partition_key(session, topic, asked.partition) else {
        return endless(asked, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    let current = epoch(asked.current_leader_epoch);
    match session.context.shard.epoch_end(key, current, Epoch(asked.leader_epoch)) {
        Ok(end) => EpochEndOffset::default()
            .with_partition(asked.partition)
            .with_leader_epoch(end.map_or(-1, |end| end.epoch.0))
            .with_end_offset(end.map_or(-1, |end| end.end_offset.0)),
        Err(error) => endless(asked, error_code::fetch(&error)),
    }
}

fn endless(asked: &OffsetForLeaderPartition, code: ErrorCode) -> EpochEndOffset {
    EpochEndOffset::default()
        .with_partition(asked.partition)
        .with_error_code(code.0)
        .with_leader_epoch(-1)
        .with_end_offset(-1)
}

/// The replica the request claims to come from, if any. Ids below 0 are consumers of some kind.
fn authorized_replica(session: &Session, claimed: i32) -> Result<Option<BrokerId>, ErrorCode> {
    match (claimed >= 0).then_some(BrokerId(claimed)) {
        Some(id) if !session.may_act_as(id) => Err(ErrorCode::CLUSTER_AUTHORIZATION_FAILED),
        claimed => Ok(claimed),
    }
}

fn partition_key(session: &Session, topic: &str, index: i32) -> Option<TopicPartition> {
    let image = session.context.image();
    let topic = image.topic_by_name(topic)?;
    topic.partition(index)?;
    Some(TopicPartition { topic: topic.id, partition: index })
}

fn epoch(on_the_wire: i32) -> Option<Epoch> {
    (on_the_wire >= 0).then_some(Epoch(on_the_wire))
}
