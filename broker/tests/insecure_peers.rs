//! `--insecure-peers`: brokers replicate over plaintext TCP, acks=all means what it always means, and the log warns.

mod support;

use std::time::Duration;

use minisr_client::producer::Record;
use minisr_client::{Address, Client, ClientConfig, NewTopic, Producer, ProducerConfig, Transport};
use minisr_cluster::{Cluster, ClusterOptions};
use support::{admin, log};

#[tokio::test]
async fn insecure_peers_replicate_over_plaintext_and_say_so() {
    let broker_binary = Some(env!("CARGO_BIN_EXE_minisr-broker").into());
    let options = ClusterOptions { insecure_peers: true, broker_binary, ..ClusterOptions::new(3) };
    let cluster = Cluster::start(options).await.expect("the cluster starts");
    let admin = admin(&cluster).await;
    let strict = NewTopic::new("t", 1, 3).with_config("min.insync.replicas", 3);
    admin.create_topic(&strict).await.expect("created");
    admin.wait_until_in_sync("t", 1, Duration::from_secs(20)).await.expect("in sync");
    let bootstrap = cluster.bootstrap_tcp().iter().map(|at| Address::new(at.ip().to_string(), at.port())).collect();
    let client = Client::new(ClientConfig::new(bootstrap, Transport::Tcp)).expect("plain TCP");
    let producer = Producer::start(client, ProducerConfig::default(), |_| {}).expect("valid");
    let partition = producer.partition("t", 0);
    producer.produce(partition, &Record::of(b"value")).await.expect("all three have it");
    producer.close(Duration::from_secs(5)).await;
    for id in 1..=3 {
        assert!(log(&cluster, id).contains("--insecure-peers: replication is plaintext"), "broker {id} warns");
    }
    cluster.destroy().await.expect("removed");
}
