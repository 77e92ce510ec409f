//! Why the shard refused or failed something, one enum for each operation.
//!
//! Each variant names a fact, not a Kafka code; the broker turns it into the number quoted in its doc, in one file.

use minisr_logic::{Epoch, Offset};
use thiserror::Error;

pub use minisr_logic::partition::{AlterPartitionError, AppendError};

/// Why a partition of a fetch (or an epoch query) got no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Hash)]
pub enum FetchError {
    /// 3, or 100 when the request named the topic by id.
    #[error("this broker hosts no such partition")]
    UnknownPartition,
    /// 6.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// 6: the broker that fetches is not one of the partition's replicas (yet).
    #[error("the fetching broker is not a replica of the partition")]
    NotReplica,
    /// 77 (Kafka answers 6): the fetch comes from another life of that broker than the registered one.
    #[error("the fetch carries a broker epoch that is not the registered one")]
    StaleBrokerEpoch,
    /// 74.
    #[error("the request's leader epoch is older than {current}")]
    FencedLeaderEpoch {
        /// This replica's leader epoch.
        current: Epoch,
    },
    /// 75.
    #[error("the request's leader epoch is newer than {current}")]
    UnknownLeaderEpoch {
        /// This replica's leader epoch.
        current: Epoch,
    },
    /// 1. Carries what a follower needs to act on it.
    #[error("offset outside {log_start}..={log_end}")]
    OffsetOutOfRange {
        /// The leader's log start.
        log_start: Offset,
        /// The leader's log end (its high watermark for a consumer).
        log_end: Offset,
    },
    /// 56.
    #[error("the partition's log is offline")]
    LogOffline,
    /// 103.
    #[error("the topic id is not the one this broker knows")]
    InconsistentTopicId,
    /// Any code the other side does not name here: the follower backs off and asks again.
    #[error("another error")]
    Other,
}

/// Why ListOffsets got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ListOffsetsError {
    /// The same refusals as a fetch.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// 78: this leader is new and does not know yet what is committed (KIP-207).
    #[error("the high watermark has not reached the start of this leader's epoch")]
    OffsetNotAvailable,
}

/// Why a data directory could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory itself cannot be used.
    #[error("cannot use data directory {path}: {source}")]
    Directory {
        /// The directory or a file in it.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// One of the directory's small files cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] minisr_storage::checkpoint::CheckpointError),
    /// At closing: a log could not be flushed, so this was not a clean stop.
    #[error("a log could not be flushed: {reason}")]
    Unflushed {
        /// Which, and why.
        reason: String,
    },
}
