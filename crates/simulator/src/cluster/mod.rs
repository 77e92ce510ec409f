//! A whole cluster in one thread: brokers on memory disks, a controller, clients, a network, all moved by one queue of
//! events in virtual time.
//!
//! Everything that decides is the real code (`replica::Shard`, `logic::metadata`, `storage`); what is modelled here is
//! the glue of the broker, the log that the controller's quorum offers, the network, and what can befall them.

mod broker;
mod client;
mod controller;
mod core;
mod durability;
pub mod faults;
mod message;
mod network;
mod observe;
mod script;

pub use message::MessageKind;

use std::collections::{BTreeMap, BTreeSet};

use minisr_logic::metadata::Command;
use minisr_logic::{BrokerId, TopicId, TopicPartition};
use minisr_replica::{Event as ShardEvent, PartitionDescription};
use minisr_storage::disk::memory::MemorySync;

use self::broker::Broker;
use self::client::{Consumer, Producer};
use self::controller::Controller;
use self::message::{Call, Message, Purpose, Request, Response};
use self::network::Network;
use self::script::Script;
use crate::dice::{Dice, Roll};
use crate::invariants::{Invariants, Violation, unfinished};
use crate::panics::caught;
use crate::plan::Plan;
use crate::schedule::{self, Action, Effect, Node, Parameters};
use crate::state::{Fact, Place, State, Step};
use crate::trace::{Keep, Trace};

/// The one topic. Whenever it is created anew, its id is one higher.
const TOPIC: TopicId = TopicId(0x7 << 64 | 1);
const TOPIC_NAME: &str = "t";

/// Something that will happen. `Continue` is the next part of a fault that is a story.
#[derive(Debug)]
enum Event {
    Deliver { to: Node, message: Message },
    CallTimeout { call: u64 },
    Heartbeat { broker: BrokerId, life: u32 },
    ApplyMetadata { broker: BrokerId, life: u32 },
    Release { broker: BrokerId, life: u32 },
    Tick { broker: BrokerId, life: u32, at: u64 },
    SyncDone { broker: BrokerId, life: u32, round: u64, handles: Vec<MemorySync>, results: Option<SyncResults> },
    Start { broker: BrokerId },
    Resume { broker: BrokerId, life: u32 },
    Suspect { broker: BrokerId, epoch: minisr_logic::BrokerEpoch },
    Commit,
    Sessions,
    ControllerUp,
    Mend { from: Node, to: Node },
    EnsureTopic,
    Reboot { broker: BrokerId },
    Continue { part: faults::Part, parameters: Parameters },
    DrawFault,
    DrawProduce { producer: u32 },
    Act(Action),
    Flush { producer: usize, slot: usize },
    Consume { consumer: usize },
}

type SyncResults = Vec<Result<(), std::io::ErrorKind>>;

/// The simulated world.
#[derive(Debug)]
pub struct Cluster {
    plan: Plan,
    dice: Dice,
    now: u64,
    queue: BTreeMap<(u64, bool, u64), Event>,
    script: Script,
    scheduled: u64,
    brokers: BTreeMap<BrokerId, Broker>,
    controller: Controller,
    /// The metadata log.
    commands: Vec<Command>,
    network: Network,
    calls: BTreeMap<u64, Call>,
    last_call: u64,
    last_attempt: u64,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    state: State,
    invariants: Invariants,
    facts: Vec<Fact>,
    changed: Vec<(Place, Option<PartitionDescription>)>,
    violation: Option<Violation>,
    trace: Trace,
    counts: BTreeMap<&'static str, u64>,
    steps: u64,
    /// The topic that clients use.
    topic: TopicId,
    /// Brokers that stay down until everything is healed.
    broken: BTreeSet<BrokerId>,
    /// No more faults and no more load.
    healed: bool,
    power_lost: bool,
    plants_violation: bool,
    /// What the durability table wants to know.
    watch: Option<durability::Watch>,
}

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The first violation.
    pub violation: Option<Violation>,
    /// Hash of the trace.
    pub trace_hash: u64,
    /// The last lines of the trace.
    pub tail: Vec<String>,
    /// Every line, if asked for.
    pub lines: Vec<String>,
    /// Steps of shards.
    pub steps: u64,
    /// What happened how often.
    pub counts: BTreeMap<&'static str, u64>,
    /// What was drawn or done, for a replay.
    pub events: Vec<schedule::Event>,
}

impl Cluster {
    /// The cluster of a plan, before its first event.
    #[must_use]
    pub fn new(plan: Plan, keep: Keep) -> Self {
        let state = State {
            lag_time_max_ms: plan.lag_time_max_ms,
            counts_flushed: plan.flush == minisr_replica::FlushPolicy::Commit,
            ..State::default()
        };
        let brokers = (1..=plan.brokers).map(|id| (BrokerId(id), Broker::new())).collect();
        Self {
            dice: Dice::new(plan.seed, plan.calm),
            script: Script::default(),
            now: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            brokers,
            controller: Controller::new(),
            commands: Vec::new(),
            network: Network::default(),
            calls: BTreeMap::new(),
            last_call: 0,
            last_attempt: 0,
            producers: Vec::new(),
            consumers: Vec::new(),
            state,
            invariants: Invariants::default(),
            facts: Vec::new(),
            changed: Vec::new(),
            violation: None,
            trace: Trace::new(keep),
            counts: BTreeMap::new(),
            steps: 0,
            topic: TOPIC,
            broken: BTreeSet::new(),
            healed: false,
            power_lost: false,
            plants_violation: false,
            watch: None,
            plan,
        }
    }

    /// Does what is in the list, in place of drawing it.
    #[must_use]
    pub fn with_events(mut self, events: Vec<schedule::Event>) -> Self {
        self.script = Script::replaying(events);
        self
    }

    /// Plants a violation, which the run must report: proves that the alarm rings.
    #[must_use]
    pub fn with_canary(mut self) -> Self {
        self.plants_violation = true;
        self
    }

    /// Runs it all: start, faults under load, healing, convergence, final reads.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        // An assertion of the code under test is a violation like any other.
        let asserted = caught(|| self.run_all()).err();
        Outcome {
            violation: asserted.or(self.violation),
            trace_hash: self.trace.hash(),
            tail: self.trace.tail(),
            lines: self.trace.all().to_vec(),
            steps: self.steps,
            counts: self.counts,
            events: self.script.into_events(),
        }
    }

    fn run_all(&mut self) {
        self.begin();
        self.run_until(|it| it.now >= it.plan.safety_ms + START_MS);
        self.heal_core();
        self.heal_rest();
        let deadline = self.now + self.patience_ms();
        self.run_until(|it| it.now >= deadline || it.is_quiet());
        self.write_once_more();
        let deadline = self.now + self.patience_ms();
        self.run_until(|it| it.now >= deadline || it.is_quiet());
        self.end();
    }

    /// Starts the brokers, and creates the topic once all are there.
    fn begin(&mut self) {
        self.trace.write(0, format_args!("{:?}", self.plan));
        let ids: Vec<BrokerId> = self.brokers.keys().copied().collect();
        for id in ids {
            self.schedule(1, Event::Start { broker: id });
        }
        self.schedule(1, Event::Sessions);
        let brokers = self.brokers.len();
        self.run_until(|it| {
            it.now >= START_MS || it.controller.image.brokers().filter(|b| b.is_active()).count() == brokers
        });
        self.ensure_topic();
        self.run_until(|it| it.controller.image.topic(TOPIC).is_some() || it.now >= START_MS);
        self.add_clients();
        self.begin_script();
    }

    /// Handles events until `done` or until an invariant is violated.
    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        while self.violation.is_none() && !done(self) {
            let Some(((time, ..), event)) = self.queue.pop_first() else { return };
            self.now = time;
            self.handle(event);
            self.check();
        }
    }

    fn handle(&mut self, event: Event) {
        if let Some((broker, life)) = addressee(&event) {
            let Some(target) = self.brokers.get_mut(&broker) else { return };
            if life.is_some_and(|life| life != target.life || target.run.is_none()) {
                return;
            }
            if target.paused && target.run.is_some() {
                target.backlog.push_back(event);
                return;
            }
        }
        match event {
            Event::Deliver { to, message } => self.deliver(to, message),
            Event::CallTimeout { call } => self.answered(call, None),
            Event::Heartbeat { broker, .. } => self.broker_heartbeat(broker),
            Event::ApplyMetadata { broker, .. } => self.apply_metadata(broker),
            Event::Release { broker, .. } => self.step_shard(broker, []),
            Event::Tick { broker, at, .. } => self.tick(broker, at),
            Event::SyncDone { broker, round, handles, results, .. } => {
                let results = results.unwrap_or_else(|| self.sync_files(broker, &handles));
                self.step_shard(broker, [ShardEvent::Synced { round, results }]);
            }
            Event::Start { broker } => self.start_broker(broker),
            Event::Resume { broker, life } => self.resume(broker, life),
            Event::Suspect { broker, epoch } => self.suspect(broker, epoch),
            Event::Commit => self.commit(),
            Event::Sessions => self.expire_sessions(),
            Event::ControllerUp => self.controller_rises(),
            // Healing has undone every cut; those of a part that stays broken are no fault's.
            Event::Mend { .. } if self.healed => {}
            Event::Mend { from, to } => self.network.mend(from, to),
            Event::EnsureTopic => self.ensure_topic(),
            Event::Reboot { broker } => self.reboot(broker),
            // Healing ends every story.
            Event::Continue { .. } if self.healed => {}
            Event::Continue { part, parameters } => part(self, &parameters),
            Event::DrawFault => self.draw_fault(),
            Event::DrawProduce { producer } => self.draw_produce(producer),
            Event::Act(action) => self.act(action),
            Event::Flush { producer, slot } => self.flush(producer, slot),
            Event::Consume { consumer } => self.consume(consumer),
        }
    }

    fn deliver(&mut self, to: Node, message: Message) {
        match (to, message) {
            (_, Message::Response { call, body }) => self.answered(call, Some(body)),
            (Node::Controller, Message::Request { call, from, body }) => self.controller_receives(call, from, body),
            (Node::Broker(id), Message::Request { call, from, body }) => {
                if self.brokers[&id].run.is_some() {
                    self.broker_receives(id, call, from, body);
                } else {
                    // Connection refused. Otherwise the whole machine is silent, and the caller's patience decides.
                    let mut roll = self.roll("refused", id.0 as u64);
                    if roll.chance(700) {
                        let pause = roll.between(1, self.plan.delay_max_ms);
                        self.schedule(pause, Event::CallTimeout { call });
                    }
                }
            }
            (Node::Broker(id), Message::MetadataGrew { index }) => self.metadata_grew(id, index),
            (to, message) => unreachable!("{to:?} got {message:?}"),
        }
    }

    /// A call got its answer, or will get none.
    fn answered(&mut self, call: u64, answer: Option<Response>) {
        let Some(Call { from, life, purpose }) = self.calls.remove(&call) else { return };
        match from {
            Node::Broker(id) => {
                let broker = &self.brokers[&id];
                if broker.life != life || broker.run.is_none() {
                    return;
                }
                if broker.paused {
                    // The process will find it in its socket, or its timer due, when it goes on.
                    self.calls.insert(call, Call { from, life, purpose });
                    let event = match answer {
                        Some(body) => Event::Deliver { to: from, message: Message::Response { call, body } },
                        None => Event::CallTimeout { call },
                    };
                    self.brokers.get_mut(&id).expect("just seen").backlog.push_back(event);
                    return;
                }
                self.broker_answered(id, purpose, answer);
            }
            Node::Client(_) => self.client_answered(purpose, answer),
            Node::Controller => unreachable!("the controller asks nobody"),
        }
    }

    /// Sends a request, to be answered exactly once.
    fn call(&mut self, from: Node, to: Node, body: Request, purpose: Purpose, timeout_ms: u64) -> u64 {
        self.last_call += 1;
        let call = self.last_call;
        let life = match from {
            Node::Broker(id) => self.brokers[&id].life,
            _ => 0,
        };
        self.calls.insert(call, Call { from, life, purpose });
        self.schedule(timeout_ms, Event::CallTimeout { call });
        self.transmit(from, to, Message::Request { call, from, body });
        call
    }

    /// Hands a message to the network.
    fn transmit(&mut self, from: Node, to: Node, message: Message) {
        let kind = message.kind();
        let effect = if self.network.is_cut(from, to) { Some(Effect::Lost) } else { self.effect_on(kind, from, to) };
        let usual = self.roll("delay", from.number() << 32 | to.number()).between(1, self.plan.delay_max_ms);
        let pause = match effect {
            Some(Effect::Lost) => {
                let counted = match kind {
                    MessageKind::ProposeReply => "proposal-answers-lost",
                    kind if kind.is_proposal() => "proposals-lost",
                    _ => "messages-lost",
                };
                self.count(counted, 1);
                self.trace.write(self.now, format_args!("lost: {} from {from} to {to}", kind.name()));
                return;
            }
            Some(Effect::Twice { by_ms }) => {
                self.count("messages-repeated", 1);
                self.trace.write(self.now, format_args!("twice: {} from {from} to {to}", kind.name()));
                self.schedule(usual + by_ms, Event::Deliver { to, message: message.clone() });
                usual
            }
            Some(Effect::Slow { by_ms }) => {
                self.trace.write(self.now, format_args!("slow: {} from {from} to {to}, {by_ms} ms", kind.name()));
                usual + by_ms
            }
            None => usual,
        } + self.network.late_ms(kind, from, to, self.now);
        let pause = match from {
            // Clients speak over ordered connections.
            Node::Client(client) => {
                let connection = self.connection(client);
                self.network.in_order((from, to, connection), self.now + pause) - self.now
            }
            _ => pause,
        };
        self.schedule(pause, Event::Deliver { to, message });
    }

    fn schedule(&mut self, pause_ms: u64, event: Event) {
        self.scheduled += 1;
        // What is drawn or replayed comes first in its millisecond, so that both happen in the same order.
        let scripted = matches!(event, Event::DrawFault | Event::DrawProduce { .. } | Event::Act(_));
        self.queue.insert((self.now + pause_ms, !scripted, self.scheduled), event);
    }

    /// The dice for something that concerns somebody now.
    fn roll(&mut self, what: &'static str, who: u64) -> Roll {
        self.dice.roll(self.now, what, who)
    }

    /// Checks all invariants against what has happened since the last check.
    fn check(&mut self) {
        if self.facts.is_empty() && self.changed.is_empty() {
            return;
        }
        let (facts, changed) = (std::mem::take(&mut self.facts), std::mem::take(&mut self.changed));
        if let Some(watch) = &mut self.watch {
            watch.note(&facts, &self.state);
        }
        if self.violation.is_none() {
            let step = Step { now_ms: self.now, state: &self.state, changed: &changed, facts: &facts };
            self.violation = self.invariants.check(&step).err();
        }
    }

    fn count(&mut self, what: &'static str, by: u64) {
        *self.counts.entry(what).or_default() += by;
    }

    /// Whether everything is back and every client has its answers. Of a broker that lies dead the metadata may not know
    /// yet.
    fn is_quiet(&self) -> bool {
        self.brokers.values().all(|it| it.run.is_some())
            && self.controller.image.topic(self.topic).is_some()
            && unfinished(&self.state, self.power_lost).is_none()
            && self.producers.iter().all(Producer::is_idle)
    }

    /// The last checks, on a healed cluster without load.
    fn end(&mut self) {
        if self.violation.is_some() {
            return;
        }
        let places: Vec<Place> = self.state.replicas.keys().copied().collect();
        for place in places {
            self.verify(place);
        }
        self.read_everything();
        self.check();
        if self.violation.is_none() {
            self.violation = self.invariants.check_end(&self.state).err();
        }
        if self.violation.is_none() {
            self.violation = self.unserved();
        }
    }

    fn key(&self, index: usize) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: i32::try_from(index).expect("few partitions") }
    }
}

/// Virtual time that a cluster gets to come up.
const START_MS: u64 = 3_000;

/// Whom an event is for, if for a broker, and in which life (`None`: whoever lives then).
fn addressee(event: &Event) -> Option<(BrokerId, Option<u32>)> {
    match event {
        Event::Heartbeat { broker, life }
        | Event::ApplyMetadata { broker, life }
        | Event::Release { broker, life }
        | Event::Tick { broker, life, .. }
        | Event::SyncDone { broker, life, .. } => Some((*broker, Some(*life))),
        Event::Deliver { to: Node::Broker(broker), .. } => Some((*broker, None)),
        _ => None,
    }
}
