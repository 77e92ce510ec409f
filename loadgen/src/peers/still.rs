//! While one cluster does as much as it can, the others stand still (SIGSTOP), so that nobody pays for another's
//! housekeeping: three idle Kafka processes take a tenth of a core from whoever is measured, minisr's next to nothing.
//!
//! A cluster that went on again has lost time: it holds its brokers for dead and elects a controller, and a Java machine is
//! slow for some seconds. So it gets unmeasured rounds of full load until it has been calm through a whole one.
//! A cluster that was only named (`--bootstrap`) is somebody else's and never stands still.

use std::time::Duration;

use anyhow::{Result, bail};

use super::warm::ROUND_S;
use crate::ballast::Ballast;
use crate::outcome::Outcome;
use crate::plan::Phase;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::sweep::{Step, run_step};
use crate::target::Target;
use crate::watch::Event;

/// Unmeasured rounds after which it is no use to wait for a calm one.
const ROUNDS_MAX: u32 = 10;
/// Between a round that could not even begin and the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Stops all brokers of an embedded cluster. Returns when they stand still.
pub async fn stand_still(target: &Target) -> Result<()> {
    let Some(cluster) = target.cluster() else { return Ok(()) };
    for id in cluster.ids() {
        cluster.pause(id).await?;
    }
    Ok(())
}

/// Lets an embedded cluster go on, and waits until it is what it was: a round of `load` from creating a topic to reading
/// it back, without an election, a change of an ISR or a failure. `topic` names the rounds' topics. Returns how many
/// rounds it took.
pub async fn go_on(target: &Target, load: &Settings, topic: &str, progress: &Progress) -> Result<u32> {
    let Some(cluster) = target.cluster() else { return Ok(0) };
    for id in cluster.ids() {
        cluster.resume(id)?;
    }
    // Nothing that is measured here is compared, so no memory is held ready for it.
    let mut no_ballast = Ballast::none();
    let mut load = load.clone();
    (load.warmup_s, load.max_duration_s) = (0.0, ROUND_S);
    let step = Step { cell: load.cells[0], phase: Phase::Max, repeat: 1 };
    let (mut unrest, mut left) = (String::new(), Vec::new());
    for round in 1..=ROUNDS_MAX {
        let topic = format!("{topic}-{round}");
        match run_step(target, &load, &step, &topic, &mut no_ballast, progress).await {
            Ok(outcome) if outcome.acked_lost() > 0 => {
                bail!("{} acknowledged records are lost since the cluster stood still", outcome.acked_lost())
            }
            Ok(outcome) => match unrest_in(&outcome) {
                None => {
                    remove(target, &left).await?;
                    return Ok(round);
                }
                Some(what) => unrest = what,
            },
            // Its brokers are not all back, or one of them does not know it yet.
            Err(error) => {
                unrest = format!("{error:#}");
                left.push(topic);
                tokio::time::sleep(PAUSE).await;
            }
        }
        tracing::debug!(round, unrest, "not what it was before it stood still");
    }
    bail!("a cluster that had stood still was not calm within {ROUNDS_MAX} rounds of load: {unrest}")
}

/// Removes the topics of rounds that got no further than to create one, if that far.
async fn remove(target: &Target, topics: &[String]) -> Result<()> {
    let admin = target.admin()?;
    for topic in topics {
        // Most likely there is none.
        if let Err(error) = admin.delete_topic(topic).await {
            tracing::debug!(topic, %error, "a round that failed left no topic");
        }
    }
    Ok(())
}

/// What shows that a cluster was still busy with itself. A follower that is slow for a moment is no such thing.
fn unrest_in(outcome: &Outcome) -> Option<String> {
    let counts = &outcome.produced.tally.counts;
    let failed = counts.err_timeout + counts.err_not_enough_replicas + counts.err_not_leader + counts.err_other;
    let of_brokers = |event: &&Event| event.kind.starts_with("leader_") || event.kind.starts_with("isr_");
    if let Some(broken) = &outcome.broken {
        Some(broken.clone())
    } else if let Some(event) = outcome.events.iter().find(of_brokers) {
        Some(format!("{} of partition {}: {}", event.kind, event.partition, event.detail))
    } else if failed > 0 || counts.acked == 0 {
        Some(format!("{failed} records failed, {} were acknowledged", counts.acked))
    } else {
        None
    }
}
