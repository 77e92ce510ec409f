//! A partition's log on the memory disk.

use std::hint::black_box;
use std::path::Path;

use bytes::Bytes;
use minisr_benches::samples::batch;
use minisr_storage::{Log, LogConfig, MemoryDisk, OpenOptions};
use minisr_wire::batch::{BatchView, stamp};

use crate::rounds::{Round, rounds};

const NEW: OpenOptions = OpenOptions { clean: false, recovery_point: 0, start_offset: 0 };

/// A log that 64 KiB batches are appended to.
struct Appending {
    disk: MemoryDisk,
    log: Log<MemoryDisk>,
    produced: Bytes,
    records: i64,
}

impl Appending {
    fn to(tail_bytes_max: usize) -> Self {
        let mut disk = MemoryDisk::new();
        let config = LogConfig { tail_bytes_max, ..LogConfig::default() };
        let (log, _) = Log::open(&mut disk, Path::new("bench-0"), config, NEW).expect("the log opens");
        let produced = batch(64 << 10);
        let records = BatchView::parse(&produced).expect("a batch").record_count().into();
        Self { disk, log, produced, records }
    }

    fn next(&self) -> Bytes {
        let mut batch = self.produced.to_vec();
        stamp(&mut batch, self.log.end_offset(), 1);
        batch.into()
    }

    fn append(&mut self) {
        let batch = self.next();
        self.log.append(&mut self.disk, &[batch]).expect("the append succeeds");
    }

    /// Reads the newest batch.
    fn read_last(&mut self, round: Round) {
        let end = self.log.end_offset();
        let Self { disk, log, produced, records } = self;
        let read = round.count(|| log.read(disk, black_box(end - *records), end, produced.len(), true));
        assert_eq!(read.expect("the log reads").len(), produced.len());
    }
}

/// Appends a stamped batch; the tail keeps it for the next readers.
pub fn append() {
    let mut appending = Appending::to(1 << 20);
    for round in rounds() {
        let batch = appending.next();
        let Appending { disk, log, .. } = &mut appending;
        round.count(|| log.append(disk, &[batch]).expect("the append succeeds"));
    }
}

/// Reads the newest batch from memory.
pub fn read_tail() {
    let mut appending = Appending::to(1 << 20);
    for round in rounds() {
        appending.append();
        appending.read_last(round);
    }
}

/// Reads the newest batch from the disk.
pub fn read_disk() {
    let mut appending = Appending::to(0);
    for round in rounds() {
        appending.append();
        appending.read_last(round);
    }
}
