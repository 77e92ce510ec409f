//! Real broker processes that are killed, stopped, frozen, wiped and doubled. What they decide is tested elsewhere;
//! here it is that processes, sockets and signals lead to those decisions. Time bounds are generous on purpose.

mod support;

use std::time::Duration;

use minisr_client::{ClusterView, NewTopic};
use minisr_cluster::{BrokerState, Cluster};
use support::{admin, admin_at, eventually, only_partition, start};

const TOPIC: &str = "story";

async fn with_topic(cluster: &Cluster) {
    let admin = admin(cluster).await;
    admin.create_topic(&NewTopic::new(TOPIC, 1, 3)).await.expect("created");
    eventually("the topic is in sync", async || admin.topic(TOPIC).await.is_ok_and(|view| in_sync(&view) == 3)).await;
}

fn in_sync(view: &ClusterView) -> usize {
    only_partition(view, TOPIC).map_or(0, |it| it.isr.len())
}

/// Every broker in `alive` says that the topic is led by one of them, and by the same.
async fn agreed_leader(cluster: &Cluster, alive: &[i32]) -> i32 {
    let mut agreed = None;
    eventually("the survivors agree on a leader", async || {
        let mut leaders = Vec::new();
        for id in alive {
            let Ok(view) = admin_at(cluster, *id).await.topic(TOPIC).await else {
                return false;
            };
            leaders.push(only_partition(&view, TOPIC).and_then(|it| it.leader));
        }
        agreed = leaders[0].filter(|leader| alive.contains(leader));
        agreed.is_some() && leaders.iter().all(|leader| *leader == agreed)
    })
    .await;
    agreed.expect("just checked")
}

async fn controller(cluster: &Cluster) -> i32 {
    let mut found = None;
    let admin = admin(cluster).await;
    eventually("a controller is known", async || {
        found = admin.metadata().await.ok().and_then(|view| view.controller_id);
        found.is_some()
    })
    .await;
    found.expect("just checked")
}

fn others(cluster: &Cluster, id: i32) -> Vec<i32> {
    cluster.ids().filter(|other| *other != id).collect()
}

#[tokio::test]
async fn failover_leader_killed_survivors_agree_on_another() {
    let cluster = start(3, &[]).await;
    with_topic(&cluster).await;
    let controller = controller(&cluster).await;
    // Not the controller: that is the next story.
    while agreed_leader(&cluster, &[1, 2, 3]).await == controller {
        cluster.stop(controller).await.expect("stopped");
        cluster.restart(controller).await.expect("restarted");
    }
    let leader = agreed_leader(&cluster, &[1, 2, 3]).await;
    cluster.kill(leader).expect("killed");
    agreed_leader(&cluster, &others(&cluster, leader)).await;
    cluster.restart(leader).await.expect("restarted");
    let admin = admin(&cluster).await;
    eventually("the killed broker is in sync again", async || {
        admin.topic(TOPIC).await.is_ok_and(|view| in_sync(&view) == 3)
    })
    .await;
    cluster.destroy().await.expect("removed");
}

#[tokio::test]
async fn failover_controller_killed_another_takes_over_and_fences_it() {
    let cluster = start(3, &[]).await;
    with_topic(&cluster).await;
    let first = controller(&cluster).await;
    cluster.kill(first).expect("killed");
    let survivors = others(&cluster, first);
    agreed_leader(&cluster, &survivors).await;
    let admin = admin_at(&cluster, survivors[0]).await;
    eventually("another controller is known and the killed one is fenced", async || {
        admin
            .metadata()
            .await
            .is_ok_and(|view| view.controller_id.is_some_and(|id| id != first) && !view.brokers.contains_key(&first))
    })
    .await;
    cluster.destroy().await.expect("removed");
}

#[tokio::test]
async fn restart_at_once_after_a_kill_is_let_in_without_waiting_for_the_session() {
    // A session that outlasts the test: only the probe can have fenced the first life.
    let cluster = start(3, &[("broker.session.timeout.ms", "600000")]).await;
    for id in cluster.ids() {
        cluster.kill(id).expect("killed");
        cluster.restart(id).await.expect("ready again");
    }
    cluster.destroy().await.expect("removed");
}

#[tokio::test]
async fn restart_of_all_at_once_brings_everything_back() {
    let cluster = start(3, &[("broker.session.timeout.ms", "600000")]).await;
    with_topic(&cluster).await;
    cluster.kill_all().expect("killed");
    for id in cluster.ids() {
        cluster.start_broker(id).await.expect("started");
    }
    for id in cluster.ids() {
        cluster.wait_ready(id).await.expect("ready again");
    }
    let admin = admin(&cluster).await;
    eventually("all replicas are in sync again", async || {
        admin.topic(TOPIC).await.is_ok_and(|view| in_sync(&view) == 3)
    })
    .await;
    cluster.destroy().await.expect("removed");
}

#[tokio::test]
async fn second_process_of_a_broker_is_not_let_in_while_the_first_lives() {
    let cluster = start(3, &[]).await;
    let directory = tempfile::tempdir().expect("a directory");
    // Ports and a directory of its own, as on another machine: here it would fail for the lock or the port.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
    let listeners = format!("listeners=QUIC://127.0.0.1:0,PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:{port}");
    let data = format!("log.dirs={}", directory.path().display());
    let mut second = support::broker_process(&cluster, 2, &[&listeners, &data]);
    let said = support::output_until(&mut second, "not registered yet", Duration::from_secs(20));
    assert!(!said.contains("a voter now"), "{said}");
    let controller = controller(&cluster).await;
    eventually("the controller says why", async || {
        support::log(&cluster, controller).contains("another directory answers at its address")
    })
    .await;
    assert!(second.try_wait().expect("waitable").is_none(), "it keeps trying");
    assert_eq!(cluster.state(2).expect("known"), BrokerState::Running);
    second.kill().expect("killed");
    second.wait().expect("waited");
    // The first has noticed nothing.
    let admin = admin_at(&cluster, 2).await;
    assert!(admin.metadata().await.expect("answered").brokers.contains_key(&2));
    cluster.destroy().await.expect("removed");
}

#[tokio::test]
async fn wiped_voter_comes_back_as_another_node_and_votes() {
    // Snapshots so often that the new directory starts from one.
    let cluster = start(3, &[("controller.snapshot.entries", "10")]).await;
    with_topic(&cluster).await;
    for number in 0..30 {
        let topic = NewTopic::new(format!("filler-{number}"), 1, 1);
        admin(&cluster).await.create_topic(&topic).await.expect("created");
    }
    let id_file = cluster.data_dir(3).join("raft/directory-id");
    let before = std::fs::read_to_string(&id_file).expect("readable");
    cluster.kill(3).expect("killed");
    eventually("it is gone", async || cluster.pid(3).is_none()).await;
    cluster.wipe(3).expect("wiped");
    cluster.restart(3).await.expect("ready again");
    let after = std::fs::read_to_string(&id_file).expect("readable");
    assert_ne!(before, after);
    assert!(support::log(&cluster, 3).contains("installed a metadata snapshot"));
    let admin = admin(&cluster).await;
    eventually("the empty replica is filled", async || admin.topic(TOPIC).await.is_ok_and(|view| in_sync(&view) == 3))
        .await;
    let promoted = format!("this node is a voter now node={}", after.trim());
    eventually("the new directory is a voter", async || support::log(&cluster, 3).contains(&promoted)).await;
    // Two of three are a majority only if the new one votes.
    let controller = controller(&cluster).await;
    let killed = if controller == 3 { 1 } else { controller };
    cluster.kill(killed).expect("killed");
    agreed_leader(&cluster, &others(&cluster, killed)).await;
    let admin = admin_at(&cluster, 3).await;
    eventually("metadata can be changed", async || admin.create_topic(&NewTopic::new("after", 1, 2)).await.is_ok())
        .await;
    cluster.destroy().await.expect("removed");
}

#[tokio::test]
async fn frozen_broker_is_fenced_at_the_end_of_its_session_and_comes_back() {
    let short = [("broker.session.timeout.ms", "1500"), ("broker.heartbeat.interval.ms", "300")];
    let cluster = start(3, &short).await;
    let controller = controller(&cluster).await;
    let frozen = others(&cluster, controller)[0];
    cluster.pause(frozen).await.expect("paused");
    let admin = admin_at(&cluster, controller).await;
    eventually("the frozen broker is fenced", async || {
        admin.metadata().await.is_ok_and(|view| !view.brokers.contains_key(&frozen))
    })
    .await;
    cluster.resume(frozen).expect("resumed");
    eventually("it is back", async || admin.metadata().await.is_ok_and(|view| view.brokers.contains_key(&frozen)))
        .await;
    assert!(!support::log(&cluster, controller).contains("not the active controller any more"), "no new election");
    cluster.destroy().await.expect("removed");
}

#[tokio::test]
async fn stop_in_order_hands_over_and_leaves_a_clean_marker() {
    let cluster = start(3, &[]).await;
    with_topic(&cluster).await;
    let leader = agreed_leader(&cluster, &[1, 2, 3]).await;
    cluster.stop(leader).await.expect("stopped in order");
    assert!(cluster.data_dir(leader).join("clean-shutdown").exists());
    assert!(support::log(&cluster, leader).contains("stopped"));
    agreed_leader(&cluster, &others(&cluster, leader)).await;
    cluster.restart(leader).await.expect("ready again");
    assert!(!cluster.data_dir(leader).join("clean-shutdown").exists(), "a running broker is not clean");
    cluster.destroy().await.expect("removed");
}

/// Makes every sync of some brokers slow, with strace, for as long as it lives.
struct SlowDisks(Vec<std::process::Child>);

impl SlowDisks {
    fn of(cluster: &Cluster, ids: &[i32], delay_us: u32) -> Option<Self> {
        let mut slow = Self(Vec::new());
        for id in ids {
            let delay = format!("inject=fsync,fdatasync:delay_enter={delay_us}");
            let pid = cluster.pid(*id).expect("running").to_string();
            let arguments = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", &delay, "-p", &pid];
            slow.0.push(std::process::Command::new("strace").args(arguments).spawn().ok()?);
        }
        Some(slow)
    }

    /// Whether every thread of a process is watched.
    fn holds(pid: i32) -> bool {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
        tasks.flatten().all(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        })
    }
}

impl Drop for SlowDisks {
    fn drop(&mut self) {
        for tracer in &mut self.0 {
            let _ = tracer.kill();
            let _ = tracer.wait();
        }
    }
}

/// A vote that takes long to store was asked for again before it could arrive, under a new term, for ever.
#[tokio::test]
async fn controller_killed_survivors_with_slow_disks_elect_another() {
    let cluster = start(3, &[]).await;
    let first = controller(&cluster).await;
    let survivors = others(&cluster, first);
    let Some(mut slow) = SlowDisks::of(&cluster, &survivors, 130_000) else {
        eprintln!("SKIPPED: syncs cannot be made slow without strace");
        return cluster.destroy().await.expect("removed");
    };
    let mut is_refused = false;
    eventually("the survivors' syncs are slow", async || {
        is_refused = slow.0.iter_mut().any(|tracer| tracer.try_wait().is_ok_and(|ended| ended.is_some()));
        is_refused || survivors.iter().all(|id| SlowDisks::holds(cluster.pid(*id).expect("running")))
    })
    .await;
    if is_refused {
        eprintln!("SKIPPED: strace may not watch another process here");
        return cluster.destroy().await.expect("removed");
    }
    cluster.kill(first).expect("killed");
    let admin = admin_at(&cluster, survivors[0]).await;
    eventually("another controller is known", async || {
        admin.metadata().await.is_ok_and(|view| view.controller_id.is_some_and(|id| id != first))
    })
    .await;
    drop(slow);
    cluster.destroy().await.expect("removed");
}
