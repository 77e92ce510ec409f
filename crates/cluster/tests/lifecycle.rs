//! The life of a cluster, told with a broker that is a shell script: it says `ready`, waits, and leaves on SIGTERM.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use minisr_cluster::{BrokerState, Cluster, ClusterError, ClusterOptions};

const FAITHFUL: &str = r#"#!/bin/sh
trap 'exit 0' TERM
id=$(sed -n 's/^node.id=//p' "$2")
echo "life of $id" >&2
echo "ready id=$id quic=x tcp=y"
while :; do sleep 0.05; done
"#;

fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("fake-broker");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn options(binary: PathBuf, brokers: usize) -> ClusterOptions {
    ClusterOptions {
        broker_binary: Some(binary),
        ready_timeout: Some(Duration::from_secs(10)),
        ..ClusterOptions::new(brokers)
    }
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn cluster_kill_and_restart_keeps_ports_and_data() {
    let tools = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(options(script(tools.path(), FAITHFUL), 3)).await.unwrap();
    assert_eq!(cluster.pids().len(), 3);
    let (ports, pid) = (cluster.ports(2).unwrap(), cluster.pid(2).unwrap());
    fs::write(cluster.data_dir(2).join("record"), "1").unwrap();

    cluster.kill(2).unwrap();
    eventually("the death of broker 2", || cluster.pid(2).is_none()).await;
    assert_eq!(cluster.state(2).unwrap(), BrokerState::Killed);
    assert!(!cluster.is_ready(2));

    cluster.restart(2).await.unwrap();
    assert_eq!(cluster.ports(2).unwrap(), ports);
    assert_ne!(cluster.pid(2).unwrap(), pid);
    assert!(cluster.data_dir(2).join("record").exists());
    assert_eq!(fs::read_to_string(cluster.log_path(2)).unwrap().matches("life of 2").count(), 2);
}

#[tokio::test]
async fn cluster_pause_resume_stop_are_told_apart() {
    let tools = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(options(script(tools.path(), FAITHFUL), 2)).await.unwrap();
    cluster.pause(1).await.unwrap();
    eventually("the pause", || cluster.state(1).unwrap() == BrokerState::Paused).await;
    assert!(matches!(cluster.pause(1).await, Err(ClusterError::WrongState { .. })));
    cluster.resume(1).unwrap();
    eventually("the resumption", || cluster.state(1).unwrap() == BrokerState::Running).await;
    cluster.stop(1).await.unwrap();
    assert_eq!(cluster.state(1).unwrap(), BrokerState::Stopped);
    cluster.wipe(1).unwrap();
    assert!(cluster.usage(2).is_some_and(|usage| usage.rss_bytes > 0));
    assert!(matches!(cluster.kill(9), Err(ClusterError::NoSuchBroker { id: 9, .. })));
}

#[tokio::test]
async fn cluster_dropped_leaves_neither_processes_nor_files() {
    let tools = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(options(script(tools.path(), FAITHFUL), 2)).await.unwrap();
    let (dir, pids) = (cluster.dir().to_path_buf(), cluster.pids());
    drop(cluster);
    assert!(!dir.exists());
    assert!(pids.iter().all(|(_, pid)| !alive(*pid)));
}

#[tokio::test]
async fn cluster_detached_is_found_again_and_destroyed() {
    let tools = tempfile::tempdir().unwrap();
    let dir = tools.path().join("state/cluster");
    let mut options = options(script(tools.path(), FAITHFUL), 2);
    options.dir = Some(dir.clone());
    let made = Cluster::start(options.clone()).await.unwrap();
    let pids = made.pids();
    made.detach();
    assert!(matches!(Cluster::start(options).await, Err(ClusterError::Exists { state: "running", .. })));
    let found = Cluster::open(&dir).unwrap();
    assert_eq!(found.pids(), pids);
    found.destroy().await.unwrap();
    assert!(!dir.exists());
    assert!(matches!(Cluster::open(&dir), Err(ClusterError::Missing { .. })));
}

#[tokio::test]
async fn cluster_broker_that_fails_to_start_is_named_with_its_log() {
    let tools = tempfile::tempdir().unwrap();
    let text = "#!/bin/sh\ncase $(sed -n 's/^node.id=//p' \"$2\") in 2) echo 'unknown setting nonsense' >&2; exit 1;; esac\n\
                exec sleep 60\n";
    let mut options = options(script(tools.path(), text), 3);
    options.dir = Some(tools.path().join("cluster"));
    let message = Cluster::start(options).await.err().unwrap().to_string();
    assert!(message.contains("broker 2 ended"), "{message}");
    assert!(message.contains("unknown setting nonsense"), "{message}");
    assert!(message.contains("broker-2/broker.log"), "{message}");
}

#[tokio::test]
async fn cluster_port_taken_in_between_is_retried_with_others() {
    let tools = tempfile::tempdir().unwrap();
    let once = tools.path().join("once");
    let text = FAITHFUL.replace(
        "echo \"life",
        &format!(
            "mkdir {} 2>/dev/null && {{ echo 'Address already in use' >&2; exit 1; }}\necho \"life",
            once.display()
        ),
    );
    let cluster = Cluster::start(options(script(tools.path(), &text), 2)).await.unwrap();
    assert_eq!(cluster.pids().len(), 2);
}

#[tokio::test]
async fn cluster_binary_missing_is_a_sentence() {
    let message = Cluster::start(options(PathBuf::from("/nowhere/minisr-broker"), 1)).await.err().unwrap().to_string();
    assert!(message.contains("/nowhere/minisr-broker") && message.contains("cargo build"), "{message}");
}

#[test]
fn cluster_parent_killed_takes_its_brokers_along() {
    // The watchdog: a process that embeds a cluster is killed with SIGKILL. The embedding process is this very test
    // program, started again for the helper test below.
    let tools = tempfile::tempdir().unwrap();
    let binary = script(tools.path(), FAITHFUL);
    let note = tools.path().join("pids");
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_embed_until_killed", "--ignored"])
        .env("MINISR_TEST_BROKER", &binary)
        .env("MINISR_TEST_NOTE", &note)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(eventually("the embedded cluster", || note.exists()));
    let text = fs::read_to_string(&note).unwrap();
    let (dir, pids) = text.split_once('\n').unwrap();
    let pids: Vec<i32> = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| alive(*pid)));
    parent.kill().unwrap();
    parent.wait().unwrap();
    runtime.block_on(eventually("the end of the brokers", || pids.iter().all(|pid| !alive(*pid))));
    runtime.block_on(eventually("the end of the directory", || !Path::new(dir).exists()));
}

#[tokio::test]
#[ignore = "helper of cluster_parent_killed_takes_its_brokers_along"]
async fn helper_embed_until_killed() {
    let Some(binary) = std::env::var_os("MINISR_TEST_BROKER") else { return };
    let cluster = Cluster::start(options(binary.into(), 2)).await.unwrap();
    let pids: Vec<String> = cluster.pids().iter().map(|(_, pid)| pid.to_string()).collect();
    let note = PathBuf::from(std::env::var_os("MINISR_TEST_NOTE").unwrap());
    let aside = note.with_extension("tmp");
    fs::write(&aside, format!("{}\n{}", cluster.dir().display(), pids.join(" "))).unwrap();
    fs::rename(aside, note).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}
