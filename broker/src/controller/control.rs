//! What everything on the control thread shares: the Raft node, the links, the newest image, and the ways to propose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use minisr_logic::metadata::{Command, CommandError, Image, RegisterError, Reply};
use minisr_logic::{BrokerEpoch, BrokerId};
use openraft::error::{ClientWriteError, RaftError};
use openraft::raft::AppendEntriesResponse;
use openraft::{RaftMetrics, ServerState};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::election::lease;
use super::log_store::LogStore;
use super::peers::{Peers, Probed};
use super::rpc::client::RpcError;
use super::rpc::server::Handler;
use super::rpc::{Description, Heartbeat, HeartbeatReply, Proposed, RaftRequest, RaftResponse, Request, Response};
use super::sessions::Sessions;
use super::types::{LogId, Node, NodeId, Raft};
use crate::config::Settings;
use crate::control_handle::ProposeError;

/// How often it is looked whether a suspect sends heartbeats.
const HEARTBEAT_LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Shared by all tasks of the control thread.
pub struct Control {
    /// The settings.
    pub settings: Arc<Settings>,
    /// This process.
    pub incarnation: u128,
    /// This Raft directory.
    pub node: NodeId,
    /// The Raft node.
    pub raft: Raft,
    /// The Raft log, to ask whether it is empty.
    pub log: LogStore,
    /// Links to the others.
    pub peers: Peers,
    /// The newest applied image.
    pub image: watch::Receiver<Arc<Image>>,
    /// Kept by the active controller.
    pub sessions: Mutex<Sessions>,
    /// Brokers that are being probed now.
    probing: Mutex<BTreeMap<BrokerId, u128>>,
    /// When the Raft leader was last heard by this node, or a vote was given, or the process started.
    leader_heard: Mutex<Instant>,
    /// Brokers whose liveness connection broke and could not be made again: their machine refuses.
    lost: Mutex<BTreeSet<BrokerId>>,
    /// The active controller, as far as this node knows; notifies of changes.
    pub leader_watch: watch::Receiver<Option<BrokerId>>,
    /// Raft directories that asked to be taken in.
    pub joining: Mutex<BTreeMap<NodeId, Node>>,
}

impl Control {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        incarnation: u128,
        node: NodeId,
        (raft, log): (Raft, LogStore),
        peers: Peers,
        image: watch::Receiver<Arc<Image>>,
        leader_watch: watch::Receiver<Option<BrokerId>>,
    ) -> Self {
        let sessions = Sessions::new(Duration::from_millis(settings.broker_session_timeout_ms));
        Self {
            settings,
            incarnation,
            node,
            raft,
            log,
            peers,
            image,
            leader_watch,
            sessions: Mutex::new(sessions),
            probing: Mutex::default(),
            leader_heard: Mutex::new(Instant::now()),
            lost: Mutex::default(),
            joining: Mutex::default(),
        }
    }

    /// This broker.
    #[must_use]
    pub fn this_broker(&self) -> BrokerId {
        self.settings.node_id
    }

    /// How long a request to the controller may take before it is given up.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.settings.controller_quorum_request_timeout_ms)
    }

    /// The newest applied image.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.borrow())
    }

    /// Whether this node is the Raft leader, which makes this broker the active controller.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.raft.metrics().borrow().state == ServerState::Leader
    }

    /// The broker that is the active controller, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<BrokerId> {
        leader_of(&self.raft.metrics().borrow())
    }

    /// Whether this node has a vote in every configuration in force (there are two during a change).
    #[must_use]
    pub fn is_voter(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let configurations = metrics.membership_config.membership().get_joint_config();
        !configurations.is_empty() && configurations.iter().all(|voters| voters.contains(&self.node))
    }

    /// When this node last heard the Raft leader, or gave its vote to a candidate.
    #[must_use]
    pub fn leader_heard(&self) -> Instant {
        *self.leader_heard.lock().expect("no panic while it is held")
    }

    /// The leader was heard just now.
    pub fn note_leader_heard(&self) {
        *self.leader_heard.lock().expect("no panic while it is held") = Instant::now();
    }

    /// Notes whether a broker's process is gone, as far as its liveness connection and its machine tell.
    pub fn note_lost(&self, broker: BrokerId, is_lost: bool) {
        let mut lost = self.lost.lock().expect("no panic while it is held");
        if is_lost {
            lost.insert(broker);
        } else {
            lost.remove(&broker);
        }
    }

    /// Whether a broker's process seems to be gone.
    #[must_use]
    pub fn is_lost(&self, broker: BrokerId) -> bool {
        self.lost.lock().expect("no panic while it is held").contains(&broker)
    }

    /// Whether this node would vote for a candidate whose log ends at `last`: it is no leader itself, has not heard
    /// one for a lease, stores no vote just now, and its own log reaches no further.
    #[must_use]
    pub fn would_vote(&self, last: Option<LogId>) -> bool {
        let is_voting = self.log.is_storing_vote();
        !self.is_active()
            && !is_voting
            && self.leader_heard().elapsed() >= lease(self)
            && last >= self.log.last_log_id()
    }

    /// Proposes a command, wherever the leader is, and waits until it is applied **here**.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(self: &Arc<Self>, command: Command) -> Result<Reply, ProposeError> {
        match timeout(self.request_timeout(), self.propose_unbounded(&command)).await {
            Ok(result) => result,
            Err(_) if self.leader().is_none() => Err(ProposeError::NoController),
            Err(_) => Err(ProposeError::TimedOut),
        }
    }

    async fn propose_unbounded(self: &Arc<Self>, command: &Command) -> Result<Reply, ProposeError> {
        let mut metrics = self.raft.metrics();
        loop {
            let leader = leader_of(&metrics.borrow_and_update());
            let proposed = match leader {
                Some(broker) if broker == self.this_broker() => self.proposed_by(command.clone()).await,
                Some(broker) => self.propose_there(broker, command.clone()).await,
                None => Proposed::NotLeader { leader: None },
            };
            match proposed {
                Proposed::Applied { index, outcome } => {
                    self.wait_applied(index).await;
                    return outcome.map_err(ProposeError::Refused);
                }
                Proposed::Unknown => return Err(ProposeError::TimedOut),
                // Nothing was proposed, so it may be tried again as soon as something is known to have changed.
                Proposed::NotLeader { .. } => {
                    let _ = timeout(Duration::from_millis(50), metrics.changed()).await;
                }
            }
        }
    }

    async fn propose_there(&self, leader: BrokerId, command: Command) -> Proposed {
        match self.peers.ask(leader, Request::Propose(command)).await {
            Ok(Response::Proposed(proposed)) => proposed,
            Ok(_) | Err(RpcError::Broken { .. } | RpcError::WrongAnswer { .. }) => Proposed::Unknown,
            Err(RpcError::Unreachable { .. } | RpcError::Overloaded { .. }) => Proposed::NotLeader { leader: None },
        }
    }

    /// Proposes as the Raft leader.
    async fn propose_here(&self, command: Command) -> Proposed {
        match self.raft.client_write(command).await {
            Ok(response) => {
                let outcome = response.data.0.expect("a command has an outcome");
                Proposed::Applied { index: response.log_id.index, outcome }
            }
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(elsewhere))) => {
                Proposed::NotLeader { leader: elsewhere.leader_node.map(|node| node.broker_id()) }
            }
            Err(error) => {
                warn!(%error, "a proposal failed");
                Proposed::Unknown
            }
        }
    }

    /// Waits until the entry at `index` is applied here.
    pub async fn wait_applied(&self, index: u64) {
        let mut image = self.image.clone();
        // The sender lives as long as the Raft node; without it there is nothing left to wait for.
        let _ = image.wait_for(|image| image.version() >= index).await;
    }

    /// A heartbeat of `broker`, as the active controller takes it.
    async fn heartbeat(&self, broker: BrokerId, heartbeat: Heartbeat) -> HeartbeatReply {
        if !self.is_active() {
            return HeartbeatReply::NotActive { leader: self.leader() };
        }
        let image = self.image();
        let Some(registration) = image.broker(broker).filter(|it| it.epoch == heartbeat.epoch) else {
            return HeartbeatReply::StaleEpoch;
        };
        self.sessions.lock().expect("no panic while it is held").heard(broker, heartbeat.epoch, Instant::now());
        let mut fenced = registration.fenced;
        if fenced && heartbeat.wants_unfence && heartbeat.applied_index >= heartbeat.epoch.0.unsigned_abs() {
            let command =
                Command::UnfenceBroker { id: broker, epoch: heartbeat.epoch, applied_index: heartbeat.applied_index };
            match self.propose_here(command).await {
                Proposed::Applied { outcome: Ok(_), .. } => {
                    info!(%broker, epoch = %heartbeat.epoch, "unfenced");
                    fenced = false;
                }
                other => debug!(%broker, ?other, "a broker stays fenced"),
            }
        }
        HeartbeatReply::Accepted { fenced }
    }

    /// Sends this broker's heartbeat to the active controller.
    pub async fn send_heartbeat(&self, heartbeat: Heartbeat) -> HeartbeatReply {
        match self.leader() {
            Some(leader) if leader == self.this_broker() => self.heartbeat(leader, heartbeat).await,
            Some(leader) => {
                match timeout(self.request_timeout(), self.peers.ask(leader, Request::Heartbeat(heartbeat))).await {
                    Ok(Ok(Response::Heartbeat(reply))) => reply,
                    _ => HeartbeatReply::NotActive { leader: None },
                }
            }
            None => HeartbeatReply::NotActive { leader: None },
        }
    }

    /// Looks into a suspicion, as the active controller: probes the suspect, and fences it if that fails too.
    /// `false`: this is not the active controller.
    pub fn suspect(self: &Arc<Self>, broker: BrokerId, incarnation: u128) -> bool {
        if !self.is_active() {
            return false;
        }
        let image = self.image();
        let suspected = image.broker(broker).filter(|it| it.incarnation == incarnation && !it.fenced);
        let Some(epoch) = suspected.map(|it| it.epoch) else {
            return true;
        };
        if broker == self.this_broker() && incarnation == self.incarnation {
            return true;
        }
        if self.probing.lock().expect("no panic while it is held").insert(broker, incarnation).is_none() {
            let control = Arc::clone(self);
            tokio::spawn(async move {
                control.probe_and_fence(broker, epoch, incarnation).await;
                control.probing.lock().expect("no panic while it is held").remove(&broker);
            });
        }
        true
    }

    async fn probe_and_fence(&self, broker: BrokerId, epoch: BrokerEpoch, incarnation: u128) {
        let since = Instant::now();
        let bound = Duration::from_millis(self.settings.liveness_probe_timeout_ms);
        let found = self.peers.probe(broker, incarnation, bound, self.settings.liveness_probe_attempts).await;
        if found == Probed::Alive {
            debug!(%broker, "a suspected broker answers");
            return;
        }
        // The hint was older than this heartbeat. Whoever holds the suspicion will repeat it if it stands.
        if self.sessions.lock().expect("no panic while it is held").was_heard_after(broker, epoch, since) {
            debug!(%broker, "a suspected broker sent a heartbeat meanwhile");
            return;
        }
        if found == Probed::Silent {
            if self.is_heard_again(broker, epoch, since).await {
                debug!(%broker, "a suspected broker does not answer, but sends heartbeats");
                return;
            }
            // Meanwhile the way to it may have opened again.
            if self.peers.probe(broker, incarnation, bound, 1).await == Probed::Alive {
                debug!(%broker, "a suspected broker answers after all");
                return;
            }
        }
        info!(%broker, %epoch, ?found, probe_ms = since.elapsed().as_millis(), "fencing a broker that does not answer");
        self.fence(broker, epoch).await;
    }

    /// Whether a heartbeat of this life comes in the time in which one is due.
    ///
    /// Nobody refuses a connection to the suspect and nobody answers: its machine is gone, or only our way to it. Its
    /// heartbeats come on a way of their own, which a partition in one direction leaves open.
    async fn is_heard_again(&self, broker: BrokerId, epoch: BrokerEpoch, since: Instant) -> bool {
        let interval = Duration::from_millis(self.settings.broker_heartbeat_interval_ms);
        let deadline = since + interval + interval / 4;
        loop {
            if self.sessions.lock().expect("no panic while it is held").was_heard_after(broker, epoch, since) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(HEARTBEAT_LOOK_INTERVAL).await;
        }
    }

    /// Fences a life of a broker, as the active controller.
    pub async fn fence(&self, broker: BrokerId, epoch: BrokerEpoch) {
        match timeout(self.request_timeout(), self.propose_here(Command::FenceBroker { id: broker, epoch })).await {
            Ok(Proposed::Applied { outcome: Ok(_), .. }) => info!(%broker, %epoch, "fenced"),
            Ok(other) => debug!(%broker, ?other, "a broker was not fenced"),
            Err(_) => warn!(%broker, "fencing a broker did not commit in time"),
        }
    }

    /// A proposal of another broker, as the Raft leader takes it.
    async fn proposed_by(self: &Arc<Self>, command: Command) -> Proposed {
        let knocking = match &command {
            Command::RegisterBroker { id, .. } => Some(*id),
            _ => None,
        };
        let proposed = self.propose_here(command).await;
        if let Some(broker) = knocking {
            self.suspect_replaced(broker, &proposed);
        }
        proposed
    }

    /// A second process of a broker was refused because the first is not fenced: if the first is dead, the session
    /// timeout need not be waited for.
    fn suspect_replaced(self: &Arc<Self>, broker: BrokerId, proposed: &Proposed) {
        let Proposed::Applied {
            outcome: Err(CommandError::Register(RegisterError::DuplicateBrokerRegistration { .. })),
            ..
        } = proposed
        else {
            return;
        };
        let registered = self.image().broker(broker).map(|it| it.incarnation);
        if let Some(incarnation) = registered {
            self.suspect(broker, incarnation);
        }
    }

    async fn raft_request(&self, to: NodeId, message: RaftRequest) -> RaftResponse {
        if to != self.node {
            return RaftResponse::WrongNode { node: self.node };
        }
        match message {
            RaftRequest::Append(request) => {
                let answer = self.raft.append_entries(request).await;
                if answer.as_ref().is_ok_and(|it| !matches!(it, AppendEntriesResponse::HigherVote(_))) {
                    self.note_leader_heard();
                }
                RaftResponse::Append(answer)
            }
            RaftRequest::Vote(request) => {
                let answer = self.raft.vote(request).await;
                if answer.as_ref().is_ok_and(|it| it.vote_granted) {
                    self.note_leader_heard();
                }
                RaftResponse::Vote(answer)
            }
            RaftRequest::Snapshot(request) => {
                let answer = self.raft.install_snapshot(request).await;
                if answer.is_ok() {
                    self.note_leader_heard();
                }
                RaftResponse::Snapshot(answer)
            }
        }
    }

    /// What is said of this Raft directory.
    #[must_use]
    pub fn describe(&self) -> Description {
        Description { node: self.node, is_initialized: self.log.is_initialized(), voters: voters_text(&self.settings) }
    }
}

impl Handler for Control {
    fn incarnation(&self) -> u128 {
        self.incarnation
    }

    fn cluster_id(&self) -> &str {
        &self.settings.cluster_id
    }

    async fn handle(self: Arc<Self>, from: BrokerId, request: Request) -> Response {
        match request {
            Request::Describe => Response::Description(self.describe()),
            Request::Join { node, address } => {
                // Whoever was unregistered stays out with that directory.
                let is_active = self.is_active() && !self.image().removed_directories().contains(&node);
                if is_active {
                    let asks = Node { broker: from.0, address };
                    self.joining.lock().expect("no panic while it is held").insert(node, asks);
                }
                Response::Joining(is_active)
            }
            Request::Raft { to, message } => Response::Raft(self.raft_request(to, message).await),
            Request::Propose(command) if author(&command).is_some_and(|author| author != from) => {
                warn!(%from, ?command, "a broker proposed in another's name");
                Response::Proposed(Proposed::Unknown)
            }
            Request::Propose(command) => {
                Response::Proposed(match timeout(self.request_timeout(), self.proposed_by(command)).await {
                    Ok(proposed) => proposed,
                    Err(_) => Proposed::Unknown,
                })
            }
            Request::Heartbeat(heartbeat) => Response::Heartbeat(self.heartbeat(from, heartbeat).await),
            Request::Suspect { broker, incarnation } => Response::Noted(self.suspect(broker, incarnation)),
            Request::WouldVote { to, last } => Response::WouldVote(to == self.node && self.would_vote(last)),
            Request::Probe => Response::Alive { incarnation: self.incarnation },
        }
    }
}

/// In whose name a command speaks, if in anybody's. Only the active controller fences others, and it need not ask.
fn author(command: &Command) -> Option<BrokerId> {
    match command {
        Command::RegisterBroker { id, .. }
        | Command::UnfenceBroker { id, .. }
        | Command::FenceBroker { id, .. }
        | Command::BeginControlledShutdown { id, .. }
        | Command::AlterPartition { broker: id, .. }
        | Command::AllocateProducerIds { broker: id, .. } => Some(*id),
        Command::CreateTopic { .. }
        | Command::DeleteTopic { .. }
        | Command::ElectLeader { .. }
        | Command::AlterTopicConfigs { .. }
        | Command::AlterReassignment { .. }
        | Command::CreatePartitions { .. }
        | Command::UnregisterBroker { .. }
        | Command::AlterVoter { .. }
        | Command::AlterBrokerConfigs { .. } => None,
    }
}

/// The broker behind the current Raft leader.
fn leader_of(metrics: &RaftMetrics<NodeId, Node>) -> Option<BrokerId> {
    let leader = metrics.current_leader?;
    metrics.membership_config.membership().get_node(&leader).map(Node::broker_id)
}

/// `controller.quorum.voters` as every broker must have it.
#[must_use]
pub fn voters_text(settings: &Settings) -> String {
    let voters: Vec<String> =
        settings.controller_quorum_voters.iter().map(|(id, address)| format!("{id}@{address}")).collect();
    voters.join(",")
}
