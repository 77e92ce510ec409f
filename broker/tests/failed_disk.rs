//! A broker whose disk is full: it stops, another leads, nothing acknowledged is lost. On a real file system that is
//! too small, so it needs the right to mount one; without it the story is skipped, and says so.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use minisr_client::producer::{Outcome, Producer, ProducerConfig, Record};
use minisr_client::{Client, ClientConfig, NewTopic, TlsFiles, Transport, read_all};
use minisr_cluster::{BrokerState, Cluster};
use support::{admin, admin_at, eventually, start};

const TOPIC: &str = "filling";
const SMALL: &str = "size=6m";
const LARGE: &str = "size=64m";
const RECORD_BYTES: usize = 32 << 10;

/// A small file system in memory over a directory, with what was in the directory; unmounted however the test ends.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn over(directory: &Path) -> Result<Self, String> {
        let kept = tempfile::tempdir().map_err(|error| error.to_string())?;
        copy(directory, kept.path())?;
        mount(&["-t", "tmpfs", "-o", SMALL, "tmpfs"], directory)?;
        let disk = Self(directory.to_owned());
        copy(kept.path(), directory)?;
        Ok(disk)
    }

    fn grow(&self) {
        mount(&["-o", &format!("remount,{LARGE}")], &self.0).expect("what can be mounted can be made larger");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: after a failed assertion the broker still runs.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], directory: &Path) -> Result<(), String> {
    let output = Command::new("mount").args(arguments).arg(directory).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let status =
        Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("cp: {status}")) }
}

fn client(cluster: &Cluster) -> Client {
    let files = TlsFiles::ca_only(cluster.ca_path()).load().expect("the cluster's CA");
    let bootstrap = cluster.bootstrap_quic().into_iter();
    let bootstrap = bootstrap.map(|at| minisr_client::Address::new(at.ip().to_string(), at.port())).collect();
    Client::new(ClientConfig::new(bootstrap, Transport::Quic(files))).expect("a client")
}

#[tokio::test]
async fn disk_full_on_a_leader_another_leads_and_nothing_acknowledged_is_lost() {
    let cluster = start(3, &[("min.insync.replicas", "2"), ("broker.session.timeout.ms", "600000")]).await;
    cluster.stop(1).await.expect("stopped");
    let disk = match SmallDisk::over(&cluster.data_dir(1)) {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("SKIPPED: a small file system cannot be mounted here: {why}");
            return cluster.destroy().await.expect("removed");
        }
    };
    cluster.restart(1).await.expect("ready on the small disk");
    // With as many partitions as brokers one of them is led by the broker with the small disk.
    let admin = admin(&cluster).await;
    admin.create_topic(&NewTopic::new(TOPIC, 3, 3)).await.expect("created");
    let mut full = None;
    eventually("a partition is led by broker 1 and in sync", async || {
        let Ok(view) = admin.topic(TOPIC).await else { return false };
        let Some(topic) = view.topics.get(TOPIC) else { return false };
        full = topic.partitions.iter().find(|(_, it)| it.leader == Some(1) && it.isr.len() == 3).map(|(id, _)| *id);
        full.is_some()
    })
    .await;
    let partition = full.expect("just checked");

    let acked: Arc<Mutex<Vec<u64>>> = Arc::default();
    let reports = Arc::clone(&acked);
    let config = ProducerConfig { delivery_timeout: Duration::from_secs(20), ..ProducerConfig::default() };
    let producer = Producer::start(client(&cluster), config, move |report| {
        if matches!(report.outcome, Outcome::Ok) {
            reports.lock().expect("no panic while it is held").extend(&report.tags);
        }
    })
    .expect("a producer");
    let handle = producer.partition(TOPIC, partition);
    // Half as much again as fits.
    let count = 9 * 1024 * 1024 / RECORD_BYTES as u64;
    for tag in 0..count {
        let mut value = vec![b'.'; RECORD_BYTES];
        value[..8].copy_from_slice(&tag.to_be_bytes());
        let record = Record { value: Some(&value), ..Record::default() };
        while producer.append(handle, &record, tag).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    eventually("the broker with the full disk has stopped by itself", async || {
        cluster.state(1).expect("known") == BrokerState::Died
    })
    .await;
    let said = support::log(&cluster, 1);
    assert!(said.contains("log offline") && said.contains("stopped: the log is closed for writes"), "{said}");
    eventually("writing goes on at another leader, without a session having to end", async || {
        acked.lock().expect("no panic while it is held").len() as u64 == count
    })
    .await;
    producer.close(Duration::from_secs(5)).await;

    // The disk is mended; what the broker held was kept by the kernel, so it is where it was.
    disk.grow();
    cluster.restart(1).await.expect("ready on the larger disk");
    let admin = admin_at(&cluster, 2).await;
    eventually("every replica is in sync again", async || {
        let view = admin.topic(TOPIC).await;
        view.is_ok_and(|view| {
            view.topics.get(TOPIC).is_some_and(|it| it.partitions.values().all(|it| it.isr.len() == 3))
        })
    })
    .await;
    let mut read = Vec::new();
    let client = client(&cluster);
    let all = read_all(&client, TOPIC, Duration::from_secs(20), |_, _, record| {
        let value = record.value.expect("a value");
        read.push(u64::from_be_bytes(*value.first_chunk().expect("eight bytes")));
    });
    all.await.expect("read");
    for tag in acked.lock().expect("no panic while it is held").iter() {
        assert!(read.contains(tag), "acknowledged and gone: {tag}");
    }
    cluster.kill_all().expect("killed");
    cluster.wait_killed(1).await.expect("gone");
    drop(disk);
    cluster.destroy().await.expect("removed");
}
