//! The few words in which the stories are told.

use bytes::Bytes;
use minisr_storage::disk::memory::{Survives, Unsynced};
use minisr_storage::{BatchHeader, Disk, Log, LogConfig, MemoryDisk, OpenOptions, Recovered};
use minisr_wire::batch::{BatchBuilder, Producer, stamp};
use std::path::Path;

pub const DIRECTORY: &str = "/data/topic-0";

/// A stamped batch of `records` small records whose values are `payload` bytes of `fill`, one millisecond apart.
pub fn batch_of(base_offset: i64, epoch: i32, records: i32, timestamp: i64, payload: usize, fill: u8) -> Bytes {
    let mut builder = BatchBuilder::new(payload);
    for delta in 0..i64::from(records) {
        builder.append(timestamp + delta, None, Some(&vec![fill; payload]), &[]);
    }
    let mut bytes = builder.finish(Producer::NONE).to_vec();
    stamp(&mut bytes, base_offset, epoch);
    bytes.into()
}

/// A batch of one record of 100 bytes.
pub fn batch(base_offset: i64, epoch: i32) -> Bytes {
    batch_of(base_offset, epoch, 1, base_offset * 10, 100, base_offset as u8)
}

/// Small segments and indexes, so that a story of a few batches crosses their borders.
pub fn small() -> LogConfig {
    LogConfig { segment_bytes: 1000, index_interval_bytes: 300, tail_bytes_max: 0, ..LogConfig::default() }
}

pub const UNCLEAN: OpenOptions = OpenOptions { clean: false, recovery_point: 0, start_offset: 0 };

pub fn unclean(recovery_point: i64) -> OpenOptions {
    OpenOptions { recovery_point, ..UNCLEAN }
}

pub fn clean() -> OpenOptions {
    OpenOptions { clean: true, ..UNCLEAN }
}

pub fn open_at<D: Disk>(
    disk: &mut D,
    directory: &Path,
    config: LogConfig,
    options: OpenOptions,
) -> (Log<D>, Recovered) {
    Log::open(disk, directory, config, options).expect("the log opens")
}

pub fn open(disk: &mut MemoryDisk, options: OpenOptions) -> (Log<MemoryDisk>, Recovered) {
    open_at(disk, Path::new(DIRECTORY), small(), options)
}

/// A memory disk on which only the broker's data directory exists, durably.
pub fn fresh_disk() -> MemoryDisk {
    let mut disk = MemoryDisk::new();
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

/// A fresh memory disk with a log of `count` batches of one record, epoch 1.
pub fn log_of(count: i64) -> (MemoryDisk, Log<MemoryDisk>) {
    let mut disk = fresh_disk();
    let (mut log, _) = open(&mut disk, UNCLEAN);
    append(&mut disk, &mut log, count, 1);
    (disk, log)
}

/// Appends `count` batches of one record, each in a call of its own.
pub fn append<D: Disk>(disk: &mut D, log: &mut Log<D>, count: i64, epoch: i32) {
    for _ in 0..count {
        let offset = log.end_offset();
        log.append(disk, &[batch(offset, epoch)]).expect("the append succeeds");
    }
}

/// Everything between start and end, batch by batch.
pub fn contents<D: Disk>(disk: &mut D, log: &mut Log<D>) -> Vec<Bytes> {
    let mut batches = Vec::new();
    let mut at = log.start_offset();
    while at < log.end_offset() {
        let bytes = log.read(disk, at, i64::MAX, 1, true).expect("the log reads");
        let header = BatchHeader::parse(&bytes).expect("a batch");
        assert_eq!(header.size, bytes.len(), "one batch was asked for");
        assert!(header.crc_matches(&bytes));
        at = header.end_offset();
        batches.push(bytes);
    }
    batches
}

/// The files of the log's directory.
pub fn files(disk: &mut MemoryDisk) -> Vec<String> {
    disk.list(Path::new(DIRECTORY)).expect("the directory exists").into_iter().map(|entry| entry.name).collect()
}

pub fn power_loss(disk: &mut MemoryDisk) -> bool {
    disk.crash(&mut |_| Survives::Nothing)
}

/// A power loss that takes nothing but what `lost` says of one file.
pub fn power_loss_in(disk: &mut MemoryDisk, name: &str, lost: Survives) {
    disk.crash(&mut |unsynced| match unsynced {
        Unsynced::File { path, .. } if path.ends_with(name) => lost,
        _ => Survives::Everything,
    });
}
