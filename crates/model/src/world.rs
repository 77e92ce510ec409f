//! The state that is explored: three brokers, what is under way between them, the metadata log, and the history.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use minisr_logic::metadata::{Assignment, Command, CommandError, Image, Reply, apply};
use minisr_logic::{BrokerId, Offset};
use minisr_replica::{
    AlterPartition, AlterPartitionError, Event, FetchReply, IsrCommitted, Output, Reader, RoleName, Ticket,
};

use crate::bounds::{Bounds, Doctored};
use crate::broker::{Broker, KEY, TOPIC, TOPIC_NAME};
use crate::history::History;
use crate::message::{Message, Process};

/// Tickets of fetches; those of appends are the records' numbers.
const FIRST_FETCH_TICKET: u64 = 1_000;

/// How much of the bounds is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    /// Records produced.
    pub records: u8,
    /// Processes killed.
    pub kills: u8,
    /// Power losses.
    pub power_losses: u8,
    /// Brokers fenced.
    pub fencings: u8,
    /// Lag windows passed.
    pub lags: u8,
    /// Messages lost.
    pub losses: u8,
}

/// One state of the checked world.
#[derive(Clone)]
pub struct World {
    bounds: Bounds,
    brokers: [Arc<Broker>; 3],
    /// Under way, in no order.
    pub(crate) messages: Vec<Arc<Message>>,
    /// The metadata after each version, with its fingerprint.
    images: Vec<(Arc<Image>, u64)>,
    /// What is used up.
    pub(crate) spent: Spent,
    /// What was seen.
    pub history: History,
}

impl World {
    /// Three brokers, registered and up to date, and a topic without records: leader 1, everybody in sync.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let image = Image::new();
        let print = fingerprint(&image);
        let mut world = Self {
            bounds,
            brokers: [1, 2, 3].map(|id| Arc::new(Broker::new(BrokerId(id)))),
            messages: Vec::new(),
            images: vec![(Arc::new(image), print)],
            spent: Spent::default(),
            history: History::default(),
        };
        let ids: Vec<BrokerId> = world.brokers().map(|it| it.id).collect();
        for &id in &ids {
            world.start(id);
            assert!(world.register(id), "the first registration of {id}");
        }
        for &id in &ids {
            world.learn(id, world.version());
            assert!(world.unfence(id), "the first unfencing of {id}");
        }
        let create = Command::CreateTopic {
            name: TOPIC_NAME.to_owned(),
            topic_id: TOPIC,
            assignment: Assignment::Manual(vec![ids.clone()]),
            configs: BTreeMap::new(),
            default_min_insync_replicas: bounds.min_insync_replicas,
        };
        world.propose(create).expect("a topic on three brokers");
        for &id in &ids {
            world.learn(id, world.version());
        }
        world
    }

    /// The bounds.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The brokers.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.iter().map(Arc::as_ref)
    }

    /// One broker.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> &Broker {
        &self.brokers[index(id)]
    }

    pub(crate) fn broker_mut(&mut self, id: BrokerId) -> &mut Broker {
        Arc::make_mut(&mut self.brokers[index(id)])
    }

    /// The metadata as committed.
    #[must_use]
    pub fn image(&self) -> &Arc<Image> {
        &self.images.last().expect("never empty").0
    }

    /// The version of the metadata.
    #[must_use]
    pub fn version(&self) -> usize {
        self.images.len() - 1
    }

    /// Whether this process is the one that runs now.
    #[must_use]
    pub fn is_alive(&self, process: Process) -> bool {
        let broker = self.broker(process.broker);
        broker.life == process.life && broker.process.is_some()
    }

    // ---- brokers -------------------------------------------------------------------------------------------------

    /// A process starts.
    pub(crate) fn start(&mut self, id: BrokerId) {
        let bounds = self.bounds;
        let image = Arc::clone(&self.images[self.broker(id).kept_version].0);
        let outputs = self.broker_mut(id).start(&bounds, image);
        self.carry_out(id, outputs, None);
        self.learn_what_changes_nothing(id);
    }

    /// A step of a shard, and what follows from it at once.
    pub(crate) fn step(&mut self, id: BrokerId, event: Event) {
        self.run(id, |broker, bounds| broker.step(bounds, event));
    }

    /// Anything that makes a shard step.
    pub(crate) fn run(&mut self, id: BrokerId, step: impl FnOnce(&mut Broker, &Bounds) -> Vec<Output>) {
        let before = self.broker(id).view().cloned();
        let bounds = self.bounds;
        let outputs = step(self.broker_mut(id), &bounds);
        self.carry_out(id, outputs, before);
    }

    fn carry_out(&mut self, id: BrokerId, outputs: Vec<Output>, before: Option<minisr_replica::PartitionDescription>) {
        self.observe(id, before, &outputs);
        let from = self.broker(id).address();
        for output in outputs {
            match output {
                Output::SendFetch { fetcher, correlation, mut request } => {
                    if self.bounds.doctored == Some(Doctored::NoDivergenceCheck) {
                        request.partitions.iter_mut().for_each(|it| it.last_fetched_epoch = None);
                    }
                    self.messages.push(Arc::new(Message::Fetch { from, fetcher, correlation, request }));
                }
                Output::Fetched { ticket, reply } => self.send_reply(id, ticket, reply),
                Output::AlterPartition(wish) => self.send_proposal(from, wish),
                // An append's answer was observed; a sync is taken up when it ends; notices are for people.
                Output::Appended { .. } | Output::Sync { .. } | Output::Notice(_) => {}
            }
        }
    }

    fn send_reply(&mut self, id: BrokerId, ticket: Ticket, reply: FetchReply) {
        let asked = self.broker_mut(id).process.as_mut().and_then(|it| it.asked.remove(&ticket));
        let Some(asked) = asked else { return };
        let Message::Fetch { from: to, fetcher, correlation, .. } = *asked else { unreachable!("only fetches wait") };
        if self.awaits(&asked) {
            self.messages.push(Arc::new(Message::Fetched { to, fetcher, correlation, reply }));
        }
    }

    fn send_proposal(&mut self, from: Process, wish: AlterPartition) {
        let AlterPartition {
            partition, correlation, leader, broker_epoch, leader_epoch, partition_epoch, new_isr, ..
        } = wish;
        let member = |(broker, broker_epoch)| minisr_logic::metadata::IsrMember { broker, broker_epoch };
        let command = Command::AlterPartition {
            key: partition,
            broker: leader,
            broker_epoch,
            leader_epoch,
            partition_epoch,
            new_isr: new_isr.into_iter().map(member).collect(),
        };
        let message = Message::AlterPartition { from, correlation, command };
        if !self.messages.iter().any(|other| **other == message) {
            self.messages.push(Arc::new(message));
        }
    }

    /// Drops what would make no difference whenever it arrived, so that it does not multiply the states.
    pub(crate) fn drop_void(&mut self) {
        let mut messages = std::mem::take(&mut self.messages);
        messages.retain(|message| !self.is_void(message));
        self.messages = messages;
    }

    /// Whether a message can change nothing any more, since epochs never go back.
    fn is_void(&self, message: &Message) -> bool {
        let Some(committed) = self.image().partition(KEY) else { return false };
        match message {
            // Its leader will refuse it for ever, and its sender asks anew in the newer epoch.
            Message::Fetch { fetcher, request, .. } => {
                let broker = self.broker(fetcher.leader);
                let known = match &broker.process {
                    Some(_) => broker.view().and_then(|view| view.leader_epoch),
                    // The next life begins with metadata that is not older than what is committed now.
                    None => Some(committed.leader_epoch),
                };
                request.partitions[0].current_leader_epoch < known
            }
            Message::Fetched { to, fetcher, correlation, .. } => {
                let process = self.broker(to.broker).process.as_ref().filter(|_| self.is_alive(*to));
                !process.is_some_and(|process| process.shard.awaits(*fetcher, *correlation))
            }
            // The compare-and-set will refuse it, and the leader learns by metadata what it is to go on from.
            Message::AlterPartition { command, .. } => {
                matches!(command, Command::AlterPartition { partition_epoch, .. }
                    if *partition_epoch < committed.partition_epoch)
            }
            Message::AlterPartitionAnswer { to, result, .. } => {
                let knows = |committed: &IsrCommitted| {
                    let view = self.broker(to.broker).as_leader();
                    view.is_none_or(|view| view.partition_epoch >= committed.partition_epoch)
                };
                !self.is_alive(*to) || result.as_ref().is_ok_and(knows)
            }
        }
    }

    /// Whether the answer to this fetch would be taken.
    fn awaits(&self, fetch: &Message) -> bool {
        let Message::Fetch { from, fetcher, correlation, .. } = fetch else { return false };
        let process = self.broker(from.broker).process.as_ref().filter(|_| self.is_alive(*from));
        process.is_some_and(|process| process.shard.awaits(*fetcher, *correlation))
    }

    /// A fetch arrives at a running broker. Returns whether it was served or waits; a refused one changes nothing and
    /// would be sent again, so the caller goes back to where it had not arrived yet.
    pub(crate) fn fetch_arrives(&mut self, message: &Arc<Message>) -> bool {
        let Message::Fetch { fetcher, request, .. } = &**message else { unreachable!("a fetch") };
        let id = fetcher.leader;
        let Reader::Replica { id: follower, .. } = request.reader else { unreachable!("replicas fetch") };
        let asked = &request.partitions[0];
        if let (Some(leads), Some(epoch)) = (self.broker(id).as_leader(), asked.current_leader_epoch)
            && leads.leader_epoch == Some(epoch)
        {
            let counted = asked.flushed.map_or(asked.fetch_offset, |flushed| flushed.min(asked.fetch_offset));
            let reported = self.history.reported.entry((id, follower)).or_insert((epoch, Offset::ZERO));
            *reported = if reported.0 == epoch { (epoch, counted.max(reported.1)) } else { (epoch, counted) };
        }
        let waiting = &self.broker(id).process.as_ref().expect("running").asked;
        let first = FIRST_FETCH_TICKET * u64::from(follower.0.unsigned_abs());
        let ticket = (first..).map(Ticket).find(|ticket| !waiting.contains_key(ticket)).expect("a free ticket");
        let before = self.broker(id).view().cloned();
        let bounds = self.bounds;
        let broker = self.broker_mut(id);
        broker.process.as_mut().expect("running").asked.insert(ticket, Arc::clone(message));
        let outputs = broker.step(&bounds, Event::Fetch { ticket, request: request.clone() });
        let is_refused = outputs.iter().any(|output| match output {
            Output::Fetched { ticket: answered, reply } if *answered == ticket => {
                use minisr_replica::FetchError::OffsetOutOfRange;
                let answer = reply.partitions.first().map(|answer| &answer.result);
                matches!(answer, Some(Err(error)) if !matches!(error, OffsetOutOfRange { .. }))
            }
            _ => false,
        });
        self.carry_out(id, outputs, before);
        !is_refused
    }

    // ---- metadata ------------------------------------------------------------------------------------------------

    /// Commits a command. A refused one leaves no trace.
    pub(crate) fn propose(&mut self, command: Command) -> Result<Reply, CommandError> {
        let before = Arc::clone(self.image());
        let mut image = Image::clone(&before);
        let reply = apply(&mut image, before.version() + 1, command);
        // A refusal leaves no trace, but for the one that raises the partition epoch (an ineligible member).
        if reply.is_err() && image.partition(KEY) == before.partition(KEY) {
            return reply;
        }
        self.observe_metadata(&before, &image);
        let print = fingerprint(&image);
        self.images.push((Arc::new(image), print));
        self.forgive_damage();
        for id in [1, 2, 3].map(BrokerId) {
            self.learn_what_changes_nothing(id);
        }
        reply
    }

    /// Metadata that cannot change what a broker does is learnt at once: when it comes makes no difference, and trying
    /// every moment would multiply the states. That is so before a process has registered, since it waits for the
    /// image of its own registration, and for a follower while leader and leader epoch stay the same.
    fn learn_what_changes_nothing(&mut self, id: BrokerId) {
        loop {
            let Some(process) = &self.broker(id).process else { return };
            let Some((next, _)) = self.images.get(process.seen + 1) else { return };
            let changes_nothing = match (process.epoch, &process.view) {
                (None, _) => true,
                (Some(_), Some(view)) => next.partition(KEY).is_some_and(|new| {
                    view.role == RoleName::Follower
                        && view.leader_epoch == Some(new.leader_epoch)
                        && view.leader == new.leader
                }),
                (Some(_), None) => false,
            };
            if !changes_nothing {
                return;
            }
            let version = process.seen + 1;
            self.show(id, version);
        }
    }

    /// A replica that is out of the ISR in its present registration is no longer vouched for by anybody.
    fn forgive_damage(&mut self) {
        let image = Arc::clone(self.image());
        let Some(partition) = image.partition(KEY) else { return };
        let bounds = self.bounds;
        for id in image.brokers().map(|it| it.id).filter(|id| !partition.isr.contains(id)) {
            let broker = self.broker(id);
            let is_registered = image.broker(id).is_some_and(|it| it.incarnation == u128::from(broker.life));
            if broker.damaged && is_registered && broker.process.is_some() {
                let broker = self.broker_mut(id);
                broker.damaged = false;
                broker.touched(&bounds);
            }
        }
    }

    /// A broker registers; whether it was accepted.
    pub(crate) fn register(&mut self, id: BrokerId) -> bool {
        let broker = self.broker(id);
        let process = broker.process.as_ref().expect("a running process registers");
        let command = Command::RegisterBroker {
            id,
            incarnation: u128::from(broker.life),
            listeners: Vec::new(),
            rack: None,
            clean_for_data: process.report.clean_for_data,
            previous_broker_epoch: process.report.previous_broker_epoch,
        };
        let Ok(Reply::Registered { epoch }) = self.propose(command) else { return false };
        self.broker_mut(id).process.as_mut().expect("running").epoch = Some(epoch);
        self.step(id, Event::Registered { broker_epoch: epoch });
        true
    }

    /// A registered broker has caught up; whether that was accepted.
    pub(crate) fn unfence(&mut self, id: BrokerId) -> bool {
        let process = self.broker(id).process.as_ref().expect("a running process asks");
        let Some(epoch) = process.epoch else { return false };
        let applied_index = self.images[process.seen].0.version();
        self.propose(Command::UnfenceBroker { id, epoch, applied_index }).is_ok()
    }

    /// A broker learns the metadata of this version.
    pub(crate) fn learn(&mut self, id: BrokerId, version: usize) {
        self.show(id, version);
        self.learn_what_changes_nothing(id);
    }

    fn show(&mut self, id: BrokerId, version: usize) {
        let image = Arc::clone(&self.images[version].0);
        let broker = self.broker_mut(id);
        broker.kept_version = version;
        broker.process.as_mut().expect("a running process learns").seen = version;
        self.step(id, Event::Image(image));
    }

    /// A proposal arrives at the controller.
    pub(crate) fn proposal_arrives(&mut self, from: Process, correlation: u64, command: Command) {
        let result = match self.propose(command) {
            Ok(Reply::Partition { leader_epoch, partition_epoch, isr, .. }) => {
                Ok(IsrCommitted { leader_epoch, partition_epoch, isr })
            }
            Err(CommandError::AlterPartition(refused)) => Err(AlterPartitionError::from(&refused)),
            other => unreachable!("an AlterPartition was answered with {other:?}"),
        };
        if self.is_alive(from) {
            self.messages.push(Arc::new(Message::AlterPartitionAnswer { to: from, correlation, result }));
        }
    }
}

fn index(id: BrokerId) -> usize {
    usize::try_from(id.0 - 1).expect("ids from 1")
}

fn fingerprint(of: &impl Hash) -> u64 {
    let mut state = DefaultHasher::new();
    of.hash(&mut state);
    state.finish()
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for broker in self.brokers() {
            broker.digest().hash(state);
            let asked = broker.process.iter().flat_map(|process| &process.asked);
            for (ticket, message) in asked {
                (ticket, self.awaits(message)).hash(state);
            }
        }
        // Of the metadata log only what somebody has yet to learn matters, and what there is now.
        let known = self.brokers().map(|it| it.kept_version).min().unwrap_or(0);
        (self.images.len(), known).hash(state);
        self.images[known..].iter().for_each(|(_, print)| print.hash(state));
        // The order in which messages were sent does not matter.
        let mut prints: Vec<u64> = self
            .messages
            .iter()
            .map(|message| {
                let mut state = DefaultHasher::new();
                message.fingerprint(&mut state);
                self.awaits(message).hash(&mut state);
                state.finish()
            })
            .collect();
        prints.sort_unstable();
        prints.hash(state);
        (self.spent, &self.history).hash(state);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        fingerprint(self) == fingerprint(other)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for broker in self.brokers() {
            let role = broker.view().map(|view| (view.role, view.leader_epoch, view.high_watermark));
            writeln!(f, "{:?}: {:?} {role:?}", broker.address(), broker.log)?;
        }
        for message in &self.messages {
            writeln!(f, "under way: {message}")?;
        }
        write!(f, "{:?}", self.image().partition(KEY))
    }
}
