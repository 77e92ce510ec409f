//! Cutting a suffix that diverged, and starting anew.

use crate::vocabulary::*;
use minisr_storage::disk::memory::{Survives, Unsynced};
use minisr_storage::{BatchHeader, Log, MemoryDisk};
use std::path::Path;

#[test]
fn truncate_at_every_offset_leaves_exactly_the_prefix() {
    for offset in 0..=20 {
        let (mut disk, mut log) = log_of(20);
        let expected = contents(&mut disk, &mut log);
        assert_eq!(log.truncate_to(&mut disk, offset).unwrap(), offset);
        assert_eq!(contents(&mut disk, &mut log), expected[..offset as usize]);
        append(&mut disk, &mut log, 5, 2);
        assert_eq!(contents(&mut disk, &mut log).len() as i64, offset + 5);
        assert_eq!(log.last_epoch(), Some(2));
    }
}

#[test]
fn truncate_inside_a_batch_removes_the_whole_batch() {
    let (mut disk, mut log) = log_of(2);
    log.append(&mut disk, &[batch_of(2, 3, 10, 0, 10, 1)]).unwrap();
    assert_eq!(log.truncate_to(&mut disk, 7).unwrap(), 2);
    assert_eq!((log.end_offset(), log.last_epoch()), (2, Some(1)));
}

#[test]
fn truncate_restores_epoch_and_largest_timestamp() {
    let mut disk = MemoryDisk::new();
    let (mut log, _) = open(&mut disk, UNCLEAN);
    for offset in 0..30 {
        let epoch = 1 + (offset / 5) as i32;
        log.append(&mut disk, &[batch_of(offset, epoch, 1, 1000 - (offset - 12).abs(), 100, 0)]).unwrap();
    }
    for (offset, epoch, max) in [(25, 5, (1000, 12)), (14, 3, (1000, 12)), (12, 3, (999, 11)), (1, 1, (988, 0))] {
        log.truncate_to(&mut disk, offset).unwrap();
        let found = log.max_timestamp().unwrap();
        assert_eq!((log.last_epoch(), found.timestamp, found.offset), (Some(epoch), max.0, max.1), "cut to {offset}");
    }
    log.truncate_to(&mut disk, 0).unwrap();
    assert_eq!((log.last_epoch(), log.max_timestamp()), (None, None));
}

#[test]
fn truncate_past_the_end_changes_nothing() {
    let (mut disk, mut log) = log_of(3);
    assert_eq!(log.truncate_to(&mut disk, 3).unwrap(), 3);
    assert_eq!(log.truncate_to(&mut disk, 9).unwrap(), 3);
}

#[test]
fn truncate_lowers_the_flushed_offset() {
    let (mut disk, mut log) = log_of(20);
    log.sync(&mut disk).unwrap();
    log.truncate_to(&mut disk, 11).unwrap();
    assert_eq!(log.flushed_offset(), 11);
}

/// After a cut the log grows to exactly where a removed segment began. Should that segment come back after a power
/// loss, nothing in the offsets would show that it does not belong there: so its removal is durable first.
#[test]
fn truncate_power_loss_does_not_bring_a_later_segment_back() {
    let (mut disk, mut log) = log_of(20);
    log.sync(&mut disk).unwrap();
    log.truncate_to(&mut disk, 3).unwrap();
    append(&mut disk, &mut log, 2, 1);
    disk.crash(&mut |unsynced| match unsynced {
        Unsynced::Directory { .. } => Survives::Nothing,
        Unsynced::File { .. } => Survives::Everything,
    });
    let (log, _) = open(&mut disk, unclean(3));
    assert_eq!(log.end_offset(), 5);
}

/// The recovery point on disk is older than the cut and points past it; the segment that was cut and grew again is
/// verified all the same, because its index went with the cut.
#[test]
fn truncate_stale_recovery_point_does_not_hide_a_rotten_middle() {
    let (mut disk, mut log) = log_of(20);
    log.sync(&mut disk).unwrap();
    log.truncate_to(&mut disk, 2).unwrap();
    append(&mut disk, &mut log, 20, 2);
    disk.rot(&Path::new(DIRECTORY).join("00000000000000000000.log"), 4 * batch(0, 1).len() as u64 + 30, 1).unwrap();
    let (mut log, recovered) = open(&mut disk, unclean(20));
    assert_eq!(log.end_offset(), 4);
    assert_eq!(contents(&mut disk, &mut log).len(), 4);
    assert!(recovered.cut.is_some());
}

#[test]
fn truncate_fully_starts_anew_anywhere() {
    let (mut disk, mut log) = log_of(20);
    log.truncate_fully_and_start_at(&mut disk, 1000).unwrap();
    assert_eq!((log.start_offset(), log.end_offset(), log.last_epoch()), (1000, 1000, None));
    append(&mut disk, &mut log, 3, 1);
    drop(log);
    let (mut log, recovered) = open(&mut disk, UNCLEAN);
    assert_eq!((log.start_offset(), log.end_offset(), recovered.cut), (1000, 1003, None));
    assert_eq!(contents(&mut disk, &mut log).len(), 3);
}

#[test]
fn truncate_fully_in_place_empties_the_file() {
    let (mut disk, mut log) = log_of(3);
    log.truncate_fully_and_start_at(&mut disk, 0).unwrap();
    assert_eq!((log.end_offset(), log.size_bytes()), (0, 0));
    append(&mut disk, &mut log, 1, 1);
    assert_eq!(contents(&mut disk, &mut log).len(), 1);
}

/// The cut itself is not synced, the log grows into a new segment, and that is synced. Should the power loss bring the
/// old tail of the first segment back, the new segment would no longer continue it and recovery would delete it: so
/// the sync round takes the cut file along, though everything kept in it was flushed long ago.
#[test]
fn truncate_then_roll_then_sync_keeps_the_synced_segment() {
    let (mut disk, mut log) = log_of(4);
    log.sync(&mut disk).unwrap();
    log.truncate_to(&mut disk, 2).unwrap();
    log.roll(&mut disk).unwrap();
    append(&mut disk, &mut log, 3, 2);
    assert_eq!(log.sync(&mut disk).unwrap(), 5);
    power_loss(&mut disk);
    let (log, recovered) = open(&mut disk, unclean(5));
    assert_eq!((log.end_offset(), log.last_epoch(), recovered.cut), (5, Some(2), None));
}

/// The same across the kill of a process, after which nobody remembers the cut.
#[test]
fn truncate_then_kill_then_roll_then_sync_keeps_the_synced_segment() {
    let (mut disk, mut log) = log_of(4);
    log.sync(&mut disk).unwrap();
    log.truncate_to(&mut disk, 2).unwrap();
    drop(log);
    let (mut log, _) = open(&mut disk, unclean(2));
    log.roll(&mut disk).unwrap();
    append(&mut disk, &mut log, 3, 2);
    assert_eq!(log.sync(&mut disk).unwrap(), 5);
    power_loss(&mut disk);
    let (log, recovered) = open(&mut disk, unclean(5));
    assert_eq!((log.end_offset(), recovered.cut), (5, None));
}

/// The epochs of all batches.
fn epochs(disk: &mut MemoryDisk, log: &mut Log<MemoryDisk>) -> Vec<i32> {
    let contents = contents(disk, log);
    contents.iter().map(|batch| BatchHeader::parse(batch).expect("a batch").leader_epoch).collect()
}

/// Offsets 2 and 3 are cut off, and written again in epoch 2 with batches of the same size. Were the cut not on the disk
/// before, a power loss could bring offset 2 of epoch 1 back and keep offset 3 of epoch 2: sound batches without a gap
/// and with epochs that rise, so that nothing could tell that they are two logs. The simulator found it (mix `disk`,
/// seed 5743), and before it the same at the border of two segments (seed 712).
#[test]
fn truncate_is_durable_before_anything_is_appended_again() {
    for (killed, rolls) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut disk, mut log) = log_of(4);
        log.sync(&mut disk).unwrap();
        log.truncate_to(&mut disk, 2).unwrap();
        if killed {
            // Nobody remembers the cut.
            drop(log);
            (log, _) = open(&mut disk, unclean(2));
        }
        append(&mut disk, &mut log, 2, 2);
        if rolls {
            log.roll(&mut disk).unwrap();
            append(&mut disk, &mut log, 2, 2);
        }
        disk.crash(&mut |unsynced| match unsynced {
            Unsynced::File { path, .. } if path.ends_with("00000000000000000000.log") => Survives::Nothing,
            _ => Survives::Everything,
        });
        let (mut log, _) = open(&mut disk, unclean(2));
        assert_eq!(epochs(&mut disk, &mut log), [1, 1], "killed: {killed}, rolls: {rolls}");
    }
}
