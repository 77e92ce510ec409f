//! `minisr-cluster elect-leaders`: asks a cluster for elections, over TCP.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::bail;
use minisr_client::{Address, Admin, Client, ClientConfig, Election, Transport};
use minisr_cluster::Cluster;
use minisr_wire::ErrorCode;

/// Which elections are asked for.
#[derive(Debug, clap::Args)]
pub struct ElectLeaders {
    /// Let any live replica lead where nobody else can: acknowledged records may be lost
    #[arg(long)]
    unclean: bool,
    /// Only this topic; may be repeated [default: all]
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// Only this partition of the topic; may be repeated [default: all]
    #[arg(long, value_name = "N", requires = "topic")]
    partition: Vec<i32>,
}

/// Asks, and prints one line for each partition that was to be changed. An error if some election failed.
pub async fn run(cluster: &Cluster, asked: &ElectLeaders) -> anyhow::Result<()> {
    let servers = cluster.bootstrap_tcp().into_iter().map(|it| Address::new(it.ip().to_string(), it.port())).collect();
    let client = Client::new(ClientConfig::new(servers, Transport::Tcp))?;
    let admin = Admin::new(client);
    let election = if asked.unclean { Election::Unclean } else { Election::Preferred };
    let named = match asked.topic.as_slice() {
        [] => None,
        topics => Some(partitions_of(&admin, topics, &asked.partition).await?),
    };
    let results = admin.elect_leaders(election, named.as_deref()).await?;
    let view = admin.metadata().await?;
    let mut out = std::io::stdout().lock();
    let mut failed = 0;
    for result in &results {
        let line = match &result.error {
            None => match view.leader(&result.topic, result.partition) {
                Some(leader) => format!("elected {} in epoch {}", leader.broker_id, leader.epoch),
                None => "elected".to_owned(),
            },
            Some((ErrorCode::ELECTION_NOT_NEEDED, _)) => "not needed".to_owned(),
            Some((code, message)) => {
                failed += 1;
                format!("failed: {}", message.as_deref().unwrap_or(code.name()))
            }
        };
        writeln!(out, "{}-{} {line}", result.topic, result.partition)?;
    }
    if results.is_empty() {
        writeln!(out, "every partition has the leader it should have")?;
    }
    match failed {
        0 => Ok(()),
        1 => bail!("1 election failed"),
        more => bail!("{more} elections failed"),
    }
}

async fn partitions_of(
    admin: &Admin,
    topics: &[String],
    partitions: &[i32],
) -> anyhow::Result<Vec<(String, Vec<i32>)>> {
    let view = admin.metadata().await?;
    let known: BTreeMap<&str, Vec<i32>> =
        view.topics.iter().map(|(name, topic)| (&**name, topic.partitions.keys().copied().collect())).collect();
    let mut named = Vec::new();
    for topic in topics {
        let all = known.get(topic.as_str()).ok_or_else(|| anyhow::anyhow!("there is no topic {topic}"))?;
        named.push((topic.clone(), if partitions.is_empty() { all.clone() } else { partitions.to_vec() }));
    }
    Ok(named)
}
