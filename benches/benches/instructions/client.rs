//! What a record costs its producer before it is sent.

use std::hint::black_box;

use minisr_benches::samples::TIMESTAMP_MS;
use minisr_client::producer::{Producer, ProducerConfig, Record};
use minisr_client::transport::{Address, Transport};
use minisr_client::{Client, ClientConfig};

use crate::rounds::rounds;

/// Appends `records` to the batch under construction. The sender does not run, so they gather.
pub fn append(value_bytes: usize, records: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _in_runtime = runtime.enter();
    let nowhere = ClientConfig::new(vec![Address::new("127.0.0.1", 9)], Transport::Tcp);
    let client = Client::new(nowhere).expect("a client");
    let config = ProducerConfig { buffer_bytes_max: 1 << 30, ..ProducerConfig::default() };
    let producer = Producer::start(client, config, |_| {}).expect("a producer");
    let partition = producer.partition("orders", 0);
    let value = vec![b'v'; value_bytes];
    for round in rounds() {
        let record = Record { value: Some(&value), timestamp_ms: Some(TIMESTAMP_MS), ..Record::default() };
        round.count(|| {
            let mut appender = producer.appender(partition);
            for tag in 0..records {
                appender.append(black_box(&record), tag).expect("there is room");
            }
        });
    }
}
