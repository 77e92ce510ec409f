//! Room on the disk ahead of a growing segment's end, and zeros behind its batches: there while it grows, given back when
//! it is whole, never seen.

use crate::vocabulary::*;
use bytes::Bytes;
use minisr_storage::disk::OpenMode;
use minisr_storage::disk::memory::{Fault, Operation};
use minisr_storage::{BadBatch, Disk, Log, LogConfig, MemoryDisk, OpenOptions, RealDisk};
use std::io::IoSlice;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
/// Padding ends at multiples of this.
const PADDING_STEP: u64 = 64 << 10;

/// Segments of 8 MiB, which hold seven batches of one MiB.
fn config(preallocate: bool) -> LogConfig {
    LogConfig { segment_bytes: 8 << 20, preallocate, tail_bytes_max: 0, ..LogConfig::default() }
}

fn open_real(directory: &Path, preallocate: bool, options: OpenOptions) -> Log<RealDisk> {
    open_at(&mut RealDisk, directory, config(preallocate), options).0
}

fn large(offset: i64) -> Bytes {
    batch_of(offset, 1, 1, offset, MIB as usize, offset as u8)
}

/// Appends batches of one MiB until the log holds `count`.
fn grow(log: &mut Log<RealDisk>, count: i64) {
    for offset in log.end_offset()..count {
        log.append(&mut RealDisk, &[large(offset)]).unwrap();
    }
}

/// Length of the segment at this offset, and what it takes up on the disk, once that is settled.
fn length_and_room(directory: &Path, base_offset: i64) -> (u64, u64) {
    let path = directory.join(format!("{base_offset:020}.log"));
    std::fs::File::open(&path).unwrap().sync_all().unwrap();
    let metadata = std::fs::metadata(path).unwrap();
    (metadata.len(), metadata.blocks() * 512)
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reservation_is_ahead_while_a_segment_grows_and_given_back_when_it_is_whole() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("topic-0");
    let mut log = open_real(&directory, true, UNCLEAN);
    grow(&mut log, 1);
    let (length, room) = length_and_room(&directory, 0);
    assert!(room < length + MIB / 2, "a small file holds nothing ahead: {room} for {length}");
    grow(&mut log, 5);
    let (length, room) = length_and_room(&directory, 0);
    assert!(length < 6 * MIB, "the length is that of what was written: {length}");
    assert!(room > length + MIB / 2, "there is room ahead of the end: {room} for {length}");
    assert!(room <= 8 * MIB + MIB / 2, "and none behind the largest segment: {room}");

    grow(&mut log, 9);
    log.sync(&mut RealDisk).unwrap();
    assert_eq!(log.segment_count(), 2);
    let (length, room) = length_and_room(&directory, 0);
    assert!(room < length + MIB / 2, "the whole segment has given it back: {room} for {length}");
    log.close(&mut RealDisk).unwrap();
    let (length, room) = length_and_room(&directory, 7);
    assert!(room < length + MIB / 2, "as does the last one at a clean stop: {room} for {length}");
}

#[test]
fn reservation_is_invisible_after_a_kill_and_after_a_cut() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("topic-0");
    let mut log = open_real(&directory, true, UNCLEAN);
    grow(&mut log, 5);
    drop(log);
    let mut log = open_real(&directory, true, UNCLEAN);
    assert_eq!(log.end_offset(), 5);
    assert_eq!(log.truncate_to(&mut RealDisk, 3).unwrap(), 3);
    grow(&mut log, 6);
    assert_eq!(contents(&mut RealDisk, &mut log), (0..6).map(large).collect::<Vec<_>>());
}

#[test]
fn reservation_off_or_refused_by_the_disk_changes_nothing_else() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("topic-0");
    let mut log = open_real(&directory, false, UNCLEAN);
    grow(&mut log, 5);
    let (length, room) = length_and_room(&directory, 0);
    assert!(room < length + MIB / 2, "{room} for {length}");

    let mut disk = fresh_disk();
    let (mut log, _) = open_at(&mut disk, Path::new(DIRECTORY), config(true), UNCLEAN);
    disk.inject(Fault::always(Operation::Reserve, std::io::ErrorKind::Unsupported));
    for offset in 0..5 {
        log.append(&mut disk, &[large(offset)]).unwrap();
    }
    assert_eq!(log.end_offset(), 5);
    assert_eq!(file_bytes(&mut disk, 0).len() as u64, log.size_bytes(), "without room there is no padding");
}

/// The bytes of the segment at this offset.
fn file_bytes<D: Disk>(disk: &mut D, base_offset: i64) -> Vec<u8> {
    disk.read_file(&segment_path(base_offset)).unwrap().unwrap()
}

fn segment_path(base_offset: i64) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{base_offset:020}.log"))
}

/// A log of this many batches of one MiB on a memory disk.
fn padded_log(count: i64) -> (MemoryDisk, Log<MemoryDisk>) {
    let mut disk = fresh_disk();
    let (mut log, _) = open_at(&mut disk, Path::new(DIRECTORY), config(true), UNCLEAN);
    for offset in 0..count {
        log.append(&mut disk, &[large(offset)]).unwrap();
    }
    (disk, log)
}

/// Puts bytes behind what a file has.
fn add(disk: &mut MemoryDisk, base_offset: i64, bytes: &[u8]) {
    let file = disk.open(&segment_path(base_offset), OpenMode::Write).unwrap();
    let len = disk.len(&file).unwrap();
    disk.write_at(&file, len, &[IoSlice::new(bytes)]).unwrap();
}

#[test]
fn padding_ends_at_a_round_place_and_goes_when_the_segment_is_whole() {
    let (mut disk, mut log) = padded_log(3);
    let bytes = file_bytes(&mut disk, 0);
    assert_eq!(bytes.len() as u64 % PADDING_STEP, 0);
    assert!(bytes.len() as u64 > log.size_bytes());
    assert!(bytes[log.size_bytes() as usize..].iter().all(|byte| *byte == 0));
    log.append(&mut disk, &[batch(3, 1)]).unwrap();
    assert_eq!(file_bytes(&mut disk, 0).len(), bytes.len(), "a small batch finds room in the zeros");

    log.roll(&mut disk).unwrap();
    log.append(&mut disk, &[batch(4, 1)]).unwrap();
    log.sync(&mut disk).unwrap();
    assert_eq!(file_bytes(&mut disk, 0).len() + file_bytes(&mut disk, 4).len(), log.size_bytes() as usize);
}

#[test]
fn padding_after_a_kill_is_no_loss_and_goes() {
    let (mut disk, log) = padded_log(3);
    let size = log.size_bytes();
    drop(log);
    let (mut log, recovered) = open_at(&mut disk, Path::new(DIRECTORY), config(true), UNCLEAN);
    assert_eq!((log.end_offset(), log.size_bytes(), recovered.cut), (3, size, None));
    assert_eq!(file_bytes(&mut disk, 0).len() as u64, size);
    log.append(&mut disk, &[batch(3, 1)]).unwrap();
    assert_eq!(contents(&mut disk, &mut log).len(), 4);
}

/// That a whole segment was cut to its length is not synced: a power loss may bring its zeros back.
#[test]
fn padding_that_a_power_loss_brings_back_costs_no_later_segment() {
    for options in [unclean(0), unclean(9), OpenOptions { recovery_point: 9, ..clean() }] {
        let (mut disk, mut log) = padded_log(9);
        log.sync(&mut disk).unwrap();
        let (size, segments) = (log.size_bytes(), log.segment_count());
        log.close(&mut disk).unwrap();
        for base_offset in [0, 7] {
            add(&mut disk, base_offset, &vec![0; PADDING_STEP as usize - 1]);
        }
        let (mut log, recovered) = open_at(&mut disk, Path::new(DIRECTORY), config(true), options);
        assert_eq!((log.end_offset(), log.size_bytes(), recovered.cut), (9, size, None));
        assert_eq!((log.segment_count(), log.flushed_offset()), (segments, options.recovery_point));
        assert_eq!(recovered.verified_bytes == 0, options.clean, "a clean stop is trusted all the same");
        log.append(&mut disk, &[batch(9, 1)]).unwrap();
        assert_eq!(contents(&mut disk, &mut log).len(), 10);
    }
}

#[test]
fn padding_is_shorter_than_a_step_and_all_zeros_anything_else_is_a_bad_batch() {
    let mut torn = vec![0; 1000];
    torn[999] = 1;
    for tail in [torn, vec![0; PADDING_STEP as usize]] {
        let (mut disk, log) = padded_log(2);
        log.close(&mut disk).unwrap();
        add(&mut disk, 0, &tail);
        let (log, recovered) = open_at(&mut disk, Path::new(DIRECTORY), config(true), unclean(2));
        let cut = recovered.cut.expect("reported");
        assert_eq!((log.end_offset(), cut.bytes, cut.reason), (2, tail.len() as u64, BadBatch::Header));
    }
}

/// The index says that a batch begins where zeros are: a clean stop is not believed, and what is gone is reported.
#[test]
fn padding_is_not_what_stands_where_the_index_promises_a_batch() {
    let (mut disk, mut log) = padded_log(2);
    for offset in 2..5 {
        log.append(&mut disk, &[batch(offset, 1)]).unwrap();
    }
    let before = log.size_bytes() - batch(4, 1).len() as u64;
    log.set_config(LogConfig { index_interval_bytes: 0, ..config(true) });
    log.append(&mut disk, &[batch(5, 1)]).unwrap();
    log.close(&mut disk).unwrap();
    let file = disk.open(&segment_path(0), OpenMode::Write).unwrap();
    let gone = usize::try_from(disk.len(&file).unwrap() - before).unwrap();
    disk.write_at(&file, before, &[IoSlice::new(&vec![0; gone])]).unwrap();
    let options = OpenOptions { recovery_point: 6, ..clean() };
    let (mut log, recovered) = open_at(&mut disk, Path::new(DIRECTORY), config(true), options);
    assert_eq!(log.end_offset(), 4);
    assert!(recovered.cut.unwrap().below_recovery_point);
    assert_eq!(contents(&mut disk, &mut log).len(), 4);
}
