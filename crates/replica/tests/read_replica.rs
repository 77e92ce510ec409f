//! Stories of consumers that read from followers (KIP-392).

mod support;

use minisr_logic::{BrokerId, Offset, TopicId};
use minisr_replica::{Acks, Config, FetchError, Fetched, ReplicaSelector, Ticket};
use support::{Cluster, values};

fn rack_aware(config: &mut Config) {
    config.replica_selector = ReplicaSelector::RackAware;
    config.replica_lag_time_max_ms = 2_000;
}

fn answer(cluster: &mut Cluster, ticket: Ticket) -> Result<Fetched, FetchError> {
    let mut reply = cluster.fetched.remove(&ticket).expect("answered");
    reply.partitions.remove(0).result
}

/// To whom a consumer in `rack`, asking the leader for `offset`, is sent.
fn sent_to(cluster: &mut Cluster, rack: Option<&str>, offset: i64) -> Option<i32> {
    let ticket = cluster.consume_in(rack, 1, offset, 0);
    let fetched = answer(cluster, ticket).expect("readable");
    assert_eq!(fetched.records.is_empty(), fetched.preferred_read_replica.is_some() || offset == 3);
    fetched.preferred_read_replica.map(|id| id.0)
}

fn with_three_records() -> Cluster {
    let mut cluster = Cluster::with(3, 2, rack_aware);
    for value in ["a", "b", "c"] {
        cluster.produce(value);
    }
    cluster.pass(1_000);
    cluster
}

#[test]
fn read_replica_is_the_in_sync_follower_in_the_consumers_rack() {
    let mut cluster = with_three_records();
    assert_eq!(sent_to(&mut cluster, Some("rack-2"), 0), Some(2));
    assert_eq!(sent_to(&mut cluster, Some("rack-3"), 3), Some(3));
    assert_eq!(sent_to(&mut cluster, Some("rack-1"), 0), None, "the leader is near");
    assert_eq!(sent_to(&mut cluster, Some("nowhere"), 0), None);
    assert_eq!(sent_to(&mut cluster, Some(""), 0), None);
    assert_eq!(sent_to(&mut cluster, None, 0), None, "a consumer that does not know of it");
    cluster.kill(3);
    cluster.run();
    assert_eq!(sent_to(&mut cluster, Some("rack-3"), 0), None, "it is not in sync");
    // Nor does a leader without a selector send anybody anywhere.
    let mut plain = Cluster::new(2, 1);
    plain.produce("a");
    assert_eq!(sent_to(&mut plain, Some("rack-2"), 0), None);
}

#[test]
fn read_replica_is_named_at_once_also_when_there_is_nothing_to_read() {
    let mut cluster = with_three_records();
    let ticket = cluster.consume_in(Some("rack-2"), 1, 3, 60_000);
    let fetched = answer(&mut cluster, ticket).expect("answered without waiting");
    assert_eq!(fetched.preferred_read_replica, Some(BrokerId(2)));
}

#[test]
fn read_replica_must_cover_the_offset_as_far_as_the_leader_knows() {
    let mut cluster = with_three_records();
    cluster.hold(2, 1);
    cluster.send(1, "d", Acks::All);
    cluster.run();
    assert_eq!(cluster.isr(), [1, 2, 3]);
    assert_eq!(sent_to(&mut cluster, Some("rack-2"), 3), Some(2), "it has reported three records");
    let ticket = cluster.consume_in(Some("rack-2"), 1, 4, 0);
    let fetched = answer(&mut cluster, ticket).expect("the leader's log ends there");
    assert_eq!(fetched.preferred_read_replica, None);
}

#[test]
fn follower_serves_below_its_own_high_watermark_and_nothing_past_its_end() {
    let mut cluster = with_three_records();
    // The answer that would bring "d" is committed arrives late: 2 has the record and does not know.
    cluster.hold(1, 2);
    cluster.send(1, "d", Acks::All);
    cluster.release(1, 2);
    cluster.run();
    let high_watermark = cluster.high_watermark(2);
    let ticket = cluster.consume_in(Some("rack-2"), 2, 0, 0);
    let fetched = answer(&mut cluster, ticket).expect("a follower serves");
    assert_eq!(fetched.high_watermark, Offset(high_watermark));
    assert_eq!(values(&fetched.records).len() as i64, high_watermark);
    let beyond = cluster.log_end(2) + 1;
    let ticket = cluster.consume_in(Some("rack-2"), 2, beyond, 60_000);
    assert!(
        matches!(answer(&mut cluster, ticket), Err(FetchError::OffsetOutOfRange { .. })),
        "the leader is asked next"
    );
    // Whoever does not know of followers that serve must find the leader.
    let ticket = cluster.consume_in(None, 2, 0, 0);
    assert_eq!(answer(&mut cluster, ticket), Err(FetchError::NotLeader));
}

#[test]
fn follower_holds_uncommitted_records_back_and_wakes_readers_when_they_are_committed() {
    let mut cluster = with_three_records();
    // 3 does not answer, so what 2 has is not committed.
    cluster.hold(3, 1);
    cluster.send(1, "d", Acks::All);
    cluster.run();
    assert_eq!((cluster.log_end(2), cluster.high_watermark(2)), (4, 3));
    let ticket = cluster.consume_in(Some("rack-2"), 2, 3, 60_000);
    cluster.run();
    assert!(!cluster.fetched.contains_key(&ticket), "it waits");
    cluster.release(3, 1);
    // Alone, news of the high watermark may wait for records to travel with.
    cluster.pass(100);
    let fetched = answer(&mut cluster, ticket).expect("served");
    assert_eq!(values(&fetched.records), ["d"]);
    assert_eq!(fetched.preferred_read_replica, None, "only leaders send readers elsewhere");
}

#[test]
fn follower_that_is_not_hosted_here_is_refused() {
    let mut cluster = with_three_records();
    cluster.topic = TopicId(99);
    let ticket = cluster.consume_in(Some("rack-2"), 2, 0, 0);
    assert_eq!(answer(&mut cluster, ticket), Err(FetchError::UnknownPartition));
}
