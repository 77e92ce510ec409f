//! The client's producer: from the first record of a batch to its report. The brokers are fakes on a thread of their
//! own, whose allocations are not counted; everything of the client (sender, connection, sockets) runs on this one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use minisr_benches::samples::{TIMESTAMP_MS, VALUE};
use minisr_client::producer::{BatchReport, Outcome, Producer, ProducerConfig, Record};
use minisr_wire::batch::{HEADER_BYTES, RecordSize};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::counted::{Average, Count, ROUNDS, WARM_UP};
use crate::fakes::FakeCluster;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A cluster of one fake broker with a topic; it ends when the sender is dropped.
fn start_fakes() -> (FakeCluster, oneshot::Sender<()>) {
    let (started, cluster) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let cluster = FakeCluster::start(1).await;
            cluster.topic("orders", 1);
            started.send(cluster).expect("the bench waits for it");
            // An error is the sender dropped, which is how it is told to stop.
            let _ = stopped.await;
        });
    });
    (cluster.recv().expect("the fakes start"), stop)
}

/// One request with one batch of 1,000-byte records, appended, sent and acknowledged.
pub fn produced(batch_bytes: usize) -> Average {
    let (cluster, _running) = start_fakes();
    let runtime = runtime();
    let records = (batch_bytes / RecordSize::of(None, Some(&VALUE), &[]).bytes_max()).max(1) as u64;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let on_report = {
        let acknowledged = Arc::clone(&acknowledged);
        move |report: BatchReport| {
            assert!(matches!(report.outcome, Outcome::Ok), "{report:?}");
            acknowledged.fetch_add(report.tags.len() as u64, Ordering::Relaxed);
        }
    };
    let config = ProducerConfig { batch_bytes_max: batch_bytes + HEADER_BYTES, ..ProducerConfig::default() };
    let producer = runtime.block_on(async { Producer::start(cluster.client(), config, on_report) });
    let producer = producer.expect("a producer");
    let partition = producer.partition("orders", 0);
    let record = Record { value: Some(&VALUE), timestamp_ms: Some(TIMESTAMP_MS), ..Record::default() };
    let produce = || {
        runtime.block_on(async {
            for tag in 0..records {
                producer.append(partition, &record, tag).expect("there is room");
            }
            producer.flush().await;
        });
    };
    (0..WARM_UP).for_each(|_| produce());
    let mut counts: Vec<Count> = Vec::new();
    for _ in 0..ROUNDS {
        let mut count = Count::default();
        count.of(produce);
        counts.push(count);
    }
    assert_eq!(acknowledged.load(Ordering::Relaxed), records * u64::from(WARM_UP + ROUNDS));
    assert_eq!(cluster.state().arrived.len() as u32, WARM_UP + ROUNDS, "each round was one batch");
    counts.into_iter().sum::<Count>().per(ROUNDS)
}
