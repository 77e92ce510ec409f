//! Leaders that move on purpose, in real processes: brokers stopped in turn under load, preferred leaders on request
//! and by the clock, and the unclean election that an operator asks for.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use minisr_client::admin::Election;
use minisr_client::producer::{Outcome, Record};
use minisr_client::{Address, Client, ClientConfig, NewTopic, Producer, ProducerConfig, Transport, read_all};
use minisr_cluster::Cluster;
use minisr_wire::ErrorCode;
use support::{admin, eventually, start};

const TOPIC: &str = "story";

fn client(cluster: &Cluster) -> Client {
    let addresses = cluster.bootstrap_tcp().into_iter().map(|it| Address::new(it.ip().to_string(), it.port()));
    Client::new(ClientConfig::new(addresses.collect(), Transport::Tcp)).expect("plain TCP needs no certificates")
}

async fn leaders(cluster: &Cluster) -> Vec<Option<i32>> {
    let Ok(view) = admin(cluster).await.topic(TOPIC).await else { return Vec::new() };
    view.topics.get(TOPIC).map(|it| it.partitions.values().map(|it| it.leader).collect()).unwrap_or_default()
}

async fn produced(cluster: &Cluster, value: &str) -> bool {
    let config = ProducerConfig { delivery_timeout: Duration::from_secs(5), ..ProducerConfig::default() };
    let (producer, _reports) = Producer::with_reports(client(cluster), config).expect("sound settings");
    let record = Record { value: Some(value.as_bytes()), ..Record::default() };
    producer.produce(producer.partition(TOPIC, 0), &record).await.is_ok()
}

async fn values(cluster: &Cluster) -> Vec<String> {
    let mut values = Vec::new();
    read_all(&client(cluster), TOPIC, Duration::from_secs(20), |_, _, record| {
        values.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
    })
    .await
    .expect("readable");
    values
}

/// A producer that sends record after record, one at a time for each partition, until told to stop; returns how many
/// there were and what became of those that were not acknowledged.
async fn keep_producing(cluster: &Cluster, partitions: i32, stop: Arc<AtomicBool>) -> (u64, Vec<String>) {
    let (producer, mut reports) =
        Producer::with_reports(client(cluster), ProducerConfig::default()).expect("sound settings");
    let handles: Vec<_> = (0..partitions).map(|partition| producer.partition(TOPIC, partition)).collect();
    let mut count = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let value = count.to_string();
        let record = Record { value: Some(value.as_bytes()), ..Record::default() };
        let handle = handles[(count % handles.len() as u64) as usize];
        producer.append_wait(handle, &record, count).await.expect("accepted");
        count += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    producer.close(Duration::from_secs(20)).await;
    let mut failures = Vec::new();
    while let Some(report) = reports.recv().await {
        if report.outcome != Outcome::Ok {
            failures.push(format!("{:?} of {} records in {}", report.outcome, report.tags.len(), report.partition));
        }
    }
    (count, failures)
}

#[tokio::test]
async fn shutdown_of_each_broker_in_turn_shows_a_retrying_producer_no_error() {
    let cluster = start(3, &[("min.insync.replicas", "2")]).await;
    let admin = admin(&cluster).await;
    admin.create_topic(&NewTopic::new(TOPIC, 3, 3)).await.expect("created");
    admin.wait_until_in_sync(TOPIC, 3, Duration::from_secs(20)).await.expect("in sync");

    let stop = Arc::new(AtomicBool::new(false));
    let rolling = async {
        for id in cluster.ids() {
            cluster.stop(id).await.expect("stopped in order");
            let log = support::log(&cluster, id);
            assert!(log.contains("handed over in_time=true led=0"), "{log}");
            assert!(!leaders(&cluster).await.contains(&Some(id)));
            cluster.restart(id).await.expect("ready again");
            // Or the next stop would leave one copy where two are asked for.
            admin.wait_until_in_sync(TOPIC, 3, Duration::from_secs(20)).await.expect("in sync again");
        }
        stop.store(true, Ordering::Relaxed);
    };
    let ((), (count, failures)) = tokio::join!(rolling, keep_producing(&cluster, 3, Arc::clone(&stop)));
    assert_eq!(failures, [] as [String; 0], "of {count} records");
    let read = values(&cluster).await;
    assert_eq!(read.len() as u64, count, "each record once");
    assert_eq!(read.iter().collect::<BTreeSet<_>>().len() as u64, count);

    // 3 was stopped last, so it leads nothing: an operator gives back what was moved.
    assert_ne!(leaders(&cluster).await, [Some(1), Some(2), Some(3)]);
    let elected = admin.elect_leaders(Election::Preferred, None).await.expect("answered");
    assert!(!elected.is_empty() && elected.iter().all(|it| it.error.is_none()), "{elected:?}");
    eventually("everybody leads what he should", async || leaders(&cluster).await == [Some(1), Some(2), Some(3)]).await;
    assert_eq!(admin.elect_leaders(Election::Preferred, None).await.expect("answered"), []);
    let named = [(TOPIC.to_owned(), vec![0, 9])];
    let again = admin.elect_leaders(Election::Preferred, Some(&named)).await.expect("answered");
    let codes: Vec<_> = again.iter().map(|it| it.error.as_ref().map(|(code, _)| *code)).collect();
    assert_eq!(codes, [Some(ErrorCode::ELECTION_NOT_NEEDED), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
    cluster.destroy().await.expect("removed");
}

#[tokio::test]
async fn preferred_leader_returns_by_itself_and_an_unclean_one_only_when_asked_for() {
    let settings = [("leader.imbalance.check.interval.seconds", "1"), ("auto.create.topics.enable", "false")];
    let cluster = start(3, &settings).await;
    let admin = admin(&cluster).await;
    // On brokers 1 and 2, so that 1 and 3, or 2 and 3, are a quorum without one of the replicas.
    admin.create_topic(&NewTopic::new(TOPIC, 1, 2)).await.expect("created");
    let careless = NewTopic::new("careless", 1, 2).with_config("unclean.leader.election.enable", true);
    admin.create_topic(&careless).await.expect("created");
    admin.wait_until_in_sync(TOPIC, 1, Duration::from_secs(20)).await.expect("in sync");
    assert_eq!(leaders(&cluster).await, [Some(1)]);
    cluster.stop(1).await.expect("stopped");
    eventually("2 leads", async || leaders(&cluster).await == [Some(2)]).await;
    cluster.restart(1).await.expect("ready again");
    eventually("1 leads again", async || leaders(&cluster).await == [Some(1)]).await;
    let moved = || cluster.ids().any(|id| support::log(&cluster, id).contains("moved back to preferred leaders"));
    eventually("and a controller says so", async || moved()).await;

    assert!(produced(&cluster, "both have this").await);
    cluster.stop(2).await.expect("stopped");
    assert!(produced(&cluster, "only 1 has this").await);
    cluster.stop(1).await.expect("stopped");
    cluster.restart(2).await.expect("ready again");
    // 2 is there; one topic lets it lead by itself, whatever it may lack.
    admin.wait_until_led("careless", 1, Duration::from_secs(20)).await.expect("led by what is there");
    let warned = || cluster.ids().any(|id| support::log(&cluster, id).contains("unclean election by setting"));
    eventually("it is visible in a log", async || warned()).await;
    // The other waits: 2 lacks a record that was acknowledged.
    eventually("nobody leads", async || leaders(&cluster).await == [None]).await;
    assert!(!cluster.ids().any(|id| support::log(&cluster, id).contains("unclean election on request")));
    let elected = admin.elect_leaders(Election::Unclean, None).await.expect("answered");
    assert!(elected.len() == 1 && elected[0].error.is_none(), "{elected:?}");
    eventually("2 leads", async || leaders(&cluster).await == [Some(2)]).await;
    let warned = || cluster.ids().any(|id| support::log(&cluster, id).contains("unclean election on request"));
    assert!(warned(), "it is visible in a log");
    assert_eq!(values(&cluster).await, ["both have this"]);

    cluster.restart(1).await.expect("ready again");
    admin.wait_until_in_sync(TOPIC, 1, Duration::from_secs(20)).await.expect("1 follows");
    eventually("1 says what it lost", async || support::log(&cluster, 1).contains("log cut below the high watermark"))
        .await;
    cluster.destroy().await.expect("removed");
}
