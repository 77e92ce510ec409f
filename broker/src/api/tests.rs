//! Requests against a session without sockets: what is refused, and in which form.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::BufMut;
use bytes::BytesMut;
use minisr_logic::{BrokerId, Millis};
use minisr_replica::{Config, Shard};
use minisr_storage::RealDisk;
use minisr_wire::ErrorCode;
use minisr_wire::message::{decode_response, encode_request};
use minisr_wire::messages::*;
use tokio::time::Instant;

use super::*;
use crate::config::Protocol;
use crate::control_handle::{self, ControlPort};
use crate::shard::{Peers, SendFetch};

struct NoPeers;

impl Peers for NoPeers {
    fn send_fetch(&self, _: &ShardHandle, fetch: SendFetch) {
        panic!("unexpected {fetch:?}");
    }

    fn alter_partition(&self, _: &ShardHandle, proposal: minisr_replica::AlterPartition) {
        panic!("unexpected {proposal:?}");
    }
}

/// A broker with id 1, no cluster around it and no topics.
struct Alone {
    session: Session,
    _port: ControlPort,
    _dir: tempfile::TempDir,
}

impl Alone {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let values: BTreeMap<String, String> = [
            ("node.id", "1"),
            ("cluster.id", "test"),
            ("log.dirs", dir.path().to_str().expect("UTF-8")),
            ("listeners", "QUIC://127.0.0.1:0,PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:9300"),
            ("controller.quorum.voters", "1@127.0.0.1:9300"),
            ("ssl.truststore.location", "/unused"),
            ("ssl.keystore.location", "/unused"),
            ("auto.create.topics.enable", "false"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        let settings = Arc::new(Settings::from_values(&values).expect("valid settings"));
        let (control, port) = control_handle::channel(Arc::new(Image::new()));
        let config = Config::new(BrokerId(1));
        let (shard, _) = Shard::open(&mut RealDisk, dir.path(), config, Millis(0)).expect("an empty directory opens");
        let shard = ShardHandle::start(shard, Instant::now(), control.image(), Box::new(NoPeers)).expect("a thread");
        let context = Rc::new(Context::new(settings, shard, control, Rc::new(Metrics::default())));
        let peer = PeerInfo {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            listener: Protocol::Plaintext,
            certificate: None,
        };
        Self { session: Sessions(context).connect(peer), _port: port, _dir: dir }
    }

    fn handle<R: Request>(&self, request: &R, version: i16) -> Handled {
        let frame = encode_request(7, None, request, version).expect("encodable");
        self.session.handle(frame.slice(4..))
    }

    fn answer<R: Request>(&self, request: &R, version: i16) -> R::Response {
        let (correlation_id, response) =
            decode_response::<R>(body_of(self.handle(request, version)), version).expect("decodable");
        assert_eq!(correlation_id, 7);
        response
    }
}

/// The bytes of an immediate reply, without length prefix.
fn body_of(handled: Handled) -> Bytes {
    let frame = match handled {
        Handled::Reply(Frame::Whole(frame)) => frame,
        Handled::Reply(Frame::Chunks(chunks)) => chunks.concat().into(),
        Handled::Later { .. } => panic!("answered later"),
        Handled::NoReply => panic!("no reply"),
        Handled::Close(closed) => panic!("closed: {closed}"),
    };
    assert_eq!(frame.len() - 4, u32::from_be_bytes(frame[..4].try_into().expect("a prefix")) as usize);
    frame.slice(4..)
}

fn closed(handled: Handled) -> Closed {
    match handled {
        Handled::Close(closed) => closed,
        _ => panic!("not closed"),
    }
}

fn run(test: impl FnOnce(Alone)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async { test(Alone::start()) });
}

#[test]
fn api_versions_lists_exactly_what_is_served_in_every_version() {
    run(|broker| {
        for version in 0..=4 {
            let request = ApiVersionsRequest::default()
                .with_client_software_name("librdkafka".to_owned().into())
                .with_client_software_version("2.15.0".to_owned().into());
            let request = if version >= 3 { request } else { ApiVersionsRequest::default() };
            let response = broker.answer(&request, version);
            assert_eq!(response.error_code, 0);
            let listed: Vec<_> =
                response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
            let served: Vec<_> = versions::SERVED.iter().map(|it| (it.api as i16, it.offered_min, it.max)).collect();
            assert_eq!(listed, served);
        }
    });
}

#[test]
fn api_versions_from_the_future_is_answered_in_the_oldest_form_with_the_list() {
    run(|broker| {
        let mut frame = BytesMut::new();
        frame.put_i16(ApiKey::ApiVersions as i16);
        frame.put_i16(99);
        frame.put_i32(7);
        frame.put_i16(-1);
        frame.put_u8(0);
        frame.extend_from_slice(b"whatever a version 99 body may be");
        let body = body_of(broker.session.handle(frame.freeze()));
        let (_, response) = decode_response::<ApiVersionsRequest>(body, 0).expect("version 0");
        assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION.0);
        assert_eq!(response.api_keys.len(), versions::SERVED.len());
    });
}

#[test]
fn api_versions_with_a_nameless_client_is_an_invalid_request() {
    run(|broker| {
        let response = broker.answer(&ApiVersionsRequest::default(), 3);
        assert_eq!(response.error_code, ErrorCode::INVALID_REQUEST.0);
    });
}

#[test]
fn request_of_an_unknown_api_or_version_or_shape_closes_the_connection() {
    run(|broker| {
        for (key, version) in [(999_i16, 0_i16), (0, 2), (0, 12), (1, 3), (1, 17), (10, 0), (-1, 0)] {
            let mut frame = BytesMut::new();
            frame.put_i16(key);
            frame.put_i16(version);
            frame.put_i32(7);
            frame.put_i16(-1);
            frame.put_bytes(0, 64);
            assert!(matches!(closed(broker.session.handle(frame.freeze())), Closed::Invalid(_)), "{key} v{version}");
        }
        for garbage in [&b""[..], b"short", b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n"] {
            assert!(matches!(closed(broker.session.handle(Bytes::copy_from_slice(garbage))), Closed::Invalid(_)));
        }
    });
}

#[test]
fn request_that_claims_two_billion_elements_closes_the_connection_without_taking_memory() {
    run(|broker| {
        for (api, version, prefix) in
            [(ApiKey::Metadata, 1, &[][..]), (ApiKey::Produce, 3, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9][..])]
        {
            let mut frame = BytesMut::new();
            frame.put_i16(api as i16);
            frame.put_i16(version);
            frame.put_i32(7);
            frame.put_i16(-1);
            frame.put_slice(prefix);
            frame.put_i32(i32::MAX);
            assert!(matches!(closed(broker.session.handle(frame.freeze())), Closed::Invalid(_)), "{api:?}");
        }
    });
}

#[test]
fn every_served_request_survives_random_bodies() {
    run(|broker| {
        // A fixed sequence: the same bytes in every run.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for served in versions::SERVED.iter().filter(|served| served.api != ApiKey::InitProducerId) {
            for version in served.min..=served.max {
                for round in 0..200 {
                    let mut frame = BytesMut::new();
                    frame.put_i16(served.api as i16);
                    frame.put_i16(version);
                    frame.put_i32(7);
                    frame.put_i16(-1);
                    let len = next() % 96;
                    for _ in 0..len {
                        // Mostly small numbers, so that lengths are often plausible.
                        let byte = next();
                        frame.put_u8(if round % 2 == 0 { (byte % 4) as u8 } else { byte as u8 });
                    }
                    // Any outcome will do but a panic.
                    let _ = broker.session.handle(frame.freeze());
                }
            }
        }
    });
}

#[test]
fn replica_fetch_without_certificate_is_refused() {
    run(|broker| {
        let topic = fetch_request::FetchTopic::default()
            .with_partitions(vec![fetch_request::FetchPartition::default().with_partition(0)]);
        let old = FetchRequest::default().with_replica_id(2.into()).with_topics(vec![topic.clone()]);
        assert_eq!(broker.answer(&old, 12).error_code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0);
        let state = fetch_request::ReplicaState::default().with_replica_id(2.into());
        let new = FetchRequest::default().with_replica_state(state).with_topics(vec![topic]);
        let response = broker.answer(&new, 16);
        assert_eq!(response.error_code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0);
        assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0);
    });
}

#[test]
fn fetch_session_that_was_never_given_is_unknown_and_none_is_ever_given() {
    run(|broker| {
        let named = FetchRequest::default().with_session_id(5).with_session_epoch(1);
        assert_eq!(broker.answer(&named, 11).error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND.0);
        let asked = FetchRequest::default().with_session_epoch(0);
        assert_eq!(broker.answer(&asked, 11).session_id, 0);
    });
}

#[test]
fn unknown_topics_are_named_by_kafkas_codes() {
    run(|broker| {
        let partition = fetch_request::FetchPartition::default();
        let topic = fetch_request::FetchTopic::default()
            .with_topic(TopicName("nowhere".to_owned().into()))
            .with_partitions(vec![partition]);
        let by_name = FetchRequest::default().with_max_wait_ms(10_000).with_topics(vec![topic.clone()]);
        let answer = broker.answer(&by_name, 12);
        assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
        let topic = topic.with_topic(TopicName::default()).with_topic_id(uuid::Uuid::from_u128(1));
        let answer = broker.answer(&FetchRequest::default().with_topics(vec![topic]), 13);
        assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID.0);

        let named =
            metadata_request::MetadataRequestTopic::default().with_name(Some(TopicName("nowhere".to_owned().into())));
        let answer = broker.answer(&MetadataRequest::default().with_topics(Some(vec![named])), 12);
        assert_eq!(answer.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
        let named =
            metadata_request::MetadataRequestTopic::default().with_name(Some(TopicName("a/b".to_owned().into())));
        let answer = broker.answer(&MetadataRequest::default().with_topics(Some(vec![named])), 12);
        assert_eq!(answer.topics[0].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION.0);
    });
}

#[test]
fn metadata_describes_a_topic_once_however_often_it_is_named() {
    run(|broker| {
        let named =
            metadata_request::MetadataRequestTopic::default().with_name(Some(TopicName("nowhere".to_owned().into())));
        let answer = broker.answer(&MetadataRequest::default().with_topics(Some(vec![named; 1_000])), 12);
        assert_eq!(answer.topics.len(), 1);
    });
}

#[test]
fn produce_with_odd_acks_or_to_an_unknown_topic_is_refused_and_acks_0_closes() {
    run(|broker| {
        let data = produce_request::PartitionProduceData::default().with_records(Some(Bytes::from_static(b"x")));
        let topic = produce_request::TopicProduceData::default()
            .with_name(TopicName("nowhere".to_owned().into()))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_topic_data(vec![topic]);
        let code = |acks| {
            let response = broker.answer(&request.clone().with_acks(acks), 9);
            response.responses[0].partition_responses[0].error_code
        };
        assert_eq!(code(2), ErrorCode::INVALID_REQUIRED_ACKS.0);
        assert_eq!(code(-1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
        assert_eq!(code(1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
        let handled = broker.handle(&request.with_acks(0), 9);
        assert!(matches!(closed(handled), Closed::UnacknowledgedFailure(_)));
    });
}

#[test]
fn transactional_producers_are_told_that_there_are_no_transactions() {
    run(|broker| {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId("t".to_owned().into())))
            .with_transaction_timeout_ms(1000);
        assert_eq!(broker.answer(&request, 4).error_code, ErrorCode::UNSUPPORTED_VERSION.0);
    });
}
