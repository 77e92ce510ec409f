//! Stories of followers that lag, over whole shards: what their leader tells about them, and the legacy rule by number
//! of records.

mod support;

use minisr_replica::{Acks, CHANGES_KEPT, Config, IsrReason, LagComparison, LagKind, LagMaxMessages};
use minisr_wire::batch::Producer;
use support::Cluster;

const LAG_MS: u64 = 10_000;

fn by_time(count: i32) -> Cluster {
    Cluster::with(count, 1, |config| config.replica_lag_time_max_ms = LAG_MS)
}

fn by_messages(limit: u64, comparison: LagComparison) -> Cluster {
    Cluster::with(3, 1, |config: &mut Config| {
        config.replica_lag_max_messages = Some(LagMaxMessages { limit, comparison });
    })
}

#[test]
fn lag_stuck_follower_leaves_as_stuck_and_comes_back_as_caught_up() {
    let mut cluster = by_time(3);
    cluster.partition(1, 3);
    cluster.send(1, "a", Acks::All);
    cluster.pass(2 * LAG_MS);
    assert_eq!(cluster.isr_changes(1), [(3, false, IsrReason::Stuck)]);
    let lagging = cluster.isr_report(1).lagging;
    assert_eq!((lagging[0].0.0, lagging[0].1), (3, LagKind::Stuck), "it is still silent");
    cluster.heal();
    cluster.pass(2_000);
    assert_eq!(cluster.isr_changes(1), [(3, false, IsrReason::Stuck), (3, true, IsrReason::CaughtUp)]);
    let report = cluster.isr_report(1);
    assert_eq!((report.shrinks, report.expansions, report.lagging), (1, 1, vec![]));
}

#[test]
fn lag_slow_follower_that_fetches_but_never_catches_up_leaves_as_slow() {
    // One batch for each fetch, and one fetch for every ten batches: the answers take their time.
    let mut cluster = Cluster::with(2, 1, |config| {
        config.replica_lag_time_max_ms = LAG_MS;
        config.replica_fetch_max_bytes = 1;
        config.replica_fetch_response_max_bytes = 1;
    });
    for _ in 0..20 {
        cluster.hold(1, 2);
        for _ in 0..10 {
            cluster.send(1, "a", Acks::Leader);
        }
        cluster.pass(LAG_MS / 10 - 1);
        // One answer gets through, and with it one record.
        deliver_one_reply(&mut cluster);
        cluster.pass(1);
    }
    assert_eq!(cluster.isr(), [1]);
    assert_eq!(cluster.isr_changes(1), [(2, false, IsrReason::Slow)]);
    assert_eq!(cluster.isr_report(1).lagging[0].1, LagKind::Bootstrapping, "it goes on fetching, from outside");
    cluster.release(1, 2);
    cluster.pass(2_000);
    cluster.assert_converged();
}

fn deliver_one_reply(cluster: &mut Cluster) {
    let reply = cluster.in_transit.iter().position(|message| message.link() == (1, 2));
    if let Some(message) = reply.and_then(|at| cluster.in_transit.remove(at)) {
        cluster.deliver(message);
    }
}

#[test]
fn lag_bootstrapping_follower_catches_up_from_an_empty_directory() {
    let mut cluster = by_time(2);
    for round in 0..50 {
        cluster.produce(&format!("r{round}"));
    }
    cluster.lose_power(2);
    cluster.run();
    assert_eq!(cluster.isr_changes(1), [(2, false, IsrReason::Fenced)]);
    assert_eq!(cluster.isr_report(1).lagging[0].1, LagKind::Stuck, "it is dead, not catching up");
    cluster.start(2);
    cluster.hold(1, 2);
    cluster.pass(200);
    let lagging = cluster.isr_report(1).lagging;
    assert_eq!((lagging[0].0.0, lagging[0].1), (2, LagKind::Bootstrapping));
    cluster.release(1, 2);
    cluster.pass(2_000);
    assert_eq!(cluster.isr_changes(1)[1], (2, true, IsrReason::CaughtUp));
    cluster.assert_converged();
}

#[test]
fn lag_report_of_a_new_leader_tells_that_the_one_before_was_fenced() {
    let mut cluster = by_time(3);
    cluster.produce("a");
    cluster.kill(1);
    cluster.run();
    let leader = cluster.leader().expect("another");
    assert_eq!(cluster.isr_changes(leader), [(1, false, IsrReason::Fenced)]);
}

#[test]
fn lag_report_keeps_the_newest_changes_and_exact_counts() {
    let mut cluster = by_time(2);
    let rounds = CHANGES_KEPT as u64;
    for _ in 0..rounds {
        cluster.fence(2);
        cluster.run();
        cluster.unfence(2);
        cluster.pass(1_000);
    }
    let report = cluster.isr_report(1);
    assert_eq!((report.shrinks, report.expansions), (rounds, rounds));
    assert_eq!(report.changes.len(), CHANGES_KEPT);
    assert_eq!(report.changes.last().expect("many").number, 2 * rounds);
}

/// The flaw that the rule was given up for: nobody is late, no message is lost, and the ISR goes back and forth.
#[test]
fn lag_by_messages_shuttles_while_the_rule_of_time_holds_still() {
    let shuttles = |mut cluster: Cluster, records: usize| {
        let rounds = 10;
        for _ in 0..rounds {
            let ticket = cluster.send_batch(1, &vec!["x"; records], Acks::All, Producer::NONE);
            cluster.pass(1_000);
            assert!(cluster.result(ticket).is_some_and(|it| it.is_ok()), "nothing is lost by it");
        }
        cluster.assert_converged();
        let report = cluster.isr_report(1);
        assert!(report.changes.iter().all(|it| it.joined || it.reason == IsrReason::Messages));
        (report.shrinks, report.expansions >= report.shrinks)
    };
    assert_eq!(shuttles(by_messages(4, LagComparison::GreaterOrEqual), 4), (10, true));
    assert_eq!(shuttles(by_messages(4, LagComparison::GreaterOrEqual), 5), (10, true));
    assert_eq!(shuttles(by_messages(4, LagComparison::Greater), 4), (0, true));
    assert_eq!(shuttles(by_messages(4, LagComparison::Greater), 5), (10, true));
    assert_eq!(shuttles(by_time(3), 5), (0, true));
}
