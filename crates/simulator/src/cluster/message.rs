//! What travels between the nodes of a simulated cluster.

use bytes::Bytes;
use minisr_logic::metadata::{Command, CommandError, Reply};
use minisr_logic::{BrokerEpoch, BrokerId, TopicPartition};
use minisr_replica::{Acks, AppendError, Appended, BatchSummary, FetchReply, FetchRequest, FetcherId};

use crate::state::Attempt;

/// A place that sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A broker.
    Broker(BrokerId),
    /// The active controller, wherever it is.
    Controller,
    /// A producer or consumer.
    Client(u32),
}

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

/// What the caller does with the answer.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// Feed a shard's fetcher.
    ReplicaFetch {
        /// Which loop.
        fetcher: FetcherId,
        /// Of which request.
        correlation: u64,
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
