//! Brokers in racks, in real processes: where replicas go, and where a consumer reads.

mod support;

use std::time::Duration;

use minisr_client::producer::Record;
use minisr_client::{
    Address, Client, ClientConfig, Consumer, ConsumerConfig, NewTopic, Producer, ProducerConfig, Transport,
};
use minisr_cluster::Cluster;
use support::{admin, eventually, start_in_racks};

const TOPIC: &str = "story";
const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

fn client(cluster: &Cluster) -> Client {
    let addresses = cluster.bootstrap_tcp().into_iter().map(|it| Address::new(it.ip().to_string(), it.port()));
    Client::new(ClientConfig::new(addresses.collect(), Transport::Tcp)).expect("plain TCP needs no certificates")
}

async fn produce(producer: &Producer, value: &str) {
    let record = Record { value: Some(value.as_bytes()), ..Record::default() };
    producer.produce(producer.partition(TOPIC, 0), &record).await.expect("acknowledged");
}

/// The next records, and who served them.
async fn next(consumer: &mut Consumer) -> (i32, Vec<String>) {
    let fetched = tokio::time::timeout(Duration::from_secs(20), consumer.poll()).await.expect("in time");
    let fetched = fetched.expect("readable");
    let mut values = Vec::new();
    fetched
        .records(|_, record| values.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned()))
        .expect("uncompressed");
    (fetched.broker_id, values)
}

#[tokio::test]
async fn consumer_reads_in_its_own_rack_and_at_the_leader_when_that_is_gone() {
    let cluster = start_in_racks(3, &["a", "b", "c"], &[("replica.selector.class", RACK_AWARE)]).await;
    let admin = admin(&cluster).await;
    admin.create_topic(&NewTopic::new(TOPIC, 1, 3)).await.expect("created");
    let view = admin.wait_until_in_sync(TOPIC, 1, Duration::from_secs(20)).await.expect("in sync");
    assert_eq!(view.leader(TOPIC, 0).map(|it| it.broker_id), Some(1));
    let (producer, _reports) =
        Producer::with_reports(client(&cluster), ProducerConfig::default()).expect("sound settings");
    produce(&producer, "one").await;

    let near = ConsumerConfig { client_rack: "b".to_owned(), ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(client(&cluster), near);
    consumer.assign(TOPIC, 0, 0);
    assert_eq!(next(&mut consumer).await, (2, vec!["one".to_owned()]), "served in rack b");
    // The follower wakes a waiting reader when it learns that a record is committed.
    let (read, ()) = tokio::join!(next(&mut consumer), produce(&producer, "two"));
    assert_eq!(read, (2, vec!["two".to_owned()]));
    let mut anywhere = Consumer::new(client(&cluster), ConsumerConfig::default());
    anywhere.assign(TOPIC, 0, 0);
    assert_eq!(next(&mut anywhere).await.0, 1, "a consumer without a rack reads at the leader");

    cluster.kill(2).expect("killed");
    produce(&producer, "three").await;
    assert_eq!(next(&mut consumer).await, (1, vec!["three".to_owned()]), "nobody else is in rack b");
    cluster.restart(2).await.expect("ready again");
    admin.wait_until_in_sync(TOPIC, 1, Duration::from_secs(20)).await.expect("in sync again");
    let mut count = 0;
    eventually("it reads in rack b again", async || {
        count += 1;
        produce(&producer, &count.to_string()).await;
        next(&mut consumer).await.0 == 2
    })
    .await;
    cluster.destroy().await.expect("removed");
}
