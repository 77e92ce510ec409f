//! Links that are cut in one direction, between real brokers: such a partition alone fences nobody and elects nobody.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use minisr_chaos::leaders::{Leaders, Written};
use minisr_chaos::observer::{ANSWER_BOUND, Observer, View};
use minisr_chaos::proxy::Links;
use minisr_client::{Address, Dialer, Transport};
use minisr_cluster::{Cluster, ClusterOptions};

const TOPIC: &str = "links";
const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a hint, the controller's own probes, the heartbeat that it waits for then, and the silence after which a
/// voter stands for election.
const CUT: Duration = Duration::from_millis(3_200);

fn slots() -> Vec<(String, i32)> {
    (0..PARTITIONS).map(|index| (TOPIC.to_owned(), index)).collect()
}

fn leaders(cluster: &Cluster) -> Leaders {
    let dialer = Dialer::new(&Transport::Tcp, ANSWER_BOUND).expect("plain TCP needs no certificates");
    let addresses: BTreeMap<i32, Address> = cluster
        .ids()
        .zip(cluster.bootstrap_tcp())
        .map(|(id, at)| (id, Address::new(at.ip().to_string(), at.port())))
        .collect();
    Leaders::new(dialer, addresses, slots(), "links", Duration::from_secs(5))
}

async fn whole(cluster: &Cluster, observer: &Observer) -> View {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let view = observer.view(cluster).await;
        match view {
            Ok(view) if view.answered == 3 && view.not_whole.is_empty() => return view,
            _ => assert!(Instant::now() < deadline, "not every replica is in sync: {view:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn count(log: &Path, words: &str) -> usize {
    std::fs::read_to_string(log).expect("a log").lines().filter(|line| line.contains(words)).count()
}

/// What would tell that somebody was deposed, in all logs.
fn upheavals(cluster: &Cluster) -> Vec<(i32, &'static str, usize)> {
    let told = |id: i32| {
        [": fencing ", ": fenced ", "standing for election", "is the active controller", "session ended"]
            .map(|words| (id, words, count(&cluster.log_path(id), words)))
    };
    cluster.ids().flat_map(told).collect()
}

#[tokio::test]
async fn links_cut_in_one_direction_fence_nobody() {
    // Far beyond the cuts: otherwise a broker whose heartbeats do not arrive is rightly fenced.
    let mut options = ClusterOptions::new(3).set("broker.session.timeout.ms", 60_000).set("min.insync.replicas", 2);
    options.environment.push(("RUST_LOG".to_owned(), "info,minisr_broker::controller::control=debug".to_owned()));
    let cluster = Cluster::start(options).await.expect("the cluster starts (is minisr-broker built?)");
    let links = Links::between(&cluster, 7).await.expect("proxies between all brokers");
    let observer = Observer::new(&cluster, slots()).expect("an observer");
    let mut leaders = leaders(&cluster);
    leaders.create_topic(1, TOPIC, PARTITIONS, 3).await.expect("created");
    let before = whole(&cluster, &observer).await;
    let calm = upheavals(&cluster);
    let answers = |cluster: &Cluster| -> usize {
        cluster.ids().map(|id| count(&cluster.log_path(id), "a suspected broker ")).sum()
    };

    let mut value = 0;
    let controller = before.controller.expect("a controller");
    let others: Vec<i32> = cluster.ids().filter(|id| *id != controller).collect();
    for (from, to) in [(controller, others[0]), (others[0], controller), (others[0], others[1])] {
        links.link(from, to).sever();
        let until = Instant::now() + CUT;
        while Instant::now() < until {
            // Nobody was deposed. (acks=1: a follower that cannot fetch holds up acks=all until it is dropped.)
            for slot in 0..PARTITIONS as u16 {
                value += 1;
                let leader = before.partitions[usize::from(slot)].leader.expect("whole");
                let written = leaders.produce(leader, slot, 1, value).await;
                assert_eq!(written.expect("an answer"), Written::Acked, "link {from} to {to} is cut");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(upheavals(&cluster), calm, "link {from} to {to} was cut");
        links.link(from, to).heal();
    }
    assert!(answers(&cluster) > 0, "the controller was told, and has found out for itself");
    let after = whole(&cluster, &observer).await;
    let epochs = |view: &View| view.partitions.iter().map(|it| (it.leader, it.leader_epoch)).collect::<Vec<_>>();
    assert_eq!(epochs(&after), epochs(&before), "the same leaders in the same epochs");

    // The proof that the proxies are in the way: a broker that nobody can reach any more is noticed.
    let victim = after.partitions[0].leader.expect("whole");
    for (from, to) in links.pairs().filter(|(from, to)| *from == victim || *to == victim) {
        links.link(from, to).sever();
    }
    let deadline = Instant::now() + PATIENCE;
    while upheavals(&cluster) == calm {
        assert!(Instant::now() < deadline, "a broker that is cut off altogether was not noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster.destroy().await.expect("removed");
}
