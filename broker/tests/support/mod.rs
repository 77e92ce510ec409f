//! What the stories about real processes have in common.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use minisr_client::metadata::{ClusterView, PartitionInfo};
use minisr_client::{Address, Admin, Client, ClientConfig, Transport};
use minisr_cluster::{Cluster, ClusterOptions};

/// No condition takes nearly this long, even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// The broker program under test.
pub const BROKER: &str = env!("CARGO_BIN_EXE_minisr-broker");

/// A cluster of real processes.
pub async fn start(brokers: usize, settings: &[(&str, &str)]) -> Cluster {
    start_in_racks(brokers, &[], settings).await
}

/// The same with the brokers in these racks, in turn.
pub async fn start_in_racks(brokers: usize, racks: &[&str], settings: &[(&str, &str)]) -> Cluster {
    let mut options = ClusterOptions::new(brokers);
    options.broker_binary = Some(BROKER.into());
    options.racks = racks.iter().map(|rack| (*rack).to_owned()).collect();
    for (name, value) in settings {
        options = options.set(*name, value);
    }
    Cluster::start(options).await.expect("the cluster starts")
}

/// An admin client that asks any broker.
pub async fn admin(cluster: &Cluster) -> Admin {
    let addresses = cluster.bootstrap_tcp();
    admin_on(addresses.iter().map(|it| Address::new(it.ip().to_string(), it.port())).collect())
}

/// An admin client whose first question goes to this broker.
pub async fn admin_at(cluster: &Cluster, id: i32) -> Admin {
    let ports = cluster.ports(id).expect("a broker of the cluster");
    admin_on(vec![Address::new("127.0.0.1", ports.tcp)])
}

fn admin_on(bootstrap: Vec<Address>) -> Admin {
    let mut config = ClientConfig::new(bootstrap, Transport::Tcp);
    config.request_timeout = Duration::from_secs(5);
    Admin::new(Client::new(config).expect("plain TCP needs no certificates"))
}

/// Waits for a condition, with a bound.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// What a broker has logged.
pub fn log(cluster: &Cluster, id: i32) -> String {
    std::fs::read_to_string(cluster.log_path(id)).expect("a log")
}

/// A broker process outside the cluster's care, with the settings file of broker `id`.
pub fn broker_process(cluster: &Cluster, id: i32, set: &[&str]) -> Child {
    let mut command = Command::new(BROKER);
    command.arg("--config").arg(cluster.layout().properties(id));
    for setting in set {
        command.arg("--set").arg(setting);
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started")
}

/// Everything a process logs up to and with the first line that holds `words`.
pub fn output_until(process: &mut Child, words: &str, patience: Duration) -> String {
    let (lines, read) = mpsc::channel();
    let errors = process.stderr.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut errors = BufReader::new(errors);
        let mut line = String::new();
        while errors.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            if lines.send(std::mem::take(&mut line)).is_err() {
                return Some(errors);
            }
        }
        None
    });
    let deadline = Instant::now() + patience;
    let mut text = String::new();
    loop {
        let line = read.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        text += &line.unwrap_or_else(|_| panic!("no line with {words:?} in\n{text}"));
        if text.ends_with('\n') && text.lines().last().is_some_and(|line| line.contains(words)) {
            break;
        }
    }
    drop(read);
    drop(reader);
    text
}

/// The one partition of a topic, as a broker describes it; `None` when it does not know the topic (yet).
pub fn only_partition(view: &ClusterView, topic: &str) -> Option<PartitionInfo> {
    view.topics.get(topic)?.partitions.get(&0).cloned()
}
