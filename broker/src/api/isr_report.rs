//! The tagged field of Metadata that tells about the in-sync replicas of the partitions this broker leads.

use bytes::Bytes;
use minisr_logic::{Millis, TopicPartition};
use minisr_replica::{IsrReason, IsrReport, LagKind};
use minisr_wire::isr_report::{self as wire, RESPONSE_TAG};
use minisr_wire::messages::MetadataResponse;

use super::Context;

/// Adds a report to every partition of the answer that this broker leads.
pub(super) fn add(context: &Context, mut response: MetadataResponse) -> MetadataResponse {
    for topic in &mut response.topics {
        let id = minisr_logic::TopicId(topic.topic_id.as_u128());
        for described in &mut topic.partitions {
            let key = TopicPartition { topic: id, partition: described.partition_index };
            if let Some((now, report)) = context.shard.isr_report(key) {
                described.unknown_tagged_fields.insert(RESPONSE_TAG, encode(now, &report));
            }
        }
    }
    response
}

fn encode(now: Millis, report: &IsrReport) -> Bytes {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let lagging = report.lagging.iter().map(|&(broker, kind, lacks_records)| wire::Lagging {
        broker: broker.0,
        kind: match kind {
            LagKind::Stuck => wire::LagKind::Stuck,
            LagKind::Slow => wire::LagKind::Slow,
            LagKind::Bootstrapping => wire::LagKind::Bootstrapping,
        },
        lacks_records,
    });
    let changes = report.changes.iter().map(|change| wire::IsrChange {
        number: count(change.number),
        ago_ms: count(now.since(change.at)),
        leader_epoch: change.leader_epoch.0,
        broker: change.broker.0,
        joined: change.joined,
        reason: match change.reason {
            IsrReason::Stuck => wire::IsrReason::Stuck,
            IsrReason::Slow => wire::IsrReason::Slow,
            IsrReason::Messages => wire::IsrReason::Messages,
            IsrReason::Fenced => wire::IsrReason::Fenced,
            IsrReason::ShuttingDown => wire::IsrReason::ShuttingDown,
            IsrReason::Unassigned => wire::IsrReason::Unassigned,
            IsrReason::Controller => wire::IsrReason::Controller,
            IsrReason::CaughtUp => wire::IsrReason::CaughtUp,
        },
        lacked_records: change.lacked_records,
        isr_size: i32::try_from(change.isr_size).unwrap_or(i32::MAX),
    });
    wire::IsrReport {
        shrinks: count(report.shrinks),
        expansions: count(report.expansions),
        lagging: lagging.collect(),
        changes: changes.collect(),
    }
    .encode()
}
