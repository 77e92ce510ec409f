//! What travels between the nodes of a simulated cluster.

use bytes::Bytes;
use minisr_logic::metadata::{Command, CommandError, Reply};
use minisr_logic::{BrokerEpoch, Epoch, TopicPartition};
use minisr_replica::{Acks, AppendError, Appended, BatchSummary, FetchReply, FetchRequest, FetcherId};

use crate::schedule::Node;
use crate::state::Attempt;

/// A request.
#[derive(Clone, Debug)]
pub enum Request {
    /// A follower's or a consumer's fetch.
    Fetch(FetchRequest),
    /// A batch.
    Produce(Produce),
    /// A client wants a producer id.
    ProducerId,
    /// A command for the metadata log.
    Propose(Command),
    /// A broker lives.
    Heartbeat {
        /// In which life.
        epoch: BrokerEpoch,
        /// How far it has applied the metadata log.
        applied_index: u64,
        /// Whether it wants to stop.
        wants_to_stop: bool,
    },
}

/// A batch for one partition.
#[derive(Clone, Debug)]
pub struct Produce {
    /// Where to.
    pub partition: TopicPartition,
    /// Which attempt.
    pub attempt: Attempt,
    /// The batch.
    pub batch: Bytes,
    /// What its header says.
    pub summary: BatchSummary,
    /// When to answer.
    pub acks: Acks,
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Response {
    /// To a fetch.
    Fetched(FetchReply),
    /// To a batch.
    Produced(Result<Appended, AppendError>),
    /// A producer id.
    ProducerId(i64),
    /// To a proposal, once it is applied.
    Proposed(Result<Reply, CommandError>),
    /// To a heartbeat.
    Heartbeat {
        /// Whether the epoch was the registered one.
        known: bool,
        /// The last committed index.
        committed_index: u64,
        /// Whether a broker that wanted to stop may.
        may_stop: bool,
    },
}

/// Something on its way.
#[derive(Clone, Debug)]
pub enum Message {
    /// A request, to be answered under its call's number.
    Request {
        /// The call.
        call: u64,
        /// Who asks.
        from: Node,
        /// What.
        body: Request,
    },
    /// An answer.
    Response {
        /// The call.
        call: u64,
        /// What.
        body: Response,
    },
    /// The metadata log has grown.
    MetadataGrew {
        /// To this index.
        index: u64,
    },
}

/// What a message is about, as schedules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageKind {
    /// A follower's or consumer's fetch.
    Fetch,
    /// The answer to it.
    FetchReply,
    /// A batch.
    Produce,
    /// The answer to it.
    ProduceReply,
    /// A producer wants an id.
    ProducerId,
    /// The answer to it.
    ProducerIdReply,
    /// A broker registers.
    Register,
    /// A leader asks for an ISR.
    AlterPartition,
    /// Any other wish for the metadata log.
    Propose,
    /// The answer to one of these three.
    ProposeReply,
    /// A broker lives.
    Heartbeat,
    /// The answer to it.
    HeartbeatReply,
    /// The metadata log has grown.
    Metadata,
}

impl MessageKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Fetch,
        Self::FetchReply,
        Self::Produce,
        Self::ProduceReply,
        Self::ProducerId,
        Self::ProducerIdReply,
        Self::Register,
        Self::AlterPartition,
        Self::Propose,
        Self::ProposeReply,
        Self::Heartbeat,
        Self::HeartbeatReply,
        Self::Metadata,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::FetchReply => "fetch-reply",
            Self::Produce => "produce",
            Self::ProduceReply => "produce-reply",
            Self::ProducerId => "producer-id",
            Self::ProducerIdReply => "producer-id-reply",
            Self::Register => "register",
            Self::AlterPartition => "alter-partition",
            Self::Propose => "propose",
            Self::ProposeReply => "propose-reply",
            Self::Heartbeat => "heartbeat",
            Self::HeartbeatReply => "heartbeat-reply",
            Self::Metadata => "metadata",
        }
    }

    /// The kind of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Whether it travels to or from the controller's log.
    #[must_use]
    pub const fn is_proposal(self) -> bool {
        matches!(self, Self::Register | Self::AlterPartition | Self::Propose | Self::ProposeReply)
    }
}

impl Message {
    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        match self {
            Self::Request { body, .. } => match body {
                Request::Fetch(_) => MessageKind::Fetch,
                Request::Produce(_) => MessageKind::Produce,
                Request::ProducerId => MessageKind::ProducerId,
                Request::Propose(Command::RegisterBroker { .. }) => MessageKind::Register,
                Request::Propose(Command::AlterPartition { .. }) => MessageKind::AlterPartition,
                Request::Propose(_) => MessageKind::Propose,
                Request::Heartbeat { .. } => MessageKind::Heartbeat,
            },
            Self::Response { body, .. } => match body {
                Response::Fetched(_) => MessageKind::FetchReply,
                Response::Produced(_) => MessageKind::ProduceReply,
                Response::ProducerId(_) => MessageKind::ProducerIdReply,
                Response::Proposed(_) => MessageKind::ProposeReply,
                Response::Heartbeat { .. } => MessageKind::HeartbeatReply,
            },
            Self::MetadataGrew { .. } => MessageKind::Metadata,
        }
    }
}

/// What the caller does with the answer.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// Feed a shard's fetcher.
    ReplicaFetch {
        /// Which loop.
        fetcher: FetcherId,
        /// Of which request.
        correlation: u64,
        /// In which leader epochs it asked.
        asked: Vec<(TopicPartition, Option<Epoch>)>,
    },
    /// Feed a shard's ISR proposal.
    AlterPartition {
        /// For which partition.
        partition: TopicPartition,
        /// Of which proposal.
        correlation: u64,
    },
    /// Learn the broker epoch.
    Register,
    /// Learn of the metadata's growth.
    Heartbeat,
    /// A broker fills its store of producer ids.
    ProducerIdBlock,
    /// A producer waits for its batch.
    Produce {
        /// The producer.
        producer: usize,
        /// Its partition's index.
        slot: usize,
        /// The attempt.
        attempt: Attempt,
    },
    /// A producer waits for its id.
    ProducerId {
        /// The producer.
        producer: usize,
        /// Its partition's index.
        slot: usize,
    },
    /// A consumer waits for data.
    Consume {
        /// The consumer.
        consumer: usize,
        /// Its partition's index.
        slot: usize,
    },
}

/// A request that is not yet answered.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asked.
    pub from: Node,
    /// In which life, for a broker.
    pub life: u32,
    /// Why.
    pub purpose: Purpose,
}
