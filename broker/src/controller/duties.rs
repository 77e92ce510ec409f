//! What the active controller does by the clock, and what happens when the controller changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use minisr_logic::BrokerId;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::control::Control;

/// How often sessions are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Beyond the end of the lease, for the difference between our clock of it and the other voters'.
const LEASE_SLACK: Duration = Duration::from_millis(20);
/// How often a candidate tries again when the first vote came to nothing.
const ELECTION_ATTEMPTS: u32 = 6;
/// Between two attempts, and between the first attempts of two voters.
const ELECTION_STAGGER: Duration = Duration::from_millis(120);

/// Follows who leads; as the active controller ends sessions and probes the leader before.
pub async fn follow_leadership(control: Arc<Control>, leader_known: watch::Sender<Option<BrokerId>>) {
    let mut metrics = control.raft.metrics();
    let mut was_active = false;
    let mut leader_before: Option<BrokerId> = None;
    loop {
        let leader = control.leader();
        let is_active = control.is_active();
        leader_known.send_if_modified(|known| std::mem::replace(known, leader) != leader);
        if is_active && !was_active {
            info!(?leader_before, "this broker is the active controller");
            control.sessions.lock().expect("no panic while it is held").forget_all();
            if let Some(broker) = leader_before {
                suspect_registered(&control, broker);
            }
        } else if was_active && !is_active {
            info!(?leader, "this broker is not the active controller any more");
        }
        was_active = is_active;
        if let Some(leader) = leader.filter(|leader| *leader != control.this_broker()) {
            leader_before = Some(leader);
        }
        if is_active {
            end_sessions(&control).await;
        }
        let _ = timeout(LOOK_INTERVAL, metrics.changed()).await;
        if metrics.borrow_and_update().running_state.is_err() {
            // The Raft node stopped; whoever stopped it, or the watcher of the node, says why.
            leader_known.send_replace(None);
            return;
        }
    }
}

fn suspect_registered(control: &Arc<Control>, broker: BrokerId) {
    let registered = control.image().broker(broker).map(|it| it.incarnation);
    if let Some(incarnation) = registered {
        control.suspect(broker, incarnation);
    }
}

/// Fences whoever was not heard for a session, one after the other.
async fn end_sessions(control: &Control) {
    let image = control.image();
    let expired = control.sessions.lock().expect("no panic while it is held").expired(&image, Instant::now());
    for (broker, epoch) in expired {
        info!(%broker, %epoch, "session ended");
        control.fence(broker, epoch).await;
    }
}

/// The Raft leader's process is dead for certain (its machine refuses connections to it): stands for election as soon
/// as the voters may vote again, instead of waiting for the election timeout as well.
///
/// Voters refuse every candidate during the lease that the leader's last message gave it. Those who notice the death
/// stand one after the other, so that they do not split the votes.
pub async fn stand_for_election(control: Arc<Control>, dead: BrokerId) {
    let lease = Duration::from_millis(control.settings.controller_quorum_election_timeout_ms);
    let metrics = control.raft.metrics().borrow().clone();
    let membership = metrics.membership_config.membership();
    let mut rank = 0;
    let mut is_voter = false;
    for id in membership.voter_ids() {
        if id == control.node {
            is_voter = true;
            break;
        }
        let is_dead = membership.get_node(&id).is_some_and(|node| node.broker_id() == dead);
        rank += u32::from(!is_dead);
    }
    if !is_voter {
        return;
    }
    let mut wait = ELECTION_STAGGER * rank;
    if let Some(heard) = control.leader_heard() {
        wait += (lease + LEASE_SLACK).saturating_sub(heard.elapsed());
    }
    for attempt in 0..ELECTION_ATTEMPTS {
        sleep(wait).await;
        if control.leader().is_some_and(|leader| leader != dead) {
            return;
        }
        debug!(%dead, attempt, "standing for election after the leader's death");
        if control.raft.trigger().elect().await.is_err() {
            return;
        }
        wait = ELECTION_STAGGER * (rank + 1);
    }
}
