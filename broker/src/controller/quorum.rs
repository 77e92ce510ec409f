//! How the quorum forms, takes in new directories and replaces lost ones.
//!
//! A Raft node is a *directory*, not a broker, so the first quorum cannot be read from the settings: the voters'
//! directory ids are asked for first. Two quorums can never form from one cluster, because
//! * only the voter with the lowest broker id forms one, and
//! * only if **every** voter answers that its directory is empty and that it has the same list of voters.
//!
//! Everybody else whose directory is not in the membership asks the leader to be taken in: as a learner, and, if its
//! broker is in the list of voters, as a voter once it has caught up. With that the directory that its broker had
//! before is removed: whoever lost a directory has forgotten a vote and must not vote under the old id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use minisr_logic::BrokerId;
use openraft::{ChangeMembers, RaftMetrics, ServerState};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::control::{Control, voters_text};
use super::rpc::{Description, Request, Response};
use super::types::{Node, NodeId};
use crate::config::HostPort;
use crate::control_handle::{Quorum, QuorumMember};

/// How often an outsider looks whether it can get in, and a leader whether somebody wants to.
const LOOK_INTERVAL: Duration = Duration::from_millis(150);
/// How many entries a learner may lack and still become a voter: the rest comes with the next messages.
const CAUGHT_UP_ENTRIES: u64 = 10;
/// A voter that does not describe itself within this time is not counted as empty.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Forms the quorum, or asks to be taken in, until this directory is part of the membership.
pub async fn form_or_join(control: Arc<Control>) {
    loop {
        if is_member(&control.raft.metrics().borrow(), control.node) {
            return;
        }
        let descriptions = describe_voters(&control).await;
        if may_form(&control, &descriptions) {
            form(&control, &descriptions).await;
        } else if control.log.is_initialized() || descriptions.values().any(|it| it.is_initialized) {
            ask_to_join(&control).await;
        } else {
            debug!(answered = descriptions.len(), "waiting for all voters before the quorum is formed");
        }
        sleep(LOOK_INTERVAL).await;
    }
}

fn is_member(metrics: &RaftMetrics<NodeId, Node>, node: NodeId) -> bool {
    metrics.membership_config.membership().get_node(&node).is_some()
}

/// What each voter that answers says of its directory.
async fn describe_voters(control: &Arc<Control>) -> BTreeMap<BrokerId, Description> {
    let mut asked = tokio::task::JoinSet::new();
    for voter in control.settings.controller_quorum_voters.keys().copied() {
        let control = Arc::clone(control);
        asked.spawn(async move {
            if voter == control.this_broker() {
                return Some((voter, control.describe()));
            }
            match timeout(DESCRIBE_TIMEOUT, control.peers.ask(voter, Request::Describe)).await {
                Ok(Ok(Response::Description(description))) => Some((voter, description)),
                _ => None,
            }
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

/// Whether this broker may form the quorum out of the directories described.
fn may_form(control: &Control, descriptions: &BTreeMap<BrokerId, Description>) -> bool {
    let voters = &control.settings.controller_quorum_voters;
    if voters.keys().next() != Some(&control.this_broker()) || descriptions.len() != voters.len() {
        return false;
    }
    let own = voters_text(&control.settings);
    for (voter, description) in descriptions {
        if description.voters != own {
            warn!(%voter, theirs = %description.voters, ours = %own, "controller.quorum.voters differs between brokers");
            return false;
        }
    }
    let nodes: BTreeSet<NodeId> = descriptions.values().map(|it| it.node).collect();
    nodes.len() == voters.len() && descriptions.values().all(|it| !it.is_initialized)
}

async fn form(control: &Control, descriptions: &BTreeMap<BrokerId, Description>) {
    let members: BTreeMap<NodeId, Node> = descriptions
        .iter()
        .map(|(voter, description)| {
            let address = control.settings.controller_quorum_voters[voter].to_string();
            (description.node, Node { broker: voter.0, address })
        })
        .collect();
    info!(?members, "forming the controller quorum");
    if let Err(error) = control.raft.initialize(members).await {
        // Somebody else's entries arrived first; then there is a quorum and the next look finds it.
        warn!(%error, "the controller quorum was not formed");
    }
}

/// Asks every voter until one says that it is the leader and will take us in.
async fn ask_to_join(control: &Control) {
    let this_broker = control.this_broker();
    let address = match control
        .peers
        .address(this_broker)
        .or_else(|| control.settings.advertised(crate::config::Protocol::Controller, 0))
    {
        Some(address) => address.to_string(),
        None => return,
    };
    for voter in control.settings.controller_quorum_voters.keys().filter(|voter| **voter != this_broker) {
        let request = Request::Join { node: control.node, address: address.clone() };
        if let Ok(Ok(Response::Joining(true))) = timeout(DESCRIBE_TIMEOUT, control.peers.ask(*voter, request)).await {
            debug!(leader = %voter, "asked to be taken in");
            return;
        }
    }
}

/// As long as this node leads: takes in who asks, promotes who has caught up, removes who was replaced.
pub async fn keep_membership(control: Arc<Control>) {
    loop {
        sleep(LOOK_INTERVAL).await;
        let metrics = control.raft.metrics().borrow().clone();
        if metrics.state != ServerState::Leader {
            control.joining.lock().expect("no panic while it is held").clear();
            continue;
        }
        check_joining(&control).await;
        let change = {
            let mut joining = control.joining.lock().expect("no panic while it is held");
            next_change(&metrics, &Wanted::of(&control), &mut joining)
        };
        if let Some((change, retain)) = change {
            info!(?change, "changing the controller quorum");
            if let Err(error) = control.raft.change_membership(change, retain).await {
                warn!(%error, "the controller quorum was not changed");
                sleep(LOOK_INTERVAL).await;
            }
        }
    }
}

/// Forgets those who asked to be taken in but are not what answers at their broker's address: a second process with
/// a broker's id must not replace the first in the quorum.
async fn check_joining(control: &Control) {
    let joining = control.joining.lock().expect("no panic while it is held").clone();
    for (node, info) in joining {
        let address = control.peers.address(info.broker_id()).or_else(|| HostPort::parse(&info.address));
        let described = match address {
            Some(address) => {
                let asked = control.peers.ask_at(info.broker_id(), &address, Request::Describe);
                timeout(DESCRIBE_TIMEOUT, asked).await
            }
            None => Ok(Ok(Response::Joining(false))),
        };
        if !matches!(described, Ok(Ok(Response::Description(description))) if description.node == node) {
            warn!(%info, node = format_args!("{node:016x}"), "not taken in: another directory answers at its address");
            control.joining.lock().expect("no panic while it is held").remove(&node);
        }
    }
}

/// What the membership should become.
struct Wanted {
    /// Who should vote: as commands have said, else as `controller.quorum.voters` lists them.
    voters: BTreeSet<BrokerId>,
    /// Whether a command has said so. Only then is anybody demoted: the settings of two brokers may differ.
    by_command: bool,
    /// Directories that must go.
    removed: BTreeSet<NodeId>,
}

impl Wanted {
    fn of(control: &Control) -> Self {
        let image = control.image();
        let listed = || control.settings.controller_quorum_voters.keys().copied().collect();
        Self {
            voters: image.voters().cloned().unwrap_or_else(listed),
            by_command: image.voters().is_some(),
            removed: image.removed_directories().clone(),
        }
    }
}

/// The next step towards the right membership, and whether voters that leave stay as learners. One at a time, and
/// none while one is under way.
fn next_change(
    metrics: &RaftMetrics<NodeId, Node>,
    wanted: &Wanted,
    joining: &mut BTreeMap<NodeId, Node>,
) -> Option<(ChangeMembers<NodeId, Node>, bool)> {
    let membership = metrics.membership_config.membership();
    // A leader died between the two halves of a change: finish it.
    if let [_, .., target] = membership.get_joint_config().as_slice() {
        return Some((ChangeMembers::ReplaceAllVoters(target.clone()), true));
    }
    let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
    let removed: BTreeSet<NodeId> = membership
        .nodes()
        .map(|(id, _)| *id)
        .filter(|id| wanted.removed.contains(id) && !voters.contains(id))
        .collect();
    if !removed.is_empty() {
        return Some((ChangeMembers::RemoveNodes(removed), true));
    }
    joining.retain(|node, _| membership.get_node(node).is_none() && !wanted.removed.contains(node));
    if let Some((node, info)) = joining.pop_first() {
        // Learners that the same broker had before will never come back.
        let replaced: BTreeSet<NodeId> = membership
            .nodes()
            .filter(|(id, it)| it.broker == info.broker && !voters.contains(id))
            .map(|(id, _)| *id)
            .collect();
        if replaced.is_empty() {
            return Some((ChangeMembers::AddNodes(BTreeMap::from([(node, info)])), true));
        }
        joining.insert(node, info);
        return Some((ChangeMembers::RemoveNodes(replaced), true));
    }
    let last = metrics.last_log_index?;
    let replication = metrics.replication.as_ref()?;
    let caught_up = |node: &NodeId| {
        let matching = replication.get(node).copied().flatten();
        matching.is_some_and(|matching| matching.index + CAUGHT_UP_ENTRIES >= last)
    };
    let promoted = membership
        .nodes()
        .find(|(id, it)| !voters.contains(id) && wanted.voters.contains(&it.broker_id()) && caught_up(id));
    if let Some((promoted, info)) = promoted {
        let replaced = |id: &NodeId| membership.get_node(id).is_some_and(|it| it.broker == info.broker);
        let mut target: BTreeSet<NodeId> = voters.iter().copied().filter(|id| !replaced(id)).collect();
        target.insert(*promoted);
        return Some((ChangeMembers::ReplaceAllVoters(target), false));
    }
    let is_unwanted = |id: &NodeId| {
        let info = membership.get_node(id);
        wanted.by_command && info.is_some_and(|info| !wanted.voters.contains(&info.broker_id()))
    };
    let demoted = voters.iter().copied().find(is_unwanted).filter(|_| voters.len() > 1)?;
    let target = voters.iter().copied().filter(|id| *id != demoted).collect();
    Some((ChangeMembers::ReplaceAllVoters(target), true))
}

/// Tells the rest of the broker who belongs to the quorum, for as long as the Raft node runs.
pub async fn publish(control: Arc<Control>, quorum: watch::Sender<Quorum>) {
    let mut metrics = control.raft.metrics();
    loop {
        let seen = quorum_of(&metrics.borrow_and_update());
        quorum.send_if_modified(|known| {
            let is_new = *known != seen;
            *known = seen;
            is_new
        });
        // The metrics change with every entry.
        sleep(LOOK_INTERVAL / 3).await;
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

fn quorum_of(metrics: &RaftMetrics<NodeId, Node>) -> Quorum {
    let membership = metrics.membership_config.membership();
    let leader = metrics.current_leader.and_then(|id| membership.get_node(&id)).map(Node::broker_id);
    let log_end = |id: NodeId| {
        if id == metrics.id {
            return metrics.last_log_index;
        }
        metrics.replication.as_ref()?.get(&id).copied().flatten().map(|matching| matching.index)
    };
    let configurations = membership.get_joint_config();
    let mut quorum = Quorum { leader, term: metrics.current_term, ..Quorum::default() };
    for (id, node) in membership.nodes() {
        let member = QuorumMember { broker: node.broker_id(), node: *id, log_end: log_end(*id) };
        let votes = !configurations.is_empty() && configurations.iter().all(|voters| voters.contains(id));
        if votes {
            quorum.voters.push(member);
        } else {
            quorum.observers.push(member);
        }
    }
    quorum
}
