//! Appending, rolling, reading, flushing, and what happens when the disk refuses.

use crate::vocabulary::*;
use minisr_storage::disk::memory::{Fault, Operation};
use minisr_storage::{Disk, LogConfig, MemoryDisk, ReadError, Retention};
use std::io::ErrorKind;
use std::path::Path;

#[test]
fn append_read_returns_the_bytes_that_were_appended() {
    let (mut disk, mut log) = log_of(20);
    assert_eq!((log.start_offset(), log.end_offset(), log.last_epoch()), (0, 20, Some(1)));
    assert!(log.segment_count() > 2, "the story crosses segments");
    let expected: Vec<_> = (0..20).map(|offset| batch(offset, 1)).collect();
    assert_eq!(contents(&mut disk, &mut log), expected);
}

#[test]
fn append_tail_read_hands_out_the_appended_buffer_itself() {
    let mut disk = MemoryDisk::new();
    let config = LogConfig { tail_bytes_max: 10_000, ..small() };
    let (mut log, _) = open_at(&mut disk, Path::new(DIRECTORY), config, UNCLEAN);
    let bytes = batch_of(0, 1, 3, 0, 500, 7);
    log.append(&mut disk, std::slice::from_ref(&bytes)).unwrap();
    // No read may touch the disk.
    disk.inject(Fault::always(Operation::Read, ErrorKind::Other));
    let read = log.read(&mut disk, 1, i64::MAX, usize::MAX, true).unwrap();
    assert_eq!(read.as_ptr(), bytes.as_ptr(), "shared, not copied");
    assert_eq!(read, bytes);
    assert_eq!(log.tail_bytes(), bytes.len());
    log.release_tail(3);
    assert_eq!(log.tail_bytes(), 0);
}

#[test]
fn append_many_batches_in_one_call_rolls_in_between() {
    let mut disk = MemoryDisk::new();
    let (mut log, _) = open(&mut disk, UNCLEAN);
    let joined: Vec<u8> = (0..15).flat_map(|offset| batch(offset, 2)).collect();
    let appended = log.append(&mut disk, &[joined.into(), batch(15, 2), batch(16, 3)]).unwrap();
    assert_eq!((appended.first_offset, appended.end_offset, appended.max_timestamp), (0, 17, 160));
    assert_eq!(appended.bytes, log.size_bytes());
    assert!(log.segment_count() > 2);
    assert_eq!(contents(&mut disk, &mut log).len(), 17);
}

#[test]
fn append_segment_ms_rolls_by_batch_time() {
    let mut disk = MemoryDisk::new();
    let config = LogConfig { segment_ms: 1000, ..LogConfig::default() };
    let (mut log, _) = open_at(&mut disk, Path::new(DIRECTORY), config, UNCLEAN);
    for (offset, timestamp) in [(0, 5000), (1, 6000), (2, 6001), (3, 100)] {
        log.append(&mut disk, &[batch_of(offset, 1, 1, timestamp, 10, 0)]).unwrap();
    }
    assert_eq!(files(&mut disk), ["00000000000000000000.log", "00000000000000000002.log"]);
}

#[test]
#[should_panic(expected = "continues the log")]
fn append_gap_is_a_broken_invariant() {
    let (mut disk, mut log) = log_of(3);
    let _ = log.append(&mut disk, &[batch(4, 1)]);
}

#[test]
#[should_panic(expected = "never fall")]
fn append_falling_epoch_is_a_broken_invariant() {
    let (mut disk, mut log) = log_of(3);
    let _ = log.append(&mut disk, &[batch(3, 0)]);
}

#[test]
fn read_respects_bounds_sizes_and_whole_batches() {
    for tail_bytes_max in [0, 100_000] {
        let mut disk = MemoryDisk::new();
        let config = LogConfig { segment_bytes: 100_000, tail_bytes_max, ..small() };
        let (mut log, _) = open_at(&mut disk, Path::new(DIRECTORY), config, UNCLEAN);
        for base in [0, 10, 20, 30] {
            log.append(&mut disk, &[batch_of(base, 1, 10, 0, 40, 1)]).unwrap();
        }
        let size = batch_of(0, 1, 10, 0, 40, 1).len();
        let mut read = |from, upper, max, one| log.read(&mut disk, from, upper, max, one).map(|bytes| bytes.len());
        assert_eq!(read(0, 40, usize::MAX, true).unwrap(), 4 * size);
        assert_eq!(read(15, 40, usize::MAX, true).unwrap(), 3 * size, "from the batch that holds the offset");
        assert_eq!(read(0, 39, usize::MAX, true).unwrap(), 3 * size, "no batch that reaches past the bound");
        assert_eq!(read(0, 40, 2 * size + 1, true).unwrap(), 2 * size);
        assert_eq!(read(0, 40, size - 1, true).unwrap(), size, "at least one");
        assert_eq!(read(0, 40, size - 1, false).unwrap(), 0);
        assert_eq!(read(5, 9, usize::MAX, true).unwrap(), 0);
        assert_eq!(read(40, 40, usize::MAX, true).unwrap(), 0);
        assert!(matches!(read(41, 50, 1, true), Err(ReadError::OutOfRange { offset: 41, start: 0, end: 40 })));
    }
}

#[test]
fn read_batch_larger_than_the_limit_is_returned_whole() {
    let mut disk = MemoryDisk::new();
    let config = LogConfig { segment_bytes: 1 << 20, ..small() };
    let (mut log, _) = open_at(&mut disk, Path::new(DIRECTORY), config, UNCLEAN);
    append(&mut disk, &mut log, 3, 1);
    let large = batch_of(3, 1, 1, 0, 200_000, 9);
    log.append(&mut disk, std::slice::from_ref(&large)).unwrap();
    assert_eq!(log.read(&mut disk, 3, i64::MAX, 10, true).unwrap(), large);
    assert_eq!(log.read(&mut disk, 3, i64::MAX, 10, false).unwrap().len(), 0);
}

#[test]
fn read_rotten_header_is_an_error_and_not_data() {
    let (mut disk, mut log) = log_of(3);
    disk.rot(&Path::new(DIRECTORY).join("00000000000000000000.log"), 16, 0xff).unwrap();
    assert!(matches!(log.read(&mut disk, 0, 3, 1000, true), Err(ReadError::Corrupt { offset: 0, .. })));
}

#[test]
fn flush_moves_only_with_a_sync_of_everything_below() {
    let (mut disk, mut log) = log_of(20);
    assert_eq!(log.flushed_offset(), 0);
    let round = log.sync_round(&mut disk).unwrap().expect("there is something to sync");
    append(&mut disk, &mut log, 1, 1);
    for handle in &round.handles {
        disk.sync(handle).unwrap();
    }
    assert_eq!(log.synced(&mut disk, round.target), 20, "what came after the round began does not count");
    assert_eq!(log.sync(&mut disk).unwrap(), 21);
    assert!(log.sync_round(&mut disk).unwrap().is_none());
    assert!(!disk.has_unsynced() || files(&mut disk).iter().any(|name| name.ends_with("index")));
    power_loss(&mut disk);
    let (mut log, recovered) = open(&mut disk, unclean(21));
    assert_eq!((log.end_offset(), recovered.cut), (21, None));
    assert_eq!(contents(&mut disk, &mut log).len(), 21);
}

#[test]
fn flush_rolled_covers_the_sealed_segments_and_writes_their_indexes() {
    let (mut disk, mut log) = log_of(20);
    let round = log.sync_rolled(&mut disk).unwrap().expect("there are sealed segments");
    round.handles.iter().for_each(|handle| disk.sync(handle).unwrap());
    let flushed = log.synced(&mut disk, round.target);
    assert!(flushed > 0 && flushed < 20);
    let names = files(&mut disk);
    assert_eq!(names.iter().filter(|name| name.ends_with(".timeindex")).count(), log.segment_count() - 1);
    assert_eq!(contents(&mut disk, &mut log).len(), 20, "sealed segments are read through the loaded index");
}

#[test]
fn flush_finished_after_a_truncation_proves_nothing() {
    let (mut disk, mut log) = log_of(20);
    let round = log.sync_round(&mut disk).unwrap().unwrap();
    round.handles.iter().for_each(|handle| disk.sync(handle).unwrap());
    log.truncate_to(&mut disk, 5).unwrap();
    append(&mut disk, &mut log, 15, 2);
    assert_eq!(log.synced(&mut disk, round.target), 0, "offsets 5 to 20 are other records now");
    assert_eq!(log.sync(&mut disk).unwrap(), 20);
}

#[test]
fn disk_full_mid_append_acknowledges_nothing_and_recovers() {
    let (mut disk, mut log) = log_of(4);
    disk.set_capacity(Some(disk.bytes_stored() + 50));
    let error = log.append(&mut disk, &[batch(4, 1)]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::StorageFull);
    assert_eq!(log.end_offset(), 4);
    assert_eq!(contents(&mut disk, &mut log).len(), 4, "what was written before is still read");
    disk.heal();
    assert!(log.append(&mut disk, &[batch(4, 1)]).is_err(), "closed until it is opened again");
    drop(log);
    let (mut log, _) = open(&mut disk, UNCLEAN);
    assert_eq!(log.end_offset(), 4);
    append(&mut disk, &mut log, 3, 1);
    assert_eq!(contents(&mut disk, &mut log).len(), 7);
}

#[test]
fn failed_write_that_cannot_be_undone_is_cut_by_recovery() {
    let (mut disk, mut log) = log_of(2);
    let fault = Fault::always(Operation::Write, ErrorKind::Other);
    disk.inject(Fault { bytes_written: 80, times: 1, ..fault });
    disk.inject(Fault::always(Operation::Truncate, ErrorKind::Other));
    log.append(&mut disk, &[batch(2, 1)]).unwrap_err();
    disk.heal();
    let (log, recovered) = open(&mut disk, UNCLEAN);
    let cut = recovered.cut.expect("half a batch was there");
    assert_eq!((log.end_offset(), cut.bytes, cut.below_recovery_point), (2, 80, false));
}

#[test]
fn failed_sync_poisons_even_when_a_later_one_would_succeed() {
    let (mut disk, mut log) = log_of(3);
    let fault = Fault::always(Operation::Sync, ErrorKind::Other);
    disk.inject(Fault { times: 1, ..fault });
    log.sync(&mut disk).unwrap_err();
    assert!(log.poisoned().is_some());
    assert!(log.sync(&mut disk).is_err(), "no retry");
    assert!(log.append(&mut disk, &[batch(3, 1)]).is_err());
    assert_eq!(log.flushed_offset(), 0);
    // The disk agrees: after the failure a sync reports success and keeps nothing.
    power_loss(&mut disk);
    let (log, _) = open(&mut disk, UNCLEAN);
    assert_eq!(log.end_offset(), 0);
}

#[test]
fn failed_sync_reported_by_the_driver_poisons() {
    let (mut disk, mut log) = log_of(3);
    let _round = log.sync_round(&mut disk).unwrap().unwrap();
    log.sync_failed(&std::io::Error::other("the disk is gone"));
    assert!(log.append(&mut disk, &[batch(3, 1)]).is_err());
}

#[test]
fn timestamps_are_found_across_segments() {
    let mut disk = MemoryDisk::new();
    let (mut log, _) = open(&mut disk, UNCLEAN);
    for base in 0..20 {
        // Three records each, at 100 × base, + 1, + 2.
        log.append(&mut disk, &[batch_of(base * 3, 1, 3, base * 100, 50, 0)]).unwrap();
    }
    let mut find = |timestamp| log.offset_for_timestamp(&mut disk, timestamp, i64::MAX).unwrap();
    assert_eq!(find(0).map(|found| (found.offset, found.timestamp)), Some((0, 0)));
    assert_eq!(find(501).map(|found| (found.offset, found.timestamp)), Some((16, 501)));
    assert_eq!(find(503).map(|found| (found.offset, found.timestamp)), Some((18, 600)));
    assert_eq!(find(1903), None);
    assert_eq!(log.offset_for_timestamp(&mut disk, 503, 18).unwrap(), None, "not past the bound");
    let max = log.max_timestamp().unwrap();
    assert_eq!((max.timestamp, max.offset), (1902, 59));
}

#[test]
fn retention_drops_whole_oldest_segments_below_the_high_watermark() {
    let (mut disk, mut log) = log_of(30);
    let by_size = Retention { retention_ms: -1, retention_bytes: 2000 };
    assert_eq!(log.retention_start(0, by_size, 0), 0, "nothing above the high watermark");
    let start = log.retention_start(0, by_size, 30);
    assert!(start > 0 && start < 30);
    assert!(log.advance_start(&mut disk, start).unwrap() > 0);
    assert_eq!(log.start_offset(), start);
    assert!(log.size_bytes() >= 2000);
    assert!(matches!(log.read(&mut disk, start - 1, 30, 1, true), Err(ReadError::OutOfRange { .. })));
    let by_time = Retention { retention_ms: 50, retention_bytes: -1 };
    let start = log.retention_start(300, by_time, 30);
    log.advance_start(&mut disk, start).unwrap();
    assert!(log.start_offset() > 20);
    assert_eq!(contents(&mut disk, &mut log).len() as i64, 30 - log.start_offset());
    let (log, _) = open(&mut disk, UNCLEAN);
    assert_eq!((log.start_offset(), log.end_offset()), (start, 30));
}

#[test]
fn scan_visits_every_header_from_an_offset() {
    let (mut disk, mut log) = log_of(25);
    let mut seen = Vec::new();
    let stopped = log.scan(&mut disk, 7, |header| {
        seen.push(header.base_offset);
        if header.base_offset == 22 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    });
    assert_eq!(stopped.unwrap(), Some(()));
    assert_eq!(seen, (7..=22).collect::<Vec<_>>());
}

#[test]
fn delete_removes_the_directory_durably() {
    let (mut disk, mut log) = log_of(5);
    log.sync(&mut disk).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    log.delete(&mut disk).unwrap();
    power_loss(&mut disk);
    assert!(!disk.exists(Path::new(DIRECTORY)).unwrap());
}
