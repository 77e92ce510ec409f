//! Decoding Produce requests: head, body and the checks of each batch; the record bytes stay where they are.

mod common;

use bytes::Bytes;
use common::criterion;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use minisr_benches::samples::batch;
use minisr_wire::batch::check_produce;
use minisr_wire::header::take_request_head;
use minisr_wire::message::{decode_request, encode_request};
use std::hint::black_box;

const VERSION: i16 = 11;

/// A frame without its length prefix, as the connection hands it on.
fn frame(partitions: i32, batch_bytes: usize) -> Bytes {
    let records = batch(batch_bytes);
    let partition = |index| PartitionProduceData::default().with_index(index).with_records(Some(records.clone()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str("orders")))
        .with_partition_data((0..partitions).map(partition).collect());
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let client_id = StrBytes::from_static_str("bench");
    encode_request(1, Some(&client_id), &request, VERSION).expect("encodable").slice(4..)
}

fn decode(mut frame: Bytes) -> ProduceRequest {
    let head = take_request_head(&mut frame).expect("a request head");
    decode_request(frame, black_box(head.api_version)).expect("a Produce request")
}

fn produce(c: &mut Criterion) {
    for (name, partitions, batch_bytes) in [("1x64KiB", 1, 64 << 10), ("100x1KiB", 100, 1 << 10)] {
        let frame = frame(partitions, batch_bytes);
        let mut group = c.benchmark_group("produce");
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(format!("decode/{name}"), |b| b.iter(|| decode(frame.clone())));
        group.bench_function(format!("decode_and_check/{name}"), |b| {
            b.iter(|| {
                let request = decode(frame.clone());
                let batches = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
                let records = batches.filter_map(|partition| partition.records.as_ref());
                records.map(|bytes| check_produce(bytes, VERSION, 1 << 20).expect("sound").record_count()).sum::<i32>()
            });
        });
        group.finish();
    }
}

criterion_group! { name = benches; config = criterion(); targets = produce }
criterion_main!(benches);
