//! Bytes in, types out, and back.

use std::hint::black_box;

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchResponse, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use minisr_benches::samples::batch;
use minisr_wire::batch::{check_produce, stamp};
use minisr_wire::header::take_request_head;
use minisr_wire::message::decode_request;
use minisr_wire::scatter::{encode_fetch_response_with, encode_produce_request};

use crate::rounds::rounds;

const PRODUCE_VERSION: i16 = 11;
const FETCH_VERSION: i16 = 16;

fn client_id() -> StrBytes {
    StrBytes::from_static_str("bench")
}

/// Every check of a produced batch, its checksum included.
pub fn check_produce_batch(bytes: usize) {
    let batch = batch(bytes);
    for round in rounds() {
        round.count(|| {
            check_produce(black_box(&batch), PRODUCE_VERSION, 1 << 20).expect("a sound batch").record_count()
        });
    }
}

/// The two fields that the leader writes.
pub fn stamp_batch() {
    let mut batch = batch(64 << 10).to_vec();
    for round in rounds() {
        round.count(|| stamp(black_box(&mut batch), i64::from(round.number), 3));
    }
}

fn produce(partitions: i32, batch_bytes: usize) -> ProduceRequest {
    let records = batch(batch_bytes);
    let partition = |index| PartitionProduceData::default().with_index(index).with_records(Some(records.clone()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str("orders")))
        .with_partition_data((0..partitions).map(partition).collect());
    ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

/// A Produce request from its frame to its types and out of memory again.
pub fn decode_produce(partitions: i32, batch_bytes: usize) {
    let request = produce(partitions, batch_bytes);
    let frame = encode_produce_request(1, Some(&client_id()), &request, PRODUCE_VERSION).expect("encodable");
    let frame = frame.to_bytes().slice(4..);
    for round in rounds() {
        let mut frame = frame.clone();
        round.count(move || {
            let head = take_request_head(&mut frame).expect("a request head");
            let request: ProduceRequest = decode_request(frame, head.api_version).expect("a Produce request");
            drop(black_box(request));
        });
    }
}

/// A Produce request into the pieces of its frame, as the client does it.
pub fn encode_produce(partitions: i32, batch_bytes: usize) {
    let request = produce(partitions, batch_bytes);
    let client_id = client_id();
    for round in rounds() {
        let number = round.number as i32;
        round.count(|| {
            drop(black_box(encode_produce_request(number, Some(&client_id), &request, PRODUCE_VERSION)));
        });
    }
}

/// A Fetch response into the pieces of its frame, as the broker does it.
pub fn encode_fetch(partitions: i32, batch_bytes: usize) {
    let records: Vec<Vec<Bytes>> = (0..partitions).map(|_| vec![batch(batch_bytes)]).collect();
    let partition = |index| PartitionData::default().with_partition_index(index).with_records(Some(Bytes::new()));
    let topic = FetchableTopicResponse::default().with_partitions((0..partitions).map(partition).collect());
    let response = FetchResponse::default().with_responses(vec![topic]);
    for round in rounds() {
        let number = round.number as i32;
        round.count(|| {
            let records_of = |_: &_, position: usize| records[position].as_slice();
            drop(black_box(encode_fetch_response_with(number, &response, FETCH_VERSION, records_of)));
        });
    }
}
