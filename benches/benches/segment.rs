//! Appending 64 KiB batches to a log and reading them back: on the real disk (page cache, no sync), on the memory
//! disk, and from the in-memory tail. Appending includes the copy that stamping needs. Removing a file that is in memory.

mod common;

use bytes::Bytes;
use common::criterion;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use minisr_benches::samples::batch;
use minisr_storage::{Disk, Log, LogConfig, MemoryDisk, OpenOptions, RealDisk};
use minisr_wire::batch::{BatchView, stamp};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

/// The log starts anew after so many bytes, outside the measured time, so that the bench does not fill the disk.
const LOG_BYTES_MAX: u64 = 256 << 20;

const NEW: OpenOptions = OpenOptions { clean: false, recovery_point: 0, start_offset: 0 };

fn open<D: Disk>(disk: &mut D, directory: &Path, tail_bytes_max: usize) -> Log<D> {
    let config = LogConfig { tail_bytes_max, ..LogConfig::default() };
    Log::open(disk, directory, config, NEW).expect("the log opens").0
}

fn stamped(produced: &Bytes, offset: i64) -> Bytes {
    let mut batch = produced.to_vec();
    stamp(&mut batch, offset, 1);
    batch.into()
}

/// Appends `count` calls of `batches` batches each; returns the time that took.
fn append<D: Disk>(disk: &mut D, log: &mut Log<D>, produced: &Bytes, batches: usize, count: u64) -> Duration {
    let records = i64::from(BatchView::parse(produced).expect("a batch").record_count());
    let mut total = Duration::ZERO;
    let mut together = Vec::with_capacity(batches);
    for _ in 0..count {
        if log.size_bytes() > LOG_BYTES_MAX {
            log.truncate_fully_and_start_at(disk, 0).expect("the log starts anew");
        }
        let started = Instant::now();
        together.clear();
        for at in 0..batches as i64 {
            together.push(stamped(produced, log.end_offset() + at * records));
        }
        log.append(disk, &together).expect("the append succeeds");
        total += started.elapsed();
    }
    total
}

fn appends(c: &mut Criterion) {
    let produced = batch(64 << 10);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut group = c.benchmark_group("segment/append");
    group.throughput(Throughput::Bytes(produced.len() as u64));
    let mut disk = RealDisk;
    let mut log = open(&mut disk, &directory.path().join("one-0"), 1 << 20);
    group.bench_function("real/64KiB", |b| {
        b.iter_custom(|count| append(&mut disk, &mut log, &produced, 1, count));
    });
    let mut disk = MemoryDisk::new();
    let mut log = open(&mut disk, Path::new("/bench/one-0"), 1 << 20);
    group.bench_function("memory/64KiB", |b| {
        b.iter_custom(|count| append(&mut disk, &mut log, &produced, 1, count));
    });
    group.throughput(Throughput::Bytes(4 * produced.len() as u64));
    let mut disk = RealDisk;
    let mut log = open(&mut disk, &directory.path().join("four-0"), 1 << 20);
    group.bench_function("real/4x64KiB_in_one_write", |b| {
        b.iter_custom(|count| append(&mut disk, &mut log, &produced, 4, count));
    });
    for kib in [1, 4, 16] {
        let small = batch(kib << 10);
        group.throughput(Throughput::Bytes(small.len() as u64));
        group.bench_function(format!("real/{kib}KiB"), |b| {
            b.iter_custom(|count| append(&mut disk, &mut log, &small, 1, count));
        });
    }
    group.finish();
}

/// Where a log is read, in batches of 64 KiB.
struct Reading {
    /// Bytes of recent batches kept in memory.
    tail_bytes_max: usize,
    /// How many batches from its end on.
    back: i64,
    /// How many at a time.
    batches: usize,
}

fn read<D: Disk>(group: &mut Criterion, name: &str, mut disk: D, directory: &Path, reading: &Reading) {
    let &Reading { tail_bytes_max, back, batches } = reading;
    let produced = batch(64 << 10);
    let records = i64::from(BatchView::parse(&produced).expect("a batch").record_count());
    let mut log = open(&mut disk, directory, tail_bytes_max);
    append(&mut disk, &mut log, &produced, 1, 512);
    let (first, end) = (log.end_offset() - back * records, log.end_offset());
    let mut at = first;
    let mut group = group.benchmark_group("segment/read");
    group.throughput(Throughput::Bytes((batches * produced.len()) as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            let bytes_max = batches * produced.len();
            let bytes = log.read(&mut disk, black_box(at), end, bytes_max, true).expect("the log reads");
            at += records * batches as i64;
            if at >= end {
                at = first;
            }
            bytes
        });
    });
    group.finish();
}

fn reads(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let old = Reading { tail_bytes_max: 0, back: 512, batches: 1 };
    read(c, "real/64KiB", RealDisk, &directory.path().join("cold-0"), &old);
    read(c, "memory/64KiB", MemoryDisk::new(), Path::new("/bench/cold-0"), &old);
    read(c, "real/1MiB", RealDisk, &directory.path().join("large-0"), &Reading { batches: 16, ..old });
    let recent = Reading { tail_bytes_max: 4 << 20, back: 32, batches: 1 };
    read(c, "tail/64KiB", RealDisk, &directory.path().join("tail-0"), &recent);
}

/// Removing a file that is in memory: the name, and not what it held.
fn removes(c: &mut Criterion) {
    const BYTES: usize = 256 << 20;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("large");
    let content = vec![7; BYTES];
    let mut group = c.benchmark_group("segment/remove");
    group.sample_size(10);
    group.bench_function("real/256MiB", |b| {
        b.iter_custom(|count| {
            let mut total = Duration::ZERO;
            for _ in 0..count {
                std::fs::write(&path, &content).expect("there is room");
                let started = Instant::now();
                RealDisk.remove(&path).expect("it is there");
                total += started.elapsed();
            }
            total
        });
    });
}

criterion_group! { name = benches; config = criterion(); targets = appends, reads, removes }
criterion_main!(benches);
