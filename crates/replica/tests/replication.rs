//! Stories of ordinary replication: what producers and consumers see when nothing fails.

mod support;

use minisr_logic::Offset;
use minisr_replica::{Acks, AppendError, RoleName};
use minisr_wire::batch::Producer;
use support::{Cluster, Message, flush_commit, idempotent};

#[test]
fn replication_of_three_acknowledges_when_all_hold_the_record() {
    let mut cluster = Cluster::new(3, 2);
    let ticket = cluster.send(1, "a", Acks::All);
    assert_eq!(cluster.result(ticket), None, "nobody else has it yet");
    cluster.run();
    assert_eq!(cluster.result(ticket), Some(Ok(0)));
    assert_eq!(cluster.produce("b"), 1);
    assert_eq!(cluster.read_all(1), ["a", "b"]);
    cluster.assert_converged();
}

#[test]
fn replication_acks_one_is_answered_by_the_leader_alone() {
    let mut cluster = Cluster::new(3, 3);
    let ticket = cluster.send(1, "a", Acks::Leader);
    assert_eq!(cluster.result(ticket), Some(Ok(0)));
    assert_eq!(cluster.high_watermark(1), 0, "which is not yet committed");
    cluster.run();
    assert_eq!(cluster.high_watermark(1), 1);
}

#[test]
fn replication_follower_refuses_producers_and_consumers() {
    let mut cluster = Cluster::new(3, 1);
    let ticket = cluster.send(2, "a", Acks::All);
    assert_eq!(cluster.result(ticket), Some(Err(AppendError::NotLeader)));
    assert_eq!(cluster.describe(2).role, RoleName::Follower);
}

#[test]
fn replication_followers_learn_of_the_commit_soon_without_new_data() {
    let mut cluster = Cluster::new(3, 2);
    cluster.produce("a");
    // The first high watermark of an epoch travels at once, a newer one waits a little for records to travel with.
    cluster.produce("b");
    assert_eq!([1, 2, 3].map(|id| cluster.high_watermark(id)), [2, 1, 1]);
    cluster.pass(5);
    assert_eq!([1, 2, 3].map(|id| cluster.high_watermark(id)), [2, 2, 2]);
}

#[test]
fn replication_high_watermark_travels_with_the_next_records_without_a_fetch_of_its_own() {
    let mut cluster = Cluster::new(3, 2);
    cluster.produce("a");
    let before = cluster.fetches_sent;
    for value in ["b", "c", "d", "e"] {
        cluster.produce(value);
    }
    assert_eq!(cluster.fetches_sent - before, 4 * 2, "one fetch for each record and follower");
    assert_eq!([1, 2, 3].map(|id| cluster.high_watermark(id)), [5, 4, 4]);
}

/// A leader that handles several requests in a row wakes each follower once, for all of them.
#[test]
fn replication_appends_taken_in_one_after_the_other_travel_together() {
    let mut cluster = Cluster::new(3, 2);
    cluster.produce("a");
    cluster.pass(1_000);
    let before = cluster.fetches_sent;
    let mut tickets = Vec::new();
    for value in ["b", "c", "d"] {
        let (ticket, append) = cluster.append(&[value], Acks::All, Producer::NONE);
        cluster.take_in(1, [append]);
        tickets.push(ticket);
    }
    assert_eq!(cluster.log_end(1), 4);
    assert!(cluster.in_transit.is_empty(), "nobody is woken yet");
    cluster.settle(1);
    cluster.run();
    let offsets: Vec<_> = tickets.iter().map(|&ticket| cluster.result(ticket)).collect();
    assert_eq!(offsets, [1, 2, 3].map(|offset| Some(Ok(offset))));
    assert_eq!(cluster.fetches_sent - before, 2, "one fetch for each follower");
    cluster.pass(1_000);
    cluster.assert_converged();
}

#[test]
fn replication_acks_1_is_answered_when_it_is_taken_in() {
    let mut cluster = Cluster::new(3, 2);
    cluster.produce("a");
    let (ticket, append) = cluster.append(&["b"], Acks::Leader, Producer::NONE);
    cluster.take_in(1, [append]);
    assert_eq!(cluster.result(ticket), Some(Ok(1)));
    cluster.settle(1);
    cluster.pass(1_000);
    cluster.assert_converged();
}

#[test]
fn replication_followers_learn_of_the_commit_within_one_round_trip_when_it_may_not_wait() {
    let mut cluster = Cluster::with(3, 2, |config| config.replica_high_watermark_delay_max_ms = 0);
    cluster.produce("a");
    cluster.produce("b");
    // No time has passed: the waiting fetches were answered because the high watermark they knew was stale.
    assert_eq!([1, 2, 3].map(|id| cluster.high_watermark(id)), [2, 2, 2]);
}

/// What a leader has sent says nothing: a follower that missed the answer still knows the old high watermark, and says so
/// (KIP-1166).
#[test]
fn replication_high_watermark_is_told_again_when_the_answer_that_carried_it_was_lost() {
    let mut cluster = Cluster::new(2, 1);
    cluster.produce("a");
    assert_eq!(cluster.high_watermark(2), 0, "the waiting fetch has not been answered");
    cluster.partition(1, 2);
    cluster.pass(10);
    cluster.heal();
    cluster.pass(100);
    cluster.assert_converged();
}

#[test]
fn replication_answer_to_a_follower_leaves_out_what_is_not_new_and_one_to_a_consumer_does_not() {
    let mut cluster = Cluster::new(2, 1);
    cluster.produce("a");
    cluster.pass(1_000);
    cluster.hold(1, 2);
    cluster.pass(1_000);
    let named = cluster.in_transit.iter().find_map(|message| match message {
        Message::Reply { reply, .. } => Some(reply.partitions.len()),
        _ => None,
    });
    assert_eq!(named, Some(0));
    let reader = cluster.consume(1, 1, 0);
    assert_eq!(cluster.fetched[&reader].partitions.len(), 1);
}

#[test]
fn replication_waiting_consumer_wakes_at_the_commit_not_at_the_append() {
    let mut cluster = Cluster::new(3, 2);
    let waiting = cluster.consume(1, 0, 10_000);
    let produced = cluster.send(1, "a", Acks::All);
    assert!(!cluster.fetched.contains_key(&waiting), "nothing is committed yet");
    cluster.run();
    assert_eq!(cluster.result(produced), Some(Ok(0)));
    let reply = &cluster.fetched[&waiting].partitions[0];
    let fetched = reply.result.as_ref().expect("readable");
    assert_eq!(support::values(&fetched.records), ["a"]);
    assert_eq!(fetched.high_watermark, Offset(1));
}

#[test]
fn replication_waiting_consumer_gets_an_empty_answer_when_its_time_is_up() {
    let mut cluster = Cluster::new(3, 2);
    let waiting = cluster.consume(1, 0, 300);
    cluster.pass(299);
    assert!(!cluster.fetched.contains_key(&waiting));
    cluster.pass(1);
    assert!(cluster.fetched[&waiting].partitions[0].result.as_ref().expect("fine").records.is_empty());
}

#[test]
fn replication_idle_cluster_sends_fetches_only_when_their_wait_is_over() {
    let mut cluster = Cluster::new(3, 2);
    cluster.pass(2_000);
    let before = cluster.ticket();
    cluster.pass(5_000);
    let asked = cluster.ticket().0 - before.0;
    assert!(asked <= 2 * 11, "two followers with a wait of 500 ms asked {asked} times in 5 s");
}

#[test]
fn replication_retried_batch_is_acknowledged_with_its_first_offset_and_stored_once() {
    let mut cluster = Cluster::new(3, 2);
    let first = cluster.send_batch(1, &["a", "b"], Acks::All, idempotent(9, 0));
    cluster.run();
    let again = cluster.send_batch(1, &["a", "b"], Acks::All, idempotent(9, 0));
    cluster.run();
    assert_eq!((cluster.result(first), cluster.result(again)), (Some(Ok(0)), Some(Ok(0))));
    assert_eq!(cluster.read_all(1), ["a", "b"]);
}

#[test]
fn replication_sequence_gap_is_refused() {
    let mut cluster = Cluster::new(1, 1);
    cluster.send_batch(1, &["a"], Acks::All, idempotent(9, 0));
    let gap = cluster.send_batch(1, &["c"], Acks::All, idempotent(9, 2));
    assert_eq!(cluster.result(gap), Some(Err(AppendError::OutOfOrderSequence { expected: 1, actual: 2 })));
}

#[test]
fn replication_oversized_batch_is_refused() {
    let mut cluster = Cluster::with(1, 1, |config| config.topic.max_message_bytes = 80);
    let ticket = cluster.send(1, &"x".repeat(100), Acks::All);
    assert!(matches!(cluster.result(ticket), Some(Err(AppendError::MessageTooLarge { max_bytes: 80, .. }))));
    assert_eq!(cluster.log_end(1), 0);
}

#[test]
fn replication_flush_commit_waits_for_stable_storage_on_every_member() {
    let mut cluster = Cluster::with(3, 2, flush_commit);
    cluster.hold(2, 2);
    let ticket = cluster.send(1, "a", Acks::All);
    cluster.run();
    assert_eq!(cluster.log_end(2), 1, "it is written everywhere");
    assert_eq!(cluster.result(ticket), None, "but broker 2 has not flushed it");
    cluster.release(2, 2);
    cluster.run();
    assert_eq!(cluster.result(ticket), Some(Ok(0)));
    for id in 1..=3 {
        assert_eq!(cluster.describe(id).flushed, Offset(1));
    }
}

#[test]
fn replication_flush_commit_waits_for_the_leaders_own_disk_too() {
    let mut cluster = Cluster::with(3, 2, flush_commit);
    cluster.hold(1, 1);
    let ticket = cluster.send(1, "a", Acks::All);
    cluster.run();
    assert_eq!((cluster.log_end(2), cluster.log_end(3)), (1, 1), "followers read what is written but not flushed");
    assert_eq!(cluster.result(ticket), None);
    cluster.release(1, 1);
    cluster.run();
    assert_eq!(cluster.result(ticket), Some(Ok(0)));
}

#[test]
fn replication_consumer_that_waits_for_bytes_is_answered_as_soon_as_they_are_there() {
    let mut cluster = Cluster::new(1, 1);
    cluster.produce("a");
    let batch_bytes = cluster.log_bytes(1).len();
    let waiting = cluster.consume_like(1, 0, 10_000, |request| request.min_bytes = 2 * batch_bytes);
    assert!(!cluster.fetched.contains_key(&waiting), "one batch is half of what it waits for");
    cluster.produce("b");
    assert!(cluster.fetched.contains_key(&waiting));
}

#[test]
fn replication_consumer_waits_for_no_more_than_an_answer_may_hold() {
    let mut cluster = Cluster::new(1, 1);
    cluster.produce("a");
    let at_once = cluster.consume_like(1, 0, 10_000, |request| {
        request.min_bytes = i32::MAX as usize;
        request.max_bytes = 10;
        request.partitions[0].max_bytes = i32::MAX as usize;
    });
    assert!(cluster.fetched.contains_key(&at_once), "the first batch goes out whole, and no second one ever would");
}
