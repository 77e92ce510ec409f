//! One small TCP connection to every other broker, whose end tells at once that a process died.
//!
//! QUIC says nothing when a process is killed; the kernel closes the process's TCP connections at that moment. The
//! end of a liveness connection is a *hint*: it is told to the active controller, which probes the suspect itself and
//! fences it only when that fails too, for a broken link between two brokers says nothing about a third. The hint is
//! repeated until the connection can be made again or the metadata shows that the process was fenced or replaced, so
//! a new controller, or one that dropped the hint as older than a heartbeat, gets it again.
//!
//! If the dead process was the Raft leader's there is no controller to tell. If its machine *refuses* a new connection
//! it is dead for certain, and [`crate::controller::election`] need not wait for an election timeout.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use minisr_logic::BrokerId;
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use crate::controller::control::Control;
use crate::controller::rpc::client::RpcError;
use crate::controller::rpc::{Purpose, Request};

/// First and longest pause between two attempts to connect, and between two repetitions of a hint.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A hint that is not taken within this time is repeated later.
const HINT_TIMEOUT: Duration = Duration::from_millis(500);

/// Keeps a connection to every other registered broker.
pub async fn watch_peers(control: Arc<Control>) {
    let mut image = control.image.clone();
    let mut watched: BTreeMap<BrokerId, JoinHandle<()>> = BTreeMap::new();
    loop {
        let registered: Vec<BrokerId> = image.borrow_and_update().brokers().map(|it| it.id).collect();
        for broker in registered {
            if broker != control.this_broker() {
                watched.entry(broker).or_insert_with(|| tokio::spawn(watch_peer(Arc::clone(&control), broker)));
            }
        }
        if image.changed().await.is_err() {
            return;
        }
    }
}

async fn watch_peer(control: Arc<Control>, peer: BrokerId) {
    let mut suspected: Option<u128> = None;
    let mut pause = PAUSE_MIN;
    let mut leader = control.leader_watch.clone();
    loop {
        let Some(address) = control.peers.address(peer) else {
            sleep(PAUSE_MAX).await;
            continue;
        };
        match control.peers.dialer().dial(peer, &address, Purpose::Liveness).await {
            Ok(mut greeted) => {
                if suspected == Some(greeted.incarnation) {
                    debug!(%peer, "a suspected broker is back");
                    suspected = None;
                }
                if let Some(incarnation) = suspected {
                    // Another process answers in its place, so the one suspected is gone.
                    hint(&control, peer, incarnation).await;
                }
                pause = PAUSE_MIN;
                control.note_lost(peer, false);
                // Nothing is ever sent here; whatever ends the wait is the end of the connection.
                let _ = greeted.stream.read(&mut [0; 1]).await;
                info!(%peer, "the liveness connection ended");
                suspected = Some(greeted.incarnation);
                // The first attempt to connect again follows at once: its refusal makes the death certain.
                continue;
            }
            Err(error) => {
                control.note_lost(peer, matches!(error, RpcError::Unreachable { refused: true, .. }));
                if let Some(incarnation) = suspected.filter(|it| is_registered(&control, peer, *it)) {
                    debug!(%peer, %error, "a suspected broker does not come back");
                    hint(&control, peer, incarnation).await;
                } else {
                    suspected = None;
                }
            }
        }
        leader.mark_unchanged();
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            Ok(()) = leader.changed(), if suspected.is_some() => {}
        }
    }
}

/// Whether the suspicion still means something: that process is registered and not fenced.
fn is_registered(control: &Control, peer: BrokerId, incarnation: u128) -> bool {
    control.image().broker(peer).is_some_and(|it| it.incarnation == incarnation && !it.fenced)
}

/// Tells the active controller, if one is known.
async fn hint(control: &Arc<Control>, peer: BrokerId, incarnation: u128) {
    match control.leader() {
        Some(leader) if leader == control.this_broker() => {
            control.suspect(peer, incarnation);
        }
        Some(leader) if leader != peer => {
            let request = Request::Suspect { broker: peer, incarnation };
            let _ = timeout(HINT_TIMEOUT, control.peers.ask(leader, request)).await;
        }
        Some(_) | None => {}
    }
}
