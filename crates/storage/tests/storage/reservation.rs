//! Room on the disk ahead of a growing segment's end: there while it grows, given back when it is whole, never seen.

use crate::vocabulary::*;
use bytes::Bytes;
use minisr_storage::{Disk, Log, LogConfig, OpenOptions, RealDisk};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const MIB: u64 = 1 << 20;

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
    let file = disk.open(Path::new("/data/file"), minisr_storage::disk::OpenMode::Create).unwrap();
    assert_eq!(disk.reserve(&file, 0, MIB).unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    let (mut log, _) = open_at(&mut disk, Path::new(DIRECTORY), config(true), UNCLEAN);
    for offset in 0..5 {
        log.append(&mut disk, &[large(offset)]).unwrap();
    }
    assert_eq!(log.end_offset(), 5);
}
