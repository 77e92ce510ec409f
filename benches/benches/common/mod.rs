//! What the benches share: how long they measure, and batches of the sizes that the sweep uses.

use bytes::Bytes;
use criterion::Criterion;
use minisr_wire::batch::{BatchBuilder, Producer, record_bytes};
use std::time::Duration;

/// Short enough that all benches together take about a minute; `--measurement-time` overrides it.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
        .configure_from_args()
}

/// A batch of records with 1,000-byte values, as near to `bytes` as they fit, as a producer sends it.
pub fn batch(bytes: usize) -> Bytes {
    let value = [b'v'; 1000];
    let mut builder = BatchBuilder::new(bytes);
    let record = record_bytes(None, Some(&value), &[]);
    for at in 0..(bytes / record).max(1) {
        builder.append(1_700_000_000_000 + at as i64, None, Some(&value), &[]);
    }
    builder.finish(Producer::NONE)
}
