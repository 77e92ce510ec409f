//! What became of records.

use std::sync::Arc;
use std::time::Instant;

use minisr_wire::ErrorCode;

use crate::connection::CloseReason;

/// Why a batch is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The broker answered with this code.
    #[error("{0}")]
    Code(ErrorCode),
    /// The connection ended before the answer.
    #[error("connection lost: {0}")]
    Connection(CloseReason),
    /// The answer does not mention the partition or cannot be read.
    #[error("unusable answer: {0}")]
    Answer(String),
    /// It could not be sent or acknowledged before the delivery timeout.
    #[error("delivery timeout{}", .0.as_ref().map(|last| format!("; last: {last}")).unwrap_or_default())]
    DeliveryTimeout(Option<Box<Cause>>),
    /// An earlier batch was lost for good, so its sequence cannot be accepted any more.
    #[error("sequence abandoned after the loss of an earlier batch")]
    SequenceReset,
    /// The producer was closed.
    #[error("producer closed")]
    Closed,
}

/// How a batch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged as `acks` asks.
    Ok,
    /// Certainly in no log: every attempt was refused or never written.
    Failed(Cause),
    /// Perhaps in the log: at least one attempt may have been applied. The cause is that of the first such attempt.
    Unknown(Cause),
}

/// What became of one batch.
#[derive(Clone, Debug)]
pub struct BatchReport {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The tags of its records, in order.
    pub tags: Vec<u64>,
    /// Offset of the first record; −1 unless acknowledged with an offset.
    pub base_offset: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was first handed to a connection; `None` if never.
    pub sent_at: Option<Instant>,
    /// When it ended.
    pub completed_at: Instant,
    /// How often it was sent.
    pub attempts: u32,
    /// Its size.
    pub bytes: usize,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its offset; −1 with acks=0.
    pub offset: i64,
}

/// Why a record is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// Certainly in no log.
    #[error("failed: {0}")]
    Failed(Cause),
    /// Perhaps in the log.
    #[error("unknown: {0}")]
    Unknown(Cause),
    /// Not accepted by the producer.
    #[error(transparent)]
    Append(#[from] super::AppendError),
}
