//! A small vocabulary for stories about the cluster's metadata.

use std::collections::BTreeMap;

use minisr_logic::metadata::{
    AlterPartitionError, Assignment, Command, CommandError, Image, IsrMember, Partition, Reply, apply, check_step,
};
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, PartitionEpoch, TopicId, TopicPartition};

pub const TOPIC: TopicId = TopicId(7);
pub const P0: TopicPartition = TopicPartition { topic: TOPIC, partition: 0 };

/// One metadata log and its image; every command is checked against all invariants.
pub struct Cluster {
    pub image: Image,
    incarnations: u128,
}

impl Cluster {
    /// Brokers 1..=n, registered and unfenced.
    pub fn of(brokers: i32) -> Self {
        let mut cluster = Self { image: Image::new(), incarnations: 0 };
        for id in 1..=brokers {
            cluster.restart(id, true);
            cluster.unfence(id);
        }
        cluster
    }

    /// The same with a topic of one partition on all brokers.
    pub fn with_topic(brokers: i32, min_insync_replicas: i32) -> Self {
        let mut cluster = Self::of(brokers);
        cluster.create("t", TOPIC, 1, i16::try_from(brokers).unwrap(), min_insync_replicas).unwrap();
        cluster
    }

    pub fn apply(&mut self, command: Command) -> Result<Reply, CommandError> {
        let before = self.image.clone();
        let result = apply(&mut self.image, before.version() + 1, command);
        self.image.check().unwrap();
        check_step(&before, &self.image).unwrap();
        result
    }

    pub fn register(&mut self, id: i32, incarnation: u128, clean: bool) -> Result<Reply, CommandError> {
        let previous = self.image.broker(BrokerId(id)).and_then(|it| it.last_unfenced_epoch);
        self.register_knowing(id, incarnation, clean, previous)
    }

    /// The same, by a process whose disk remembers `previous`.
    pub fn register_knowing(
        &mut self,
        id: i32,
        incarnation: u128,
        clean: bool,
        previous: Option<BrokerEpoch>,
    ) -> Result<Reply, CommandError> {
        self.apply(Command::RegisterBroker {
            id: BrokerId(id),
            incarnation,
            listeners: Vec::new(),
            rack: None,
            clean_for_data: clean,
            previous_broker_epoch: previous,
        })
    }

    /// A new broker with a rack registers and is unfenced.
    pub fn join(&mut self, id: i32, rack: Option<&str>) {
        self.incarnations += 1;
        self.apply(Command::RegisterBroker {
            id: BrokerId(id),
            incarnation: self.incarnations,
            listeners: Vec::new(),
            rack: rack.map(str::to_owned),
            clean_for_data: false,
            previous_broker_epoch: None,
        })
        .unwrap();
        self.unfence(id);
    }

    /// A new life of a fenced (or new) broker registers.
    pub fn restart(&mut self, id: i32, clean: bool) {
        self.incarnations += 1;
        self.register(id, self.incarnations, clean).unwrap();
    }

    pub fn unfence(&mut self, id: i32) {
        let (epoch, applied_index) = (self.epoch(id), self.image.version());
        self.apply(Command::UnfenceBroker { id: BrokerId(id), epoch, applied_index }).unwrap();
    }

    pub fn fence(&mut self, id: i32) {
        let epoch = self.epoch(id);
        self.apply(Command::FenceBroker { id: BrokerId(id), epoch }).unwrap();
    }

    pub fn begin_shutdown(&mut self, id: i32) {
        let epoch = self.epoch(id);
        self.apply(Command::BeginControlledShutdown { id: BrokerId(id), epoch }).unwrap();
    }

    pub fn create(
        &mut self,
        name: &str,
        topic_id: TopicId,
        partitions: i32,
        replication_factor: i16,
        min_insync_replicas: i32,
    ) -> Result<Reply, CommandError> {
        self.apply(Command::CreateTopic {
            name: name.to_owned(),
            topic_id,
            assignment: Assignment::Automatic { partitions, replication_factor },
            configs: BTreeMap::new(),
            default_min_insync_replicas: min_insync_replicas,
        })
    }

    pub fn set_min_insync(&mut self, value: Option<i32>) -> Result<Reply, CommandError> {
        let changes = BTreeMap::from([("min.insync.replicas".to_owned(), value.map(|it| it.to_string()))]);
        self.apply(Command::AlterTopicConfigs { topic_id: TOPIC, changes })
    }

    pub fn epoch(&self, id: i32) -> BrokerEpoch {
        self.image.broker(BrokerId(id)).expect("registered").epoch
    }

    pub fn p0(&self) -> &Partition {
        self.image.partition(P0).expect("the topic exists")
    }

    pub fn member(&self, id: i32) -> IsrMember {
        IsrMember { broker: BrokerId(id), broker_epoch: self.epoch(id) }
    }

    /// What `leader` would propose now, knowing everything.
    pub fn proposal(&self, leader: i32, isr: &[i32]) -> Proposal {
        Proposal {
            broker: BrokerId(leader),
            broker_epoch: self.epoch(leader),
            leader_epoch: self.p0().leader_epoch,
            partition_epoch: self.p0().partition_epoch,
            new_isr: isr.iter().map(|id| self.member(*id)).collect(),
        }
    }

    pub fn propose(&mut self, proposal: &Proposal) -> Result<Reply, CommandError> {
        let Proposal { broker, broker_epoch, leader_epoch, partition_epoch, new_isr } = proposal.clone();
        self.apply(Command::AlterPartition { key: P0, broker, broker_epoch, leader_epoch, partition_epoch, new_isr })
    }

    /// The leader proposes an ISR, knowing everything, and succeeds.
    pub fn alter(&mut self, isr: &[i32]) {
        let leader = self.p0().leader.expect("there is a leader").0;
        let proposal = self.proposal(leader, isr);
        self.propose(&proposal).unwrap();
        assert_eq!(self.isr(), isr);
    }

    /// The leader of any partition takes another member in.
    pub fn join_isr(&mut self, key: TopicPartition, id: i32) {
        let partition = self.image.partition(key).expect("the topic exists").clone();
        let broker = partition.leader.expect("there is a leader");
        let mut new_isr: Vec<IsrMember> = partition.isr.iter().map(|member| self.member(member.0)).collect();
        new_isr.push(self.member(id));
        self.apply(Command::AlterPartition {
            key,
            broker,
            broker_epoch: self.epoch(broker.0),
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            new_isr,
        })
        .unwrap();
    }

    /// The proposal is refused with this Kafka code.
    pub fn refused(&mut self, proposal: &Proposal) -> (i16, AlterPartitionError) {
        let before = self.image.clone();
        let error = self.propose(proposal).expect_err("must be refused");
        let mut skipped = before;
        skipped.skip(self.image.version());
        // But one for an ineligible member, which raises the partition epoch.
        assert!(skipped == self.image || error.kafka_code() == 107, "a refusal changes nothing");
        match error.clone() {
            CommandError::AlterPartition(it) => (error.kafka_code(), it),
            other => panic!("{other:?}"),
        }
    }

    pub fn isr(&self) -> Vec<i32> {
        self.p0().isr.iter().map(|id| id.0).collect()
    }

    pub fn elr(&self) -> Vec<i32> {
        self.p0().elr.iter().map(|id| id.0).collect()
    }

    pub fn leader(&self) -> Option<i32> {
        self.p0().leader.map(|id| id.0)
    }
}

#[derive(Clone)]
pub struct Proposal {
    pub broker: BrokerId,
    pub broker_epoch: BrokerEpoch,
    pub leader_epoch: Epoch,
    pub partition_epoch: PartitionEpoch,
    pub new_isr: Vec<IsrMember>,
}
