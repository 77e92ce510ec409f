//! One replica of one partition.
mod acks;
mod cursors;
mod epochs;
mod leader;
mod producers;

pub use acks::{Acks, AppendError, PendingAcks, Ticket, Waiting};
pub use cursors::{AckPolicy, Cursors};
pub use epochs::{EpochCache, EpochEnd};
pub use leader::AlterPartitionError;
pub use producers::{BatchSummary, ProducerBatch, Producers, SeenBatch, SequenceCheck, sequence_plus};
