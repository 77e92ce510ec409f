//! A sound little cluster for the tests of the invariants, to be doctored.

use std::collections::BTreeMap;

use minisr_logic::metadata::{Assignment, Command, Image, IsrMember, Partition, apply};
use minisr_logic::{BrokerId, Epoch, Offset, PartitionEpoch, TopicId, TopicPartition};
use minisr_replica::{Bookkeeping, PartitionDescription, RoleName};

use super::Invariant;
use crate::state::{Attempt, Entry, Fact, Place, Replica, State, Step};

pub const TOPIC: TopicId = TopicId(1);
pub const P0: TopicPartition = TopicPartition { topic: TOPIC, partition: 0 };

pub fn place(broker: i32) -> Place {
    (P0, BrokerId(broker))
}

/// A batch of one record at `offset`, in `epoch`, from attempt 100 + offset, on top of `below`.
pub fn entry(below: &[Entry], epoch: i32) -> Entry {
    let base = below.last().map_or(Offset::ZERO, |it| it.end);
    let attempt = 100 + base.0 as u64;
    Entry {
        base,
        end: base.plus(1),
        epoch: Epoch(epoch),
        bytes_hash: attempt * 1_000 + epoch as u64,
        prefix_hash: below.last().map_or(7, |it| it.prefix_hash).wrapping_mul(31) + attempt * 1_000 + epoch as u64,
        attempt: Attempt(attempt),
        producer: None,
    }
}

pub fn log(epochs: &[i32]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for epoch in epochs {
        entries.push(entry(&entries, *epoch));
    }
    entries
}

/// Three brokers, one partition, min ISR 2; broker 1 leads in epoch 0; each log holds three batches, all committed.
pub struct Doctored {
    pub state: State,
    pub facts: Vec<Fact>,
    pub changed: Vec<(Place, Option<PartitionDescription>)>,
    pub now_ms: u64,
}

impl Doctored {
    pub fn sound() -> Self {
        let mut image = Image::new();
        for id in 1..=3 {
            let id = BrokerId(id);
            let register = Command::RegisterBroker {
                id,
                incarnation: id.0 as u128,
                listeners: Vec::new(),
                rack: None,
                clean_for_data: false,
                previous_broker_epoch: None,
            };
            let index = image.version() + 1;
            apply(&mut image, index, register).expect("registered");
            let epoch = image.broker(id).expect("registered").epoch;
            apply(&mut image, index + 1, Command::UnfenceBroker { id, epoch, applied_index: index }).expect("unfenced");
        }
        let create = Command::CreateTopic {
            name: "t".to_owned(),
            topic_id: TOPIC,
            assignment: Assignment::Automatic { partitions: 1, replication_factor: 3 },
            configs: BTreeMap::new(),
            default_min_insync_replicas: 2,
        };
        let index = image.version() + 1;
        apply(&mut image, index, create).expect("created");
        let mut state = State { image, lag_time_max_ms: 1_000, ..State::default() };
        for id in 1..=3 {
            let role = if id == 1 { RoleName::Leader } else { RoleName::Follower };
            let bookkeeping = Bookkeeping { epochs: vec![(Epoch(0), Offset::ZERO)], ..Bookkeeping::default() };
            let replica = Replica {
                log: log(&[0, 0, 0]),
                view: Some(view(role)),
                bookkeeping,
                min_isr: 2,
                flushed: Offset(3),
                damaged: false,
                failed: false,
            };
            state.replicas.insert(place(id), replica);
        }
        // Seen for the first time.
        let changed = (1..=3).map(|id| (place(id), None)).collect();
        Self { state, facts: Vec::new(), changed, now_ms: 10_000 }
    }

    pub fn replica(&mut self, broker: i32) -> &mut Replica {
        self.state.replicas.get_mut(&place(broker)).expect("one of the three")
    }

    pub fn view(&mut self, broker: i32) -> &mut PartitionDescription {
        self.replica(broker).view.as_mut().expect("running")
    }

    /// A batch more in a broker's log, with the fact and the view.
    pub fn append(&mut self, broker: i32, epoch: i32) -> Entry {
        let replica = self.replica(broker);
        let new = entry(&replica.log, epoch);
        let from_index = replica.log.len();
        replica.log.push(new);
        self.view(broker).log_end = new.end;
        self.facts.push(Fact::Appended { place: place(broker), from_index });
        new
    }

    /// The partition as committed.
    pub fn partition(&self) -> Partition {
        self.state.image.partition(P0).expect("the one partition").clone()
    }

    /// Commits a command.
    pub fn apply(&mut self, command: Command) {
        let before = self.state.image.clone();
        apply(&mut self.state.image, before.version() + 1, command.clone()).expect("accepted");
        self.facts.push(Fact::Committed { before, command, accepted: true });
    }

    /// Commits a command that changes nothing, because it is refused.
    pub fn refuse(&mut self, command: Command) {
        let before = self.state.image.clone();
        apply(&mut self.state.image, before.version() + 1, command.clone()).expect_err("refused");
        self.facts.push(Fact::Committed { before, command, accepted: false });
    }

    /// The leader drops members.
    pub fn shrink_isr(&mut self, members: &[i32]) {
        let life = |id: i32| self.state.image.broker(BrokerId(id)).expect("registered").epoch;
        let new_isr = members.iter().map(|id| IsrMember { broker: BrokerId(*id), broker_epoch: life(*id) }).collect();
        self.apply(Command::AlterPartition {
            key: P0,
            broker: BrokerId(1),
            broker_epoch: life(1),
            leader_epoch: Epoch(0),
            partition_epoch: self.partition().partition_epoch,
            new_isr,
        });
    }

    pub fn step(&self) -> Step<'_> {
        Step { now_ms: self.now_ms, state: &self.state, changed: &self.changed, facts: &self.facts }
    }

    /// Checks this state as one step, then calls it the state before the next.
    pub fn check(&mut self, invariant: &mut impl Invariant) -> Result<(), String> {
        let result = invariant.check(&self.step());
        self.facts.clear();
        self.changed = (1..=3).map(|id| (place(id), self.state.replicas[&place(id)].view.clone())).collect();
        result
    }
}

/// Asserts that a sound state passes and the doctored one does not.
pub fn must_ring(mut invariant: impl Invariant, doctor: impl FnOnce(&mut Doctored)) -> String {
    let mut cluster = Doctored::sound();
    cluster.check(&mut invariant).expect("the sound state is accepted");
    doctor(&mut cluster);
    cluster.check(&mut invariant).expect_err("the doctored state is refused")
}

/// Asserts that the doctored state is accepted: what looks alike but is allowed.
pub fn must_pass(mut invariant: impl Invariant, doctor: impl FnOnce(&mut Doctored)) {
    let mut cluster = Doctored::sound();
    cluster.check(&mut invariant).expect("the sound state is accepted");
    doctor(&mut cluster);
    cluster.check(&mut invariant).expect("allowed");
}

fn view(role: RoleName) -> PartitionDescription {
    PartitionDescription {
        partition: P0,
        role,
        leader: Some(BrokerId(1)),
        leader_epoch: Some(Epoch(0)),
        partition_epoch: PartitionEpoch(0),
        log_start: Offset::ZERO,
        high_watermark: Offset(3),
        flushed: Offset(3),
        log_end: Offset(3),
        isr: (1..=3).map(BrokerId).collect(),
        proposed_isr: None,
        lagging: Vec::new(),
        waiting_acks: 0,
        size_bytes: 0,
    }
}
