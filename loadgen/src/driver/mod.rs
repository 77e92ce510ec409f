//! The seam between the generator and what it drives.
//!
//! Behind it stand the Kafka client and a null driver. What both keep: a report comes for every record handed over,
//! sooner or later; a record's tag comes back unchanged; records of one partition are reported in the order in which
//! they were handed over, unless some of them fail.

pub mod kafka;
pub mod null;

use std::future::Future;
use std::ops::Range;

use anyhow::Result;

use crate::record::{self, RecordBuilder};
use crate::tally::Failure;

/// What became of the records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// They stand in the log from this offset on.
    Acked {
        /// Offset of the first.
        base_offset: i64,
    },
    /// They have left; acks=0 learns nothing more.
    Sent,
    /// They are certainly not in the log.
    Failed(Failure),
    /// They may be in the log or not.
    Unknown(Failure),
}

/// A batch of one partition that is done with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchReport {
    /// Partition.
    pub partition: u32,
    /// Tags of the records, in their order in the log.
    pub tags: Vec<u64>,
    /// What became of them.
    pub outcome: Outcome,
    /// When the request that carried them was written.
    pub sent_ns: u64,
    /// When the answer came.
    pub done_ns: u64,
    /// How often the batch was sent again.
    pub retries: u32,
}

/// Takes records and reports on batches.
pub trait Driver {
    /// Takes one record that was made at `made_ns`, copying its value. Waits only while the driver's memory is full.
    fn send(&self, partition: u32, value: &[u8], made_ns: u64, tag: u64) -> impl Future<Output = Result<()>>;

    /// Takes records of one partition, made at `made_ns` and not late: those with these indexes.
    fn send_run(
        &self,
        partition: u32,
        builder: &mut RecordBuilder,
        made_ns: u64,
        indexes: Range<u64>,
    ) -> impl Future<Output = Result<()>> {
        async move {
            for index in indexes {
                self.send(partition, builder.build(made_ns, index), made_ns, record::tag(index, 0)).await?;
            }
            Ok(())
        }
    }

    /// The next finished batch.
    fn next_report(&self) -> impl Future<Output = Result<BatchReport>>;

    /// Asks for everything handed over to be sent without further waiting.
    fn flush(&self) -> impl Future<Output = Result<()>>;
}

/// Reads records back.
pub trait Source {
    /// Waits for records, a bounded time, and hands each over: partition, offset, value.
    fn poll(&mut self, each: impl FnMut(u32, i64, &[u8])) -> impl Future<Output = Result<usize>>;
}
