//! What stops a start: one sentence on standard error, exit code 1, and nothing left running.

mod support;

use std::process::Command;

use minisr_cluster::Cluster;
use support::{BROKER, eventually, start};

/// Runs the broker program until it ends by itself; its exit code and what it said.
fn refused(arguments: &[&str]) -> String {
    let output = Command::new(BROKER).args(arguments).env("RUST_LOG", "off").output().expect("started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty(), "not ready");
    said
}

/// The settings of broker 1 of a cluster that is stopped, with changes.
fn refused_with(cluster: &Cluster, changes: &[&str]) -> String {
    let properties = cluster.layout().properties(1).display().to_string();
    let mut arguments = vec!["--config", &properties];
    for change in changes {
        arguments.extend(["--set", change]);
    }
    let said = refused(&arguments);
    assert_eq!(said.lines().count(), 1, "one sentence: {said}");
    said
}

#[tokio::test]
async fn start_with_bad_input_ends_in_one_sentence() {
    let cluster = start(1, &[]).await;

    // In use: the directory's lock comes before the port.
    assert!(refused_with(&cluster, &[]).contains("is in use by another process"));
    let other = tempfile::tempdir().expect("a directory");
    let elsewhere = format!("log.dirs={}", other.path().display());
    assert!(refused_with(&cluster, &[&elsewhere]).contains("the port is in use"));

    cluster.stop(1).await.expect("stopped");
    eventually("it has gone", async || cluster.pid(1).is_none()).await;

    let said = refused_with(&cluster, &["no.such.setting=1"]);
    assert!(said.contains("unknown setting no.such.setting"), "{said}");
    let said = refused_with(&cluster, &["min.insync.replicas=0"]);
    assert!(said.contains("min.insync.replicas=0") && said.contains("from 1"), "{said}");
    let said = refused_with(&cluster, &["zookeeper.connect=localhost:2181"]);
    assert!(said.contains("controller.quorum.voters"), "{said}");
    let said = refused_with(&cluster, &["node.id=2"]);
    assert!(said.contains("belongs to node.id=1"), "{said}");
    let said = refused_with(&cluster, &["cluster.id=other"]);
    assert!(said.contains("not to cluster.id=other"), "{said}");
    let said = refused_with(&cluster, &["ssl.keystore.location=/nowhere/broker.pem"]);
    assert!(said.contains("ssl.keystore.location") && said.contains("/nowhere/broker.pem"), "{said}");
    let said = refused_with(&cluster, &[&format!("ssl.keystore.location={}", cluster.ca_path().display())]);
    assert!(said.contains("ssl.keystore.location") || said.contains("certificate"), "{said}");
    let said = refused_with(&cluster, &["ssl.truststore.location=/nowhere/ca.pem"]);
    assert!(said.contains("ssl.truststore.location"), "{said}");

    assert!(refused(&["--config", "/nowhere/broker.properties"]).contains("/nowhere/broker.properties"));
    assert!(refused(&["--config", "x", "--set", "novalue"]).contains("NAME=VALUE"));
    assert!(refused(&["--no-such-flag"]).contains("--no-such-flag"));
    cluster.destroy().await.expect("removed");
}

#[test]
fn settings_are_listed_with_default_range_and_meaning() {
    let output = Command::new(BROKER).arg("--settings").output().expect("started");
    assert!(output.status.success());
    let listed = String::from_utf8_lossy(&output.stdout);
    assert!(listed.contains("replica.lag.time.max.ms = 30000"), "{listed}");
    assert!(listed.contains("Allowed: one of never, interval, commit."), "{listed}");
}

#[tokio::test]
async fn controller_listener_refuses_strangers() {
    use std::io::{Read, Write};
    let cluster = start(1, &[]).await;
    let port = cluster.ports(1).expect("known").control;
    // Garbage, and nothing at all: neither gets an answer that is not an alert, and the broker goes on.
    let mut garbage = std::net::TcpStream::connect(("127.0.0.1", port)).expect("accepted");
    garbage.write_all(&[0; 1024]).expect("sent");
    let mut answer = Vec::new();
    let _ = garbage.read_to_end(&mut answer);
    assert!(answer.len() < 64, "an alert at most");
    let silent = std::net::TcpStream::connect(("127.0.0.1", port)).expect("accepted");
    eventually("the broker logs why it closed", async || true).await;
    assert!(cluster.is_ready(1) && cluster.pid(1).is_some());
    drop(silent);
    cluster.destroy().await.expect("removed");
}
