//! `minisr-cluster status`: processes from the directory, everything else from the brokers themselves over TCP.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use minisr_client::connection::{Connection, ConnectionConfig};
use minisr_client::{Address, Dialer, Transport};
use minisr_cluster::{BrokerState, Cluster, Driver};
use minisr_wire::messages::{MetadataRequest, MetadataResponse};
use serde::Serialize;

/// A paused broker accepts connections and never answers.
const ANSWER_BOUND: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Status {
    dir: String,
    /// What the brokers are: `minisr` or `kafka`.
    driver: Driver,
    cluster_id: String,
    ca: String,
    brokers: Vec<BrokerStatus>,
    /// The active controller as the brokers name it; none when no broker answered or it has just gone.
    controller: Option<i32>,
    topics: BTreeMap<String, Vec<PartitionStatus>>,
}

#[derive(Serialize)]
struct BrokerStatus {
    id: i32,
    pid: Option<i32>,
    state: BrokerState,
    ready: bool,
    /// None where the brokers do not speak QUIC.
    quic: Option<String>,
    tcp: String,
    log: String,
}

#[derive(Serialize)]
struct PartitionStatus {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    replicas: Vec<i32>,
    isr: Vec<i32>,
}

/// Prints the state of a cluster as a table or as JSON.
pub async fn print(cluster: &Cluster, json: bool) -> anyhow::Result<()> {
    let status = gather(cluster).await?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
        return Ok(());
    }
    let whose = if status.driver == Driver::Minisr { String::new() } else { format!(" of {}", status.driver.name()) };
    writeln!(out, "cluster {}{whose} in {}", status.cluster_id, status.dir)?;
    writeln!(out, "{:<7} {:>8} {:<9} {:<22} {:<22}", "broker", "pid", "state", "quic", "tcp")?;
    for broker in &status.brokers {
        let pid = broker.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let state = match broker.state {
            BrokerState::Running if !broker.ready => "starting".to_owned(),
            state => state.to_string(),
        };
        let controller = if status.controller == Some(broker.id) { "controller" } else { "" };
        let quic = broker.quic.as_deref().unwrap_or("-");
        let line = format!("{:<7} {pid:>8} {state:<9} {quic:<22} {:<22} {controller}", broker.id, broker.tcp);
        writeln!(out, "{}", line.trim_end())?;
    }
    if status.controller.is_none() && status.topics.is_empty() {
        writeln!(out, "no broker answers")?;
        return Ok(());
    }
    for (topic, partitions) in &status.topics {
        let whole = partitions.iter().filter(|partition| partition.isr.len() == partition.replicas.len()).count();
        writeln!(out, "\ntopic {topic}: {} partitions, {whole} with every replica in sync", partitions.len())?;
        writeln!(out, "  {:>9} {:>6} {:>5}  {:<12} {:<12}", "partition", "leader", "epoch", "replicas", "in sync")?;
        for partition in partitions {
            let leader = partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
            let (number, epoch) = (partition.partition, partition.leader_epoch);
            let (replicas, isr) = (list(&partition.replicas), list(&partition.isr));
            writeln!(out, "  {number:>9} {leader:>6} {epoch:>5}  {replicas:<12} {isr}")?;
        }
    }
    Ok(())
}

async fn gather(cluster: &Cluster) -> anyhow::Result<Status> {
    let mut brokers = Vec::new();
    let speaks_quic = cluster.driver().speaks_quic();
    for (id, (quic, tcp)) in cluster.ids().zip(cluster.bootstrap_quic().into_iter().zip(cluster.bootstrap_tcp())) {
        brokers.push(BrokerStatus {
            id,
            pid: cluster.pid(id),
            state: cluster.state(id)?,
            ready: cluster.is_ready(id),
            quic: speaks_quic.then(|| quic.to_string()),
            tcp: tcp.to_string(),
            log: cluster.log_path(id).display().to_string(),
        });
    }
    let metadata = ask_any(&brokers).await?;
    let controller = match (&metadata, cluster.driver()) {
        (None, _) => None,
        (Some(metadata), Driver::Minisr) => Some(metadata.controller_id.0),
        // Kafka's metadata names any broker there: all of them forward what is for the controller (KIP-590).
        (Some(_), Driver::Kafka) => quorum_leader(cluster).await,
    };
    // Those that are left may not have heard yet that it is gone.
    let is_there = |id: &i32| brokers.iter().any(|broker| broker.id == *id && broker.pid.is_some());
    let controller = controller.filter(is_there);
    Ok(Status {
        dir: cluster.dir().display().to_string(),
        driver: cluster.driver(),
        cluster_id: cluster.cluster_id(),
        ca: cluster.ca_path().display().to_string(),
        brokers,
        controller,
        topics: metadata.map(|metadata| topics(&metadata)).unwrap_or_default(),
    })
}

async fn quorum_leader(cluster: &Cluster) -> Option<i32> {
    let admin = cluster.admin().ok()?;
    let answered = tokio::time::timeout(ANSWER_BOUND, admin.describe_quorum()).await;
    answered.ok()?.ok()?.leader
}

/// The cluster as the first broker that answers describes it.
async fn ask_any(brokers: &[BrokerStatus]) -> anyhow::Result<Option<MetadataResponse>> {
    let dialer = Dialer::new(&Transport::Tcp, ANSWER_BOUND)?;
    for broker in brokers.iter().filter(|broker| broker.state == BrokerState::Running && broker.ready) {
        let address: Address = broker.tcp.parse()?;
        match tokio::time::timeout(ANSWER_BOUND, ask(&dialer, &address)).await {
            Ok(Ok(metadata)) => return Ok(Some(metadata)),
            Ok(Err(error)) => tracing::debug!(broker = broker.id, %error, "no metadata"),
            Err(_) => tracing::debug!(broker = broker.id, "no answer in time"),
        }
    }
    Ok(None)
}

async fn ask(dialer: &Dialer, address: &Address) -> anyhow::Result<MetadataResponse> {
    let connection = Connection::open(dialer, address, ConnectionConfig::named("minisr-cluster")).await?;
    let version = connection.versions().highest::<MetadataRequest>(12)?;
    let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
    Ok(connection.call(&request, version).await?)
}

fn topics(metadata: &MetadataResponse) -> BTreeMap<String, Vec<PartitionStatus>> {
    let mut topics = BTreeMap::new();
    for topic in &metadata.topics {
        let Some(name) = &topic.name else { continue };
        let describe = |partition: &minisr_wire::messages::metadata_response::MetadataResponsePartition| {
            let mut isr: Vec<i32> = partition.isr_nodes.iter().map(|id| id.0).collect();
            isr.sort_unstable();
            PartitionStatus {
                partition: partition.partition_index,
                leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
                leader_epoch: partition.leader_epoch,
                replicas: partition.replica_nodes.iter().map(|id| id.0).collect(),
                isr,
            }
        };
        let mut partitions: Vec<PartitionStatus> = topic.partitions.iter().map(describe).collect();
        partitions.sort_by_key(|partition| partition.partition);
        topics.insert(name.to_string(), partitions);
    }
    topics
}

fn list(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}
