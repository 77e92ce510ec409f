//! Where the logs end, committed or not: what acks=0 achieves, and by how much followers lag.

use std::collections::BTreeMap;

use minisr_client::{Admin, Client, OffsetSpec};
use minisr_wire::StrBytes;
use minisr_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use minisr_wire::messages::{BrokerId, OffsetForLeaderEpochRequest, TopicName};

/// The highest OffsetForLeaderEpoch version in use.
const EPOCH_END_VERSION_MAX: i16 = 4;

/// The end of each leader's log. A consumer may read up to the high watermark only, and ListOffsets says no more; but
/// the present leader epoch ends where the log ends.
pub async fn log_ends(client: &Client, topic: &str, partitions: &[i32]) -> Option<BTreeMap<i32, i64>> {
    let view = client.view();
    let mut by_leader: BTreeMap<i32, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
    for &partition in partitions {
        let leader = view.leader(topic, partition)?;
        let asked = OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(leader.epoch)
            .with_leader_epoch(leader.epoch);
        by_leader.entry(leader.broker_id).or_default().push(asked);
    }
    let mut ends = BTreeMap::new();
    for (broker_id, asked) in by_leader {
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let request = OffsetForLeaderEpochRequest::default()
            // An ordinary consumer.
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![OffsetForLeaderTopic::default().with_topic(name).with_partitions(asked)]);
        let response = client.call_broker(broker_id, &request, EPOCH_END_VERSION_MAX).await;
        let response = response.inspect_err(|error| tracing::debug!(broker_id, %error, "no log ends")).ok()?;
        for result in response.topics.iter().flat_map(|topic| &topic.partitions) {
            // An empty epoch has no end yet; then the log has none either.
            match result.error_code {
                0 => drop(ends.insert(result.partition, result.end_offset.max(0))),
                code => tracing::debug!(broker_id, partition = result.partition, code, "no log end"),
            }
        }
    }
    (ends.len() == partitions.len()).then_some(ends)
}

/// Records in the leaders' logs and not committed. The logs are looked at first, so it is never overstated.
pub async fn high_watermark_lag(client: &Client, topic: &str, partitions: &[i32]) -> Option<u64> {
    let ends = log_ends(client, topic, partitions).await?;
    let committed = Admin::new(client.clone()).list_offsets(topic, partitions, OffsetSpec::Latest).await.ok()?;
    let lag_of = |(partition, end): (&i32, &i64)| {
        let committed = committed.get(partition)?;
        Some(u64::try_from(end - committed).unwrap_or(0))
    };
    ends.iter().map(lag_of).sum()
}
