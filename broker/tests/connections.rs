//! Clients of all kinds at the sockets of real brokers: the same records over both transports, bytes that are no
//! requests, and peers that claim to be brokers.

mod support;

use std::time::Duration;

use bytes::Bytes;
use minisr_client::connection::ConnectionConfig;
use minisr_client::transport::tls::broker_server_name;
use minisr_client::{
    Address, Admin, Client, ClientConfig, Connection, Dialer, NewTopic, Producer, ProducerConfig, TlsFiles, Transport,
    read_all,
};
use minisr_cluster::Cluster;
use minisr_wire::ErrorCode;
use minisr_wire::messages::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
use minisr_wire::messages::{FetchRequest, MetadataRequest, TopicName};
use support::{eventually, log, start};
use tokio::io::AsyncReadExt;

const TOPIC: &str = "story";
const PATIENCE: Duration = Duration::from_secs(20);

/// Who dials: an ordinary client, or somebody with the certificate of a broker.
fn quic(cluster: &Cluster, certificate_of: Option<i32>) -> Transport {
    let keystore = certificate_of.map(|id| cluster.layout().keystore(id));
    let files = TlsFiles { truststore: cluster.ca_path(), keystore };
    Transport::Quic(files.load().expect("the cluster's certificates"))
}

fn client(cluster: &Cluster, transport: Transport) -> Client {
    let bootstrap = match transport {
        Transport::Quic(_) => cluster.bootstrap_quic(),
        _ => cluster.bootstrap_tcp(),
    };
    let bootstrap = bootstrap.iter().map(|it| Address::new(it.ip().to_string(), it.port())).collect();
    Client::new(ClientConfig::new(bootstrap, transport)).expect("a client")
}

async fn with_topic(cluster: &Cluster, brokers: i16) {
    let admin = Admin::new(client(cluster, Transport::Tcp));
    admin.create_topic(&NewTopic::new(TOPIC, 3, brokers)).await.expect("created");
    admin.wait_until_in_sync(TOPIC, 3, PATIENCE).await.expect("in sync");
}

async fn produce(client: &Client, count: usize) {
    let producer = Producer::start(client.clone(), ProducerConfig::default(), |_| {}).expect("valid settings");
    for n in 0..count {
        let partition = producer.partition(TOPIC, n as i32 % 3);
        let value = format!("record {n}");
        producer
            .produce(partition, &minisr_client::producer::Record::of(value.as_bytes()))
            .await
            .expect("acknowledged");
    }
    producer.close(PATIENCE).await;
}

async fn read(client: &Client) -> Vec<String> {
    let mut values = Vec::new();
    read_all(client, TOPIC, PATIENCE, |_, _, record| {
        values.push(String::from_utf8_lossy(record.value.expect("a value")).into_owned());
    })
    .await
    .expect("readable");
    values.sort();
    values
}

#[tokio::test]
async fn records_written_over_one_transport_are_read_over_the_other() {
    let cluster = start(3, &[("min.insync.replicas", "2")]).await;
    with_topic(&cluster, 3).await;
    let (over_quic, over_tcp) = (client(&cluster, quic(&cluster, None)), client(&cluster, Transport::Tcp));
    produce(&over_quic, 30).await;
    produce(&over_tcp, 30).await;
    let written = read(&over_tcp).await;
    assert_eq!(written.len(), 60);
    assert_eq!(read(&over_quic).await, written);
}

#[tokio::test]
async fn quic_garbage_resets_its_stream_and_no_other() {
    let cluster = start(1, &[]).await;
    let address = cluster.bootstrap_quic()[0];
    let address = Address::new(address.ip().to_string(), address.port());
    // Streams of one dialer share a QUIC connection.
    let dialer = Dialer::new(&quic(&cluster, None), PATIENCE).expect("a dialer");
    let neighbour = Connection::open(&dialer, &address, ConnectionConfig::default()).await.expect("served");
    for garbage in [
        Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"),
        Bytes::from_static(&[0xff; 64]),
        Bytes::from_static(&[0, 0, 0, 12, 0, 99, 0, 0, 0, 0, 0, 7, 0xff, 0xff, 0, 0]),
    ] {
        let mut stream = dialer.open(&address).await.expect("a stream");
        stream.writer.write_pieces(&mut [garbage]).await.expect("taken");
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.reader.read_to_end(&mut answer)).await.expect("in time");
        assert!(ended.is_err(), "reset, not finished: {answer:?}");
        neighbour.call(&MetadataRequest::default(), 12).await.expect("the neighbour is served");
    }
    eventually("the reasons are logged", async || {
        let log = log(&cluster, 1);
        log.contains("frame of") && log.contains("invalid request")
    })
    .await;
}

#[tokio::test]
async fn tcp_garbage_and_truncated_frames_close_that_connection_with_a_logged_reason() {
    let cluster = start(1, &[]).await;
    let address = cluster.bootstrap_tcp()[0];
    let address = Address::new(address.ip().to_string(), address.port());
    let dialer = Dialer::new(&Transport::Tcp, PATIENCE).expect("a dialer");
    let neighbour = Connection::open(&dialer, &address, ConnectionConfig::default()).await.expect("served");
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x00\x00\x00\x10abc", b"\x7f\xff\xff\xff"] {
        let mut stream = dialer.open(&address).await.expect("a connection");
        stream.writer.write_pieces(&mut [Bytes::from_static(bytes)]).await.expect("taken");
        stream.writer.finish().await.expect("half-closed");
        let mut answer = Vec::new();
        // An end or a reset: either way it is over.
        let _ = tokio::time::timeout(PATIENCE, stream.reader.read_to_end(&mut answer)).await.expect("in time");
        assert!(answer.is_empty());
        neighbour.call(&MetadataRequest::default(), 12).await.expect("the neighbour is served");
    }
    eventually("the reasons are logged", async || {
        let log = log(&cluster, 1);
        log.contains("truncated frame") && log.contains("refused: at most")
    })
    .await;
}

#[tokio::test]
async fn replica_fetch_is_served_only_to_the_broker_that_it_claims_to_come_from() {
    let cluster = start(3, &[]).await;
    with_topic(&cluster, 3).await;
    let topic = FetchTopic::default()
        .with_topic(TopicName(TOPIC.to_owned().into()))
        .with_partitions(vec![FetchPartition::default().with_partition_max_bytes(1 << 20)]);
    let as_broker_2 = FetchRequest::default()
        .with_replica_state(ReplicaState::default().with_replica_id(2.into()))
        .with_topics(vec![topic]);
    for (certificate_of, is_served) in [(None, false), (Some(3), false), (Some(2), true)] {
        let dialer = Dialer::new(&quic(&cluster, certificate_of), PATIENCE).expect("a dialer");
        let address = cluster.bootstrap_quic()[0];
        let address = Address::new(address.ip().to_string(), address.port());
        let stream = dialer.open_as(&address, &broker_server_name(1)).await.expect("a stream");
        let connection = Connection::start(stream, ConnectionConfig::default());
        let response = connection.call(&as_broker_2, 15).await.expect("answered");
        let refused = ErrorCode(response.error_code) == ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
        assert_eq!(refused, !is_served, "with the certificate of {certificate_of:?}");
    }
    assert!(log(&cluster, 1).contains("the peer is not the broker it claims to be"));
}
