//! Stories of the in-sync replicas: who leaves, who joins, what counts meanwhile, and what producers are told.

mod support;

use minisr_logic::Offset;
use minisr_logic::metadata::Command;
use minisr_replica::{Acks, AlterPartitionError, AppendError, LagKind};
use std::collections::BTreeMap;
use support::{Cluster, Message};

const LAG_MS: u64 = 10_000;

fn cluster(count: i32, min_isr: i32) -> Cluster {
    Cluster::with(count, min_isr, |config| config.replica_lag_time_max_ms = LAG_MS)
}

#[test]
fn isr_silent_follower_is_dropped_after_the_lag_time_and_writes_go_on() {
    let mut cluster = cluster(3, 2);
    cluster.partition(1, 3);
    let pending = cluster.send(1, "a", Acks::All);
    cluster.pass(LAG_MS);
    assert_eq!(cluster.result(pending), None, "broker 3 is a member, so it counts");
    assert_eq!(cluster.isr(), [1, 2, 3]);
    cluster.pass(LAG_MS / 2 + 1);
    assert_eq!(cluster.isr(), [1, 2]);
    assert_eq!(cluster.result(pending), Some(Ok(0)));

    cluster.heal();
    cluster.pass(2_000);
    cluster.assert_converged();
}

#[test]
fn isr_follower_that_is_never_quite_there_but_keeps_up_stays() {
    let mut cluster = cluster(2, 1);
    // Each fetch finds a record more than the one before: the follower is never at the end, but always at what was
    // the end when it last fetched.
    for round in 0..30 {
        cluster.send(1, &format!("r{round}"), Acks::Leader);
        cluster.pass(LAG_MS / 10);
    }
    assert_eq!(cluster.isr(), [1, 2]);
}

#[test]
fn isr_lag_has_its_three_names() {
    let mut cluster = cluster(3, 1);
    cluster.partition(1, 3);
    cluster.send(1, "a", Acks::Leader);
    cluster.pass(LAG_MS + 1);
    let lagging = cluster.describe(1).lagging;
    assert_eq!(lagging.len(), 1);
    assert_eq!((lagging[0].0.0, lagging[0].1, lagging[0].2), (3, LagKind::Stuck, Some(1)));
    cluster.pass(LAG_MS);
    assert_eq!(cluster.isr(), [1, 2]);
    assert_eq!(cluster.describe(1).lagging[0].1, LagKind::Stuck, "dropped, and still silent");
}

/// Trap 7: the leader wants to drop broker 3 but the controller has not agreed yet.
#[test]
fn isr_proposed_shrink_does_not_count_before_it_is_committed() {
    let mut cluster = cluster(3, 1);
    cluster.partition(1, 3);
    cluster.hold(1, 0);
    let pending = cluster.send(1, "a", Acks::All);
    cluster.pass(2 * LAG_MS);
    assert_eq!(cluster.describe(1).proposed_isr.map(|isr| isr.len()), Some(2));
    assert_eq!(cluster.result(pending), None, "the controller might still elect broker 3");
    assert_eq!(cluster.high_watermark(1), 0);
    cluster.release(1, 0);
    cluster.run();
    assert_eq!(cluster.result(pending), Some(Ok(0)));
}

/// Trap 8: the expansion is committed but its answer is lost; the leader must not go back to the smaller set.
#[test]
fn isr_unanswered_expansion_counts_until_the_outcome_is_known() {
    let mut cluster = cluster(2, 1);
    cluster.kill(2);
    cluster.run();
    assert_eq!(cluster.isr(), [1]);
    cluster.start(2);
    cluster.hold(0, 1);
    // Metadata reaches broker 1 up to the unfencing; the answer and what follows do not.
    deliver_from_controller(&mut cluster, 1);
    cluster.run();
    cluster.pass(1_000);
    while cluster.isr() == [1] {
        deliver_from_controller(&mut cluster, 1);
        cluster.pass(200);
    }
    assert_eq!(cluster.isr(), [1, 2], "committed at the controller");
    assert_eq!(cluster.describe(1).isr.len(), 1, "but the leader has not heard");

    // An "I do not know" does not undo it, and broker 2 counts: without it nothing is committed.
    cluster.in_transit.retain(|message| !matches!(message, Message::AlterReply { .. }));
    cluster.hold(2, 1);
    let correlation = 0;
    let partition = cluster.key();
    let unknown = Message::AlterReply {
        to: minisr_logic::BrokerId(1),
        partition,
        correlation,
        result: Err(AlterPartitionError::Unknown),
    };
    cluster.deliver(unknown);
    let pending = cluster.send(1, "a", Acks::All);
    cluster.run();
    assert_eq!(cluster.result(pending), None);
    assert_eq!(cluster.high_watermark(1), 0);
    cluster.release(2, 1);
    cluster.release(0, 1);
    cluster.run();
    assert_eq!(cluster.result(pending), Some(Ok(0)));
}

fn deliver_from_controller(cluster: &mut Cluster, to: i32) {
    let images: Vec<usize> = cluster
        .in_transit
        .iter()
        .enumerate()
        .filter(|(_, message)| message.link() == (0, to) && matches!(message, Message::Image { .. }))
        .map(|(at, _)| at)
        .collect();
    for at in images.into_iter().rev() {
        let message = cluster.in_transit.remove(at).expect("there");
        cluster.deliver(message);
    }
}

/// Trap 13, first end: nothing is appended while the ISR is too small.
#[test]
fn isr_below_the_minimum_refuses_writes_of_acks_all_only() {
    let mut cluster = cluster(3, 2);
    cluster.kill(2);
    cluster.kill(3);
    cluster.run();
    let all = cluster.send(1, "a", Acks::All);
    assert_eq!(cluster.result(all), Some(Err(AppendError::NotEnoughReplicas { isr: 1, min_isr: 2 })));
    assert_eq!(cluster.log_end(1), 0, "nothing was appended");
    let one = cluster.send(1, "b", Acks::Leader);
    assert_eq!(cluster.result(one), Some(Ok(0)));
    assert_eq!(cluster.high_watermark(1), 0, "strictly nothing is committed below the minimum");
}

/// Trap 13, between: the ISR shrinks while a producer waits; no success is reported with too few copies.
#[test]
fn isr_shrinking_below_the_minimum_while_a_producer_waits_ends_in_a_timeout() {
    let mut cluster = cluster(2, 2);
    cluster.partition(1, 2);
    let pending = cluster.send(1, "a", Acks::All);
    cluster.kill(2);
    cluster.run();
    assert_eq!(cluster.isr(), [1]);
    assert_eq!((cluster.result(pending), cluster.high_watermark(1)), (None, 0));
    cluster.pass(30_000);
    assert_eq!(cluster.result(pending), Some(Err(AppendError::TimedOut)));
    // The record was appended, so it is committed once the ISR is back.
    cluster.heal();
    cluster.start(2);
    cluster.pass(2_000);
    assert_eq!(cluster.high_watermark(1), 1);
}

/// Trap 13, other end: the record is replicated but the minimum was raised meanwhile.
#[test]
fn isr_minimum_raised_while_a_duplicate_arrives_is_checked_again_at_the_ack() {
    let mut cluster = cluster(2, 1);
    cluster.kill(2);
    cluster.run();
    cluster.produce("a");
    let changes = BTreeMap::from([("min.insync.replicas".to_owned(), Some("2".to_owned()))]);
    let topic_id = cluster.topic;
    cluster.command(Command::AlterTopicConfigs { topic_id, changes }).expect("changed");
    cluster.run();
    let refused = cluster.send(1, "b", Acks::All);
    assert_eq!(cluster.result(refused), Some(Err(AppendError::NotEnoughReplicas { isr: 1, min_isr: 2 })));
}

#[test]
fn isr_fenced_follower_does_not_join_until_it_is_unfenced() {
    let mut cluster = cluster(2, 1);
    cluster.produce("a");
    cluster.fence(2);
    cluster.run();
    assert_eq!(cluster.isr(), [1]);
    cluster.pass(5_000);
    assert_eq!(cluster.isr(), [1], "it fetches, but may not join");
    cluster.unfence(2);
    cluster.pass(1_000);
    assert_eq!(cluster.isr(), [1, 2]);
}

#[test]
fn isr_refused_expansion_is_not_proposed_at_every_fetch() {
    let mut cluster = cluster(2, 1);
    cluster.fence(2);
    cluster.run();
    cluster.unfence(2);
    // The leader hears of the unfencing; then broker 2 is fenced again without the leader hearing of it.
    cluster.run();
    cluster.pass(600);
    assert_eq!(cluster.isr(), [1, 2]);
    cluster.fence(2);
    cluster.unfence(2);
    deliver_from_controller(&mut cluster, 1);
    cluster.hold(0, 1);
    cluster.fence(2);
    let before = cluster.notices.len();
    cluster.held.clear();
    for round in 0..50 {
        cluster.send(1, &format!("r{round}"), Acks::Leader);
        cluster.run();
    }
    let proposals = cluster.notices[before..]
        .iter()
        .filter(|(_, notice)| matches!(notice, minisr_replica::Notice::IsrProposed { .. }))
        .count();
    assert!(proposals <= 2, "{proposals} proposals for 50 fetches");
    assert_eq!(cluster.describe(1).log_end, Offset(50));
}
