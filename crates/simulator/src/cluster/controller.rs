//! The controller as the brokers experience it: one ordered metadata log whose leader changes, loses proposals, and
//! loses answers to proposals that it did commit.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use minisr_logic::metadata::{Command, Image, apply};
use minisr_logic::{BrokerEpoch, BrokerId};

use super::message::{Message, Request, Response};
use super::{Cluster, Event};
use crate::schedule::Node;
use crate::state::Fact;

/// A proposal on its way into the log, and the call to answer.
type Proposal = (Command, Option<(u64, Node)>);

/// The log and the sessions.
#[derive(Debug)]
pub struct Controller {
    /// The committed image.
    pub image: Image,
    /// The image after each index, the empty one first.
    pub images: Vec<Arc<Image>>,
    pipeline: VecDeque<Proposal>,
    /// Whether there is an active controller.
    pub up: bool,
    active_since_ms: u64,
    heard_ms: BTreeMap<BrokerId, (BrokerEpoch, u64)>,
    applied: BTreeMap<BrokerId, u64>,
}

impl Controller {
    pub(super) fn new() -> Self {
        Self {
            image: Image::new(),
            images: vec![Arc::new(Image::new())],
            pipeline: VecDeque::new(),
            up: true,
            active_since_ms: 0,
            heard_ms: BTreeMap::new(),
            applied: BTreeMap::new(),
        }
    }

    /// Whether a topic is about to be created, deleted or configured.
    pub(super) fn is_changing_topics(&self) -> bool {
        self.pipeline.iter().any(|(command, _)| {
            matches!(
                command,
                Command::CreateTopic { .. } | Command::DeleteTopic { .. } | Command::AlterTopicConfigs { .. }
            )
        })
    }
}

impl Cluster {
    /// A request arrived at the active controller.
    pub(super) fn controller_receives(&mut self, call: u64, from: Node, body: Request) {
        if !self.controller.up {
            return;
        }
        match (body, from) {
            (Request::Propose(command), _) => self.propose(command, Some((call, from))),
            (Request::Heartbeat { epoch, applied_index, wants_to_stop }, Node::Broker(broker)) => {
                self.heartbeat(call, broker, epoch, applied_index, wants_to_stop);
            }
            (other, from) => unreachable!("{from:?} sent the controller {other:?}"),
        }
    }

    fn heartbeat(&mut self, call: u64, id: BrokerId, epoch: BrokerEpoch, applied_index: u64, wants_to_stop: bool) {
        let committed_index = self.controller.image.version();
        let registration = self.controller.image.broker(id).filter(|it| it.epoch == epoch).cloned();
        let mut may_stop = false;
        if let Some(registration) = &registration {
            self.controller.heard_ms.insert(id, (epoch, self.now));
            self.controller.applied.insert(id, applied_index);
            if registration.fenced {
                may_stop = wants_to_stop;
                if !wants_to_stop && applied_index >= epoch.0 as u64 {
                    self.propose(Command::UnfenceBroker { id, epoch, applied_index }, None);
                }
            } else if wants_to_stop && !registration.in_controlled_shutdown {
                self.propose(Command::BeginControlledShutdown { id, epoch }, None);
            } else if wants_to_stop {
                let everybody_knows =
                    self.controller.image.brokers().filter(|it| it.is_active()).all(|it| {
                        self.controller.applied.get(&it.id).is_some_and(|applied| *applied >= committed_index)
                    });
                if everybody_knows && self.controller.image.led_by(id) == 0 {
                    may_stop = true;
                    self.propose(Command::FenceBroker { id, epoch }, None);
                }
            }
        }
        let body = Response::Heartbeat { known: registration.is_some(), committed_index, may_stop };
        self.transmit(Node::Controller, Node::Broker(id), Message::Response { call, body });
    }

    /// Puts a command into the pipeline.
    pub(super) fn propose(&mut self, command: Command, reply: Option<(u64, Node)>) {
        // Nobody is there to take it.
        if !self.controller.up {
            return;
        }
        // The same wish again adds nothing (heartbeats repeat theirs until it is fulfilled).
        if reply.is_none() && self.controller.pipeline.iter().any(|(pending, _)| *pending == command) {
            return;
        }
        self.controller.pipeline.push_back((command, reply));
        let delay = self.roll("commit", 0).between(1, self.plan.delay_max_ms * 2);
        self.schedule(delay, Event::Commit);
    }

    /// The oldest proposal is committed and applied.
    pub(super) fn commit(&mut self) {
        if !self.controller.up {
            return;
        }
        if let Some((command, reply)) = self.controller.pipeline.pop_front() {
            self.commit_one(command, reply);
        }
    }

    fn commit_one(&mut self, command: Command, reply: Option<(u64, Node)>) {
        let before = self.controller.image.clone();
        let index = before.version() + 1;
        let result = apply(&mut self.controller.image, index, command.clone());
        self.trace.write(self.now, format_args!("commit {index} {command:?} -> {result:?}"));
        self.controller.images.push(Arc::new(self.controller.image.clone()));
        self.state.image = self.controller.image.clone();
        self.note_commit(&before);
        if result.is_ok() {
            self.note_registration(&command);
        }
        if let Ok(minisr_logic::metadata::Reply::ProducerIds { first, len }) = result {
            self.facts.push(Fact::ProducerIds { first, len });
        }
        if let (Ok(minisr_logic::metadata::Reply::Registered { epoch }), Command::RegisterBroker { id, .. }) =
            (&result, &command)
        {
            self.controller.heard_ms.insert(*id, (*epoch, self.now));
        }
        self.commands.push(command.clone());
        self.facts.push(Fact::Committed { before, command, accepted: result.is_ok() });
        self.check();
        if let Some((call, to)) = reply {
            let body = Response::Proposed(result);
            self.transmit(Node::Controller, to, Message::Response { call, body });
        }
        let brokers: Vec<BrokerId> = self.brokers.keys().copied().collect();
        for id in brokers {
            self.transmit(Node::Controller, Node::Broker(id), Message::MetadataGrew { index });
        }
    }

    /// From the registration of its present life on, a broker answers for what its logs hold: registering took the
    /// seats that it could not answer for, and a proposal about an earlier life is refused. Until then what a loss took
    /// is excused, since others may still count on what the life before had reported.
    fn note_registration(&mut self, command: &Command) {
        let Command::RegisterBroker { id, incarnation, .. } = command else { return };
        let process = self.brokers.get(id).and_then(|broker| broker.run.as_ref());
        if process.is_some_and(|run| run.incarnation == *incarnation) {
            for (_, replica) in self.state.replicas.iter_mut().filter(|(place, _)| place.1 == *id) {
                replica.damaged = false;
            }
        }
    }

    /// Elections and changes are counted.
    fn note_commit(&mut self, before: &Image) {
        let after = self.controller.image.clone();
        for (key, new) in after.partitions() {
            let Some(old) = before.partition(key) else { continue };
            if new.leader_epoch != old.leader_epoch {
                self.count("elections", 1);
            }
            if new.isr != old.isr {
                self.count("isr-changes", 1);
            }
            if new.last_unclean_epoch != old.last_unclean_epoch {
                self.count("unclean-leaders", 1);
            }
            if new.leader.is_some() && old.leader.is_none() && !old.elr.is_empty() {
                self.count("elr-elections", 1);
            }
        }
    }

    /// Sessions that ended become proposals that name the epoch they mean.
    pub(super) fn expire_sessions(&mut self) {
        self.schedule(self.plan.session_timeout_ms / 5, Event::Sessions);
        if !self.controller.up {
            return;
        }
        let expired: Vec<_> = self
            .controller
            .image
            .brokers()
            .filter(|it| !it.fenced)
            .filter(|it| {
                let heard = self.controller.heard_ms.get(&it.id).filter(|heard| heard.0 == it.epoch);
                let last = heard.map_or(0, |heard| heard.1).max(self.controller.active_since_ms);
                self.now - last > self.plan.session_timeout_ms
            })
            .map(|it| (it.id, it.epoch))
            .collect();
        for (id, epoch) in expired {
            self.propose(Command::FenceBroker { id, epoch }, None);
        }
    }

    /// A broker's death was noticed at once: its liveness connection broke and the controller's probe failed.
    pub(super) fn suspect(&mut self, id: BrokerId, epoch: BrokerEpoch) {
        let alive = self.brokers[&id].run.is_some();
        if self.controller.up && !alive {
            self.propose(Command::FenceBroker { id, epoch }, None);
        }
    }

    /// The active controller is gone: of what it had not finished a prefix was committed, without answers.
    pub(super) fn controller_falls(&mut self, down_ms: u64, kept_permille: u64) {
        if !self.controller.up {
            return;
        }
        let kept = (self.controller.pipeline.len() as u64 * kept_permille).div_ceil(1_000) as usize;
        let pipeline = std::mem::take(&mut self.controller.pipeline);
        for (command, _) in pipeline.into_iter().take(kept) {
            self.commit_one(command, None);
        }
        self.controller.up = false;
        self.schedule(down_ms, Event::ControllerUp);
    }

    /// Another controller is active: everybody gets a fresh session.
    pub(super) fn controller_rises(&mut self) {
        self.controller.up = true;
        self.controller.active_since_ms = self.now;
        self.trace.write(self.now, format_args!("controller up"));
    }
}
