//! The vocabulary of the stories: a few brokers on memory disks, a controller, and messages that move only when told.

#![allow(dead_code, reason = "each story uses its own part of the vocabulary")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use minisr_logic::metadata::{
    Assignment, Command, CommandError, Election, Image, IsrMember, RegisterError, Reply, apply,
};
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, Millis, Offset, PartitionEpoch, TopicId, TopicPartition};
use minisr_replica::{
    Acks, AlterPartition, AlterPartitionError, Append, AppendError, Appended, Config, Event, FetchPartition,
    FetchReply, FetchRequest, FetcherId, FlushPolicy, Isolation, IsrCommitted, IsrReason, IsrReport, Notice, Output,
    PartitionDescription, Reader, RecoveryReport, ReplicaSelector, Shard, Ticket, batch_summary,
};
use minisr_storage::disk::memory::Survives;
use minisr_storage::{BatchHeader, Disk, MemoryDisk};
use minisr_wire::batch::{BatchBuilder, BatchView, Producer};

pub const ROOT: &str = "/data";

/// Something on its way.
#[derive(Clone, Debug)]
pub enum Message {
    Fetch {
        from: BrokerId,
        fetcher: FetcherId,
        correlation: u64,
        request: FetchRequest,
    },
    Reply {
        to: BrokerId,
        fetcher: FetcherId,
        correlation: u64,
        reply: FetchReply,
    },
    Alter {
        from: BrokerId,
        request: AlterPartition,
    },
    AlterReply {
        to: BrokerId,
        partition: TopicPartition,
        correlation: u64,
        result: Result<IsrCommitted, AlterPartitionError>,
    },
    Image {
        to: BrokerId,
        image: Arc<Image>,
    },
    Sync {
        at: BrokerId,
        round: u64,
    },
}

impl Message {
    /// Sender and receiver; the controller is broker 0, a disk has its broker's number twice.
    pub fn link(&self) -> (i32, i32) {
        match self {
            Self::Fetch { from, fetcher, .. } => (from.0, fetcher.leader.0),
            Self::Reply { to, fetcher, .. } => (fetcher.leader.0, to.0),
            Self::Alter { from, .. } => (from.0, 0),
            Self::AlterReply { to, .. } | Self::Image { to, .. } => (0, to.0),
            Self::Sync { at, .. } => (at.0, at.0),
        }
    }
}

pub struct Broker {
    pub disk: MemoryDisk,
    pub shard: Option<Shard<MemoryDisk>>,
    pub report: RecoveryReport,
    pub config: Config,
    pub epoch: Option<BrokerEpoch>,
}

pub struct Cluster {
    pub now: Millis,
    pub brokers: BTreeMap<BrokerId, Broker>,
    pub image: Image,
    index: u64,
    tickets: u64,
    pub in_transit: VecDeque<Message>,
    /// Links whose messages stay in transit.
    pub held: BTreeSet<(i32, i32)>,
    /// Links whose messages are lost.
    pub cut: BTreeSet<(i32, i32)>,
    pub produced: BTreeMap<Ticket, Result<Appended, AppendError>>,
    pub fetched: BTreeMap<Ticket, FetchReply>,
    pub notices: Vec<(BrokerId, Notice)>,
    /// The newest fetch that each broker sent.
    pub last_fetch: BTreeMap<BrokerId, (FetcherId, u64)>,
    /// Fetches that followers have sent so far.
    pub fetches_sent: usize,
    peer_fetches: BTreeMap<Ticket, (BrokerId, FetcherId, u64)>,
    /// Fetches whose request or answer was lost.
    lost: Vec<(BrokerId, FetcherId, u64)>,
    pub topic: TopicId,
}

impl Cluster {
    /// `count` registered brokers, numbered from 1, and a topic "t" of one partition on all of them, led by 1.
    pub fn new(count: i32, min_isr: i32) -> Self {
        Self::with(count, min_isr, |_| {})
    }

    pub fn with(count: i32, min_isr: i32, settings: impl Fn(&mut Config)) -> Self {
        let mut cluster = Self {
            now: Millis(1_000),
            brokers: BTreeMap::new(),
            image: Image::new(),
            index: 0,
            tickets: 0,
            in_transit: VecDeque::new(),
            held: BTreeSet::new(),
            cut: BTreeSet::new(),
            produced: BTreeMap::new(),
            fetched: BTreeMap::new(),
            notices: Vec::new(),
            last_fetch: BTreeMap::new(),
            fetches_sent: 0,
            peer_fetches: BTreeMap::new(),
            lost: Vec::new(),
            topic: TopicId(7),
        };
        for id in 1..=count {
            let mut config = Config::new(BrokerId(id));
            settings(&mut config);
            cluster.brokers.insert(
                BrokerId(id),
                Broker { disk: MemoryDisk::new(), shard: None, report: RecoveryReport::default(), config, epoch: None },
            );
            cluster.start(id);
        }
        let replicas = (1..=count).map(BrokerId).collect();
        cluster.create_topic(cluster.topic, "t", vec![replicas], min_isr);
        cluster.run();
        cluster
    }

    pub fn create_topic(&mut self, topic_id: TopicId, name: &str, replicas: Vec<Vec<BrokerId>>, min_isr: i32) {
        self.command(Command::CreateTopic {
            name: name.to_owned(),
            topic_id,
            assignment: Assignment::Manual(replicas),
            configs: BTreeMap::from([("min.insync.replicas".to_owned(), min_isr.to_string())]),
            default_min_insync_replicas: 1,
        })
        .expect("a topic that can be created");
    }

    pub fn key(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: 0 }
    }

    // ---- brokers -------------------------------------------------------------------------------------------------

    /// Starts a broker process: opens its directory, registers, unfences.
    pub fn start(&mut self, id: i32) -> RecoveryReport {
        let report = self.open(id);
        self.register(id);
        report
    }

    /// Opens the directory without registering.
    pub fn open(&mut self, id: i32) -> RecoveryReport {
        let broker = self.brokers.get_mut(&BrokerId(id)).expect("a broker of the cluster");
        assert!(broker.shard.is_none(), "broker {id} runs already");
        let (shard, report) = Shard::open(&mut broker.disk, Path::new(ROOT), broker.config.clone(), self.now)
            .expect("the directory opens");
        broker.shard = Some(shard);
        broker.report = report.clone();
        report
    }

    pub fn register(&mut self, id: i32) {
        let report = self.brokers[&BrokerId(id)].report.clone();
        let incarnation = u128::from(self.index) + 1;
        // Where racks matter, every broker stands in one of its own.
        let has_rack = self.brokers[&BrokerId(id)].config.replica_selector == ReplicaSelector::RackAware;
        let rack = has_rack.then(|| format!("rack-{id}"));
        let register = |clean_for_data, previous_broker_epoch| Command::RegisterBroker {
            id: BrokerId(id),
            incarnation,
            listeners: Vec::new(),
            rack: rack.clone(),
            clean_for_data,
            previous_broker_epoch,
        };
        let mut reply = self.command(register(report.clean_for_data, report.previous_broker_epoch));
        if let Err(CommandError::Register(RegisterError::StaleRegistration { last_unfenced, .. })) = reply {
            reply = self.command(register(false, Some(last_unfenced)));
        }
        let Ok(Reply::Registered { epoch }) = reply else { panic!("broker {id} is refused") };
        self.brokers.get_mut(&BrokerId(id)).expect("known").epoch = Some(epoch);
        self.command(Command::UnfenceBroker { id: BrokerId(id), epoch, applied_index: self.index }).expect("unfenced");
        self.step(id, Event::Registered { broker_epoch: epoch });
    }

    /// SIGKILL, noticed by the controller. The page cache survives.
    pub fn kill(&mut self, id: i32) {
        self.vanish(id);
        self.fence(id);
    }

    /// SIGKILL, not noticed yet.
    pub fn vanish(&mut self, id: i32) {
        self.brokers.get_mut(&BrokerId(id)).expect("known").shard = None;
        self.in_transit.retain(|message| {
            let (from, to) = message.link();
            from != id && to != id
        });
        let gone: Vec<_> = self.peer_fetches.iter().filter(|(_, (from, _, _))| from.0 == id).map(|(t, _)| *t).collect();
        for ticket in gone {
            self.peer_fetches.remove(&ticket);
        }
        // Whoever waits for this broker's answers notices that the connection is gone.
        let others: Vec<_> = self.running().filter(|other| *other != id).collect();
        for other in others {
            self.fail_fetches(other, id);
        }
    }

    fn fail_fetches(&mut self, at: i32, leader: i32) {
        let lost: Vec<_> = self
            .peer_fetches
            .iter()
            .filter(|(_, (from, fetcher, _))| from.0 == at && fetcher.leader.0 == leader)
            .map(|(ticket, (_, fetcher, correlation))| (*ticket, *fetcher, *correlation))
            .collect();
        for (ticket, fetcher, correlation) in lost {
            self.peer_fetches.remove(&ticket);
            self.step(at, Event::FetchFailed { fetcher, correlation });
        }
    }

    pub fn fence(&mut self, id: i32) {
        let epoch = self.brokers[&BrokerId(id)].epoch.expect("registered");
        self.command(Command::FenceBroker { id: BrokerId(id), epoch }).expect("fenced");
    }

    pub fn unfence(&mut self, id: i32) {
        let epoch = self.brokers[&BrokerId(id)].epoch.expect("registered");
        self.command(Command::UnfenceBroker { id: BrokerId(id), epoch, applied_index: self.index }).expect("unfenced");
    }

    /// SIGTERM.
    pub fn stop(&mut self, id: i32) {
        let broker = self.brokers.get_mut(&BrokerId(id)).expect("known");
        let shard = broker.shard.take().expect("running");
        shard.close(&mut broker.disk).expect("a clean stop");
        self.vanish(id);
        self.fence(id);
    }

    /// The machine loses power: everything un-synced is gone.
    pub fn lose_power(&mut self, id: i32) {
        self.vanish(id);
        let broker = self.brokers.get_mut(&BrokerId(id)).expect("known");
        broker.disk.crash(&mut |_| Survives::Nothing);
        self.fence(id);
    }

    pub fn running(&self) -> impl Iterator<Item = i32> + '_ {
        self.brokers.iter().filter(|(_, broker)| broker.shard.is_some()).map(|(id, _)| id.0)
    }

    // ---- metadata ------------------------------------------------------------------------------------------------

    /// Applies a command and sends the new image to everyone.
    pub fn command(&mut self, command: Command) -> Result<Reply, CommandError> {
        self.index += 1;
        let reply = apply(&mut self.image, self.index, command);
        let image = Arc::new(self.image.clone());
        for id in self.brokers.keys().copied().collect::<Vec<_>>() {
            self.in_transit.push_back(Message::Image { to: id, image: Arc::clone(&image) });
        }
        reply
    }

    pub fn leader(&self) -> Option<i32> {
        self.image.partition(self.key()).and_then(|partition| partition.leader).map(|id| id.0)
    }

    pub fn isr(&self) -> Vec<i32> {
        self.image.partition(self.key()).expect("exists").isr.iter().map(|id| id.0).collect()
    }

    /// Gives leadership to the first replica.
    pub fn elect_preferred(&mut self) {
        let key = self.key();
        self.command(Command::ElectLeader { key, election: Election::Preferred }).expect("in the ISR");
    }

    // ---- time and messages ---------------------------------------------------------------------------------------

    /// Delivers messages until none can move.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            let next = self.in_transit.iter().position(|message| !self.held.contains(&message.link()));
            let Some(message) = next.and_then(|at| self.in_transit.remove(at)) else { return };
            self.deliver(message);
        }
        panic!("the cluster does not come to rest: {:?}", self.in_transit.front());
    }

    /// Lets time pass, in small steps, with messages moving.
    pub fn pass(&mut self, duration_ms: u64) {
        self.run();
        let end = self.now.plus(duration_ms);
        while self.now < end {
            let due = self.brokers.values().filter_map(|it| it.shard.as_ref()?.next_deadline()).min();
            self.now = due.map_or(end, |due| due.max(self.now.plus(1)).min(end));
            for id in self.running().collect::<Vec<_>>() {
                self.step(id, Event::Tick { wall_clock_ms: i64::try_from(self.now.0).expect("small") });
            }
            self.run();
        }
    }

    pub fn hold(&mut self, from: i32, to: i32) {
        self.held.insert((from, to));
    }

    pub fn release(&mut self, from: i32, to: i32) {
        self.held.remove(&(from, to));
    }

    /// Both ways, silently.
    pub fn partition(&mut self, one: i32, other: i32) {
        self.cut.insert((one, other));
        self.cut.insert((other, one));
    }

    /// Links that lost messages work again; what was lost shows as failed connections.
    pub fn heal(&mut self) {
        for (from, to) in std::mem::take(&mut self.cut) {
            self.fail_fetches(from, to);
        }
        for (id, fetcher, correlation) in std::mem::take(&mut self.lost) {
            self.step(id.0, Event::FetchFailed { fetcher, correlation });
        }
    }

    pub fn deliver(&mut self, message: Message) {
        if self.cut.contains(&message.link()) {
            match message {
                Message::Fetch { from: id, fetcher, correlation, .. }
                | Message::Reply { to: id, fetcher, correlation, .. } => self.lost.push((id, fetcher, correlation)),
                _ => {}
            }
            return;
        }
        match message {
            Message::Fetch { from, fetcher, correlation, request } => {
                let ticket = self.ticket();
                self.peer_fetches.insert(ticket, (from, fetcher, correlation));
                if self.brokers[&fetcher.leader].shard.is_some() {
                    self.step(fetcher.leader.0, Event::Fetch { ticket, request });
                } else {
                    self.peer_fetches.remove(&ticket);
                    self.step(from.0, Event::FetchFailed { fetcher, correlation });
                }
            }
            Message::Reply { to, fetcher, correlation, reply } => {
                self.step(to.0, Event::FetchResponse { fetcher, correlation, reply });
            }
            Message::Alter { from, request } => self.alter(from, request),
            Message::AlterReply { to, partition, correlation, result } => {
                self.step(to.0, Event::AlterPartitionReply { partition, correlation, result });
            }
            Message::Image { to, image } => self.step(to.0, Event::Image(image)),
            Message::Sync { at, round } => self.sync(at.0, round),
        }
    }

    fn alter(&mut self, from: BrokerId, request: AlterPartition) {
        let command = Command::AlterPartition {
            key: request.partition,
            broker: request.leader,
            broker_epoch: request.broker_epoch,
            leader_epoch: request.leader_epoch,
            partition_epoch: request.partition_epoch,
            new_isr: request.new_isr.iter().map(|&(broker, broker_epoch)| IsrMember { broker, broker_epoch }).collect(),
        };
        let result = match self.command(command) {
            Ok(Reply::Partition { leader_epoch, isr, partition_epoch, .. }) => {
                Ok(IsrCommitted { leader_epoch, partition_epoch, isr })
            }
            Err(CommandError::AlterPartition(refusal)) => Err(AlterPartitionError::from(&refusal)),
            other => panic!("not an answer to AlterPartition: {other:?}"),
        };
        let (partition, correlation) = (request.partition, request.correlation);
        self.in_transit.push_back(Message::AlterReply { to: from, partition, correlation, result });
    }

    fn sync(&mut self, at: i32, round: u64) {
        let broker = self.brokers.get_mut(&BrokerId(at)).expect("known");
        let Some(shard) = broker.shard.as_mut() else { return };
        let files = shard.take_sync(round);
        let results = files.iter().map(|file| broker.disk.sync(file).map_err(|error| error.kind())).collect();
        self.step(at, Event::Synced { round, results });
    }

    /// Steps one broker and takes its outputs to where they go.
    pub fn step(&mut self, id: i32, event: Event) {
        let broker = self.brokers.get_mut(&BrokerId(id)).expect("known");
        let Some(shard) = broker.shard.as_mut() else { return };
        let mut outputs = Vec::new();
        shard.step(self.now, event, &mut broker.disk, &mut outputs);
        self.carry_out(BrokerId(id), outputs);
    }

    /// One broker takes events in; what follows from them waits for [`Self::settle`].
    pub fn take_in(&mut self, id: i32, events: impl IntoIterator<Item = Event>) {
        let broker = self.brokers.get_mut(&BrokerId(id)).expect("known");
        let shard = broker.shard.as_mut().expect("running");
        let mut outputs = Vec::new();
        shard.take_in(self.now, events, &mut broker.disk, &mut outputs);
        self.carry_out(BrokerId(id), outputs);
    }

    /// A step without an event of its own.
    pub fn settle(&mut self, id: i32) {
        let broker = self.brokers.get_mut(&BrokerId(id)).expect("known");
        let shard = broker.shard.as_mut().expect("running");
        let mut outputs = Vec::new();
        shard.step_batch(self.now, [], &mut broker.disk, &mut outputs);
        self.carry_out(BrokerId(id), outputs);
    }

    fn carry_out(&mut self, id: BrokerId, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Appended { ticket, result } => {
                    let twice = self.produced.insert(ticket, result);
                    assert_eq!(twice, None, "{ticket:?} is answered once");
                }
                Output::Fetched { ticket, reply } => match self.peer_fetches.remove(&ticket) {
                    Some((to, fetcher, correlation)) => {
                        self.in_transit.push_back(Message::Reply { to, fetcher, correlation, reply });
                    }
                    None => {
                        let twice = self.fetched.insert(ticket, reply);
                        assert_eq!(twice, None, "{ticket:?} is answered once");
                    }
                },
                Output::SendFetch { fetcher, correlation, request } => {
                    self.last_fetch.insert(id, (fetcher, correlation));
                    self.fetches_sent += 1;
                    self.in_transit.push_back(Message::Fetch { from: id, fetcher, correlation, request });
                }
                Output::AlterPartition(request) => self.in_transit.push_back(Message::Alter { from: id, request }),
                Output::Sync { round } => self.in_transit.push_back(Message::Sync { at: id, round }),
                Output::Notice(notice) => self.notices.push((id, notice)),
            }
        }
    }

    // ---- clients -------------------------------------------------------------------------------------------------

    pub fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Sends one record to a broker; nothing moves yet.
    pub fn send(&mut self, to: i32, value: &str, acks: Acks) -> Ticket {
        self.send_batch(to, &[value], acks, Producer::NONE)
    }

    pub fn send_batch(&mut self, to: i32, values: &[&str], acks: Acks, producer: Producer) -> Ticket {
        let (ticket, append) = self.append(values, acks, producer);
        self.step(to, append);
        ticket
    }

    /// What a produce request asks of a shard.
    pub fn append(&mut self, values: &[&str], acks: Acks, producer: Producer) -> (Ticket, Event) {
        let ticket = self.ticket();
        let batch = batch(values, producer);
        let summary = batch_summary(&BatchView::parse(&batch).expect("a batch"));
        let partition = self.key();
        let append = Append { ticket, partition, batch: batch.into(), summary, acks, timeout_ms: 30_000 };
        (ticket, Event::Append(append))
    }

    /// Sends one record with acks=all and lets everything move; returns its offset.
    pub fn produce(&mut self, value: &str) -> i64 {
        let leader = self.leader().expect("a leader");
        let ticket = self.send(leader, value, Acks::All);
        self.run();
        self.produced[&ticket].expect("acknowledged").base_offset.0
    }

    /// Sends one record with acks=all to the leader, without any message moving.
    pub fn produce_pending(&mut self, value: &str) -> Ticket {
        let leader = self.leader().expect("a leader");
        let ticket = self.send(leader, value, Acks::All);
        self.run();
        ticket
    }

    pub fn result(&self, ticket: Ticket) -> Option<Result<i64, AppendError>> {
        self.produced.get(&ticket).map(|result| result.map(|appended| appended.base_offset.0))
    }

    /// A consumer's fetch.
    pub fn consume(&mut self, at: i32, offset: i64, max_wait_ms: u64) -> Ticket {
        self.consume_in(None, at, offset, max_wait_ms)
    }

    /// The same by a consumer that knows of reads from followers, and stands in `rack`.
    pub fn consume_in(&mut self, rack: Option<&str>, at: i32, offset: i64, max_wait_ms: u64) -> Ticket {
        self.consume_like(at, offset, max_wait_ms, |request| request.client_rack = rack.map(str::to_owned))
    }

    /// The same with whatever else is asked for.
    pub fn consume_like(
        &mut self,
        at: i32,
        offset: i64,
        max_wait_ms: u64,
        change: impl Fn(&mut FetchRequest),
    ) -> Ticket {
        let ticket = self.ticket();
        let mut request = FetchRequest {
            reader: Reader::Consumer { isolation: Isolation::ReadUncommitted },
            client_rack: None,
            max_wait_ms,
            min_bytes: 1,
            max_bytes: 1 << 20,
            partitions: vec![FetchPartition {
                partition: self.key(),
                current_leader_epoch: None,
                fetch_offset: Offset(offset),
                last_fetched_epoch: None,
                log_start: None,
                high_watermark: None,
                flushed: None,
                max_bytes: 1 << 20,
            }],
        };
        change(&mut request);
        self.step(at, Event::Fetch { ticket, request });
        ticket
    }

    /// Everything a consumer can read at a broker now.
    pub fn read_all(&mut self, at: i32) -> Vec<String> {
        let ticket = self.consume(at, 0, 0);
        let reply = self.fetched.remove(&ticket).expect("answered at once");
        let fetched = reply.partitions[0].result.clone().expect("readable");
        values(&fetched.records)
    }

    // ---- looking inside ------------------------------------------------------------------------------------------

    pub fn describe(&self, id: i32) -> PartitionDescription {
        let shard = self.brokers[&BrokerId(id)].shard.as_ref().expect("running");
        let key = self.key();
        shard.describe(self.now).into_iter().find(|it| it.partition == key).expect("hosted")
    }

    /// What a leader tells about the ISR: who left (false) or joined (true), and why, oldest first.
    pub fn isr_changes(&self, leader: i32) -> Vec<(i32, bool, IsrReason)> {
        let report = self.isr_report(leader);
        report.changes.iter().map(|change| (change.broker.0, change.joined, change.reason)).collect()
    }

    pub fn isr_report(&self, leader: i32) -> IsrReport {
        let shard = self.brokers[&BrokerId(leader)].shard.as_ref().expect("running");
        shard.isr_report(self.now, self.key()).expect("it leads")
    }

    pub fn high_watermark(&self, id: i32) -> i64 {
        self.describe(id).high_watermark.0
    }

    pub fn log_end(&self, id: i32) -> i64 {
        self.describe(id).log_end.0
    }

    /// The bytes of a replica's first segment, as on disk.
    pub fn log_bytes(&mut self, id: i32) -> Vec<u8> {
        let disk = &mut self.brokers.get_mut(&BrokerId(id)).expect("known").disk;
        disk.read_file(Path::new("/data/t-0/00000000000000000000.log")).expect("readable").unwrap_or_default()
    }

    /// Every running replica holds the same bytes, all committed, and everyone is in the ISR.
    pub fn assert_converged(&mut self) {
        self.pass(self.brokers.values().map(|it| it.config.replica_high_watermark_delay_max_ms).max().unwrap_or(0));
        let ids: Vec<i32> = self.running().collect();
        assert_eq!(self.isr(), ids, "everyone is in the ISR");
        let leader = self.leader().expect("a leader");
        let (end, bytes) = (self.log_end(leader), self.log_bytes(leader));
        for id in ids {
            assert_eq!(self.log_bytes(id), bytes, "broker {id} holds the leader's bytes");
            assert_eq!((self.log_end(id), self.high_watermark(id)), (end, end), "broker {id} has everything committed");
        }
    }

    pub fn truncations(&self, id: i32) -> Vec<(i64, i64)> {
        let of = |(at, notice): &(BrokerId, Notice)| match notice {
            Notice::Truncated { from, to, .. } if at.0 == id => Some((from.0, to.0)),
            _ => None,
        };
        self.notices.iter().filter_map(of).collect()
    }
}

pub fn batch(values: &[&str], producer: Producer) -> Bytes {
    let mut builder = BatchBuilder::new(256);
    for value in values {
        builder.append(1_000, None, Some(value.as_bytes()), &[]);
    }
    builder.finish(producer)
}

pub fn idempotent(id: i64, base_sequence: i32) -> Producer {
    Producer { id, epoch: 0, base_sequence, transactional: false }
}

/// The values of all records in fetched pieces.
pub fn values(pieces: &[Bytes]) -> Vec<String> {
    let mut found = Vec::new();
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() {
            let size = BatchHeader::parse(&piece[at..]).expect("a batch").size;
            let view = BatchView::parse(&piece[at..at + size]).expect("a batch");
            for record in minisr_wire::batch::records(&view).expect("uncompressed") {
                let record = record.expect("a record");
                found.push(String::from_utf8(record.value.expect("a value").to_vec()).expect("text"));
            }
            at += size;
        }
    }
    found
}

/// `flush=commit` for everyone.
pub fn flush_commit(config: &mut Config) {
    config.flush = FlushPolicy::Commit;
}

/// Silences the unused-import lint of stories that need only some of these.
pub type Unused = (Epoch, PartitionEpoch);
