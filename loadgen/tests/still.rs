//! A cluster that stands still while another is measured, with real brokers: it uses nothing, and is what it was when its
//! turn comes, though its brokers have lost their sessions meanwhile.

use std::time::{Duration, Instant};

use minisr_cluster::{BrokerState, Cluster};
use minisr_loadgen::cli::SweepArguments;
use minisr_loadgen::peers::still::{go_on, stand_still};
use minisr_loadgen::plan::Acks;
use minisr_loadgen::progress::Progress;
use minisr_loadgen::settings::{Settings, TransportKind};
use minisr_loadgen::target::Target;
use minisr_loadgen::usage::Usage;

/// Longer than a broker's session.
const STILLNESS: Duration = Duration::from_secs(2);

fn settings() -> Settings {
    let arguments = SweepArguments {
        acks: Some(vec![Acks::All]),
        replication_factor: Some(vec![3]),
        min_insync_replicas: Some(vec![2]),
        partitions: Some(3),
        transport: Some(TransportKind::Tcp),
        set: ["broker.session.timeout.ms=1000", "broker.heartbeat.interval.ms=300"].map(str::to_owned).to_vec(),
        no_ceiling: true,
        ..SweepArguments::default()
    };
    Settings::resolve(&arguments).expect("settings that can be")
}

fn states(cluster: &Cluster) -> Vec<BrokerState> {
    cluster.ids().map(|id| cluster.state(id).expect("a broker of the cluster")).collect()
}

#[tokio::test]
async fn cluster_that_stood_still_beyond_its_sessions_goes_on_once_a_whole_round_was_calm() {
    let settings = settings();
    let target = Target::start(&settings).await.expect("the cluster starts");
    let cluster = target.cluster().expect("an embedded one");
    let progress = Progress::new(1, 10.0, true);

    stand_still(&target).await.expect("all of them stand still");
    assert_eq!(states(cluster), [BrokerState::Paused; 3]);
    let used = || Usage::read(&target.broker_pids()).expect("they are there");
    let (before, begun) = (used(), Instant::now());
    tokio::time::sleep(STILLNESS).await;
    let during = used().since(&before);
    assert!(begun.elapsed() >= STILLNESS);
    assert_eq!(during.cpu_pct, 0.0, "who stands still takes nothing from anybody");

    let rounds = go_on(&target, &settings, "again", &progress).await.expect("it is what it was");
    assert!(rounds >= 1);
    assert_eq!(states(cluster), [BrokerState::Running; 3]);
    let view = target.admin().expect("a client").metadata().await.expect("an answer");
    assert!(view.topics.keys().all(|topic| !topic.starts_with("again")), "its rounds leave nothing behind");
    target.end().await.expect("it ends");
}
