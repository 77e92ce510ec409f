//! Stories of disks and restarts: what a start finds, what it may claim, and what a failing disk does to producers.

mod support;

use std::io::ErrorKind;
use std::path::Path;

use minisr_logic::{BrokerId, Offset};
use minisr_replica::{Acks, AppendError, Config, FetchError, FlushPolicy, Notice, RoleName};
use minisr_storage::Disk;
use minisr_storage::disk::memory::{Fault, Operation, Survives, Unsynced};
use support::{Cluster, ROOT, flush_commit};

fn disk(cluster: &mut Cluster, id: i32) -> &mut minisr_storage::MemoryDisk {
    &mut cluster.brokers.get_mut(&BrokerId(id)).expect("known").disk
}

// ---- which starts are clean for data --------------------------------------------------------------------------------

#[test]
fn restart_of_a_new_directory_is_not_clean() {
    let cluster = Cluster::new(1, 1);
    let report = &cluster.brokers[&BrokerId(1)].report;
    assert!(!report.clean_for_data);
    assert_eq!(report.previous_broker_epoch, None);
}

#[test]
fn restart_after_a_kill_is_clean_since_the_page_cache_survived() {
    let mut cluster = Cluster::new(1, 1);
    cluster.produce("a");
    let epoch = cluster.brokers[&BrokerId(1)].epoch;
    cluster.kill(1);
    let report = cluster.start(1);
    assert!(report.clean_for_data, "{}", report.reason);
    assert_eq!((report.previous_broker_epoch, report.partitions), (epoch, 1));
    cluster.run();
    assert_eq!(cluster.leader(), Some(1));
    assert_eq!(cluster.read_all(1), ["a"]);
}

#[test]
fn restart_after_a_clean_stop_is_clean_even_on_another_boot() {
    let mut cluster = Cluster::new(1, 1);
    cluster.produce("a");
    cluster.stop(1);
    disk(&mut cluster, 1).crash(&mut |_| Survives::Nothing);
    let report = cluster.start(1);
    assert!(report.clean_for_data, "{}", report.reason);
    cluster.run();
    assert_eq!(cluster.read_all(1), ["a"]);
}

#[test]
fn restart_after_power_loss_is_not_clean_and_says_so_until_it_has_registered() {
    let mut cluster = Cluster::new(2, 1);
    cluster.produce("a");
    cluster.lose_power(2);
    let report = cluster.open(2);
    assert!(!report.clean_for_data);
    // It dies again before it could tell anybody. The boot is the same now, yet the data is still missing.
    cluster.vanish(2);
    let report = cluster.open(2);
    assert!(!report.clean_for_data, "{}", report.reason);
    cluster.register(2);
    cluster.pass(1_000);
    cluster.assert_converged();
    // From here on it holds what it acknowledges.
    cluster.kill(2);
    assert!(cluster.start(2).clean_for_data);
}

/// Bug 21: a start that never registered must not leave a clean-shutdown marker that covers up what it found.
#[test]
fn restart_that_was_stopped_before_it_registered_leaves_no_clean_marker() {
    let mut cluster = Cluster::new(2, 1);
    cluster.produce("a");
    cluster.lose_power(2);
    cluster.open(2);
    let broker = cluster.brokers.get_mut(&BrokerId(2)).expect("known");
    broker.shard.take().expect("open").close(&mut broker.disk).expect("closed");
    assert!(!cluster.open(2).clean_for_data);
}

#[test]
fn restart_after_power_loss_is_clean_under_flush_commit_and_nothing_acknowledged_is_missing() {
    let mut cluster = Cluster::with(1, 1, flush_commit);
    cluster.produce("a");
    cluster.produce("b");
    cluster.hold(1, 1);
    let unflushed = cluster.send(1, "c", Acks::All);
    cluster.run();
    assert_eq!(cluster.result(unflushed), None);
    cluster.held.clear();
    cluster.lose_power(1);
    let report = cluster.start(1);
    assert!(report.clean_for_data, "{}", report.reason);
    cluster.run();
    assert_eq!(cluster.read_all(1), ["a", "b"]);
}

/// Trap 9: a quick restart after power loss must not keep an ISR seat on data that is gone.
#[test]
fn restart_after_power_loss_loses_the_isr_seat_until_caught_up() {
    let mut cluster = Cluster::new(3, 2);
    cluster.produce("a");
    cluster.lose_power(3);
    cluster.run();
    cluster.start(3);
    cluster.hold(1, 3);
    cluster.run();
    assert_eq!(cluster.isr(), [1, 2]);
    assert_eq!(cluster.log_end(3), 0);
    cluster.release(1, 3);
    cluster.pass(1_000);
    cluster.assert_converged();
}

#[test]
fn restart_with_bit_rot_below_the_high_watermark_is_not_clean_and_refetches() {
    let mut cluster = Cluster::new(2, 1);
    for value in ["a", "b", "c"] {
        cluster.produce(value);
    }
    cluster.pass(10_000);
    cluster.kill(2);
    cluster.run();
    let path = Path::new("/data/t-0/00000000000000000000.log");
    disk(&mut cluster, 2).rot(path, 75, 0x10).expect("there is a byte to rot");
    let report = cluster.start(2);
    assert!(!report.clean_for_data, "{}", report.reason);
    assert_eq!(report.cut.len(), 1);
    cluster.pass(1_000);
    cluster.assert_converged();
}

#[test]
fn restart_without_a_topic_id_sets_the_directory_aside() {
    let mut cluster = Cluster::new(2, 1);
    cluster.produce("a");
    cluster.pass(10_000);
    cluster.kill(2);
    disk(&mut cluster, 2).remove(Path::new("/data/t-0/partition.metadata")).expect("there is one");
    let report = cluster.start(2);
    assert_eq!(report.strays, ["t-0"]);
    assert!(!report.clean_for_data, "{}", report.reason);
    cluster.pass(1_000);
    cluster.assert_converged();
    assert!(disk(&mut cluster, 2).exists(Path::new("/data/t-0.stray")).expect("can look"));
}

/// What was flushed and then cut on purpose is not missing.
#[test]
fn restart_after_a_cut_below_the_recovery_point_is_not_taken_for_rot() {
    let mut cluster = Cluster::with(2, 1, |config| {
        flush_commit(config);
        config.recovery_point_checkpoint_interval_ms = 1_000;
    });
    cluster.produce("a");
    cluster.partition(1, 2);
    for tail in ["x1", "x2", "x3", "x4"] {
        cluster.send(1, tail, Acks::Leader);
    }
    cluster.pass(1_500);
    cluster.kill(1);
    cluster.run();
    cluster.heal();
    cluster.start(1);
    cluster.run();
    assert_eq!(cluster.truncations(1), [(5, 1)]);
    cluster.lose_power(1);
    let report = cluster.start(1);
    assert!(report.clean_for_data, "{}", report.reason);
    cluster.pass(1_000);
    cluster.assert_converged();
}

/// Found by the simulator: a follower cuts its tail and appends the new leader's records; a power loss takes those. The old
/// tail must not stand again and pass for the new epoch's: the cut is on the disk before anything is appended behind it.
#[test]
fn restart_after_power_loss_behind_a_cut_does_not_take_old_records_for_new() {
    let mut cluster = Cluster::with(3, 1, flush_commit);
    cluster.produce("a");
    // Broker 3 flushes what only brokers 1 and 3 get, and what broker 2 will not lead with.
    cluster.partition(1, 2);
    for tail in ["x1", "x2", "x3", "x4"] {
        cluster.send(1, tail, Acks::Leader);
    }
    cluster.run();
    assert_eq!(cluster.describe(3).flushed, Offset(5));
    cluster.hold(3, 3);
    cluster.kill(1);
    cluster.run();
    cluster.heal();
    assert_eq!(cluster.leader(), Some(2));
    cluster.send(2, "y1", Acks::All);
    cluster.send(2, "y2", Acks::All);
    cluster.pass(100);
    assert_eq!((cluster.truncations(3), cluster.log_end(3)), (vec![(5, 1)], 1), "the sync of the cut is under way");
    let of_the_cut = cluster.in_transit.iter().position(|message| message.link() == (3, 3)).expect("a sync round");
    let of_the_cut = cluster.in_transit.remove(of_the_cut).expect("just found");
    cluster.deliver(of_the_cut);
    cluster.pass(100);
    assert_eq!(cluster.log_end(3), 3, "and now the one of what was appended behind it");
    cluster.held.clear();
    cluster.lose_power(3);
    cluster.run();
    cluster.start(3);
    assert_eq!(cluster.log_end(3), 1, "the cut is not undone");
    cluster.pass(1_000);
    assert_eq!(cluster.truncations(3), [(5, 1)]);
    cluster.assert_converged();
    assert_eq!(cluster.read_all(2), ["a", "y1", "y2"]);
}

/// What may have been cut has to be on the disk before anything is put behind it, and that sync is not the data thread's:
/// until it has ended, the log is left out of what is fetched.
#[test]
fn restart_after_a_kill_fetches_once_a_possible_cut_is_on_the_disk_and_waits_for_no_sync_itself() {
    let mut cluster = Cluster::new(2, 1);
    cluster.produce("a");
    cluster.kill(2);
    cluster.run();
    cluster.produce("b");
    cluster.hold(2, 2);
    cluster.start(2);
    cluster.pass(100);
    assert_eq!(cluster.log_end(2), 1, "the round is under way");
    cluster.hold(2, 1);
    cluster.release(2, 2);
    cluster.run();
    disk(&mut cluster, 2).inject(Fault::always(Operation::Sync, ErrorKind::Other));
    cluster.release(2, 1);
    cluster.pass(1_000);
    cluster.assert_converged();
}

/// Found by the simulator (seed 301704): a power loss behind a cut without flushes; the high watermark of the lost state survives.
#[test]
fn restart_after_power_loss_does_not_take_a_high_watermark_over_a_log_that_went_back() {
    let mut cluster = Cluster::new(3, 1);
    cluster.produce("a");
    cluster.partition(1, 2);
    for tail in ["x1", "x2", "x3", "x4"] {
        cluster.send(1, tail, Acks::Leader);
    }
    cluster.run();
    cluster.kill(1);
    cluster.run();
    cluster.heal();
    cluster.pass(100);
    for value in ["y1", "y2", "y3"] {
        cluster.produce(value);
    }
    // The high watermark 4 is checkpointed, and happens to survive; what was written to the log since its last sync, which
    // came with the cut, does not.
    cluster.pass(10_000);
    cluster.vanish(3);
    let mut log_is_back = false;
    disk(&mut cluster, 3).crash(&mut |unsynced| match unsynced {
        Unsynced::File { path, .. } if path.extension().is_some_and(|suffix| suffix == "log") => {
            log_is_back = true;
            Survives::Nothing
        }
        _ => Survives::Everything,
    });
    assert!(log_is_back);
    cluster.fence(3);
    cluster.start(3);
    assert_eq!((cluster.log_end(3), cluster.high_watermark(3)), (1, 0));
    cluster.pass(1_000);
    assert_eq!(cluster.truncations(3), [(5, 1)]);
    cluster.assert_converged();
}

#[test]
fn restart_gives_a_log_its_topics_settings_again() {
    let mut cluster = Cluster::new(1, 1);
    let changes = std::collections::BTreeMap::from([("segment.bytes".to_owned(), Some("70".to_owned()))]);
    let topic_id = cluster.topic;
    cluster
        .command(minisr_logic::metadata::Command::AlterTopicConfigs { topic_id, changes })
        .expect("settings are not checked here");
    cluster.kill(1);
    cluster.start(1);
    cluster.run();
    for value in ["a", "b", "c"] {
        cluster.produce(value);
    }
    let segments = |entry: &minisr_storage::disk::Entry| entry.name.ends_with(".log");
    let entries = disk(&mut cluster, 1).list(Path::new("/data/t-0")).expect("a directory");
    assert_eq!(entries.iter().filter(|entry| segments(entry)).count(), 3, "each record begins a segment");
}

#[test]
fn restart_keeps_high_watermark_epochs_and_producers() {
    let mut cluster = Cluster::new(1, 1);
    cluster.send_batch(1, &["a"], Acks::All, support::idempotent(9, 0));
    cluster.kill(1);
    cluster.start(1);
    cluster.run();
    let again = cluster.send_batch(1, &["a"], Acks::All, support::idempotent(9, 0));
    assert_eq!(cluster.result(again), Some(Ok(0)), "recognised");
    assert_eq!((cluster.high_watermark(1), cluster.log_end(1)), (1, 1));
}

/// No role is taken from an image of an earlier life, although it says that this broker leads.
#[test]
fn restart_takes_no_role_before_its_own_registration() {
    let mut cluster = Cluster::new(1, 1);
    cluster.produce("a");
    cluster.vanish(1);
    cluster.open(1);
    let image = std::sync::Arc::new(cluster.image.clone());
    assert_eq!(cluster.leader(), Some(1), "nobody has noticed");
    cluster.step(1, minisr_replica::Event::Image(image));
    let ticket = cluster.send(1, "b", Acks::Leader);
    assert_eq!(cluster.result(ticket), Some(Err(AppendError::NotLeader)));
    assert_eq!(cluster.describe(1).role, RoleName::Offline);
}

// ---- failing disks --------------------------------------------------------------------------------------------------

fn failures(cluster: &Cluster) -> usize {
    cluster.notices.iter().filter(|(_, notice)| matches!(notice, Notice::LogFailed { .. })).count()
}

#[test]
fn disk_full_fails_the_write_and_everyone_who_waits_and_takes_the_log_offline() {
    let mut cluster = Cluster::new(2, 2);
    cluster.produce("a");
    cluster.hold(2, 1);
    let waiting = cluster.send(1, "b", Acks::All);
    disk(&mut cluster, 1).inject(Fault::always(Operation::Write, ErrorKind::StorageFull));
    let failing = cluster.send(1, "c", Acks::All);
    assert_eq!(cluster.result(waiting), Some(Err(AppendError::StorageFailed)));
    assert_eq!(cluster.result(failing), Some(Err(AppendError::StorageFailed)));
    disk(&mut cluster, 1).heal();
    let after = cluster.send(1, "d", Acks::Leader);
    assert_eq!(cluster.result(after), Some(Err(AppendError::StorageFailed)), "until it is opened again");
    assert_eq!(failures(&cluster), 1);
    let reader = cluster.consume(1, 0, 1_000);
    assert_eq!(cluster.fetched[&reader].partitions[0].result, Err(FetchError::LogOffline));
    cluster.release(2, 1);
    cluster.pass(1_000);
    assert_eq!(failures(&cluster), 1);
}

#[test]
fn disk_write_error_on_a_follower_stops_its_replica_only() {
    let mut cluster = Cluster::with(3, 2, |config| config.replica_lag_time_max_ms = 2_000);
    cluster.produce("a");
    disk(&mut cluster, 3).inject(Fault::always(Operation::Write, ErrorKind::Other));
    let ticket = cluster.send(1, "b", Acks::All);
    cluster.pass(3_500);
    assert_eq!(cluster.result(ticket), Some(Ok(1)), "once broker 3 is out of the ISR");
    assert_eq!(cluster.isr(), [1, 2]);
    assert_eq!(cluster.describe(3).role, RoleName::Offline);
}

/// Bug 29, and the rule of fsync: after a failed sync nothing is acknowledged, and a later one proves nothing.
#[test]
fn disk_sync_error_under_flush_commit_never_acknowledges() {
    let mut cluster = Cluster::with(1, 1, flush_commit);
    cluster.produce("a");
    disk(&mut cluster, 1).inject(Fault::always(Operation::Sync, ErrorKind::Other));
    let ticket = cluster.send(1, "b", Acks::All);
    cluster.run();
    assert_eq!(cluster.result(ticket), Some(Err(AppendError::StorageFailed)));
    disk(&mut cluster, 1).heal();
    let after = cluster.send(1, "c", Acks::All);
    cluster.run();
    assert_eq!(cluster.result(after), Some(Err(AppendError::StorageFailed)));
}

/// After a failed sync the page cache shows what the disk may not have, so the same boot proves nothing.
#[test]
fn disk_sync_error_makes_the_next_start_give_up_its_seats_although_nothing_is_missing() {
    for policy in [flush_commit, |config: &mut Config| config.flush = FlushPolicy::Interval { interval_ms: 1_000 }] {
        let mut cluster = Cluster::with(2, 1, policy);
        cluster.produce("a");
        disk(&mut cluster, 2).inject(Fault::always(Operation::Sync, ErrorKind::Other));
        cluster.produce_pending("b");
        cluster.pass(2_000);
        assert_eq!(cluster.describe(2).role, RoleName::Offline);
        cluster.kill(2);
        disk(&mut cluster, 2).heal();
        let report = cluster.start(2);
        assert!(!report.clean_for_data, "{report:?}");
        assert!(report.reason.contains("was not clean"), "{}", report.reason);
        cluster.pass(2_000);
        assert_eq!(cluster.isr(), [1, 2], "it may earn its seat again");
        cluster.kill(2);
        assert!(cluster.start(2).clean_for_data, "and the doubt is over");
    }
}

/// A stop in order that cannot flush is the same.
#[test]
fn disk_sync_error_while_closing_makes_the_next_start_not_clean() {
    let mut cluster = Cluster::new(1, 1);
    cluster.produce("a");
    let broker = cluster.brokers.get_mut(&BrokerId(1)).expect("known");
    broker.disk.inject(Fault::always(Operation::Sync, ErrorKind::Other));
    broker.shard.take().expect("running").close(&mut broker.disk).expect_err("it cannot be flushed");
    broker.disk.heal();
    cluster.fence(1);
    assert!(!cluster.start(1).clean_for_data);
}

#[test]
fn disk_appends_of_a_step_share_one_sync_round() {
    let mut cluster = Cluster::with(1, 1, flush_commit);
    cluster.hold(1, 1);
    for value in ["a", "b", "c", "d"] {
        cluster.send(1, value, Acks::All);
    }
    let rounds = |cluster: &Cluster| cluster.in_transit.iter().filter(|message| message.link() == (1, 1)).count();
    assert_eq!(rounds(&cluster), 1, "the first append's round runs, the others wait for the next");
    cluster.held.clear();
    let message = cluster.in_transit.pop_front().expect("the round");
    cluster.deliver(message);
    assert_eq!(rounds(&cluster), 1, "one round for the other three");
    assert_eq!(cluster.describe(1).flushed, Offset(1));
    cluster.run();
    assert_eq!(cluster.describe(1).flushed, Offset(4));
}

#[test]
fn retention_removes_old_segments_below_the_high_watermark_and_followers_adopt_the_start() {
    let mut cluster = Cluster::with(2, 1, |config| {
        config.topic.segment_bytes = 200;
        config.topic.retention_bytes = Some(400);
        config.topic.retention_ms = None;
        config.retention_check_interval_ms = 1_000;
    });
    for round in 0..20 {
        cluster.produce(&format!("record-{round:02}"));
    }
    cluster.pass(2_000);
    let start = cluster.describe(1).log_start;
    assert!(start > Offset(0), "{start}");
    assert!(cluster.describe(1).size_bytes < 700);
    cluster.produce("one more");
    cluster.pass(1_000);
    assert!(cluster.describe(2).log_start >= start);
    // A replica that comes back from nothing begins where the leader's log begins.
    cluster.vanish(2);
    cluster.fence(2);
    disk(&mut cluster, 2).remove_dir_all(Path::new(ROOT)).expect("wiped");
    cluster.start(2);
    cluster.pass(2_000);
    assert_eq!(cluster.isr(), [1, 2]);
    assert_eq!(cluster.log_end(2), 21);
    assert_eq!(cluster.describe(2).log_start, cluster.describe(1).log_start);
}

/// What a process does whose log has failed: it notes what the failure may have cost, and stops.
fn abandon(cluster: &mut Cluster, id: i32) {
    let broker = cluster.brokers.get_mut(&BrokerId(id)).expect("known");
    broker.shard.as_mut().expect("open").abandon(&mut broker.disk).expect("noted");
    cluster.kill(id);
}

#[test]
fn disk_full_leaves_what_was_written_so_the_next_start_is_clean() {
    let mut cluster = Cluster::new(1, 1);
    cluster.produce("a");
    disk(&mut cluster, 1).inject(Fault::always(Operation::Write, ErrorKind::StorageFull));
    cluster.send(1, "b", Acks::Leader);
    abandon(&mut cluster, 1);
    disk(&mut cluster, 1).heal();
    let report = cluster.start(1);
    assert!(report.clean_for_data, "{}", report.reason);
    cluster.run();
    assert_eq!(cluster.read_all(1), ["a"]);
}

#[test]
fn disk_error_makes_the_next_start_doubt_what_the_kernel_calls_written() {
    let mut cluster = Cluster::new(3, 2);
    cluster.produce("a");
    disk(&mut cluster, 1).inject(Fault::always(Operation::Write, ErrorKind::Other));
    cluster.send(1, "b", Acks::All);
    // The disk takes nothing any more, but a file can still be removed from it.
    abandon(&mut cluster, 1);
    disk(&mut cluster, 1).heal();
    cluster.run();
    assert_ne!(cluster.leader(), Some(1), "another leads");
    cluster.hold(1, 2);
    cluster.hold(1, 3);
    let report = cluster.start(1);
    assert!(!report.clean_for_data, "the machine stayed up, but its pages are not to be trusted");
    cluster.run();
    assert!(!cluster.isr().contains(&1), "it has to catch up first");
    cluster.release(1, 2);
    cluster.release(1, 3);
    cluster.pass(1_000);
    cluster.assert_converged();
}
