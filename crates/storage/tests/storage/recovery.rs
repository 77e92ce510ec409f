//! What comes back after a crash.

use crate::vocabulary::*;
use minisr_storage::disk::memory::Survives;
use minisr_storage::{BadBatch, Disk, MemoryDisk};
use std::path::{Path, PathBuf};

const FIRST: &str = "00000000000000000000.log";

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

#[test]
fn recovery_process_kill_loses_nothing() {
    let (mut disk, log) = log_of(20);
    drop(log);
    let (mut log, recovered) = open(&mut disk, UNCLEAN);
    assert_eq!((log.end_offset(), log.flushed_offset(), recovered.cut), (20, 0, None));
    assert_eq!(recovered.epochs, [(1, 0)]);
    assert_eq!(contents(&mut disk, &mut log).len(), 20);
}

#[test]
fn recovery_power_loss_without_any_sync_leaves_an_empty_log() {
    let (mut disk, _log) = log_of(20);
    power_loss(&mut disk);
    let (log, recovered) = open(&mut disk, UNCLEAN);
    assert_eq!((log.end_offset(), recovered.cut), (0, None));
}

#[test]
fn recovery_torn_write_in_the_middle_of_a_batch_is_cut() {
    let (mut disk, mut log) = log_of(3);
    log.sync(&mut disk).unwrap();
    append(&mut disk, &mut log, 2, 1);
    power_loss_in(&mut disk, FIRST, Survives::Prefix { operations: 1, bytes: 100 });
    let (log, recovered) = open(&mut disk, unclean(3));
    let cut = recovered.cut.unwrap();
    assert_eq!((log.end_offset(), cut.offset, cut.bytes), (4, 4, 100));
    assert_eq!((cut.reason, cut.below_recovery_point), (BadBatch::Short, false));
}

#[test]
fn recovery_torn_middle_segment_deletes_every_later_one() {
    let (mut disk, mut log) = log_of(5);
    log.sync(&mut disk).unwrap();
    append(&mut disk, &mut log, 20, 1);
    // Bytes in the middle of the second segment were never written back; those of later segments were.
    let second = files(&mut disk)[1].clone();
    power_loss_in(&mut disk, &second, Survives::Hole { from: 250, to: 300 });
    let (mut log, recovered) = open(&mut disk, unclean(5));
    let cut = recovered.cut.unwrap();
    assert!(cut.segments > 0, "later segments existed");
    assert_eq!(cut.reason, BadBatch::Crc);
    assert!(!cut.below_recovery_point);
    assert_eq!(log.segment_count(), 2);
    assert!(log.end_offset() > 5 && log.end_offset() < 15);
    let kept = contents(&mut disk, &mut log);
    assert_eq!(kept.len() as i64, log.end_offset());
    assert!(!files(&mut disk).iter().any(|name| name.as_str() > format!("{:020}", log.end_offset()).as_str()));
}

#[test]
fn recovery_rot_below_the_flushed_point_is_told_from_a_torn_tail() {
    let (mut disk, mut log) = log_of(4);
    log.sync(&mut disk).unwrap();
    disk.rot(&path(FIRST), 400, 0x10).unwrap();
    let (log, recovered) = open(&mut disk, unclean(4));
    let cut = recovered.cut.unwrap();
    assert!(cut.below_recovery_point);
    assert_eq!((log.end_offset(), cut.offset, cut.reason), (2, 2, BadBatch::Crc));
    assert_eq!(log.flushed_offset(), 2);
}

#[test]
fn recovery_missing_file_below_the_flushed_point_is_rot() {
    let (mut disk, mut log) = log_of(20);
    log.sync(&mut disk).unwrap();
    let second = files(&mut disk).into_iter().filter(|name| name.ends_with(".log")).nth(1).unwrap();
    disk.remove(&path(&second)).unwrap();
    let (mut log, recovered) = open(&mut disk, unclean(20));
    let cut = recovered.cut.unwrap();
    assert!(cut.below_recovery_point && cut.segments > 0);
    assert_eq!((cut.reason, cut.offset), (BadBatch::Gap, log.end_offset()));
    assert_eq!(contents(&mut disk, &mut log).len() as i64, log.end_offset());
}

#[test]
fn recovery_whole_log_gone_below_the_flushed_point_is_rot() {
    let (mut disk, mut log) = log_of(4);
    log.sync(&mut disk).unwrap();
    disk.remove_dir_all(Path::new(DIRECTORY)).unwrap();
    let (log, recovered) = open(&mut disk, unclean(4));
    assert_eq!(log.end_offset(), 0);
    assert!(recovered.cut.unwrap().below_recovery_point);
}

#[test]
fn recovery_stale_segment_with_older_epoch_behind_newer_data_is_cut() {
    let (mut disk, mut log) = log_of(3);
    let file = disk.open(&path(FIRST), minisr_storage::disk::OpenMode::Write).unwrap();
    let len = disk.len(&file).unwrap();
    let older = batch(3, 0);
    disk.write_at(&file, len, &[std::io::IoSlice::new(&older)]).unwrap();
    log.release_tail(3);
    let (log, recovered) = open(&mut disk, UNCLEAN);
    assert_eq!((log.end_offset(), recovered.cut.unwrap().reason), (3, BadBatch::Epoch));
}

#[test]
fn recovery_twice_gives_the_same() {
    for hole in [20, 150, 333, 600] {
        let (mut disk, mut log) = log_of(4);
        log.sync(&mut disk).unwrap();
        append(&mut disk, &mut log, 30, 1);
        disk.crash(&mut |_| Survives::Hole { from: hole, to: hole + 70 });
        let (mut log, first) = open(&mut disk, unclean(4));
        let kept = contents(&mut disk, &mut log);
        drop(log);
        let (mut log, second) = open(&mut disk, unclean(4));
        assert_eq!(contents(&mut disk, &mut log), kept);
        assert!(first.cut.is_some());
        assert_eq!((second.cut, &second.epochs), (None, &first.epochs));
        // Nor does a power loss right after recovery take anything that was durable before.
        power_loss(&mut disk);
        let (mut log, _) = open(&mut disk, unclean(4));
        assert!(log.end_offset() >= 4);
        assert!(kept.starts_with(&contents(&mut disk, &mut log)));
    }
}

#[test]
fn recovery_clean_close_verifies_nothing_and_finds_everything() {
    let (mut disk, log) = log_of(25);
    assert_eq!(log.close(&mut disk).unwrap(), 25);
    power_loss_in(&mut disk, "none", Survives::Nothing);
    let (mut log, recovered) = open(&mut disk, clean());
    assert_eq!((recovered.verified_bytes, recovered.cut), (0, None));
    assert_eq!((log.end_offset(), log.flushed_offset(), log.last_epoch()), (25, 25, Some(1)));
    assert_eq!(log.max_timestamp().unwrap().timestamp, 240);
    assert_eq!(log.offset_for_timestamp(&mut disk, 95, 25).unwrap().unwrap().offset, 10);
    append(&mut disk, &mut log, 10, 1);
    assert_eq!(contents(&mut disk, &mut log).len(), 35);
}

#[test]
fn recovery_clean_marker_with_a_shortened_file_is_not_believed() {
    let (mut disk, log) = log_of(4);
    log.close(&mut disk).unwrap();
    let file = disk.open(&path(FIRST), minisr_storage::disk::OpenMode::Write).unwrap();
    let len = disk.len(&file).unwrap();
    disk.truncate(&file, len - 10).unwrap();
    let options = minisr_storage::OpenOptions { recovery_point: 4, ..clean() };
    let (log, recovered) = open(&mut disk, options);
    assert_eq!((log.end_offset(), log.flushed_offset()), (3, 3));
    assert!(recovered.cut.unwrap().below_recovery_point);
}

#[test]
fn recovery_lost_or_unsound_index_is_rebuilt() {
    let (mut disk, log) = log_of(25);
    log.close(&mut disk).unwrap();
    let names = files(&mut disk);
    let indexes: Vec<_> = names.iter().filter(|name| name.ends_with(".index")).collect();
    let times: Vec<_> = names.iter().filter(|name| name.ends_with(".timeindex")).collect();
    disk.remove(&path(indexes[0])).unwrap();
    disk.rot(&path(indexes[1]), 7, 0xff).unwrap();
    let file = disk.open(&path(times[2]), minisr_storage::disk::OpenMode::Write).unwrap();
    let len = disk.len(&file).unwrap();
    disk.truncate(&file, len - 1).unwrap();
    let (mut log, recovered) = open(&mut disk, clean());
    assert!(recovered.verified_bytes > 0);
    assert_eq!(recovered.cut, None);
    assert_eq!(contents(&mut disk, &mut log).len(), 25);
    log.close(&mut disk).unwrap();
    assert!(files(&mut disk).contains(indexes[0]), "written again");
}

#[test]
fn recovery_below_the_recovery_point_trusts_sealed_segments() {
    let (mut disk, mut log) = log_of(20);
    log.sync(&mut disk).unwrap();
    append(&mut disk, &mut log, 3, 1);
    let total = log.size_bytes();
    drop(log);
    let (mut log, recovered) = open(&mut disk, unclean(20));
    assert!(recovered.verified_bytes > 0 && recovered.verified_bytes < total / 2);
    assert_eq!(log.end_offset(), 23);
    assert_eq!(contents(&mut disk, &mut log).len(), 23);
}

#[test]
fn recovery_leftovers_and_orphaned_indexes_go() {
    let (mut disk, _log) = log_of(3);
    for name in ["00000000000000000000.log.deleted", "00000000000000000000.log.cleaned", "00000000000000000099.index"] {
        disk.open(&path(name), minisr_storage::disk::OpenMode::Create).unwrap();
    }
    let (log, _) = open(&mut disk, UNCLEAN);
    assert_eq!(log.end_offset(), 3);
    assert_eq!(files(&mut disk), [FIRST]);
}

#[test]
fn recovery_reports_the_epochs_of_the_verified_part() {
    let mut disk = MemoryDisk::new();
    let (mut log, _) = open(&mut disk, UNCLEAN);
    for epoch in [1, 1, 4, 4, 5] {
        append(&mut disk, &mut log, 4, epoch);
    }
    drop(log);
    let (_, recovered) = open(&mut disk, UNCLEAN);
    assert_eq!(recovered.epochs, [(1, 0), (4, 8), (5, 16)]);
}

#[test]
fn recovery_log_start_past_the_end_starts_anew_there() {
    let (mut disk, log) = log_of(3);
    drop(log);
    let options = minisr_storage::OpenOptions { start_offset: 50, ..UNCLEAN };
    let (log, _) = open(&mut disk, options);
    assert_eq!((log.start_offset(), log.end_offset()), (50, 50));
}

#[test]
fn recovery_new_log_begins_at_the_given_start() {
    let mut disk = MemoryDisk::new();
    let (log, _) = open(&mut disk, minisr_storage::OpenOptions { start_offset: 7, ..UNCLEAN });
    assert_eq!((log.start_offset(), log.end_offset()), (7, 7));
}

/// After a clean stop the index of the last segment is on the disk, but nobody synced it. A power loss leaves an entry
/// whose offset reads as zero: it still looks like an index, and would lead whoever looks for the first record to a later
/// batch (the simulator found it, seed 3000441).
#[test]
fn recovery_after_a_clean_stop_does_not_believe_an_index_that_leads_astray() {
    let (mut disk, log) = log_of(4);
    log.close(&mut disk).unwrap();
    power_loss_in(&mut disk, "00000000000000000000.index", Survives::Hole { from: 0, to: 4 });
    let (mut log, _) = open(&mut disk, clean());
    assert_eq!((log.start_offset(), log.end_offset()), (0, 4));
    assert_eq!(contents(&mut disk, &mut log).first(), Some(&batch(0, 1)));
    assert_eq!(contents(&mut disk, &mut log).len(), 4);
}
