//! The controller quorum inside the brokers, and the thread it runs on.
//!
//! | Module | What it is for |
//! |---|---|
//! | [`control`] | what all tasks share; proposing, heartbeats, suspicion, answering control RPC |
//! | [`quorum`] | how the quorum forms, takes in and replaces directories |
//! | [`duties`] | following who leads; the active controller's clock |
//! | [`election`] | when this node stands for election |
//! | [`leaders`] | preferred leaders by the clock, unclean elections by setting |
//! | [`registration`] | this broker's registration, heartbeats, readiness |
//! | [`sessions`] | who was heard when |
//! | [`peers`], [`rpc`] | control RPC over TCP with mutual TLS |
//! | [`network`], [`log_store`], [`state_machine`], [`types`] | what openraft needs |
//!
//! All of it runs on one thread with a runtime of its own. Nothing here waits for the data thread, so a data plane
//! that is busy, or blocked in a write, does not look like a death; syncs of the Raft log run on a thread of theirs.

pub mod control;
pub mod duties;
pub mod election;
pub mod leaders;
pub mod log_store;
pub mod network;
pub mod peers;
pub mod quorum;
pub mod registration;
pub mod rpc;
pub mod sessions;
pub mod state_machine;
pub mod types;

#[cfg(test)]
mod storage_tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use minisr_logic::BrokerEpoch;
use minisr_logic::metadata::Command;
use openraft::SnapshotPolicy;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, error, info};

use self::control::Control;
use self::log_store::{LogOpenError, LogStore};
use self::network::Network;
use self::peers::Peers;
use self::registration::Announcement;
use self::rpc::client::Dialer;
use self::state_machine::StateMachine;
use self::types::Raft;
use crate::config::Settings;
use crate::control_handle::{ControlPort, ProposeError};
use crate::tls::Identity;

/// Raft entries sent in one message.
const ENTRIES_PER_MESSAGE_MAX: u64 = 256;
/// Bytes of a snapshot sent in one message.
const SNAPSHOT_CHUNK_BYTES: u64 = 1 << 20;
/// How long a stopping broker looks for a controller to hand over to.
const NO_CONTROLLER_MAX: Duration = Duration::from_secs(3);
/// What a stopping Raft node may take.
const RAFT_STOP_MAX: Duration = Duration::from_secs(2);

/// Why the control thread did not start. Each reads as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The Raft directory cannot be used.
    #[error("cannot use the Raft directory {path}: {source}", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The Raft log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// The thread or its runtime cannot be made.
    #[error("cannot start the control thread: {0}")]
    Thread(io::Error),
    /// The certificates do not work.
    #[error("the certificates cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// openraft refuses.
    #[error("the Raft node did not start: {0}")]
    Raft(String),
}

/// What the rest of the broker asks of the control thread.
enum Order {
    Register { announcement: Announcement, registered: oneshot::Sender<BrokerEpoch> },
    Serve { epoch: BrokerEpoch },
    HandOver { done: oneshot::Sender<()> },
    Stop { done: oneshot::Sender<()> },
}

/// The running control thread.
pub struct Controller {
    orders: mpsc::UnboundedSender<Order>,
    failures: Mutex<mpsc::UnboundedReceiver<String>>,
    thread: JoinHandle<()>,
}

/// What the control thread is started with.
pub struct Start {
    /// The settings.
    pub settings: Arc<Settings>,
    /// This broker's certificates.
    pub identity: Arc<Identity>,
    /// The CONTROLLER listener, bound.
    pub listener: std::net::TcpListener,
    /// Where Raft keeps its things.
    pub directory: PathBuf,
    /// This process.
    pub incarnation: u128,
    /// The control thread's end of the seam.
    pub port: ControlPort,
}

impl Controller {
    /// Starts the thread and returns when its Raft node runs.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(start: Start) -> Result<Self, StartError> {
        let (orders, given) = mpsc::unbounded_channel();
        let (failing, failures) = mpsc::unbounded_channel();
        let (started, starting) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(started.send(Err(StartError::Thread(error)))),
                };
                runtime.block_on(async move {
                    match Running::start(start, failing).await {
                        Ok(running) => {
                            let _ = started.send(Ok(()));
                            running.follow(given).await;
                        }
                        Err(error) => drop(started.send(Err(error))),
                    }
                });
                // Tasks on the blocking pool (snapshot files) may still be at it; nobody needs them any more.
                runtime.shutdown_background();
            })
            .map_err(StartError::Thread)?;
        let ended = |_| StartError::Thread(io::Error::other("it ended at once"));
        starting.recv().map_err(ended)??;
        Ok(Self { orders, failures: Mutex::new(failures), thread })
    }

    /// Registers this process with the controller, however long it takes.
    pub async fn register(&self, announcement: Announcement) -> Option<BrokerEpoch> {
        let (registered, epoch) = oneshot::channel();
        self.orders.send(Order::Register { announcement, registered }).ok()?;
        epoch.await.ok()
    }

    /// From here on heartbeats ask to be unfenced. The epoch must be on disk.
    pub fn serve(&self, epoch: BrokerEpoch) {
        let _ = self.orders.send(Order::Serve { epoch });
    }

    /// Asks the controller to move leaderships away, and returns when this broker leads nothing, or after
    /// `controlled.shutdown.max.wait.ms`.
    pub async fn hand_over(&self) {
        let (done, finished) = oneshot::channel();
        if self.orders.send(Order::HandOver { done }).is_ok() {
            let _ = finished.await;
        }
    }

    /// A sentence, when the control thread cannot go on.
    pub async fn failed(&self) -> String {
        self.failures.lock().await.recv().await.unwrap_or_else(|| "the control thread has ended".to_owned())
    }

    /// Fences this broker, stops Raft and ends the thread. Everything it must keep is on disk already.
    pub async fn stop(self) {
        let (done, finished) = oneshot::channel();
        if self.orders.send(Order::Stop { done }).is_ok() {
            let _ = finished.await;
        }
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
    }
}

/// The tasks of the control thread.
struct Running {
    control: Arc<Control>,
    failing: mpsc::UnboundedSender<String>,
    is_ready: watch::Sender<bool>,
    stopping: watch::Sender<bool>,
    epoch: Option<BrokerEpoch>,
}

impl Running {
    async fn start(start: Start, failing: mpsc::UnboundedSender<String>) -> Result<Self, StartError> {
        let Start { settings, identity, listener, directory, incarnation, port } = start;
        let ControlPort { mut proposals, image: image_sender, controller: leader_known, is_ready, quorum } = port;
        let image = image_sender.subscribe();
        let leader_watch = leader_known.subscribe();
        let unusable = |source| StartError::Directory { path: directory.clone(), source };
        let node = log_store::open_directory(&directory).map_err(unusable)?;
        let log = LogStore::open(&directory)?;
        let machine = StateMachine::open(&directory, image_sender).map_err(unusable)?;
        let dialer = Dialer::new(Arc::new(identity.peer_client_config()?), &settings.cluster_id, settings.node_id);
        let voters = Arc::new(settings.controller_quorum_voters.clone());
        let overrides = Arc::new(settings.controller_addresses.clone());
        let peers = Peers::new(dialer, voters, overrides, image.clone());
        let network = Network::new(peers.clone());
        let raft = Raft::new(node, Arc::new(raft_config(&settings)?), network, log.clone(), machine)
            .await
            .map_err(|e| StartError::Raft(e.to_string()))?;
        info!(node = format_args!("{node:016x}"), initialized = log.is_initialized(), "Raft node started");
        let control = Arc::new(Control::new(settings, incarnation, node, (raft, log), peers, image, leader_watch));
        let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::Thread)?;
        let server_config = Arc::new(identity.peer_server_config()?);
        tokio::spawn(rpc::server::serve(listener, server_config, Arc::clone(&control)));
        tokio::spawn(quorum::form_or_join(Arc::clone(&control)));
        tokio::spawn(quorum::keep_membership(Arc::clone(&control)));
        tokio::spawn(quorum::publish(Arc::clone(&control), quorum));
        tokio::spawn(duties::follow_leadership(Arc::clone(&control), leader_known));
        tokio::spawn(leaders::watch_leaders(Arc::clone(&control)));
        tokio::spawn(election::watch_leader(Arc::clone(&control)));
        tokio::spawn(crate::peer::liveness::watch_peers(Arc::clone(&control)));
        let proposing = Arc::clone(&control);
        tokio::spawn(async move {
            while let Some(proposal) = proposals.recv().await {
                let control = Arc::clone(&proposing);
                tokio::spawn(async move {
                    let result = control.propose(proposal.command.clone()).await;
                    proposal.answer(result);
                });
            }
        });
        tokio::spawn(watch_raft(Arc::clone(&control), failing.clone()));
        Ok(Self { control, failing, is_ready, stopping: watch::Sender::new(false), epoch: None })
    }

    async fn follow(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Register { announcement, registered } => {
                    let control = Arc::clone(&self.control);
                    tokio::spawn(async move {
                        let epoch = registration::register(&control, &announcement).await;
                        let _ = registered.send(epoch);
                    });
                }
                Order::Serve { epoch } => self.serve(epoch),
                Order::HandOver { done } => {
                    self.stopping.send_replace(true);
                    tokio::spawn(hand_over(Arc::clone(&self.control), self.epoch, done));
                }
                Order::Stop { done } => {
                    self.stop().await;
                    let _ = done.send(());
                    return;
                }
            }
        }
        self.stop().await;
    }

    fn serve(&mut self, epoch: BrokerEpoch) {
        self.epoch = Some(epoch);
        let control = Arc::clone(&self.control);
        let (stopping, failing) = (self.stopping.subscribe(), self.failing.clone());
        tokio::spawn(async move {
            let why = registration::keep_session(&control, epoch, stopping).await;
            let _ = failing.send(why);
        });
        tokio::spawn(registration::follow_readiness(Arc::clone(&self.control), epoch, self.is_ready.clone()));
    }

    async fn stop(&self) {
        if let Some(epoch) = self.epoch {
            // So that nobody waits for a probe or a session to learn that this process is gone.
            let fence = Command::FenceBroker { id: self.control.this_broker(), epoch };
            let _ = timeout(RAFT_STOP_MAX, self.control.propose(fence)).await;
        }
        if timeout(RAFT_STOP_MAX, self.control.raft.shutdown()).await.is_err() {
            debug!("the Raft node did not stop in time");
        }
    }
}

/// Asks for a controlled shutdown and waits until this broker leads nothing, with a bound.
async fn hand_over(control: Arc<Control>, epoch: Option<BrokerEpoch>, done: oneshot::Sender<()>) {
    let bound = Duration::from_millis(control.settings.controlled_shutdown_max_wait_ms);
    let id = control.this_broker();
    let handed_over = timeout(bound, async {
        let Some(epoch) = epoch else {
            return;
        };
        let began = Instant::now();
        let mut leader = control.leader_watch.clone();
        while let Err(why) = control.propose(Command::BeginControlledShutdown { id, epoch }).await {
            match why {
                ProposeError::Refused(refusal) => {
                    debug!(?refusal, "the controlled shutdown was refused");
                    return;
                }
                // Nobody is left to hand over to, as when a whole cluster stops.
                _ if began.elapsed() > NO_CONTROLLER_MAX => {
                    debug!(%why, "stopping without a controller");
                    return;
                }
                _ => drop(timeout(Duration::from_millis(200), leader.changed()).await),
            }
        }
        let _ = control.image.clone().wait_for(|image| image.led_by(id) == 0).await;
    })
    .await;
    info!(in_time = handed_over.is_ok(), led = control.image().led_by(id), "handed over");
    let _ = done.send(());
}

/// Tells when the Raft node stops by itself: its log or its state machine failed.
async fn watch_raft(control: Arc<Control>, failing: mpsc::UnboundedSender<String>) {
    let mut metrics = control.raft.metrics();
    loop {
        if let Err(fatal) = &metrics.borrow_and_update().running_state {
            if !matches!(fatal, openraft::error::Fatal::Stopped) {
                error!(%fatal, "the Raft node stopped");
                let _ = failing.send(format!("the Raft node stopped: {fatal}"));
            }
            return;
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// openraft's own settings.
///
/// `election_timeout_max` is the lease during which voters refuse candidates, `election_timeout_min` how long a
/// candidate waits for a vote: as long as openraft allows, since a voter answers only when its vote is on disk, and an
/// answer that comes too late is lost. openraft's election timer is off: see [`election`].
fn raft_config(settings: &Settings) -> Result<openraft::Config, StartError> {
    let heartbeat_interval = settings.controller_quorum_heartbeat_interval_ms;
    let lease = settings.controller_quorum_election_timeout_ms;
    openraft::Config {
        cluster_name: settings.cluster_id.clone(),
        heartbeat_interval,
        election_timeout_min: lease - 1,
        election_timeout_max: lease,
        enable_elect: false,
        max_payload_entries: ENTRIES_PER_MESSAGE_MAX,
        snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.controller_snapshot_entries),
        replication_lag_threshold: settings.controller_snapshot_entries * 2,
        max_in_snapshot_log_to_keep: settings.controller_snapshot_entries / 10,
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|e| StartError::Raft(e.to_string()))
}

/// Where Raft keeps its things in a data directory.
#[must_use]
pub fn raft_directory(data_directory: &Path) -> PathBuf {
    data_directory.join("raft")
}
