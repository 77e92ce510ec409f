//! Whole frames: what we encode is what the peer decodes, in every version we speak, and no garbage hurts.

use bytes::{Bytes, BytesMut};
use minisr_wire::header::{peek_correlation_id, take_request_head};
use minisr_wire::message::{decode_request, decode_response, encode_request, encode_response};
use minisr_wire::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};
use minisr_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use minisr_wire::messages::*;
use minisr_wire::protocol::{Encodable, Message, Request, StrBytes};
use minisr_wire::scatter::{SHARE_BYTES_MIN, encode_fetch_response, encode_produce_request};
use minisr_wire::{FrameSplitter, HeaderError};
use proptest::prelude::*;

fn unframed(frame: &Bytes) -> Bytes {
    let mut splitter = FrameSplitter::new(1 << 24, 1 << 20);
    splitter.extend(frame);
    let frame = splitter.next_frame().unwrap().expect("one frame");
    assert_eq!(splitter.pending_bytes(), 0);
    frame
}

fn produce(sizes: &[usize]) -> ProduceRequest {
    let partitions = sizes.iter().enumerate().map(|(index, &size)| {
        let records = Bytes::from(vec![index as u8; size]);
        PartitionProduceData::default().with_index(index as i32).with_records(Some(records))
    });
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str("topic")))
        .with_partition_data(partitions.collect());
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1500).with_topic_data(vec![topic])
}

fn fetched(sizes: &[usize], diverging: bool) -> FetchResponse {
    let partitions = sizes.iter().enumerate().map(|(index, &size)| {
        let mut partition = PartitionData::default()
            .with_partition_index(index as i32)
            .with_high_watermark(7)
            .with_last_stable_offset(6)
            .with_log_start_offset(1)
            .with_aborted_transactions(None)
            .with_preferred_read_replica(BrokerId(-1))
            .with_records(Some(vec![index as u8; size].into()));
        if diverging {
            partition.diverging_epoch = EpochEndOffset::default().with_epoch(3).with_end_offset(99);
        }
        partition
    });
    let topic = FetchableTopicResponse::default()
        .with_topic(TopicName(StrBytes::from_static_str("topic")))
        .with_partitions(partitions.collect());
    FetchResponse::default().with_throttle_time_ms(5).with_responses(vec![topic])
}

#[test]
fn produce_request_decoded_from_a_frame_shares_its_record_bytes() {
    let frame = encode_request(1, None, &produce(&[70_000]), 11).unwrap();
    let mut body = unframed(&frame);
    let range = body.as_ptr_range();
    take_request_head(&mut body).unwrap();
    let decoded: ProduceRequest = decode_request(body, 11).unwrap();
    let records = decoded.topic_data[0].partition_data[0].records.as_ref().unwrap();
    assert!(range.contains(&records.as_ptr()), "records must not be copied");
}

#[test]
fn produce_request_in_pieces_equals_the_one_in_one_piece() {
    let client_id = StrBytes::from_static_str("me");
    for version in 3..=11 {
        for sizes in [&[][..], &[10], &[SHARE_BYTES_MIN], &[10, 70_000, 3, 5_000, 5_000]] {
            let request = produce(sizes);
            let whole = encode_request(77, Some(&client_id), &request, version).unwrap();
            let pieces = encode_produce_request(77, Some(&client_id), &request, version).unwrap();
            assert_eq!(pieces.to_bytes(), whole, "version {version}, sizes {sizes:?}");
            assert_eq!(pieces.len(), whole.len());
            assert!(pieces.pieces().iter().all(|piece| !piece.is_empty()));
        }
    }
    let request = produce(&[70_000]);
    let pieces = encode_produce_request(1, None, &request, 9).unwrap();
    let records = request.topic_data[0].partition_data[0].records.as_ref().unwrap();
    assert!(pieces.pieces().iter().any(|piece| piece.as_ptr() == records.as_ptr()), "records must be shared");
}

#[test]
fn fetch_response_in_pieces_equals_the_one_in_one_piece() {
    for version in 4..=16 {
        for sizes in [&[][..], &[10], &[SHARE_BYTES_MIN], &[10, 70_000, 3, 5_000, 5_000]] {
            let response = fetched(sizes, version >= 12);
            let whole = encode_response(77, &response, version).unwrap();
            let pieces = encode_fetch_response(77, &response, version).unwrap();
            assert_eq!(pieces.to_bytes(), whole, "version {version}, sizes {sizes:?}");
        }
    }
}

#[test]
fn request_header_is_read_when_the_version_is_not_served() {
    // ApiVersions in a version of the future: the answer needs the correlation id.
    let mut frame = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 5, 0, 1, b'x', 0, 1, 1, 0]);
    let head = take_request_head(&mut frame).unwrap();
    assert_eq!((head.api(), head.api_version, head.correlation_id), (Some(ApiKey::ApiVersions), 99, 5));
    assert!(decode_request::<ApiVersionsRequest>(frame, 99).is_err());

    let mut frame = Bytes::from_static(&[3, 0, 0, 0, 0, 0, 0, 5, 0xff, 0xff]);
    let error = take_request_head(&mut frame).unwrap_err();
    assert!(matches!(error, HeaderError::UnknownApi { api_key: 768, correlation_id: 5, .. }));
    assert!(take_request_head(&mut Bytes::from_static(&[0, 0, 0])).is_err());
}

#[test]
fn request_claiming_two_thousand_million_elements_is_refused_before_they_are_reserved() {
    // Metadata v1: an array of 2³¹−1 topics, and nothing after it.
    let body = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    assert!(decode_request::<MetadataRequest>(body, 1).is_err());
    // Produce v9: null transactional id, acks, timeout, then a compact array of 2³²−2 topics.
    let body = Bytes::from_static(&[0, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(decode_request::<ProduceRequest>(body, 9).is_err());
}

#[test]
fn request_whose_lengths_are_longer_than_need_be_cannot_hide_an_array_from_the_guard() {
    // DescribeConfigs v4. The first resource's name has length 0 in six bytes where five are the most. A reader that
    // stops after five goes on one byte early, and finds a claim of 2³²−2 keys where a reader of six finds the content
    // of a tagged field.
    let overlong = [0x81, 0x80, 0x80, 0x80, 0x80, 0x00];
    let mut body = vec![0x03, 0x02];
    body.extend_from_slice(&overlong);
    body.extend_from_slice(&[
        0x00, 0x02, 0x06, 0x0a, b'n', b'a', b'm', b'e', 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0x07, 0x00,
    ]);
    body.extend_from_slice(&[0x02, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00]);
    assert!(decode_request::<DescribeConfigsRequest>(body.into(), 4).is_err());
}

#[test]
fn request_is_made_large_by_records_only() {
    let most = minisr_wire::guard::BYTES_BESIDE_RECORDS_MAX;
    for version in 3..=11 {
        let decoded = |request: &ProduceRequest| {
            let mut body = unframed(&encode_request(1, None, request, version).unwrap());
            take_request_head(&mut body).unwrap();
            decode_request::<ProduceRequest>(body, version)
        };
        decoded(&produce(&[most * 2, 3])).unwrap();
        let mut many_names = produce(&[10]);
        let topic = many_names.topic_data[0].clone().with_name(TopicName(StrBytes::from_string("n".repeat(30_000))));
        many_names.topic_data = vec![topic; most / 30_000 + 1];
        let refused = decoded(&many_names).unwrap_err();
        assert!(refused.to_string().contains("that are no records"), "v{version}: {refused}");
    }
    let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(TopicName::default()));
    let request = MetadataRequest::default().with_topics(Some(vec![topic; 1 << 20]));
    let mut body = unframed(&encode_request(1, None, &request, 1).unwrap());
    take_request_head(&mut body).unwrap();
    assert!(decode_request::<MetadataRequest>(body, 1).is_err());
}

/// A default request, encoded in every version and decoded again: the table of shapes must let it pass.
fn passes_in_all_versions<R: Request + Default + PartialEq + std::fmt::Debug>(request: &R, max: i16) {
    for version in R::VERSIONS.min..=max {
        let frame = encode_request(3, Some(&StrBytes::from_static_str("id")), request, version).unwrap();
        let mut body = unframed(&frame);
        let head = take_request_head(&mut body).unwrap();
        assert_eq!((head.api_key, head.api_version, head.correlation_id), (R::KEY, version, 3));
        let decoded: R = decode_request(body, version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        let mut again = BytesMut::new();
        decoded.encode(&mut again, version).unwrap();
        assert!(frame.ends_with(&again), "v{version} of key {}", R::KEY);
    }
}

#[test]
fn requests_of_every_version_pass_the_guard() {
    let name = || TopicName(StrBytes::from_static_str("topic"));
    passes_in_all_versions(&produce(&[5, 6]), 11);
    passes_in_all_versions(&ApiVersionsRequest::default(), 4);
    passes_in_all_versions(&InitProducerIdRequest::default(), 4);
    passes_in_all_versions(&DescribeClusterRequest::default(), 1);
    let elect = |partitions: Option<Vec<i32>>| {
        let topic = |partitions| {
            elect_leaders_request::TopicPartitions::default().with_topic(name()).with_partitions(partitions)
        };
        ElectLeadersRequest::default().with_topic_partitions(partitions.map(|partitions| vec![topic(partitions)]))
    };
    passes_in_all_versions(&elect(None), 2);
    passes_in_all_versions(&elect(Some(vec![0, 7])), 2);
    let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(name()));
    let request = MetadataRequest::default().with_topics(Some(vec![topic.clone(), topic]));
    for version in [4, 8, 9, 10, 12] {
        let frame = encode_request(1, None, &request, version).unwrap();
        let mut body = unframed(&frame);
        take_request_head(&mut body).unwrap();
        assert_eq!(decode_request::<MetadataRequest>(body, version).unwrap().topics.unwrap().len(), 2);
    }

    let partition = list_offsets_request::ListOffsetsPartition::default().with_partition_index(2).with_timestamp(-1);
    let topic = list_offsets_request::ListOffsetsTopic::default().with_name(name()).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    passes_in_all_versions(&request, 8);

    let topic = create_topics_request::CreatableTopic::default()
        .with_name(name())
        .with_num_partitions(3)
        .with_replication_factor(2)
        .with_assignments(vec![
            create_topics_request::CreatableReplicaAssignment::default()
                .with_broker_ids(vec![BrokerId(1), BrokerId(2)]),
        ])
        .with_configs(vec![
            create_topics_request::CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str("min.insync.replicas"))
                .with_value(Some(StrBytes::from_static_str("2"))),
        ]);
    passes_in_all_versions(&CreateTopicsRequest::default().with_topics(vec![topic]), 7);
    for version in 1..=5 {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![name()]);
        let mut body = unframed(&encode_request(1, None, &request, version).unwrap());
        take_request_head(&mut body).unwrap();
        assert_eq!(decode_request::<DeleteTopicsRequest>(body, version).unwrap().topic_names.len(), 1);
    }
    let topic = delete_topics_request::DeleteTopicState::default().with_name(Some(name()));
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]);
    let mut body = unframed(&encode_request(1, None, &request, 6).unwrap());
    take_request_head(&mut body).unwrap();
    assert_eq!(decode_request::<DeleteTopicsRequest>(body, 6).unwrap().topics.len(), 1);

    let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default().with_leader_epoch(4);
    let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
        .with_topic(name())
        .with_partitions(vec![partition]);
    passes_in_all_versions(&OffsetForLeaderEpochRequest::default().with_topics(vec![topic]), 4);

    let partition = fetch_request::FetchPartition::default().with_partition(4).with_partition_max_bytes(9);
    let mut topic = fetch_request::FetchTopic::default().with_partitions(vec![partition]);
    let mut request = FetchRequest::default().with_topics(vec![topic.clone()]).with_replica_id(BrokerId(2));
    for version in 4..=16 {
        topic.topic = if version <= 12 { name() } else { TopicName::default() };
        request.topics = vec![topic.clone()];
        if version >= 15 {
            request.replica_id = BrokerId(-1);
            request.replica_state.replica_id = BrokerId(2);
        }
        let mut body = unframed(&encode_request(1, None, &request, version).unwrap());
        take_request_head(&mut body).unwrap();
        let decoded: FetchRequest = decode_request(body, version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        assert_eq!(decoded.topics[0].partitions[0].partition, 4);
    }
}

#[test]
fn fetch_request_carries_a_tagged_field_of_a_partition() {
    let partition = fetch_request::FetchPartition::default()
        .with_partition(4)
        .with_unknown_tagged_field(100, Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 9]));
    let topic = fetch_request::FetchTopic::default().with_partitions(vec![partition]);
    let request = FetchRequest::default().with_topics(vec![topic]);
    let mut body = unframed(&encode_request(1, None, &request, 16).unwrap());
    take_request_head(&mut body).unwrap();
    let decoded: FetchRequest = decode_request(body, 16).unwrap();
    let tagged = &decoded.topics[0].partitions[0].unknown_tagged_fields;
    assert_eq!(tagged.get(&100).map(|bytes| bytes.len()), Some(8));
}

fn decode_anything(api_key: i16, version: i16, body: Bytes) {
    match ApiKey::try_from(api_key) {
        Ok(ApiKey::Produce) => drop(decode_request::<ProduceRequest>(body, version)),
        Ok(ApiKey::Fetch) => drop(decode_request::<FetchRequest>(body, version)),
        Ok(ApiKey::ListOffsets) => drop(decode_request::<ListOffsetsRequest>(body, version)),
        Ok(ApiKey::Metadata) => drop(decode_request::<MetadataRequest>(body, version)),
        Ok(ApiKey::FindCoordinator) => drop(decode_request::<FindCoordinatorRequest>(body, version)),
        Ok(ApiKey::ApiVersions) => drop(decode_request::<ApiVersionsRequest>(body, version)),
        Ok(ApiKey::CreateTopics) => drop(decode_request::<CreateTopicsRequest>(body, version)),
        Ok(ApiKey::DeleteTopics) => drop(decode_request::<DeleteTopicsRequest>(body, version)),
        Ok(ApiKey::InitProducerId) => drop(decode_request::<InitProducerIdRequest>(body, version)),
        Ok(ApiKey::OffsetForLeaderEpoch) => drop(decode_request::<OffsetForLeaderEpochRequest>(body, version)),
        Ok(ApiKey::ElectLeaders) => drop(decode_request::<ElectLeadersRequest>(body, version)),
        Ok(ApiKey::DescribeCluster) => drop(decode_request::<DescribeClusterRequest>(body, version)),
        Ok(ApiKey::DescribeConfigs) => drop(decode_request::<DescribeConfigsRequest>(body, version)),
        Ok(ApiKey::CreatePartitions) => drop(decode_request::<CreatePartitionsRequest>(body, version)),
        Ok(ApiKey::IncrementalAlterConfigs) => drop(decode_request::<IncrementalAlterConfigsRequest>(body, version)),
        Ok(ApiKey::AlterPartitionReassignments) => {
            drop(decode_request::<AlterPartitionReassignmentsRequest>(body, version));
        }
        Ok(ApiKey::ListPartitionReassignments) => {
            drop(decode_request::<ListPartitionReassignmentsRequest>(body, version));
        }
        Ok(ApiKey::DescribeQuorum) => drop(decode_request::<DescribeQuorumRequest>(body, version)),
        Ok(ApiKey::UnregisterBroker) => drop(decode_request::<UnregisterBrokerRequest>(body, version)),
        Ok(ApiKey::AddRaftVoter) => drop(decode_request::<AddRaftVoterRequest>(body, version)),
        Ok(ApiKey::RemoveRaftVoter) => drop(decode_request::<RemoveRaftVoterRequest>(body, version)),
        other => panic!("{other:?} (key {api_key}) is not part of this test"),
    }
}

/// The APIs that [`decode_anything`] knows: all that have a shape.
const APIS: [i16; 21] = [0, 1, 2, 3, 10, 18, 19, 20, 22, 23, 32, 37, 43, 44, 45, 46, 55, 60, 64, 80, 81];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn request_of_arbitrary_bytes_never_panics(
        api_key in prop::sample::select(APIS.to_vec()),
        version in 0i16..18,
        // Small values make lengths and counts that sometimes fit; with their highest bit, they go on.
        bytes in prop::collection::vec(prop_oneof![4 => 0u8..6, 1 => 0x80u8..0x86, 1 => any::<u8>()], 0..120),
    ) {
        decode_anything(api_key, version, bytes.into());
    }

    #[test]
    fn request_with_a_bit_flipped_never_panics(
        version in 3i16..=11,
        at: prop::sample::Index,
        bit in 0u8..8,
    ) {
        let mut body = BytesMut::new();
        produce(&[20, 30]).encode(&mut body, version).unwrap();
        let at = at.index(body.len());
        body[at] ^= 1 << bit;
        decode_anything(0, version, body.freeze());
    }

    #[test]
    fn frame_of_arbitrary_bytes_never_panics(bytes: Vec<u8>) {
        let mut splitter = FrameSplitter::new(1000, 1000);
        splitter.extend(&bytes);
        while let Ok(Some(mut frame)) = splitter.next_frame() {
            let _ = peek_correlation_id(&frame);
            let _ = take_request_head(&mut frame);
        }
    }
}

#[test]
fn response_comes_back_with_its_correlation_id() {
    for version in ProduceRequest::VERSIONS.min..=11 {
        let frame = encode_response(31, &ProduceResponse::default(), version).unwrap();
        let (correlation_id, decoded) = decode_response::<ProduceRequest>(unframed(&frame), version).unwrap();
        assert_eq!((correlation_id, decoded), (31, ProduceResponse::default()));
    }
    for version in 0..=4 {
        let frame = encode_response(1, &ApiVersionsResponse::default(), version).unwrap();
        decode_response::<ApiVersionsRequest>(unframed(&frame), version).unwrap();
    }
}
