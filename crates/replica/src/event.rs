//! What goes into a shard: requests from connections, answers to the shard's own requests, metadata and time.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use minisr_logic::metadata::Image;
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, Offset, TopicPartition};

use crate::error::{AlterPartitionError, FetchError};

pub use minisr_logic::partition::{Acks, BatchSummary, EpochEnd, IsrCommitted, ProducerBatch, Ticket};

/// Something happened. See [`crate::Shard::step`].
#[derive(Clone, Debug)]
pub enum Event {
    /// The cluster's metadata changed; images older than the last one are ignored.
    Image(Arc<Image>),
    /// The controller accepted this process's registration. Until this, and until an image that carries this broker
    /// with this very epoch, the shard takes no role: an older image describes another life of this broker.
    Registered {
        /// The epoch of the registration.
        broker_epoch: BrokerEpoch,
    },
    /// A producer's batch for one partition.
    Append(Append),
    /// A follower or a consumer wants data; may wait in the shard.
    Fetch {
        /// Comes back in [`crate::Output::Fetched`].
        ticket: Ticket,
        /// What is wanted.
        request: FetchRequest,
    },
    /// The connection of this waiting fetch is gone: forget it, answer nothing.
    CancelFetch {
        /// The fetch's ticket.
        ticket: Ticket,
    },
    /// A leader answered one of this shard's [`crate::Output::SendFetch`].
    FetchResponse {
        /// As in `SendFetch`.
        fetcher: FetcherId,
        /// As in `SendFetch`; an answer to anything but the newest request of that fetcher is dropped.
        correlation: u64,
        /// One answer for each partition asked.
        reply: FetchReply,
    },
    /// A `SendFetch` failed as a whole: no connection, timeout, undecodable answer.
    FetchFailed {
        /// As in `SendFetch`.
        fetcher: FetcherId,
        /// As in `SendFetch`.
        correlation: u64,
    },
    /// The controller answered [`crate::Output::AlterPartition`], or no answer can come any more
    /// ([`AlterPartitionError::Unknown`]).
    AlterPartitionReply {
        /// The partition.
        partition: TopicPartition,
        /// As in the request.
        correlation: u64,
        /// The new committed state, or why not.
        result: Result<IsrCommitted, AlterPartitionError>,
    },
    /// The sync round that [`crate::Output::Sync`] asked for is over.
    Synced {
        /// The round's number.
        round: u64,
        /// One result for each file, in the round's order.
        results: Vec<Result<(), std::io::ErrorKind>>,
    },
    /// Time has passed: [`crate::Shard::next_deadline`] was reached (an early or late tick is harmless).
    Tick {
        /// Wall clock, milliseconds since 1970, for `retention.ms`.
        wall_clock_ms: i64,
    },
}

/// One batch of one producer for one partition. The caller has validated it: one v2 batch, length and CRC right,
/// counts consistent, no control bit.
#[derive(Clone, Debug)]
pub struct Append {
    /// Comes back in [`crate::Output::Appended`].
    pub ticket: Ticket,
    /// Where to.
    pub partition: TopicPartition,
    /// The batch as received; base offset and leader epoch are stamped by the shard, in place.
    pub batch: BytesMut,
    /// What the batch's header says.
    pub summary: BatchSummary,
    /// When to answer.
    pub acks: Acks,
    /// For `acks=all`: after this long the answer is [`crate::AppendError::TimedOut`], the data stays.
    pub timeout_ms: u64,
}

/// Who fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reader {
    /// Another broker's replica: reads up to the log end, and its offsets are acknowledgements.
    Replica {
        /// The follower.
        id: BrokerId,
        /// Its registration. `None` when the request's version has no such field; nothing is credited then.
        broker_epoch: Option<BrokerEpoch>,
    },
    /// A consumer: reads below the high watermark or the last stable offset.
    Consumer {
        /// Which of the two.
        isolation: Isolation,
    },
}

/// How far a consumer reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// Up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Up to the last stable offset.
    ReadCommitted,
}

/// Several partitions of one leader, asked for at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FetchRequest {
    /// Who asks.
    pub reader: Reader,
    /// The rack of a consumer that knows of reads from followers (empty: of none); `None` if it does not, and then
    /// only the leader serves it.
    pub client_rack: Option<String>,
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: u64,
    /// Answer as soon as this many bytes are there.
    pub min_bytes: usize,
    /// At most this much in total, but the first batch is returned whole.
    pub max_bytes: usize,
    /// In the order in which data is filled in.
    pub partitions: Vec<FetchPartition>,
}

/// One partition of a [`FetchRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FetchPartition {
    /// Which.
    pub partition: TopicPartition,
    /// The leader epoch the reader knows; checked when present.
    pub current_leader_epoch: Option<Epoch>,
    /// First offset wanted. From a replica: everything below is in its log.
    pub fetch_offset: Offset,
    /// Epoch of the reader's last record, for the divergence check.
    pub last_fetched_epoch: Option<Epoch>,
    /// A replica's own log start.
    pub log_start: Option<Offset>,
    /// Everything below is on the replica's stable storage (tagged field 100). Under `flush=commit` only this counts
    /// towards the high watermark.
    pub flushed: Option<Offset>,
    /// From a replica, the high watermark it knows (KIP-1166).
    pub high_watermark: Option<Offset>,
    /// At most this much of this partition.
    pub max_bytes: usize,
}

/// The answer to a [`FetchRequest`], in the order asked: an entry for each partition, except those of which a replica
/// that says its high watermark would learn nothing. Among a thousand partitions that is nearly all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FetchReply {
    /// The partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// The answer for one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FetchedPartition {
    /// Which.
    pub partition: TopicPartition,
    /// Data and cursors, or why not.
    pub result: Result<Fetched, FetchError>,
}

/// Data of one partition, and what the leader's cursors were when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fetched {
    /// Whole batches, as stored, in pieces that follow one another without gap; shared with the log's tail, not
    /// copied. The first may begin before the offset asked for.
    pub records: Vec<Bytes>,
    /// The leader's high watermark, read once.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable: Offset,
    /// The log start.
    pub log_start: Offset,
    /// Set instead of data when the reader's log is not a prefix of the leader's: where its last epoch ended here.
    pub diverging: Option<EpochEnd>,
    /// Set instead of data when a consumer should read from this follower.
    pub preferred_read_replica: Option<BrokerId>,
}

/// One fetch loop of this shard: a leader broker and an index below `num.replica.fetchers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetcherId {
    /// Whom to fetch from.
    pub leader: BrokerId,
    /// Which of the loops to that broker.
    pub index: u32,
}
