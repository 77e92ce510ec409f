//! `minisr-cluster status`: processes from the directory, everything else from the brokers themselves over TCP.

use std::io::Write;

use minisr_cluster::{BrokerState, Cluster};
use serde::Serialize;

#[derive(Serialize)]
struct Status {
    dir: String,
    cluster_id: String,
    ca: String,
    brokers: Vec<BrokerStatus>,
}

#[derive(Serialize)]
struct BrokerStatus {
    id: i32,
    pid: Option<i32>,
    state: BrokerState,
    ready: bool,
    quic: String,
    tcp: String,
    log: String,
}

/// Prints the state of a cluster as a table or as JSON.
pub async fn print(cluster: &Cluster, json: bool) -> anyhow::Result<()> {
    let status = gather(cluster)?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
        return Ok(());
    }
    writeln!(out, "cluster {} in {}", status.cluster_id, status.dir)?;
    writeln!(out, "{:<7} {:>8} {:<9} {:<22} {:<22}", "broker", "pid", "state", "quic", "tcp")?;
    for broker in &status.brokers {
        let pid = broker.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let state = match broker.state {
            BrokerState::Running if !broker.ready => "starting".to_owned(),
            state => state.to_string(),
        };
        writeln!(out, "{:<7} {pid:>8} {state:<9} {:<22} {:<22}", broker.id, broker.quic, broker.tcp)?;
    }
    Ok(())
}

fn gather(cluster: &Cluster) -> anyhow::Result<Status> {
    let mut brokers = Vec::new();
    for (id, (quic, tcp)) in cluster.ids().zip(cluster.bootstrap_quic().into_iter().zip(cluster.bootstrap_tcp())) {
        brokers.push(BrokerStatus {
            id,
            pid: cluster.pid(id),
            state: cluster.state(id)?,
            ready: cluster.is_ready(id),
            quic: quic.to_string(),
            tcp: tcp.to_string(),
            log: cluster.log_path(id).display().to_string(),
        });
    }
    Ok(Status {
        dir: cluster.dir().display().to_string(),
        cluster_id: cluster.cluster_id().to_owned(),
        ca: cluster.ca_path().display().to_string(),
        brokers,
    })
}
