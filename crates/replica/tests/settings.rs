//! Every setting about replication by its effect: the same story told twice, with the default and with another value,
//! must end differently, and each time as the setting says.

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use minisr_logic::{BrokerId, TopicId};
use minisr_replica::{Acks, Config, Event};
use minisr_storage::Disk;
use support::{Cluster, Message, values};

/// A setting, another value for it, what to look at, what is seen by default, and what is seen then.
struct Row {
    name: &'static str,
    change: fn(&mut Config),
    observe: fn(&mut Cluster) -> u64,
    by_default: u64,
    changed: u64,
}

/// How long something takes, to a millisecond; at most this.
const PATIENCE_MS: u64 = 100_000;

const ROWS: [Row; 10] = [
    Row {
        name: "replica.fetch.wait.max.ms",
        change: |config| config.replica_fetch_wait_max_ms = 120,
        observe: empty_fetch_waits_ms,
        by_default: 500,
        changed: 120,
    },
    Row {
        name: "replica.fetch.min.bytes",
        change: |config| config.replica_fetch_min_bytes = 10_000,
        observe: small_record_is_committed_after_ms,
        by_default: 0,
        // Nobody waits for longer than a fetch waits.
        changed: 500,
    },
    Row {
        name: "replica.fetch.max.bytes",
        change: |config| config.replica_fetch_max_bytes = 1,
        observe: records_in_one_answer,
        by_default: 11,
        changed: 1,
    },
    Row {
        name: "replica.fetch.response.max.bytes",
        change: |config| config.replica_fetch_response_max_bytes = 1,
        observe: records_in_one_answer,
        by_default: 11,
        changed: 1,
    },
    Row {
        name: "replica.fetch.backoff.ms",
        change: |config| config.replica_fetch_backoff_ms = 50,
        observe: longest_pause_after_failures_ms,
        by_default: 1_000,
        changed: 50,
    },
    Row {
        name: "replica.socket.timeout.ms",
        change: |config| config.replica_socket_timeout_ms = 2_000,
        observe: lost_fetch_is_given_up_after_ms,
        by_default: 30_000,
        changed: 2_000,
    },
    Row {
        name: "replica.lag.time.max.ms",
        change: |config| config.replica_lag_time_max_ms = 2_000,
        observe: silent_follower_is_dropped_after_lag_times,
        by_default: 30_000,
        changed: 2_000,
    },
    Row {
        name: "num.replica.fetchers",
        change: |config| config.num_replica_fetchers = 3,
        observe: fetch_loops_for_six_partitions,
        by_default: 1,
        changed: 3,
    },
    Row {
        name: "replica.high.watermark.checkpoint.interval.ms",
        change: |config| config.high_watermark_checkpoint_interval_ms = 700,
        observe: high_watermark_is_checkpointed_within_ms,
        by_default: 5_000,
        changed: 700,
    },
    Row {
        name: "log.flush.policy",
        change: support::flush_commit,
        observe: small_record_is_flushed,
        by_default: 0,
        changed: 1,
    },
];

#[test]
fn settings_of_replication_have_the_effect_they_name() {
    for row in ROWS {
        let seen = (row.observe)(&mut Cluster::with(2, 1, |_| {}));
        assert_eq!(seen, row.by_default, "{} by default", row.name);
        let seen = (row.observe)(&mut Cluster::with(2, 1, row.change));
        assert_eq!(seen, row.changed, "{} changed", row.name);
    }
}

/// Milliseconds until a condition holds; it is looked at after each.
fn until(cluster: &mut Cluster, what: &str, mut holds: impl FnMut(&mut Cluster) -> bool) -> u64 {
    let begun = cluster.now;
    while !holds(cluster) {
        assert!(cluster.now.since(begun) < PATIENCE_MS, "never: {what}");
        cluster.pass(1);
    }
    cluster.now.since(begun)
}

fn on_the_way(cluster: &Cluster, link: (i32, i32)) -> bool {
    cluster.in_transit.iter().any(|message| message.link() == link)
}

/// Takes the answer to the follower's fetch off the wire; how many records it carries.
fn take_reply(cluster: &mut Cluster) -> u64 {
    let at = cluster.in_transit.iter().position(|message| message.link() == (1, 2)).expect("an answer");
    let Some(Message::Reply { reply, .. }) = cluster.in_transit.remove(at) else { panic!("not an answer") };
    let fetched = reply.partitions[0].result.clone().expect("served");
    values(&fetched.records).len() as u64
}

fn empty_fetch_waits_ms(cluster: &mut Cluster) -> u64 {
    // The follower asks anew at a known moment.
    cluster.hold(1, 2);
    until(cluster, "an answer", |cluster| on_the_way(cluster, (1, 2)));
    cluster.release(1, 2);
    cluster.run();
    cluster.hold(1, 2);
    until(cluster, "the next answer", |cluster| on_the_way(cluster, (1, 2)))
}

fn small_record_is_committed_after_ms(cluster: &mut Cluster) -> u64 {
    empty_fetch_waits_ms(cluster);
    cluster.release(1, 2);
    cluster.run();
    let ticket = cluster.send(1, "a", Acks::All);
    cluster.run();
    until(cluster, "an acknowledgement", |cluster| cluster.result(ticket).is_some())
}

fn records_in_one_answer(cluster: &mut Cluster) -> u64 {
    cluster.hold(1, 2);
    for round in 0..10 {
        cluster.send(1, &format!("r{round}"), Acks::Leader);
    }
    // What waited was answered with the first record; the next question finds the rest, and one more.
    cluster.run();
    cluster.send(1, "r10", Acks::Leader);
    assert_eq!(take_reply(cluster), 1);
    let (fetcher, correlation) = fetch_in_flight(cluster);
    cluster.step(2, Event::FetchFailed { fetcher, correlation });
    until(cluster, "the next answer", |cluster| on_the_way(cluster, (1, 2)));
    take_reply(cluster)
}

fn fetch_in_flight(cluster: &mut Cluster) -> (minisr_replica::FetcherId, u64) {
    *cluster.last_fetch.get(&BrokerId(2)).expect("it has fetched")
}

fn longest_pause_after_failures_ms(cluster: &mut Cluster) -> u64 {
    cluster.hold(2, 1);
    until(cluster, "a fetch", |cluster| on_the_way(cluster, (2, 1)));
    let mut longest = 0;
    for _ in 0..12 {
        let at = cluster.in_transit.iter().position(|message| message.link() == (2, 1)).expect("a fetch");
        let Some(Message::Fetch { fetcher, correlation, .. }) = cluster.in_transit.remove(at) else {
            panic!("not a fetch")
        };
        cluster.step(2, Event::FetchFailed { fetcher, correlation });
        longest = longest.max(until(cluster, "the next fetch", |cluster| on_the_way(cluster, (2, 1))));
    }
    longest
}

fn lost_fetch_is_given_up_after_ms(cluster: &mut Cluster) -> u64 {
    cluster.hold(2, 1);
    until(cluster, "a fetch", |cluster| on_the_way(cluster, (2, 1)));
    cluster.in_transit.retain(|message| message.link() != (2, 1));
    let given_up = until(cluster, "the next fetch", |cluster| on_the_way(cluster, (2, 1)));
    // The pause after the first failure.
    given_up - 20
}

/// Removal takes 1 to 1.5 times the setting; what is returned is the setting if it did.
fn silent_follower_is_dropped_after_lag_times(cluster: &mut Cluster) -> u64 {
    cluster.partition(1, 2);
    cluster.send(1, "a", Acks::Leader);
    let took = until(cluster, "a smaller ISR", |cluster| cluster.isr() == [1]);
    for setting in [2_000, 30_000] {
        if (setting..=setting * 3 / 2 + 1).contains(&took) {
            return setting;
        }
    }
    took
}

fn fetch_loops_for_six_partitions(cluster: &mut Cluster) -> u64 {
    let replicas = vec![vec![BrokerId(1), BrokerId(2)]; 6];
    cluster.hold(2, 1);
    cluster.create_topic(TopicId(8), "wide", replicas, 1);
    cluster.run();
    let loops: BTreeSet<_> = cluster
        .in_transit
        .iter()
        .filter_map(|message| match message {
            Message::Fetch { fetcher, .. } => Some(*fetcher),
            _ => None,
        })
        .collect();
    loops.len() as u64
}

fn high_watermark_is_checkpointed_within_ms(cluster: &mut Cluster) -> u64 {
    let checkpointed = |cluster: &mut Cluster| {
        let disk = &mut cluster.brokers.get_mut(&BrokerId(1)).expect("known").disk;
        let file = disk.read_file(Path::new("/data/replication-offset-checkpoint")).expect("readable");
        String::from_utf8(file.unwrap_or_default()).expect("text")
    };
    // From one checkpoint to the next.
    let next = |cluster: &mut Cluster| {
        cluster.produce("a");
        let before = checkpointed(cluster);
        until(cluster, "another checkpoint", |cluster| checkpointed(cluster) != before)
    };
    next(cluster);
    next(cluster)
}

fn small_record_is_flushed(cluster: &mut Cluster) -> u64 {
    cluster.produce("a");
    u64::from(cluster.describe(2).flushed == cluster.describe(2).log_end)
}
