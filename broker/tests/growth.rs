//! A cluster that grows and shrinks while it is written to, with real processes: what reassignment decides is tested
//! elsewhere; here it is that data moves, processes join and leave, and nothing that was acknowledged is missing.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use minisr_client::producer::Record;
use minisr_client::{
    Address, Client, ClientConfig, ConfigResource, NewTopic, Producer, ProducerConfig, Reassignment, Transport,
    read_all,
};
use minisr_cluster::Cluster;
use support::{admin, eventually, start};

const TOPIC: &str = "growth";
const PARTITIONS: i32 = 2;

fn client(cluster: &Cluster) -> Client {
    let servers = cluster.bootstrap_tcp().into_iter().map(|it| Address::new(it.ip().to_string(), it.port())).collect();
    let mut config = ClientConfig::new(servers, Transport::Tcp);
    config.request_timeout = Duration::from_secs(10);
    Client::new(config).expect("plain TCP needs no certificates")
}

/// Writes until told to stop; returns what was acknowledged.
async fn write(cluster: &Cluster, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<BTreeSet<u64>> {
    let config = ProducerConfig { request_timeout: Duration::from_secs(3), ..ProducerConfig::default() };
    let producer = Producer::start(client(cluster), config, |_| {}).expect("a producer");
    tokio::spawn(async move {
        let handles: Vec<_> = (0..PARTITIONS).map(|partition| producer.partition(TOPIC, partition)).collect();
        let mut acknowledged = BTreeSet::new();
        let mut next = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let value = next.to_be_bytes();
            let record = Record::of(&value);
            if producer.produce(handles[(next % PARTITIONS as u64) as usize], &record).await.is_ok() {
                acknowledged.insert(next);
            }
            next += 1;
        }
        producer.close(Duration::from_secs(10)).await;
        acknowledged
    })
}

#[tokio::test]
async fn growth_fourth_broker_takes_over_from_the_first_and_nothing_acknowledged_is_missing() {
    let cluster = start(3, &[]).await;
    let asks = admin(&cluster).await;
    let topic = NewTopic::new(TOPIC, PARTITIONS, 3).with_config("min.insync.replicas", 2);
    asks.create_topic(&topic).await.expect("created");
    asks.wait_until_in_sync(TOPIC, PARTITIONS as usize, Duration::from_secs(20)).await.expect("in sync");
    let stop = Arc::new(AtomicBool::new(false));
    let writing = write(&cluster, Arc::clone(&stop)).await;

    let added = cluster.add().await.expect("a fourth broker");
    assert_eq!(added, 4);
    eventually("broker 4 follows the three voters", async || {
        asks.describe_quorum().await.is_ok_and(|it| it.voters == [1, 2, 3] && it.observers == [4])
    })
    .await;

    // One partition by hand and under a throttle, the other when broker 1 goes.
    let throttled = |value: Option<&str>| value.map(str::to_owned);
    let rates = [("leader.replication.throttled.rate", throttled(Some("50000000")))];
    asks.alter_configs(&ConfigResource::AllBrokers, &rates).await.expect("a throttle");
    let lists = [("leader.replication.throttled.replicas", throttled(Some("*")))];
    asks.alter_configs(&ConfigResource::Topic(TOPIC.to_owned()), &lists).await.expect("a list");
    let configs = asks.describe_configs(&ConfigResource::Broker(2)).await.expect("described");
    assert_eq!(configs.get("leader.replication.throttled.rate").map(String::as_str), Some("50000000"));
    let target = vec![4, 2, 3];
    let moved = Reassignment { topic: TOPIC.to_owned(), partition: 0, replicas: Some(target.clone()) };
    asks.reassign(&[moved]).await.expect("begun");
    eventually("partition 0 is on brokers 4, 2 and 3", async || {
        asks.list_reassignments().await.is_ok_and(|it| it.is_empty())
            && asks.topic(TOPIC).await.is_ok_and(|view| view.topics[TOPIC].partitions[&0].replicas == target)
    })
    .await;
    eventually("broker 1 has deleted its log of partition 0", async || !cluster.data_dir(1).join("growth-0").exists())
        .await;

    let mut steps = Vec::new();
    cluster.remove_broker(1, Duration::from_secs(60), |step| steps.push(step)).await.expect("removed");
    assert!(steps.iter().any(|it| it.contains("broker 4 becomes a voter")), "{steps:?}");
    let asks = admin(&cluster).await;
    let view = asks.metadata().await.expect("metadata");
    assert_eq!(view.brokers.keys().copied().collect::<Vec<_>>(), [2, 3, 4]);
    eventually("brokers 2, 3 and 4 vote and nobody else is there", async || {
        asks.describe_quorum().await.is_ok_and(|it| it.voters == [2, 3, 4] && it.observers.is_empty())
    })
    .await;
    assert!(cluster.ids().eq([2, 3, 4]));

    stop.store(true, Ordering::Relaxed);
    let acknowledged = writing.await.expect("the writer ends");
    assert!(acknowledged.len() > 100, "only {} were acknowledged", acknowledged.len());
    let mut found = BTreeSet::new();
    read_all(&client(&cluster), TOPIC, Duration::from_secs(20), |_, _, record| {
        let value = record.value.expect("a value").try_into().expect("eight bytes");
        assert!(found.insert(u64::from_be_bytes(value)), "twice: {value:?}");
    })
    .await
    .expect("everything is read");
    let missing: Vec<_> = acknowledged.difference(&found).collect();
    assert!(missing.is_empty(), "acknowledged and missing: {missing:?}");

    // What is left is a whole cluster: another broker goes down and comes back, and the id 1 stays unused.
    cluster.kill(3).expect("killed");
    cluster.restart(3).await.expect("ready again");
    assert_eq!(cluster.add().await.expect("a fifth broker"), 5);
    cluster.destroy().await.expect("removed");
}

#[tokio::test]
async fn growth_to_five_voters_by_command_survives_two_and_replicas_are_raised_lowered_and_cancelled() {
    let cluster = start(3, &[]).await;
    let asks = admin(&cluster).await;
    asks.create_topic(&NewTopic::new(TOPIC, 1, 3).with_config("min.insync.replicas", 2)).await.expect("created");
    asks.wait_until_in_sync(TOPIC, 1, Duration::from_secs(20)).await.expect("in sync");
    for id in [4, 5] {
        assert_eq!(cluster.add().await.expect("another broker"), id);
    }
    eventually("brokers 4 and 5 learn, and do not vote", async || {
        asks.describe_quorum().await.is_ok_and(|it| it.voters == [1, 2, 3] && it.observers == [4, 5])
    })
    .await;
    for id in [4, 5] {
        eventually("it votes when told to", async || {
            // Refused while the change before is under way, and when it has been done already.
            let _ = asks.add_voter(id).await;
            asks.describe_quorum().await.is_ok_and(|it| it.voters.contains(&id))
        })
        .await;
    }
    let reassign = async |replicas: Option<Vec<i32>>| {
        let wanted = [Reassignment { topic: TOPIC.to_owned(), partition: 0, replicas }];
        asks.reassign(&wanted).await.expect("taken");
    };
    let is_on = async |replicas: &[i32]| {
        let over = asks.list_reassignments().await.is_ok_and(|it| it.is_empty());
        over && asks.topic(TOPIC).await.is_ok_and(|it| it.topics[TOPIC].partitions[&0].replicas == replicas)
    };
    reassign(Some(vec![1, 2, 3, 4, 5])).await;
    eventually("all five hold it", async || is_on(&[1, 2, 3, 4, 5]).await).await;

    // The first voters are a minority now.
    let config = ProducerConfig { request_timeout: Duration::from_secs(3), ..ProducerConfig::default() };
    let producer = Producer::start(client(&cluster), config, |_| {}).expect("a producer");
    let partition = producer.partition(TOPIC, 0);
    for id in [1, 2] {
        cluster.kill(id).expect("killed");
    }
    let value = vec![b'x'; 50_000];
    for _ in 0..60 {
        producer.produce(partition, &Record::of(&value)).await.expect("three voters of five are a majority");
    }
    for id in [1, 2] {
        cluster.restart(id).await.expect("ready again");
    }

    reassign(Some(vec![1, 2])).await;
    eventually("two hold it", async || is_on(&[1, 2]).await).await;
    eventually("broker 3 has deleted its log", async || !cluster.data_dir(3).join("growth-0").exists()).await;

    // At this rate it takes minutes, so it is still under way when it is called off.
    let rate = [("leader.replication.throttled.rate", Some("10000".to_owned()))];
    asks.alter_configs(&ConfigResource::AllBrokers, &rate).await.expect("a throttle");
    let list = [("leader.replication.throttled.replicas", Some("*".to_owned()))];
    asks.alter_configs(&ConfigResource::Topic(TOPIC.to_owned()), &list).await.expect("a list");
    reassign(Some(vec![1, 2, 3])).await;
    eventually("broker 3 is being added", async || {
        let ongoing = asks.list_reassignments().await.unwrap_or_default();
        ongoing.first().is_some_and(|it| it.adding == [3] && it.removing.is_empty())
    })
    .await;
    reassign(None).await;
    eventually("it is as before", async || is_on(&[1, 2]).await).await;

    eventually("broker 5 votes no more when told so", async || {
        let _ = asks.remove_voter(5).await;
        asks.describe_quorum().await.is_ok_and(|it| it.voters == [1, 2, 3, 4] && it.observers == [5])
    })
    .await;
    producer.close(Duration::from_secs(10)).await;
    cluster.destroy().await.expect("removed");
}

#[tokio::test]
async fn growth_of_a_topic_and_refusals_are_told_in_kafkas_words() {
    let cluster = start(2, &[]).await;
    let admin = admin(&cluster).await;
    admin.create_topic(&NewTopic::new(TOPIC, 1, 2)).await.expect("created");
    admin.create_partitions(TOPIC, 3).await.expect("grown");
    admin.wait_until_in_sync(TOPIC, 3, Duration::from_secs(20)).await.expect("in sync");
    let refused = |result: Result<(), minisr_client::ClientError>| result.expect_err("refused").to_string();
    assert!(refused(admin.create_partitions(TOPIC, 2).await).contains("INVALID_PARTITIONS"));
    let reassign = |partition, replicas| [Reassignment { topic: TOPIC.to_owned(), partition, replicas }];
    let nothing = refused(admin.reassign(&reassign(0, None)).await);
    assert!(nothing.contains("NO_REASSIGNMENT_IN_PROGRESS"), "{nothing}");
    let unknown = refused(admin.reassign(&reassign(0, Some(vec![1, 9]))).await);
    assert!(unknown.contains("INVALID_REPLICA_ASSIGNMENT") && unknown.contains('9'), "{unknown}");
    eventually("the controller knows the voters", async || {
        admin.describe_quorum().await.is_ok_and(|it| it.voters == [1, 2])
    })
    .await;
    let votes = refused(admin.unregister_broker(2).await);
    assert!(votes.contains("demote it first"), "{votes}");
    assert!(refused(admin.add_voter(2).await).contains("DUPLICATE_VOTER"));
    assert!(refused(admin.add_voter(7).await).contains("not part of the controller quorum"));
    let rate = [("leader.replication.throttled.rate", Some("0".to_owned()))];
    assert!(refused(admin.alter_configs(&ConfigResource::AllBrokers, &rate).await).contains("INVALID_CONFIG"));
    cluster.destroy().await.expect("removed");
}
