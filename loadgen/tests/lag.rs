//! Followers that lag, on real brokers: stuck, slow, bootstrapping. What becomes of them stands in the events with its
//! reason.

use std::time::{Duration, Instant, SystemTime};

use minisr_client::producer::Record;
use minisr_client::{
    Address, Admin, Client, ClientConfig, ConfigResource, NewTopic, Producer, ProducerConfig, Transport,
};
use minisr_cluster::{Cluster, ClusterOptions};
use minisr_loadgen::watch::{self, Watcher};

/// No condition takes nearly this long, even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);
const TOPIC: &str = "t";

fn client(cluster: &Cluster) -> Client {
    let bootstrap = cluster.bootstrap_tcp().iter().map(|at| Address::new(at.ip().to_string(), at.port())).collect();
    Client::new(ClientConfig::new(bootstrap, Transport::Tcp)).expect("plain TCP")
}

/// A batch for each record.
fn one_by_one() -> ProducerConfig {
    ProducerConfig { acks: 1, idempotence: false, batch_records_max: 1, ..ProducerConfig::default() }
}

struct Story {
    cluster: Cluster,
    admin: Admin,
    producer: Producer,
    watcher: Watcher,
}

impl Story {
    async fn start(settings: &[(&str, &str)]) -> Story {
        // The session outlasts the story, so that a silent broker is nobody's business but its leader's.
        let mut options = ClusterOptions::new(3)
            .set("replica.lag.time.max.ms", 1_500)
            .set("replica.fetch.wait.max.ms", 200)
            .set("broker.session.timeout.ms", 120_000);
        for (name, value) in settings {
            options = options.set(*name, value);
        }
        let cluster = Cluster::start(options).await.expect("the cluster starts");
        let client = client(&cluster);
        let admin = Admin::new(client.clone());
        admin.create_topic(&NewTopic::new(TOPIC, 1, 3)).await.expect("created");
        admin.wait_until_in_sync(TOPIC, 1, PATIENCE).await.expect("in sync");
        let producer = Producer::start(client, one_by_one(), |_| {}).expect("valid");
        Story { cluster, admin, producer, watcher: Watcher::default() }
    }

    /// Produces and looks until an event of this kind whose detail holds these words has been seen.
    async fn until(&mut self, kind: &str, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.watcher.events.iter().any(|event| event.kind == kind && event.detail.contains(words)) {
            assert!(Instant::now() < deadline, "no {kind} with {words:?}: {:?}", self.watcher.events);
            self.write(&Record::of(b"value"));
            if let Ok(view) = self.admin.topic(TOPIC).await {
                self.watcher.look(SystemTime::now(), watch::partition_views(&view, TOPIC));
            }
            if let Ok(reports) = self.admin.isr_reports(TOPIC).await {
                self.watcher.hear(SystemTime::now(), &reports);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    fn write(&self, record: &Record<'_>) {
        self.producer.append(self.producer.partition(TOPIC, 0), record, 0).expect("accepted");
    }

    async fn a_follower(&self) -> i32 {
        let view = self.admin.topic(TOPIC).await.expect("answered");
        let leader = view.leader(TOPIC, 0).expect("led").broker_id;
        (1..=3).find(|id| *id != leader).expect("three brokers")
    }
}

#[tokio::test]
async fn lag_of_a_paused_and_of_a_killed_follower_is_told_with_its_reason() {
    let mut story = Story::start(&[]).await;
    let follower = story.a_follower().await;

    story.cluster.pause(follower).await.expect("paused");
    story.until("isr_shrink", &format!(": {follower} stuck")).await;
    story.until("replica_stuck", &format!("{follower} stuck")).await;
    story.cluster.resume(follower).expect("resumed");
    story.until("isr_expand", &format!(": {follower} caught-up")).await;
    story.until("replica_caught_up", &format!("{follower} ")).await;

    // Its death is noticed at once, and it is the controller that takes it out.
    story.watcher.events.clear();
    story.cluster.kill(follower).expect("killed");
    story.until("isr_shrink", &format!(": {follower} fenced")).await;
    story.cluster.restart(follower).await.expect("started");
    story.until("isr_expand", &format!(": {follower} caught-up")).await;
    story.producer.close(Duration::from_secs(5)).await;
    story.cluster.destroy().await.expect("removed");
}

#[tokio::test]
async fn lag_of_a_bootstrapping_follower_is_told_with_its_reason() {
    let mut story = Story::start(&[]).await;
    let follower = story.a_follower().await;
    // What there is to copy takes minutes at this rate: it bootstraps until the throttle is lifted.
    let name = "leader.replication.throttled.rate";
    story.admin.alter_configs(&ConfigResource::AllBrokers, &[(name, Some("10000".to_owned()))]).await.expect("set");
    let (topic, list) = (ConfigResource::Topic(TOPIC.to_owned()), "leader.replication.throttled.replicas");
    story.admin.alter_configs(&topic, &[(list, Some("*".to_owned()))]).await.expect("set");
    let record = vec![b'x'; 10_000];
    (0..300).for_each(|_| story.write(&Record::of(&record)));
    story.producer.flush().await;

    story.cluster.kill(follower).expect("killed");
    story.cluster.wait_killed(follower).await.expect("gone");
    story.cluster.wipe(follower).expect("wiped");
    story.cluster.start_broker(follower).await.expect("started");
    story.until("replica_bootstrapping", &format!("{follower} bootstrapping")).await;
    story.admin.alter_configs(&ConfigResource::AllBrokers, &[(name, None)]).await.expect("lifted");
    story.until("isr_expand", &format!(": {follower} caught-up")).await;
    story.until("replica_caught_up", &format!("{follower} ")).await;
    story.producer.close(Duration::from_secs(5)).await;
    story.cluster.destroy().await.expect("removed");
}

#[tokio::test]
async fn lag_of_a_slow_follower_is_told_with_its_reason() {
    // A fetch brings one batch, however many were written meanwhile: under load nobody reaches the log's end.
    let mut story = Story::start(&[("replica.fetch.max.bytes", "0")]).await;
    let flood = tokio::spawn({
        let producer = Producer::start(client(&story.cluster), one_by_one(), |_| {}).expect("valid");
        async move {
            let partition = producer.partition(TOPIC, 0);
            while producer.append_wait(partition, &Record::of(b"flood"), 0).await.is_ok() {}
        }
    });
    story.until("isr_shrink", " slow, lacked ").await;
    flood.abort();
    story.cluster.destroy().await.expect("removed");
}
