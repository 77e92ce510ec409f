//! One acks=all batch through the leader's decisions, bytes left out: admitted, written, fetched by two followers,
//! committed, acknowledged.

mod common;

use common::criterion;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use minisr_benches::samples::{FOLLOWERS, batch, leader};
use minisr_logic::Millis;
use minisr_logic::partition::{Acks, Admitted, BatchSummary, ProducerBatch, Replica, Ticket, sequence_plus};
use minisr_wire::batch::BatchView;
use std::hint::black_box;

/// A batch from admission to acknowledgement; `ticket` numbers it.
fn step(replica: &mut Replica, ticket: u64, batch: &BatchSummary) {
    let now = Millis(ticket / 1_000);
    let (leader, log) = replica.as_leader().expect("it leads");
    let admitted = leader.admit(now, log, Ticket(ticket), batch, Acks::All, 30_000).expect("admitted");
    assert!(matches!(admitted, Admitted::Write { .. }));
    let end = log.admitted_end();
    leader.written(now, log, end);
    for follower in FOLLOWERS {
        leader.follower_fetched(now, log, follower, end, None);
    }
    let (done, result) = leader.pop_decided().expect("the batch is committed");
    assert!(done == Ticket(ticket) && black_box(result).is_ok());
}

fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("leader/acks_all_step");
    group.throughput(Throughput::Elements(1));
    let records = BatchView::parse(&batch(64 << 10)).expect("a batch").record_count();
    let plain = BatchSummary { records, max_timestamp_ms: 0, producer: None };
    let mut replica = leader();
    let mut ticket = 0;
    group.bench_function("plain", |b| {
        b.iter(|| {
            ticket += 1;
            step(&mut replica, ticket, &plain);
        });
    });
    let mut replica = leader();
    let mut producer = ProducerBatch { id: 7, epoch: 0, base_sequence: 0 };
    group.bench_function("idempotent", |b| {
        b.iter(|| {
            ticket += 1;
            step(&mut replica, ticket, &BatchSummary { producer: Some(producer), ..plain });
            producer.base_sequence = sequence_plus(producer.base_sequence, records);
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = criterion(); targets = steps }
criterion_main!(benches);
