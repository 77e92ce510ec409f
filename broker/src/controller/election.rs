//! When this node stands for election.
//!
//! openraft's own election timer is off, for two reasons. It has no pre-vote: a process that was stopped for a while,
//! or starved, would depose a leader that everybody else hears. And it cannot be told that the leader is dead for
//! certain, so it would wait a whole timeout more. Here a voter stands only when
//! * it has not heard the leader for a lease and a random time after, **or** the leader's machine refuses connections
//!   to it and the lease is over; and
//! * a majority of the voters says that they have not heard the leader for a lease either and that this node's log is
//!   good enough ([`Control::would_vote`]).
//!
//! The votes themselves, and with them safety, are openraft's.
//!
//! Nobody stands, nor says that it would vote for another, while a vote is on its way to its disk, and a candidate waits
//! for the answers that openraft still waits for. Otherwise a candidacy whose voter has a slow disk is ended by the
//! next one: with 130 ms for each sync, two survivors of three stood every 250 ms and neither ever won.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minisr_logic::BrokerId;
use openraft::ServerState;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::control::Control;
use super::rpc::{Request, Response};
use super::types::{LogId, NodeId};

/// How often the leader's silence is measured.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Beyond the end of the lease, for the difference between our clock of it and the other voters'.
const LEASE_SLACK: Duration = Duration::from_millis(20);
/// By how much the voters that notice a death stand apart, so that they do not split the votes.
const STAGGER: Duration = Duration::from_millis(100);
/// How long a voter may take to say what it would do.
const ASK_TIMEOUT: Duration = Duration::from_millis(200);

/// Watches the leader's silence for as long as the Raft node runs.
pub async fn watch_leader(control: Arc<Control>) {
    let lease = lease(&control);
    let mut not_before = Instant::now();
    let mut patience = lease + jitter(lease);
    let mut leader_before: Option<BrokerId> = None;
    let mut stood: Option<Instant> = None;
    loop {
        sleep(LOOK_INTERVAL).await;
        let metrics = control.raft.metrics().borrow().clone();
        if metrics.running_state.is_err() {
            return;
        }
        let membership = metrics.membership_config.membership();
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        if metrics.state == ServerState::Leader {
            control.note_leader_heard();
            leader_before = None;
            continue;
        }
        leader_before = control.leader().filter(|leader| *leader != control.this_broker()).or(leader_before);
        if !voters.contains(&control.node) || Instant::now() < not_before || control.log.is_storing_vote() {
            continue;
        }
        if metrics.state == ServerState::Candidate && stood.is_some_and(|at| at.elapsed() < lease * 2) {
            continue;
        }
        let silence = control.leader_heard().elapsed();
        if silence < lease + LEASE_SLACK && voters.len() > 1 {
            continue;
        }
        let is_leader = |id: &NodeId| membership.get_node(id).is_some_and(|it| Some(it.broker_id()) == leader_before);
        let rank = voters.iter().take_while(|id| **id != control.node).filter(|id| !is_leader(id)).count();
        let is_dead = match leader_before.filter(|leader| control.is_lost(*leader)) {
            Some(leader) => control.peers.is_refused(leader).await,
            None => false,
        };
        let needed = if is_dead { lease + LEASE_SLACK + STAGGER * rank as u32 } else { patience };
        if silence < needed && voters.len() > 1 {
            continue;
        }
        patience = lease + jitter(lease);
        not_before = Instant::now() + STAGGER + jitter(lease) / 2;
        let heard = control.leader_heard();
        if !may_win(&control, membership.get_joint_config()).await || control.leader_heard() != heard {
            continue;
        }
        info!(silence_ms = silence.as_millis(), is_dead, ?leader_before, "standing for election");
        stood = Some(Instant::now());
        if control.raft.trigger().elect().await.is_err() {
            return;
        }
    }
}

/// For how long after a leader's message voters refuse candidates; openraft's `election_timeout_max`.
#[must_use]
pub fn lease(control: &Control) -> Duration {
    Duration::from_millis(control.settings.controller_quorum_election_timeout_ms)
}

/// A random time from half of `lease` to all of it.
fn jitter(lease: Duration) -> Duration {
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    let half_us = (lease.as_micros() as u64 / 2).max(1);
    Duration::from_micros(half_us + random % half_us)
}

/// Whether a majority of each configuration would vote for this node now.
async fn may_win(control: &Arc<Control>, configurations: &[BTreeSet<NodeId>]) -> bool {
    let last = control.log.last_log_id();
    debug!(last_index = last.map(|id| id.index), "asking the voters whether they would vote for this node");
    let everyone: BTreeSet<NodeId> = configurations.iter().flatten().copied().collect();
    let mut asked = tokio::task::JoinSet::new();
    for voter in everyone {
        let control = Arc::clone(control);
        asked.spawn(async move { would_vote(&control, voter, last).await.then_some(voter) });
    }
    // Not a moment longer than needed: while a dead voter is waited for, another candidate may win.
    let mut willing = BTreeSet::new();
    while let Some(answer) = asked.join_next().await {
        willing.extend(answer.ok().flatten());
        if configurations.iter().all(|voters| voters.intersection(&willing).count() * 2 > voters.len()) {
            return true;
        }
    }
    false
}

async fn would_vote(control: &Control, voter: NodeId, last: Option<LogId>) -> bool {
    if voter == control.node {
        return true;
    }
    let broker = {
        let metrics = control.raft.metrics().borrow().clone();
        metrics.membership_config.membership().get_node(&voter).map(super::types::Node::broker_id)
    };
    let Some(broker) = broker else {
        return false;
    };
    let request = Request::WouldVote { to: voter, last };
    matches!(timeout(ASK_TIMEOUT, control.peers.ask(broker, request)).await, Ok(Ok(Response::WouldVote(true))))
}
