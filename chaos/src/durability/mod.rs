//! How many losses writing and committed data survive, measured: the process half of the durability table.
//!
//! One partition with R replicas is written to without a pause. For every choice of N of its replicas, one after the
//! other, all with the same schedule:
//!
//! 1. with `--in-sync minimal` the replicas that are neither victims nor needed for min.insync.replicas are killed
//!    first, so that the in-sync set is as small as writing allows;
//! 2. the followers are frozen for a moment, as a loaded machine does it: what the leader acknowledges now, it
//!    acknowledges alone;
//! 3. the victims are killed, and with `--loss wipe` their disks are emptied; the rest goes on;
//! 4. *down*: is a write that begins now acknowledged, what do refusals say, what can be read?
//! 5. *healed*: everybody is started again, and once every replica is in sync a fresh reader looks for every write
//!    that was ever acknowledged.
//!
//! The controllers outlive it by number: there are at least 2 × losses + 1 voters.

mod choices;
mod scene;
mod verdict;
mod writer;

pub use choices::choices;
pub use verdict::{Round, Verdict};

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::cli::{Acks, DurabilityArgs};
use scene::Scene;
use verdict::Promise;

/// What a whole cluster may take to get every replica in sync again.
const WHOLE_BOUND: Duration = Duration::from_secs(30);
/// The shortest the observed time may be: an election and the notice of it fit.
const POLL: Duration = Duration::from_millis(20);
/// Writes acknowledged before anything is harmed.
const STEADY_WRITES: u64 = 50;

/// What is done to a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// SIGKILL; started again, with its data, when the cluster heals.
    Kill,
    /// SIGKILL, and its data directory is emptied: that copy is gone for ever.
    Wipe,
}

/// How many replicas are in sync when the losses begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InSync {
    /// All of them.
    Full,
    /// As few as min.insync.replicas: the worst case.
    Minimal,
}

/// Runs every choice of victims, or as many as asked for.
pub async fn run(args: &DurabilityArgs) -> anyhow::Result<Verdict> {
    args.check()?;
    let scene = Scene::start(args).await?;
    let result = rounds(args, &scene).await;
    if args.keep || result.is_err() {
        scene.cluster.keep_dir();
        eprintln!("the cluster's directory is kept: {}", scene.cluster.dir().display());
    }
    result
}

async fn rounds(args: &DurabilityArgs, scene: &Scene) -> anyhow::Result<Verdict> {
    anyhow::ensure!(scene.whole(WHOLE_BOUND).await, "the new topic did not get every replica in sync");
    let mut replicas = scene.partition().await?.replicas;
    replicas.sort_unstable();
    let mut verdict = Verdict::new(args);
    for victims in choices(&replicas, args.losses, args.choices_max) {
        let round = round(args, scene, &replicas, victims).await?;
        let go_on = round.healed;
        verdict.add(round);
        if !go_on {
            break;
        }
    }
    Ok(verdict)
}

/// One choice of victims, from a whole cluster to a whole cluster.
async fn round(args: &DurabilityArgs, scene: &Scene, replicas: &[i32], victims: Vec<i32>) -> anyhow::Result<Round> {
    let writer = scene.write(args.acks)?;
    wait_for(args.bound(), async || writer.acked() >= STEADY_WRITES).await;
    anyhow::ensure!(writer.acked() > 0, "a whole cluster acknowledged nothing: {}", writer.refusals_text());

    let set_aside = match args.in_sync {
        InSync::Full => Vec::new(),
        InSync::Minimal => {
            let others = replicas.iter().copied().filter(|id| !victims.contains(id));
            others.take(replicas.len() - args.min_insync_replicas as usize).collect()
        }
    };
    for id in &set_aside {
        scene.cluster.kill(*id)?;
    }
    let minimal = wait_for(args.bound(), async || {
        scene.partition().await.is_ok_and(|it| it.leader.is_some() && it.isr.len() == replicas.len() - set_aside.len())
    });
    anyhow::ensure!(minimal.await, "the in-sync set did not shrink to {}", replicas.len() - set_aside.len());
    if !set_aside.is_empty() {
        let before = writer.acked();
        wait_for(args.bound(), async || writer.acked() >= before + STEADY_WRITES).await;
    }

    let leader = scene.partition().await?.leader;
    let frozen: Vec<i32> =
        replicas.iter().copied().filter(|id| Some(*id) != leader && !set_aside.contains(id)).collect();
    for id in &frozen {
        scene.cluster.pause(*id).await?;
    }
    tokio::time::sleep(Duration::from_millis(args.freeze_ms)).await;
    for id in &victims {
        scene.cluster.kill(*id)?;
    }
    for id in frozen.iter().filter(|id| !victims.contains(id)) {
        scene.cluster.resume(*id)?;
    }
    for id in &victims {
        scene.cluster.wait_killed(*id).await?;
        if args.loss == Loss::Wipe {
            scene.cluster.wipe(*id)?;
        }
    }

    let down_at = Instant::now();
    writer.mark_down();
    let observed = Duration::from_secs_f64(args.observe);
    // An acknowledgement settles it; that there is none takes the whole time to say, and so does acks=0.
    let is_answered = args.acks != Acks::None;
    let acked_down = wait_for(observed, async || is_answered && writer.first_acked_down().is_some()).await;
    let first_write_ms = writer
        .first_acked_down()
        .filter(|_| is_answered)
        .map(|at| at.saturating_duration_since(down_at).as_millis() as u64);
    let refusals = writer.refusals_down();
    // Nobody writes any more, so a reader comes to an end.
    let written = writer.finish().await;
    let down = scene.read_all(args.bound().min(observed)).await;
    // Nobody answers acks=0: whether such a write arrived is seen by reading it.
    let arrived = || down.as_ref().is_ok_and(|read| written.acked_down.iter().any(|value| read.values.contains(value)));
    let writes_survive = if is_answered { acked_down } else { arrived() };

    for id in victims.iter().chain(&set_aside) {
        scene.cluster.start_broker(*id).await?;
    }
    let healed = scene.whole(WHOLE_BOUND).await;
    let found: BTreeSet<u64> = if healed {
        scene.read_all(WHOLE_BOUND).await?.values
    } else {
        // Without a leader nobody serves it; what is lost is what no copy holds.
        scene.values_on_any_disk(replicas).await?
    };
    let lost = written.acked.iter().filter(|value| !found.contains(value)).count() as u64;
    let promise = Promise::of(args);
    let (reads_survive, read_up_to, hidden_while_down) = match &down {
        Ok(read) => {
            let hidden = written.acked_before_down.iter().filter(|value| !read.values.contains(value)).count();
            (true, Some(read.end), Some(hidden as u64))
        }
        Err(_) => (false, None, None),
    };
    let mut round = Round {
        leader_lost: leader.is_some_and(|leader| victims.contains(&leader)),
        victims,
        set_aside,
        writes_survive,
        first_write_ms,
        refusals,
        reads_survive,
        read_up_to,
        hidden_while_down,
        healed,
        acked: written.acked.len() as u64,
        committed_lost: lost,
        broken: Vec::new(),
    };
    round.broken = promise.broken_by(&round);
    eprintln!("{}", round.line());
    Ok(round)
}

/// Looks at a condition until it holds or the bound passes.
async fn wait_for(bound: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + bound;
    loop {
        if condition().await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
}
