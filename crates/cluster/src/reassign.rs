//! `minisr-cluster reassign`, `promote`, `demote`, `add`, `remove` and `add-partitions`: how a person changes where data
//! lives.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use minisr_client::{Admin, ConfigResource, OngoingReassignment, Reassignment};
use minisr_cluster::Cluster;

/// How often the progress of a reassignment is looked at.
const POLL: Duration = Duration::from_millis(100);
/// The settings that a throttle consists of.
const RATES: [&str; 2] = ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
const REPLICAS: [&str; 2] = ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"];

/// Where a partition's replicas shall be.
#[derive(Debug, clap::Args)]
pub struct Reassign {
    /// Show the reassignments under way
    #[arg(long, conflicts_with_all = ["topic", "cancel"])]
    list: bool,
    /// Go back to the replicas before the reassignment under way
    #[arg(long, conflicts_with = "replicas", requires = "topic")]
    cancel: bool,
    /// The topic
    #[arg(long, value_name = "NAME", required_unless_present = "list")]
    topic: Option<String>,
    /// Only this partition; may be repeated [default: all of the topic]
    #[arg(long, value_name = "N")]
    partition: Vec<i32>,
    /// The brokers that shall hold it, the preferred leader first
    #[arg(long, value_delimiter = ',', value_name = "LIST", required_unless_present_any = ["list", "cancel"])]
    replicas: Vec<i32>,
    /// Let replicas that catch up take no more than this many bytes per second of each broker; lifted at the end
    #[arg(long, value_name = "BYTES", requires = "wait")]
    throttle: Option<u64>,
    /// Wait until it is done
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    wait_max: u64,
}

/// Carries out `reassign`.
pub async fn reassign(cluster: &Cluster, asked: &Reassign) -> anyhow::Result<()> {
    let admin = cluster.admin()?;
    if asked.list {
        return print(&admin.list_reassignments().await?);
    }
    let topic = asked.topic.clone().context("--topic names the topic")?;
    let partitions = match asked.partition.as_slice() {
        [] => {
            let view = admin.topic(&topic).await?;
            let info = view.topics.get(topic.as_str()).with_context(|| format!("there is no topic {topic}"))?;
            info.partitions.keys().copied().collect()
        }
        given => given.to_vec(),
    };
    let partitions: Vec<i32> = if asked.cancel && asked.partition.is_empty() {
        let ongoing = admin.list_reassignments().await?;
        let is_ongoing = |index: &i32| ongoing.iter().any(|it| it.topic == topic && it.partition == *index);
        partitions.into_iter().filter(is_ongoing).collect()
    } else {
        partitions
    };
    if partitions.is_empty() {
        bail!("no reassignment of {topic} is under way");
    }
    let wanted: Vec<Reassignment> = partitions
        .iter()
        .map(|partition| Reassignment {
            topic: topic.clone(),
            partition: *partition,
            replicas: (!asked.cancel).then(|| asked.replicas.clone()),
        })
        .collect();
    if let Some(rate) = asked.throttle {
        throttle(&admin, &topic, Some(rate)).await?;
    }
    let done = async {
        admin.reassign(&wanted).await?;
        if asked.wait { wait(&admin, &topic, &partitions, Duration::from_secs(asked.wait_max)).await } else { Ok(()) }
    };
    let done = done.await;
    if asked.throttle.is_some() {
        throttle(&admin, &topic, None).await.context("the throttle could not be lifted")?;
    }
    done
}

/// Sets or lifts the throttle on all brokers for a topic's catching-up replicas.
async fn throttle(admin: &Admin, topic: &str, rate: Option<u64>) -> anyhow::Result<()> {
    let rates: Vec<_> = RATES.iter().map(|name| (*name, rate.map(|rate| rate.to_string()))).collect();
    let replicas: Vec<_> = REPLICAS.iter().map(|name| (*name, rate.map(|_| "*".to_owned()))).collect();
    admin.alter_configs(&ConfigResource::AllBrokers, &rates).await?;
    admin.alter_configs(&ConfigResource::Topic(topic.to_owned()), &replicas).await?;
    Ok(())
}

async fn wait(admin: &Admin, topic: &str, partitions: &[i32], bound: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let ongoing = admin.list_reassignments().await?;
        let left = ongoing.iter().filter(|it| it.topic == topic && partitions.contains(&it.partition)).count();
        if left == 0 {
            writeln!(std::io::stdout(), "done after {:.1} s", began.elapsed().as_secs_f64())?;
            return Ok(());
        }
        if began.elapsed() >= bound {
            bail!("{left} reassignments are still under way after {} s", bound.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn print(ongoing: &[OngoingReassignment]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if ongoing.is_empty() {
        writeln!(out, "no reassignment is under way")?;
    }
    let list = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    for it in ongoing {
        let (replicas, adding, removing) = (list(&it.replicas), list(&it.adding), list(&it.removing));
        writeln!(out, "{}-{} replicas {replicas} adding [{adding}] removing [{removing}]", it.topic, it.partition)?;
    }
    Ok(())
}

/// Carries out `add`.
pub async fn add(cluster: &Cluster, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        let id = cluster.add().await?;
        let ports = cluster.ports(id)?;
        writeln!(std::io::stdout(), "broker {id} ready quic={} tcp={}", ports.quic, ports.tcp)?;
    }
    Ok(())
}

/// Carries out `remove`.
pub async fn remove(cluster: &Cluster, id: i32, wait_max: u64) -> anyhow::Result<()> {
    let told = |sentence: String| drop(writeln!(std::io::stdout(), "{sentence}"));
    Ok(cluster.remove_broker(id, Duration::from_secs(wait_max), told).await?)
}

/// Carries out `promote` and `demote`.
pub async fn vote(cluster: &Cluster, id: i32, is_voter: bool) -> anyhow::Result<()> {
    cluster.demand_minisr(if is_voter { "promote" } else { "demote" })?;
    let admin = cluster.admin()?;
    if is_voter {
        admin.add_voter(id).await?;
    } else {
        admin.remove_voter(id).await?;
    }
    let quorum = admin.describe_quorum().await?;
    let list = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    writeln!(std::io::stdout(), "voters {} observers [{}]", list(&quorum.voters), list(&quorum.observers))?;
    Ok(())
}

/// Carries out `add-partitions`.
pub async fn add_partitions(cluster: &Cluster, topic: &str, count: i32) -> anyhow::Result<()> {
    cluster.admin()?.create_partitions(topic, count).await?;
    writeln!(std::io::stdout(), "topic {topic} has {count} partitions")?;
    Ok(())
}
