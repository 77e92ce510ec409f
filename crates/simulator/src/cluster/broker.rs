//! A broker process: the glue around a shard, as the real broker has it. Registration, heartbeats, metadata in order,
//! fetches and ISR proposals carried out, syncs that take time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use minisr_logic::metadata::{
    AlterPartitionError as Refused, Command, CommandError, Image, IsrMember, RegisterError, Reply, apply,
};
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, Millis, Offset, PartitionEpoch, TopicPartition};
use minisr_replica::{
    Acks, AlterPartition, AlterPartitionError, Append, Config, Event as ShardEvent, FetchReply, FetchRequest,
    IsrCommitted, IsrReason, Output, Reader, Shard, Ticket,
};
use minisr_storage::disk::Disk;
use minisr_storage::disk::memory::{MemoryDisk, MemorySync};

use super::message::{Message, Produce, Purpose, Request, Response};
use super::observe::{Mirror, batches_of, definitely_absent};
use super::{Cluster, Event};
use crate::plan::Plan;
use crate::schedule::Node;
use crate::schedule::Parameters;
use crate::state::{Attempt, Fact};

/// Where each broker keeps its logs.
pub(super) const DATA: &str = "/data";

/// A broker and its machine.
#[derive(Debug)]
pub struct Broker {
    pub(super) disk: MemoryDisk,
    /// Counts processes; what was meant for an earlier one is dropped.
    pub(super) life: u32,
    /// The process, if one runs.
    pub(super) run: Option<Running>,
    /// Stopped by SIGSTOP: whatever happens waits in the backlog.
    pub(super) paused: bool,
    pub(super) backlog: VecDeque<Event>,
    /// The metadata index that its own disk holds.
    pub(super) metadata_kept: u64,
    /// Where each log had to come back after the last crash.
    pub(super) must_keep: BTreeMap<TopicPartition, Offset>,
    /// Whether power was lost since the last start.
    pub(super) power_lost: bool,
    pub(super) mirrors: BTreeMap<TopicPartition, Mirror>,
    /// Remains of deleted topics: a power loss may have undone a part of their removal.
    pub(super) remains: BTreeSet<TopicPartition>,
    /// Its disk failed; what is to happen to the machine.
    pub(super) disk_trouble: Option<Parameters>,
}

/// A running process.
#[derive(Debug)]
pub struct Running {
    pub(super) shard: Shard<MemoryDisk>,
    pub(super) incarnation: u128,
    clean_for_data: bool,
    previous_broker_epoch: Option<BrokerEpoch>,
    pub(super) epoch: Option<BrokerEpoch>,
    pub(super) image: Image,
    known_index: u64,
    tick_at: Option<u64>,
    /// The images that the shard saw in its last step, or the last one that it had seen by then. Never empty. With
    /// appends that were taken in before that step, the one that it had seen by then as well: what they decided is answered
    /// in it (seed 2004855).
    pub(super) shown: Vec<Arc<Image>>,
    /// Appends were taken in and nothing was settled since.
    unsettled: bool,
    /// Images that reach the shard together with the next event.
    held: Vec<ShardEvent>,
    waiting: BTreeMap<u64, Waiting>,
    next_ticket: u64,
    pub(super) stopping_since: Option<u64>,
    /// The last ISR proposal for each partition.
    proposed: BTreeMap<TopicPartition, Decision>,
    producer_ids: std::ops::Range<i64>,
    producer_id_calls: Vec<(u64, Node)>,
}

/// What a leader decided about an ISR: on which epochs it is based, and the members.
type Decision = (Epoch, PartitionEpoch, Vec<(BrokerId, BrokerEpoch)>);

#[derive(Debug)]
struct Waiting {
    call: u64,
    from: Node,
    asked: Asked,
}

#[derive(Debug)]
enum Asked {
    Produce { partition: TopicPartition, attempt: Attempt, acks: Acks },
    ReplicaFetch,
    ConsumerFetch { consumer: u32, partition: TopicPartition, from: Offset },
}

impl Broker {
    pub(super) fn new() -> Self {
        Self {
            disk: MemoryDisk::new(),
            life: 0,
            run: None,
            paused: false,
            backlog: VecDeque::new(),
            metadata_kept: 0,
            must_keep: BTreeMap::new(),
            power_lost: false,
            mirrors: BTreeMap::new(),
            remains: BTreeSet::new(),
            disk_trouble: None,
        }
    }
}

fn shard_config(plan: &Plan, id: BrokerId) -> Config {
    let mut config = Config::new(id);
    config.flush = plan.flush;
    config.replica_lag_time_max_ms = plan.lag_time_max_ms;
    config.replica_lag_max_messages = plan.lag_max_messages;
    config.replica_fetch_wait_max_ms = plan.fetch_wait_max_ms;
    config.replica_high_watermark_delay_max_ms = plan.high_watermark_delay_max_ms;
    config.replica_fetch_backoff_ms = 100;
    config.num_replica_fetchers = plan.replica_fetchers;
    config.replica_socket_timeout_ms = CALL_TIMEOUT_MS + plan.fetch_wait_max_ms;
    config.high_watermark_checkpoint_interval_ms = 700;
    config.recovery_point_checkpoint_interval_ms = 1_500;
    config.retention_check_interval_ms = 3_600_000;
    config.alter_partition_retry_ms = 150;
    config.topic.segment_bytes = plan.segment_bytes;
    config.topic.index_interval_bytes = 200;
    config.topic.retention_ms = None;
    config
}

/// How long a caller waits for an answer, the waiting time of a long poll not included.
pub(super) const CALL_TIMEOUT_MS: u64 = 400;

impl Cluster {
    /// A process starts: it opens and recovers its data directory.
    pub(super) fn start_broker(&mut self, id: BrokerId) {
        if self.brokers[&id].run.is_none() {
            self.reboot(id);
        }
        let kept = {
            let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
            if broker.run.is_some() || self.broken.contains(&id) {
                return;
            }
            broker.life += 1;
            broker.paused = false;
            broker.backlog.clear();
            broker.metadata_kept
        };
        // It knows the metadata up to some point before it went down, as its own log or snapshot has it.
        let from = kept - self.roll("kept metadata", id.0 as u64).between(0, kept);
        let image = Image::clone(&self.controller.images[from as usize]);
        let incarnation = self.roll("incarnation", id.0 as u64).bits128();
        let config = shard_config(&self.plan, id);
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        let opened = Shard::open(&mut broker.disk, Path::new(DATA), config, Millis(self.now));
        let (shard, report) = opened.unwrap_or_else(|error| panic!("broker {id} cannot open its disk: {error}"));
        broker.run = Some(Running {
            shard,
            incarnation,
            clean_for_data: report.clean_for_data,
            previous_broker_epoch: report.previous_broker_epoch,
            epoch: None,
            known_index: image.version(),
            image: image.clone(),
            tick_at: None,
            shown: vec![Arc::new(Image::new())],
            unsettled: false,
            held: Vec::new(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            stopping_since: None,
            proposed: BTreeMap::new(),
            producer_ids: 0..0,
            producer_id_calls: Vec::new(),
        });
        let life = broker.life;
        self.trace.write(self.now, format_args!("start {id} life {life} at metadata {from}: {report:?}"));
        self.facts.push(Fact::Started { broker: id, incarnation });
        self.observe_recovery(id);
        self.step_shard(id, [ShardEvent::Image(Arc::new(image))]);
        let pause = self.roll("first heartbeat", id.0 as u64).between(0, 20);
        self.schedule(pause, Event::Heartbeat { broker: id, life });
    }

    /// Registers, or tells the controller that it lives.
    pub(super) fn broker_heartbeat(&mut self, id: BrokerId) {
        let Some(run) = &self.brokers[&id].run else { return };
        let life = self.brokers[&id].life;
        let (body, purpose, pause) = match run.epoch {
            None => {
                let register = Command::RegisterBroker {
                    id,
                    incarnation: run.incarnation,
                    listeners: Vec::new(),
                    rack: None,
                    clean_for_data: run.clean_for_data,
                    previous_broker_epoch: run.previous_broker_epoch,
                };
                (Request::Propose(register), Purpose::Register, 100)
            }
            Some(epoch) => {
                let wants_to_stop = run.stopping_since.is_some();
                let applied_index = run.image.version();
                let body = Request::Heartbeat { epoch, applied_index, wants_to_stop };
                (body, Purpose::Heartbeat, self.plan.heartbeat_interval_ms)
            }
        };
        let patience = 3 * self.plan.session_timeout_ms;
        // Before it is registered it has nothing to hand over.
        if run.stopping_since.is_some_and(|since| run.epoch.is_none() || self.now - since > patience) {
            self.stop_cleanly(id);
            return;
        }
        self.call(Node::Broker(id), Node::Controller, body, purpose, CALL_TIMEOUT_MS);
        let pause = pause * self.roll("heartbeat", id.0 as u64).between(8, 10) / 10;
        self.schedule(pause, Event::Heartbeat { broker: id, life });
    }

    /// The end of a controlled stop.
    fn stop_cleanly(&mut self, id: BrokerId) {
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        let Some(run) = broker.run.take() else { return };
        let incarnation = run.incarnation;
        let closed = run.shard.close(&mut broker.disk);
        self.trace.write(self.now, format_args!("stopped {id}: {closed:?}"));
        self.count("clean-stops", 1);
        if closed.is_err() && self.brokers[&id].disk_trouble.is_some() {
            self.facts.push(Fact::DiskFailed { broker: id, incarnation });
        }
        self.note_process_end(id, closed.is_ok());
        let pause = self.roll("stopped", id.0 as u64).between(10, 1_500);
        self.schedule(pause, Event::Start { broker: id });
    }

    /// The metadata log is known to reach `index`.
    pub(super) fn metadata_grew(&mut self, id: BrokerId, index: u64) {
        let Some(run) = self.brokers.get_mut(&id).and_then(|it| it.run.as_mut()) else { return };
        run.known_index = run.known_index.max(index);
        if run.image.version() < run.known_index {
            let life = self.brokers[&id].life;
            let pause = self.roll("apply", id.0 as u64).between(0, self.plan.delay_max_ms);
            self.schedule(pause, Event::ApplyMetadata { broker: id, life });
        }
    }

    /// Applies a part or all of what is known of the metadata log, in order; the shard may see only some versions.
    pub(super) fn apply_metadata(&mut self, id: BrokerId) {
        let mut roll = self.roll("apply", id.0 as u64);
        let Some(run) = self.brokers.get_mut(&id).and_then(|it| it.run.as_mut()) else { return };
        let (from, to) = (run.image.version(), run.known_index);
        if from >= to {
            return;
        }
        let until = if roll.chance(700) { to } else { roll.between(from + 1, to) };
        let shows_all = roll.chance(600);
        let mut events = Vec::new();
        for index in from + 1..=until {
            let committed = Arc::clone(&self.controller.images[index as usize]);
            let command = self.commands[index as usize - 1].clone();
            let _ = apply(&mut run.image, index, command);
            let image = Arc::new(run.image.clone());
            self.facts.push(Fact::Applied { broker: id, image: Arc::clone(&image), committed });
            if shows_all || index == until {
                events.push(ShardEvent::Image(image));
            }
        }
        let life = {
            let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
            broker.metadata_kept = until;
            broker.life
        };
        if until < to {
            let pause = roll.between(1, self.plan.delay_max_ms * 3);
            self.schedule(pause, Event::ApplyMetadata { broker: id, life });
        }
        if roll.chance(self.plan.together_permille) {
            self.running(id).held.extend(events);
            let pause = roll.between(1, 30);
            self.schedule(pause, Event::Release { broker: id, life });
            return;
        }
        // One step each, so that the invariants see what each of them did.
        for event in events {
            self.step_shard(id, [event]);
        }
    }

    /// A request arrived at a running broker.
    pub(super) fn broker_receives(&mut self, id: BrokerId, call: u64, from: Node, body: Request) {
        match body {
            Request::Fetch(request) => self.receive_fetch(id, call, from, request),
            Request::Produce(produce) => self.receive_produce(id, call, from, produce),
            Request::ProducerId => {
                let run = self.running(id);
                run.producer_id_calls.push((call, from));
                self.hand_out_producer_ids(id);
            }
            Request::Propose(_) | Request::Heartbeat { .. } => unreachable!("only the controller is asked this"),
        }
    }

    fn receive_fetch(&mut self, id: BrokerId, call: u64, from: Node, request: FetchRequest) {
        let asked = match (request.reader, from) {
            (Reader::Replica { id: follower, broker_epoch }, _) => {
                let registered = self.running(id).image.broker(follower).map(|it| it.epoch);
                for wanted in &request.partitions {
                    let place = (wanted.partition, id);
                    let Some(replica) = self.state.replicas.get(&place) else { continue };
                    self.facts.push(Fact::ReplicaFetched {
                        place,
                        follower,
                        broker_epoch,
                        registered,
                        epoch: wanted.current_leader_epoch,
                        fetch_offset: wanted.fetch_offset,
                        last_epoch: wanted.last_fetched_epoch,
                        flushed: wanted.flushed,
                        end: replica.end(),
                    });
                }
                Asked::ReplicaFetch
            }
            (Reader::Consumer { .. }, Node::Client(consumer)) => {
                let wanted = &request.partitions[0];
                Asked::ConsumerFetch { consumer, partition: wanted.partition, from: wanted.fetch_offset }
            }
            (reader, from) => unreachable!("{from:?} fetches as {reader:?}"),
        };
        let ticket = self.ticket(id, Waiting { call, from, asked });
        self.step_shard(id, [ShardEvent::Fetch { ticket, request }]);
    }

    fn receive_produce(&mut self, id: BrokerId, call: u64, from: Node, produce: Produce) {
        let Produce { partition, attempt, batch, summary, acks } = produce;
        let ticket = self.ticket(id, Waiting { call, from, asked: Asked::Produce { partition, attempt, acks } });
        let timeout_ms = self.plan.lag_time_max_ms * 2;
        let append = ShardEvent::Append(Append { ticket, partition, batch: batch.into(), summary, acks, timeout_ms });
        let mut roll = self.roll("turn", call);
        if roll.chance(self.plan.turn_permille) {
            let life = self.brokers[&id].life;
            self.take_in(id, append);
            self.schedule(roll.between(0, 2), Event::Release { broker: id, life });
        } else {
            self.step_shard(id, [append]);
        }
    }

    fn ticket(&mut self, id: BrokerId, waiting: Waiting) -> Ticket {
        let run = self.running(id);
        run.next_ticket += 1;
        run.waiting.insert(run.next_ticket, waiting);
        Ticket(run.next_ticket)
    }

    fn hand_out_producer_ids(&mut self, id: BrokerId) {
        let run = self.running(id);
        let mut answers = Vec::new();
        while let Some((call, to)) = run.producer_id_calls.last().copied() {
            let Some(producer_id) = run.producer_ids.next() else { break };
            run.producer_id_calls.pop();
            answers.push((call, to, producer_id));
        }
        let wants = (!run.producer_id_calls.is_empty()).then_some(run.epoch).flatten();
        for (call, to, producer_id) in answers {
            self.transmit(Node::Broker(id), to, Message::Response { call, body: Response::ProducerId(producer_id) });
        }
        if let Some(broker_epoch) = wants {
            let command = Command::AllocateProducerIds { broker: id, broker_epoch };
            let from = Node::Broker(id);
            self.call(from, Node::Controller, Request::Propose(command), Purpose::ProducerIdBlock, CALL_TIMEOUT_MS);
        }
    }

    /// The answer to one of the broker's own calls, or `None` if there will be none.
    pub(super) fn broker_answered(&mut self, id: BrokerId, purpose: Purpose, answer: Option<Response>) {
        match (purpose, answer) {
            (Purpose::ReplicaFetch { fetcher, correlation, asked }, Some(Response::Fetched(reply))) => {
                for (partition, epoch) in asked {
                    let run = self.running(id);
                    // A broker obeys what is about its own registration: a late message of an earlier life may have taken
                    // its place, and until it has registered anew it stays in the epochs that it knows.
                    let is_own = run.image.broker(id).is_some_and(|it| it.incarnation == run.incarnation);
                    let known = run.image.partition(partition).filter(|_| is_own).map(|it| it.leader_epoch);
                    if let Some((asked, known)) = epoch.zip(known) {
                        if asked != known {
                            self.count("answers-of-an-old-epoch", 1);
                        }
                        self.facts.push(Fact::FetchAnswered { place: (partition, id), asked, known });
                    }
                }
                self.step_shard(id, [ShardEvent::FetchResponse { fetcher, correlation, reply }]);
            }
            (Purpose::ReplicaFetch { fetcher, correlation, .. }, _) => {
                self.step_shard(id, [ShardEvent::FetchFailed { fetcher, correlation }]);
            }
            (Purpose::AlterPartition { partition, correlation }, answer) => {
                let result = match answer {
                    Some(Response::Proposed(result)) => isr_answer(result),
                    _ => Err(AlterPartitionError::Unknown),
                };
                self.step_shard(id, [ShardEvent::AlterPartitionReply { partition, correlation, result }]);
            }
            (Purpose::Register, Some(Response::Proposed(Ok(Reply::Registered { epoch })))) => {
                self.running(id).epoch = Some(epoch);
                self.step_shard(id, [ShardEvent::Registered { broker_epoch: epoch }]);
                self.metadata_grew(id, epoch.0 as u64);
            }
            (Purpose::Heartbeat, Some(Response::Heartbeat { known, committed_index, may_stop })) => {
                if !known {
                    // Another process registered under this id, or this one never did: register anew.
                    self.running(id).epoch = None;
                } else if may_stop && self.running(id).stopping_since.is_some() {
                    self.stop_cleanly(id);
                } else {
                    self.metadata_grew(id, committed_index);
                }
            }
            (Purpose::ProducerIdBlock, answer) => {
                if let Some(Response::Proposed(Ok(Reply::ProducerIds { first, len }))) = answer {
                    self.running(id).producer_ids = first..first + len;
                    self.hand_out_producer_ids(id);
                }
            }
            (
                Purpose::Register,
                Some(Response::Proposed(Err(CommandError::Register(RegisterError::StaleRegistration {
                    last_unfenced,
                    ..
                })))),
            ) => {
                let run = self.running(id);
                (run.clean_for_data, run.previous_broker_epoch) = (false, Some(last_unfenced));
            }
            // Refused (101) or unanswered: the next heartbeat tries again.
            (Purpose::Register | Purpose::Heartbeat, _) => {}
            (purpose, answer) => unreachable!("broker {id} asked {purpose:?} and got {answer:?}"),
        }
    }

    /// Lets the shard handle events, looks at what changed, checks every invariant, and carries out the outputs.
    pub(super) fn step_shard(&mut self, id: BrokerId, events: impl IntoIterator<Item = ShardEvent>) {
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        let Some(run) = broker.run.as_mut() else { return };
        let mut outputs = Vec::new();
        let events: Vec<ShardEvent> = std::mem::take(&mut run.held).into_iter().chain(events).collect();
        let images = events.iter().filter_map(|it| if let ShardEvent::Image(image) = it { Some(image) } else { None });
        let images: Vec<Arc<Image>> = images.cloned().collect();
        let seen = run.shown.len() - 1;
        let forgets_the_last = !images.is_empty() && !run.unsettled;
        run.unsettled = false;
        run.shown.drain(..if forgets_the_last { seen + 1 } else { seen });
        run.shown.extend(images);
        run.shard.step_batch(Millis(self.now), events, &mut broker.disk, &mut outputs);
        self.after_step(id, outputs);
    }

    /// The first half of a step: what follows from the append waits for the next one.
    fn take_in(&mut self, id: BrokerId, append: ShardEvent) {
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        let Some(run) = broker.run.as_mut() else { return };
        let mut outputs = Vec::new();
        run.unsettled = true;
        run.shard.take_in(Millis(self.now), [append], &mut broker.disk, &mut outputs);
        self.after_step(id, outputs);
    }

    fn after_step(&mut self, id: BrokerId, outputs: Vec<Output>) {
        self.steps += 1;
        self.observe(id, &outputs);
        self.note_answers(id, &outputs);
        self.check();
        for output in outputs {
            self.carry_out(id, output);
        }
        self.arm_timer(id);
    }

    /// Turns answers into facts, before anybody acts on them.
    fn note_answers(&mut self, id: BrokerId, outputs: &[Output]) {
        let run = self.brokers[&id].run.as_ref().expect("it just stepped");
        let mut decisions = Vec::new();
        for output in outputs {
            match output {
                Output::Appended { ticket, result } => {
                    let Some(Waiting { asked: Asked::Produce { partition, attempt, acks }, .. }) =
                        run.waiting.get(&ticket.0)
                    else {
                        continue;
                    };
                    match result {
                        Ok(appended) => self.facts.push(Fact::Acked {
                            place: (*partition, id),
                            attempt: *attempt,
                            base: appended.base_offset,
                            all: *acks == Acks::All,
                        }),
                        Err(error) if definitely_absent(error) => {
                            self.facts.push(Fact::Refused { partition: *partition, attempt: *attempt });
                        }
                        Err(_) => {}
                    }
                }
                Output::Fetched { ticket, reply } => {
                    let Some(Waiting { asked: Asked::ConsumerFetch { consumer, partition, from }, .. }) =
                        run.waiting.get(&ticket.0)
                    else {
                        continue;
                    };
                    for fetched in reply.partitions.iter().filter_map(|it| it.result.as_ref().ok()) {
                        self.facts.push(Fact::Read {
                            place: (*partition, id),
                            consumer: *consumer,
                            from: *from,
                            batches: batches_of(&fetched.records).map(|it| (it.base, it.end, it.bytes_hash)).collect(),
                            high_watermark: fetched.high_watermark,
                        });
                    }
                }
                Output::AlterPartition(wish) => {
                    let place = (wish.partition, id);
                    // An unanswered proposal is sent again as it was: only the first time is a decision.
                    let decision = (wish.leader_epoch, wish.partition_epoch, wish.new_isr.clone());
                    if run.proposed.get(&wish.partition) == Some(&decision) {
                        continue;
                    }
                    decisions.push((wish.partition, decision));
                    let isr = self.state.replicas.get(&place).and_then(|it| it.view.as_ref()).map(|it| it.isr.clone());
                    // The rule by messages drops healthy members, which is why Kafka gave it up.
                    let by_messages = |id| wish.dropped.contains(&(id, IsrReason::Messages));
                    let kept = |id| wish.new_isr.iter().any(|kept| kept.0 == id);
                    let dropped =
                        isr.unwrap_or_default().into_iter().filter(|&it| !kept(it) && !by_messages(it)).collect();
                    self.facts.push(Fact::IsrProposed { place, epoch: wish.leader_epoch, dropped });
                }
                _ => {}
            }
        }
        self.running(id).proposed.extend(decisions);
    }

    fn carry_out(&mut self, id: BrokerId, output: Output) {
        let me = Node::Broker(id);
        match output {
            Output::Appended { ticket, result } => {
                let Some(Waiting { call, from, asked }) = self.running(id).waiting.remove(&ticket.0) else { return };
                let Asked::Produce { acks, attempt, .. } = asked else { unreachable!("an append's ticket") };
                self.trace.write(self.now, format_args!("broker {id} answers {attempt:?} {acks:?}: {result:?}"));
                if acks == Acks::All && result.is_ok() {
                    self.count("acked-all", 1);
                }
                if acks != Acks::None {
                    self.transmit(me, from, Message::Response { call, body: Response::Produced(result) });
                }
            }
            Output::Fetched { ticket, reply } => {
                let Some(Waiting { call, from, .. }) = self.running(id).waiting.remove(&ticket.0) else { return };
                self.trace_fetched(id, from, &reply);
                self.transmit(me, from, Message::Response { call, body: Response::Fetched(reply) });
            }
            Output::SendFetch { fetcher, correlation, request } => {
                let asked = request.partitions.iter().map(|it| (it.partition, it.current_leader_epoch)).collect();
                let purpose = Purpose::ReplicaFetch { fetcher, correlation, asked };
                let timeout = CALL_TIMEOUT_MS + request.max_wait_ms;
                self.call(me, Node::Broker(fetcher.leader), Request::Fetch(request), purpose, timeout);
            }
            Output::AlterPartition(wish) => {
                let AlterPartition {
                    partition,
                    correlation,
                    leader,
                    broker_epoch,
                    leader_epoch,
                    partition_epoch,
                    new_isr,
                    dropped: _,
                } = wish;
                let command = Command::AlterPartition {
                    key: partition,
                    broker: leader,
                    broker_epoch,
                    leader_epoch,
                    partition_epoch,
                    new_isr: new_isr
                        .into_iter()
                        .map(|(broker, broker_epoch)| IsrMember { broker, broker_epoch })
                        .collect(),
                };
                let purpose = Purpose::AlterPartition { partition, correlation };
                self.call(me, Node::Controller, Request::Propose(command), purpose, CALL_TIMEOUT_MS);
            }
            Output::Sync { round } => {
                let life = self.brokers[&id].life;
                let handles = self.running(id).shard.take_sync(round);
                // A sync covers what was written before it began; what is written meanwhile may or may not be in.
                let mut roll = self.roll("sync", id.0 as u64);
                let results = if roll.chance(500) { Some(self.sync_files(id, &handles)) } else { None };
                let pause = roll.between(1, 40);
                self.schedule(pause, Event::SyncDone { broker: id, life, round, handles, results });
            }
            Output::Notice(notice) => {
                self.trace.write(self.now, format_args!("broker {id}: {notice:?}"));
            }
        }
    }

    /// Syncs files here and now.
    pub(super) fn sync_files(&mut self, id: BrokerId, handles: &[MemorySync]) -> Vec<Result<(), std::io::ErrorKind>> {
        let disk = &mut self.brokers.get_mut(&id).expect("a broker of this cluster").disk;
        handles.iter().map(|handle| disk.sync(handle).map_err(|error| error.kind())).collect()
    }

    fn arm_timer(&mut self, id: BrokerId) {
        let now = self.now;
        let late = self.roll("timer", id.0 as u64).between(0, 3);
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        let life = broker.life;
        let Some(run) = broker.run.as_mut() else { return };
        let Some(deadline) = run.shard.next_deadline() else { return };
        let due = deadline.0.max(now + 1) + late;
        if run.tick_at.is_none_or(|armed| due + 4 < armed || armed <= now) {
            run.tick_at = Some(due);
            self.schedule(due - now, Event::Tick { broker: id, life, at: due });
        }
    }

    /// A timer fired.
    pub(super) fn tick(&mut self, id: BrokerId, at: u64) {
        let wall_clock_ms = self.now as i64;
        let run = self.running(id);
        // A timer that was set before an earlier one replaced it.
        if run.tick_at != Some(at) {
            return;
        }
        run.tick_at = None;
        self.step_shard(id, [ShardEvent::Tick { wall_clock_ms }]);
    }

    fn trace_fetched(&mut self, id: BrokerId, to: Node, reply: &FetchReply) {
        for it in &reply.partitions {
            let index = it.partition.partition;
            match &it.result {
                Ok(fetched) => self.trace.write(
                    self.now,
                    format_args!(
                        "broker {id} -> {to:?} p{index}: {} bytes, hw {}, diverging {:?}",
                        fetched.records.iter().map(bytes::Bytes::len).sum::<usize>(),
                        fetched.high_watermark,
                        fetched.diverging
                    ),
                ),
                Err(error) => self.trace.write(self.now, format_args!("broker {id} -> {to:?} p{index}: {error:?}")),
            }
        }
    }

    pub(super) fn running(&mut self, id: BrokerId) -> &mut Running {
        self.brokers.get_mut(&id).and_then(|it| it.run.as_mut()).expect("only a running broker is asked")
    }
}

/// What a leader makes of the controller's answer.
fn isr_answer(result: Result<Reply, CommandError>) -> Result<IsrCommitted, AlterPartitionError> {
    match result {
        Ok(Reply::Partition { leader_epoch, isr, partition_epoch, .. }) => {
            Ok(IsrCommitted { leader_epoch, partition_epoch, isr })
        }
        Err(CommandError::AlterPartition(refused)) => Err(match refused {
            Refused::IneligibleReplica { .. } => AlterPartitionError::IneligibleReplica,
            Refused::UnknownTopicId { .. }
            | Refused::UnknownPartition { .. }
            | Refused::FencedLeaderEpoch { .. }
            | Refused::NotLeader { .. }
            | Refused::InvalidUpdateVersion { .. }
            | Refused::NotReplica { .. }
            | Refused::LeaderMissing => AlterPartitionError::MetadataBehind,
            Refused::BrokerEpoch(_) | Refused::AheadOfController { .. } => AlterPartitionError::Unknown,
        }),
        other => unreachable!("an AlterPartition was answered with {other:?}"),
    }
}
