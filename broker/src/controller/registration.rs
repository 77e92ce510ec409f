//! This broker's place in the cluster: its registration, its heartbeats, and the notice that it may serve.

use std::sync::Arc;
use std::time::{Duration, Instant};

use minisr_logic::BrokerEpoch;
use minisr_logic::metadata::{Command, CommandError, Listener, RegisterError, Reply};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::info;

use super::control::Control;
use super::rpc::{Heartbeat, HeartbeatReply};
use crate::control_handle::ProposeError;

/// Between two attempts to register, and two heartbeats that want something.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What a broker says of itself when it registers.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// Where it can be reached, as bound.
    pub listeners: Vec<Listener>,
    /// Whether its logs certainly hold everything they ever acknowledged.
    pub clean_for_data: bool,
    /// The epoch of its life before, as its disk remembers it.
    pub previous_broker_epoch: Option<BrokerEpoch>,
}

/// Registers this process, however long it takes, and returns its broker epoch.
pub async fn register(control: &Arc<Control>, announcement: &Announcement) -> BrokerEpoch {
    let mut said = None;
    let Announcement { mut clean_for_data, mut previous_broker_epoch, .. } = announcement.clone();
    loop {
        let command = Command::RegisterBroker {
            id: control.this_broker(),
            incarnation: control.incarnation,
            listeners: announcement.listeners.clone(),
            rack: control.settings.broker_rack.clone(),
            clean_for_data,
            previous_broker_epoch,
        };
        let why = match control.propose(command).await {
            Ok(Reply::Registered { epoch }) => {
                info!(%epoch, clean_for_data, "registered");
                return epoch;
            }
            Ok(other) => format!("the controller answered {other:?}"),
            Err(ProposeError::Refused(CommandError::Register(RegisterError::DuplicateBrokerRegistration {
                registered,
                ..
            }))) => format!("the process registered before (epoch {registered}) is not fenced yet"),
            Err(ProposeError::Refused(CommandError::Register(
                refused @ RegisterError::StaleRegistration { last_unfenced, .. },
            ))) => {
                // This disk is older than what this broker has acknowledged: a new directory or a restored one.
                (clean_for_data, previous_broker_epoch) = (false, Some(last_unfenced));
                refused.to_string()
            }
            Err(error) => error.to_string(),
        };
        if said.as_ref() != Some(&why) {
            info!(%why, "not registered yet");
            said = Some(why);
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Sends heartbeats for as long as `stopping` is false and beyond. Returns only when another process has taken this
/// broker's place, with a sentence.
pub async fn keep_session(control: &Control, epoch: BrokerEpoch, stopping: watch::Receiver<bool>) -> String {
    let interval = Duration::from_millis(control.settings.broker_heartbeat_interval_ms);
    let session = Duration::from_millis(control.settings.broker_session_timeout_ms);
    let mut leader = control.leader_watch.clone();
    let mut unknown_since: Option<Instant> = None;
    loop {
        leader.mark_unchanged();
        let image = control.image();
        if let Some(other) = image.broker(control.this_broker()).filter(|it| it.epoch > epoch) {
            return format!(
                "another process has registered as broker {} (epoch {}; this one had {epoch})",
                control.this_broker(),
                other.epoch
            );
        }
        let heartbeat = Heartbeat { epoch, applied_index: image.version(), wants_unfence: !*stopping.borrow() };
        let reply = control.send_heartbeat(heartbeat).await;
        match (reply, unknown_since) {
            // A new controller that has not applied everything yet may not know us. If we were replaced, the image will
            // say so; if nobody knows us for a whole session, the cluster has lost its metadata.
            (HeartbeatReply::StaleEpoch, None) => unknown_since = Some(Instant::now()),
            (HeartbeatReply::StaleEpoch, Some(since)) if since.elapsed() > session => {
                return format!(
                    "the controller has not known this broker's epoch {epoch} for {} ms",
                    session.as_millis()
                );
            }
            (HeartbeatReply::StaleEpoch, Some(_)) => {}
            _ => unknown_since = None,
        }
        let wait = match reply {
            HeartbeatReply::Accepted { fenced: false } => interval,
            HeartbeatReply::Accepted { fenced: true } if *stopping.borrow() => interval,
            HeartbeatReply::Accepted { fenced: true }
            | HeartbeatReply::NotActive { .. }
            | HeartbeatReply::StaleEpoch => RETRY_INTERVAL,
        };
        tokio::select! {
            () = sleep(wait) => {}
            Ok(()) = leader.changed() => {}
        }
    }
}

/// Keeps `is_ready` true to the image: registered under `epoch` and not fenced.
pub async fn follow_readiness(control: Arc<Control>, epoch: BrokerEpoch, is_ready: watch::Sender<bool>) {
    let mut image = control.image.clone();
    loop {
        let ready = image
            .borrow_and_update()
            .broker(control.this_broker())
            .is_some_and(|it| it.epoch == epoch && it.incarnation == control.incarnation && !it.fenced);
        let changed = is_ready.send_if_modified(|known| std::mem::replace(known, ready) != ready);
        if changed {
            info!(%epoch, ready, "this broker's readiness changed");
        }
        if image.changed().await.is_err() {
            return;
        }
    }
}
