//! A leader that is frozen (SIGSTOP) for longer than its session: it is replaced, and what it finds in its sockets when
//! it wakes up is not acknowledged.

mod support;

use std::time::Duration;

use minisr_client::connection::{Connection, ConnectionConfig, ReplyTo, Tagged, decode};
use minisr_client::{Address, Dialer, NewTopic, Transport};
use minisr_cluster::Cluster;
use minisr_wire::batch::{BatchBuilder, Producer};
use minisr_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use minisr_wire::messages::{ProduceRequest, TopicName};
use minisr_wire::{ErrorCode, StrBytes};
use support::{admin, admin_at, eventually, only_partition, start};
use tokio::sync::mpsc;

const TOPIC: &str = "frozen";
const LATE_WRITES: u64 = 20;

/// A connection to one broker, whatever its role, that repeats nothing.
async fn plain(cluster: &Cluster, id: i32) -> Connection {
    let address = Address::new("127.0.0.1", cluster.ports(id).expect("a broker of the cluster").tcp);
    let dialer = Dialer::new(&Transport::Tcp, Duration::from_secs(5)).expect("plain TCP needs no certificates");
    Connection::open(&dialer, &address, ConnectionConfig::named("plain")).await.expect("connected")
}

/// Sends one record with acks=all, without waiting for the answer, which comes with the value as its tag.
fn send(connection: &Connection, value: u64, answers: &mpsc::UnboundedSender<Tagged>) -> i16 {
    let mut builder = BatchBuilder::new(128);
    builder.append(1, None, Some(&value.to_be_bytes()), &[]);
    let data = PartitionProduceData::default().with_index(0).with_records(Some(builder.finish(Producer::NONE)));
    let name = TopicName(StrBytes::from_static_str(TOPIC));
    let topic = TopicProduceData::default().with_name(name).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(None)
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    let version = connection.versions().highest::<ProduceRequest>(11).expect("served");
    connection.send_produce(&request, version, ReplyTo::Tagged(answers.clone(), value)).expect("sent");
    version
}

fn code(answer: Tagged, version: i16) -> ErrorCode {
    let response = decode::<ProduceRequest>(answer.result.expect("an answer"), version).expect("decodable");
    ErrorCode(response.responses[0].partition_responses[0].error_code)
}

#[tokio::test]
async fn paused_leader_is_replaced_within_its_session_and_its_late_writes_are_fenced() {
    let short =
        [("broker.session.timeout.ms", "1500"), ("broker.heartbeat.interval.ms", "300"), ("min.insync.replicas", "2")];
    let cluster = start(3, &short).await;
    let admin = admin(&cluster).await;
    admin.create_topic(&NewTopic::new(TOPIC, 1, 3)).await.expect("created");
    let mut leader = None;
    eventually("the topic is in sync", async || {
        let view = admin.topic(TOPIC).await.ok();
        let partition = view.as_ref().and_then(|view| only_partition(view, TOPIC)).filter(|it| it.isr.len() == 3);
        leader = partition.and_then(|it| it.leader);
        leader.is_some()
    })
    .await;
    let frozen = leader.expect("just checked");
    let connection = plain(&cluster, frozen).await;
    let (answers_in, mut answers) = mpsc::unbounded_channel();
    let version = send(&connection, 1, &answers_in);
    assert_eq!(code(answers.recv().await.expect("an answer"), version), ErrorCode::NONE);

    cluster.pause(frozen).await.expect("paused");
    // They wait in the sockets of the frozen process.
    for value in 0..LATE_WRITES {
        send(&connection, 1_000 + value, &answers_in);
    }
    let survivor = cluster.ids().find(|id| *id != frozen).expect("two are left");
    let beside = admin_at(&cluster, survivor).await;
    let mut next = None;
    eventually("another leads", async || {
        let view = beside.topic(TOPIC).await.ok();
        next = view.and_then(|view| only_partition(&view, TOPIC)?.leader).filter(|id| *id != frozen);
        next.is_some()
    })
    .await;
    let next = plain(&cluster, next.expect("just checked")).await;
    let (meanwhile_in, mut meanwhile) = mpsc::unbounded_channel();
    eventually("the new leader takes writes", async || {
        let version = send(&next, 2, &meanwhile_in);
        code(meanwhile.recv().await.expect("an answer"), version) == ErrorCode::NONE
    })
    .await;

    cluster.resume(frozen).expect("resumed");
    for _ in 0..LATE_WRITES {
        let answer = answers.recv().await.expect("an answer");
        let (value, code) = (answer.tag, code(answer, version));
        assert_ne!(code, ErrorCode::NONE, "{value} was acknowledged by a leader that had been replaced");
    }
    eventually("the frozen broker is in sync again", async || {
        let view = beside.topic(TOPIC).await.ok();
        view.and_then(|view| only_partition(&view, TOPIC)).is_some_and(|it| it.isr.len() == 3)
    })
    .await;
    let mut read = Vec::new();
    let bootstrap = vec![Address::new("127.0.0.1", cluster.ports(survivor).expect("known").tcp)];
    let config = minisr_client::ClientConfig::new(bootstrap, Transport::Tcp);
    let client = minisr_client::Client::new(config).expect("a client");
    let all = minisr_client::read_all(&client, TOPIC, Duration::from_secs(20), |_, _, record| {
        read.push(u64::from_be_bytes(*record.value.expect("a value").first_chunk().expect("eight bytes")));
    });
    all.await.expect("read");
    assert_eq!(read.first(), Some(&1));
    assert!(read[1..].iter().all(|value| *value == 2), "late writes are in the log: {read:?}");
    cluster.destroy().await.expect("removed");
}
