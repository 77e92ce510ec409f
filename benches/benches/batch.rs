//! What the leader does to a produced batch: every check, then the two stamped fields.

mod common;

use common::criterion;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use minisr_benches::samples::batch;
use minisr_wire::batch::{check_produce, stamp};
use std::hint::black_box;

fn check(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch/check_produce");
    for (name, bytes) in [("1KiB", 1 << 10), ("64KiB", 64 << 10)] {
        let batch = batch(bytes);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| check_produce(black_box(&batch), 11, 1 << 20).expect("a sound batch").record_count());
        });
    }
    group.finish();
}

fn stamping(c: &mut Criterion) {
    let produced = batch(64 << 10);
    c.bench_function("batch/stamp/64KiB", |b| {
        let mut batch = produced.to_vec();
        b.iter(|| stamp(black_box(&mut batch), black_box(77), black_box(3)));
    });
    c.bench_function("batch/copy_and_stamp/64KiB", |b| {
        b.iter_batched(
            || produced.clone(),
            |produced| {
                let mut batch = produced.to_vec();
                stamp(&mut batch, black_box(77), black_box(3));
                batch
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group! { name = benches; config = criterion(); targets = check, stamping }
criterion_main!(benches);
