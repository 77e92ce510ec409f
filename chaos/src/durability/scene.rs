//! The cluster under test, its one partition, and the ways to look at both.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use minisr_client::{Address, Dialer, Transport};
use minisr_cluster::{Cluster, ClusterOptions};

use super::writer::Writer;
use super::{POLL, wait_for};
use crate::cli::{Acks, DurabilityArgs};
use crate::leaders::{End, Leaders};
use crate::observer::{ANSWER_BOUND, Observer, Partition};
use crate::replica_log::ReplicaLog;

const TOPIC: &str = "durability";
/// A write that is not answered by then is unknown.
const WRITE_BOUND: Duration = Duration::from_secs(2);
/// Values of one writer lie below those of the next.
const VALUES_PER_WRITER: u64 = 1 << 32;

/// See the module.
pub struct Scene {
    /// The brokers.
    pub cluster: Arc<Cluster>,
    observer: Arc<Observer>,
    writers: AtomicU64,
}

/// Where the partition's leader is, for the writer.
pub struct Places {
    cluster: Arc<Cluster>,
    observer: Arc<Observer>,
}

/// What a reader found.
#[derive(Debug)]
pub struct Found {
    /// The values.
    pub values: BTreeSet<u64>,
    /// The offset after the last record.
    pub end: i64,
}

impl Scene {
    /// Starts the cluster and makes the topic.
    pub async fn start(args: &DurabilityArgs) -> anyhow::Result<Self> {
        let options =
            ClusterOptions { broker_binary: args.broker_binary.clone(), ..ClusterOptions::new(args.brokers()) }
                .set("min.insync.replicas", args.min_insync_replicas);
        let cluster = Arc::new(Cluster::start(options).await?);
        let observer = Arc::new(Observer::new(&cluster, vec![(TOPIC.to_owned(), 0)])?);
        let scene = Self { cluster, observer, writers: AtomicU64::new(0) };
        let broker = scene.cluster.ids().next().expect("a cluster has brokers");
        scene.leaders("durability-setup")?.create_topic(broker, TOPIC, 1, args.replication_factor).await?;
        Ok(scene)
    }

    fn leaders(&self, name: &'static str) -> anyhow::Result<Leaders> {
        let dialer = Dialer::new(&Transport::Tcp, ANSWER_BOUND)?;
        let sockets = self.cluster.bootstrap_tcp();
        let addresses = sockets.into_iter().map(|socket| Address::new(socket.ip().to_string(), socket.port()));
        let addresses = self.cluster.ids().zip(addresses).collect();
        Ok(Leaders::new(dialer, addresses, vec![(TOPIC.to_owned(), 0)], name, WRITE_BOUND))
    }

    /// Starts a writer of values that nobody wrote before.
    pub fn write(&self, acks: Acks) -> anyhow::Result<Writer> {
        let number = self.writers.fetch_add(1, Ordering::Relaxed);
        let places = Places { cluster: Arc::clone(&self.cluster), observer: Arc::clone(&self.observer) };
        let leaders = self.leaders("durability-writer")?;
        Ok(Writer::start(places, leaders, acks.number(), number * VALUES_PER_WRITER))
    }

    /// The partition as the brokers see it.
    pub async fn partition(&self) -> anyhow::Result<Partition> {
        let view = self.observer.view(&self.cluster).await?;
        view.partitions.into_iter().next().context("the brokers do not know the topic")
    }

    /// Waits until every broker answers and sees every replica in sync.
    pub async fn whole(&self, bound: Duration) -> bool {
        let brokers = self.cluster.ids().count();
        wait_for(bound, async || {
            let view = self.observer.view(&self.cluster).await;
            view.is_ok_and(|view| view.answered == brokers && view.not_whole.is_empty())
        })
        .await
    }

    /// Reads from the log's start to the high watermark that its leader knows, as a plain consumer does, and tries
    /// again until somebody serves it or the bound passes.
    pub async fn read_all(&self, bound: Duration) -> anyhow::Result<Found> {
        let deadline = Instant::now() + bound;
        loop {
            match self.read_once().await {
                Ok(found) => return Ok(found),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn read_once(&self) -> anyhow::Result<Found> {
        let Partition { leader, leader_epoch, .. } = self.partition().await?;
        let leader = leader.context("no leader")?;
        let mut leaders = self.leaders("durability-reader")?;
        let starts = leaders.list_offsets(leader, &[(0, leader_epoch)], End::Earliest).await?;
        let mut found = Found { values: BTreeSet::new(), end: starts.first().map_or(0, |(_, offset)| *offset) };
        loop {
            let reads = leaders.fetch(leader, 0, leader_epoch, found.end).await?;
            let Some(last) = reads.last() else { return Ok(found) };
            found.end = last.offset + 1;
            found.values.extend(reads.iter().map(|read| read.value.0));
        }
    }

    /// Every value in some replica's log, whether anybody serves it or not. Ends the brokers.
    pub async fn values_on_any_disk(&self, replicas: &[i32]) -> anyhow::Result<BTreeSet<u64>> {
        self.cluster.kill_all()?;
        let mut values = BTreeSet::new();
        for id in replicas {
            self.cluster.wait_killed(*id).await?;
            values.extend(ReplicaLog::values(&self.cluster.data_dir(*id), TOPIC, 0)?);
        }
        Ok(values)
    }
}

impl Places {
    /// The leader, if there is one.
    pub async fn leader(&self) -> Option<i32> {
        self.observer.view(&self.cluster).await.ok()?.partitions.first()?.leader
    }
}
