//! Settings about replication whose effect only real processes show: defaults of topics, min.insync.replicas of broker
//! and topic, and sessions, one of them under the name it had in ZooKeeper's days.

mod support;

use minisr_client::producer::{Cause, ProduceError, Record};
use minisr_client::{Address, Client, ClientConfig, NewTopic, Producer, ProducerConfig, Transport};
use minisr_cluster::Cluster;
use minisr_wire::ErrorCode;
use std::time::Duration;
use support::{admin, eventually, log, only_partition, start};

fn producer(cluster: &Cluster) -> Producer {
    let bootstrap = cluster.bootstrap_tcp().iter().map(|at| Address::new(at.ip().to_string(), at.port())).collect();
    let client = Client::new(ClientConfig::new(bootstrap, Transport::Tcp)).expect("plain TCP");
    let delivery_timeout = Duration::from_secs(2);
    let config = ProducerConfig { delivery_timeout, request_timeout: delivery_timeout, ..ProducerConfig::default() };
    Producer::start(client, config, |_| {}).expect("valid")
}

async fn produce(producer: &Producer, topic: &str) -> Result<(), ProduceError> {
    let partition = producer.partition(topic, 0);
    producer.produce(partition, &Record::of(b"value")).await.map(drop)
}

fn is_not_enough_replicas(error: &ProduceError) -> bool {
    let ProduceError::Failed(cause) = error else { return false };
    let cause = match cause {
        Cause::DeliveryTimeout(Some(last)) => last,
        other => other,
    };
    *cause == Cause::Code(ErrorCode::NOT_ENOUGH_REPLICAS)
}

#[tokio::test]
async fn settings_of_topics_and_sessions_are_in_force() {
    let cluster = start(
        3,
        &[
            ("default.replication.factor", "3"),
            ("min.insync.replicas", "3"),
            ("zookeeper.session.timeout.ms", "1500"),
            ("zookeeper.sync.time.ms", "2000"),
            ("broker.heartbeat.interval.ms", "300"),
        ],
    )
    .await;
    let admin = admin(&cluster).await;
    // -1: the broker's default.
    admin.create_topic(&NewTopic::new("strict", 1, -1)).await.expect("created");
    let own = NewTopic::new("lenient", 1, -1).with_config("min.insync.replicas", 1);
    admin.create_topic(&own).await.expect("created");
    for topic in ["strict", "lenient"] {
        let view = admin.wait_until_in_sync(topic, 1, Duration::from_secs(20)).await.expect("in sync");
        assert_eq!(only_partition(&view, topic).expect("there").replicas.len(), 3, "default.replication.factor");
    }
    let producer = producer(&cluster);
    produce(&producer, "strict").await.expect("three of three are in sync");

    // Silent, but its connections stay open: only the session tells. Kafka's default of 9 s would do too, later.
    let led = |view: &minisr_client::ClusterView, topic: &str| view.leader(topic, 0).expect("led").broker_id;
    let view = admin.metadata().await.expect("answered");
    let leaders = [led(&view, "strict"), led(&view, "lenient")];
    let silent = (1..=3).find(|id| !leaders.contains(id)).expect("one that leads nothing");
    cluster.pause(silent).await.expect("paused");
    let paused_at = std::time::Instant::now();
    eventually("the session ends", async || {
        let view = admin.topic("strict").await;
        view.is_ok_and(|view| only_partition(&view, "strict").is_some_and(|it| it.isr.len() == 2))
    })
    .await;
    let took = paused_at.elapsed();
    assert!(took >= Duration::from_millis(1_000), "a session is not over before its time: {took:?}");
    assert!(took < Duration::from_millis(8_900), "the alias is in force, not the default of 9 s: {took:?}");

    let refused = produce(&producer, "strict").await.expect_err("the broker's min.insync.replicas is 3");
    assert!(is_not_enough_replicas(&refused), "{refused:?}");
    produce(&producer, "lenient").await.expect("the topic's own min.insync.replicas is 1");
    producer.close(Duration::from_secs(5)).await;

    let said = log(&cluster, 1);
    assert!(said.contains("zookeeper.session.timeout.ms=1500 is taken for broker.session.timeout.ms=1500"), "{said}");
    assert!(said.contains("zookeeper.sync.time.ms=2000 is taken for nothing"), "{said}");
    cluster.destroy().await.expect("removed");
}
