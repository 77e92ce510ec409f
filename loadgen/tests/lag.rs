//! Followers that lag, on real brokers: what becomes of them stands in the events with its reason.

use std::time::{Duration, Instant, SystemTime};

use minisr_client::producer::Record;
use minisr_client::{Address, Admin, Client, ClientConfig, NewTopic, Producer, ProducerConfig, Transport};
use minisr_cluster::{Cluster, ClusterOptions};
use minisr_loadgen::watch::{self, Watcher};

/// No condition takes nearly this long, even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);
const TOPIC: &str = "t";

struct Story {
    cluster: Cluster,
    admin: Admin,
    producer: Producer,
    watcher: Watcher,
}

impl Story {
    async fn start() -> Story {
        // The session outlasts the story, so that a silent broker is nobody's business but its leader's.
        let options = ClusterOptions::new(3)
            .set("replica.lag.time.max.ms", 1_500)
            .set("replica.fetch.wait.max.ms", 200)
            .set("broker.session.timeout.ms", 120_000);
        let cluster = Cluster::start(options).await.expect("the cluster starts");
        let bootstrap = cluster.bootstrap_tcp().iter().map(|at| Address::new(at.ip().to_string(), at.port())).collect();
        let client = Client::new(ClientConfig::new(bootstrap, Transport::Tcp)).expect("plain TCP");
        let admin = Admin::new(client.clone());
        admin.create_topic(&NewTopic::new(TOPIC, 1, 3)).await.expect("created");
        admin.wait_until_in_sync(TOPIC, 1, PATIENCE).await.expect("in sync");
        let config = ProducerConfig { acks: 1, idempotence: false, ..ProducerConfig::default() };
        let producer = Producer::start(client, config, |_| {}).expect("valid");
        Story { cluster, admin, producer, watcher: Watcher::default() }
    }

    /// Produces and looks until an event of this kind whose detail holds these words has been seen.
    async fn until(&mut self, kind: &str, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        let partition = self.producer.partition(TOPIC, 0);
        while !self.watcher.events.iter().any(|event| event.kind == kind && event.detail.contains(words)) {
            assert!(Instant::now() < deadline, "no {kind} with {words:?}: {:?}", self.watcher.events);
            self.producer.append(partition, &Record::of(b"value"), 0).expect("accepted");
            if let Ok(view) = self.admin.topic(TOPIC).await {
                self.watcher.look(SystemTime::now(), watch::partition_views(&view, TOPIC));
            }
            if let Ok(reports) = self.admin.isr_reports(TOPIC).await {
                self.watcher.hear(SystemTime::now(), &reports);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    async fn a_follower(&self) -> i32 {
        let view = self.admin.topic(TOPIC).await.expect("answered");
        let leader = view.leader(TOPIC, 0).expect("led").broker_id;
        (1..=3).find(|id| *id != leader).expect("three brokers")
    }
}

#[tokio::test]
async fn lag_of_a_paused_and_of_a_killed_follower_is_told_with_its_reason() {
    let mut story = Story::start().await;
    let follower = story.a_follower().await;

    story.cluster.pause(follower).expect("paused");
    story.until("isr_shrink", &format!(": {follower} stuck")).await;
    story.until("replica_stuck", &format!("{follower} stuck")).await;
    story.cluster.resume(follower).expect("resumed");
    story.until("isr_expand", &format!(": {follower} caught-up")).await;
    story.until("replica_caught_up", &format!("{follower} ")).await;

    // Its death is noticed at once, and it is the controller that takes it out; it comes back with an empty disk.
    story.watcher.events.clear();
    story.cluster.kill(follower).expect("killed");
    story.until("isr_shrink", &format!(": {follower} fenced")).await;
    story.cluster.wait_killed(follower).await.expect("gone");
    story.cluster.wipe(follower).expect("wiped");
    story.cluster.start_broker(follower).await.expect("started");
    story.until("isr_expand", &format!(": {follower} caught-up")).await;
    let lagged = |kind: &str| story.watcher.events.iter().any(|event| event.kind == kind);
    assert!(lagged("replica_bootstrapping") || lagged("replica_stuck"), "{:?}", story.watcher.events);
    story.producer.close(Duration::from_secs(5)).await;
    story.cluster.destroy().await.expect("removed");
}
