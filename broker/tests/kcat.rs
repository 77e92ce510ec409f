//! A foreign client at a real cluster: `kcat` (librdkafka) lists, produces and consumes through the TCP addresses.
//!
//! Where kcat is not installed the story cannot be told and says so; with `MINISR_REQUIRE_KCAT` set, as the gate does,
//! that is a failure.

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use minisr_cluster::Cluster;
use support::start;

/// Runs kcat against the cluster with `input` and returns what it printed; `None` where there is no kcat.
fn kcat(cluster: &Cluster, arguments: &[&str], input: &str) -> Option<String> {
    let bootstrap: Vec<String> = cluster.bootstrap_tcp().iter().map(ToString::to_string).collect();
    let started = Command::new("kcat")
        .args(["-b", &bootstrap.join(","), "-m", "20"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut kcat = match started {
        Ok(kcat) => kcat,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(std::env::var_os("MINISR_REQUIRE_KCAT").is_none(), "kcat is required here and not installed");
            eprintln!("kcat is not installed: this story is not told (Debian: apt install kcat)");
            return None;
        }
        Err(error) => panic!("kcat: {error}"),
    };
    kcat.stdin.take().expect("piped").write_all(input.as_bytes()).expect("kcat reads its input");
    let output = kcat.wait_with_output().expect("kcat ends");
    assert!(output.status.success(), "kcat {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn kcat_lists_produces_and_consumes_also_after_the_leader_was_killed() {
    let settings = [("default.replication.factor", "3"), ("min.insync.replicas", "2")];
    let cluster = start(3, &settings).await;

    let Some(listed) = kcat(&cluster, &["-L"], "") else { return };
    assert!(listed.contains("3 brokers:"), "{listed}");

    let records: String = (1..=1_000).map(|n| format!("record {n}\n")).collect();
    let produce = ["-P", "-t", "story", "-X", "enable.idempotence=true", "-X", "acks=all"];
    kcat(&cluster, &produce, &records);
    let consume = ["-C", "-t", "story", "-o", "beginning", "-e", "-q"];
    assert_eq!(kcat(&cluster, &consume, "").expect("it was there before"), records);

    // Partition 0 of a first topic is led by the first broker.
    cluster.kill(1).expect("killed");
    kcat(&cluster, &produce, "after the kill\n");
    let read = kcat(&cluster, &consume, "").expect("it was there before");
    assert_eq!(read, records + "after the kill\n");
}
