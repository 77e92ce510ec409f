//! What the active controller does by the clock, and what happens when the controller changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use minisr_logic::BrokerId;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::info;

use super::control::Control;

/// How often sessions are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Follows who leads; as the active controller ends sessions and probes the leader before.
pub async fn follow_leadership(control: Arc<Control>, leader_known: watch::Sender<Option<BrokerId>>) {
    let mut metrics = control.raft.metrics();
    let mut was_active = false;
    let mut was_voter = false;
    let mut leader_before: Option<BrokerId> = None;
    loop {
        let is_voter = control.is_voter();
        if is_voter != was_voter {
            info!(
                node = format_args!("{:016x}", control.node),
                "this node is {} voter now",
                if is_voter { "a" } else { "no" }
            );
        }
        was_voter = is_voter;
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
