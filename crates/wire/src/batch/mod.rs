//! Record batch v2, the unit that is produced, stored, replicated and fetched.
//!
//! ```text
//! byte  0 base offset i64        leader stamps        ┐ not under
//!       8 batch length i32       total − 12           │ the CRC
//!      12 partition leader epoch leader stamps        │
//!      16 magic i8 = 2                                ┘
//!      17 CRC-32C u32            of bytes 21 to the end
//!      21 attributes i16         0–2 codec, 3 LogAppendTime, 4 transactional, 5 control, 6 delete horizon
//!      23 last offset delta i32
//!      27 base timestamp i64
//!      35 max timestamp i64
//!      43 producer id i64        −1 none
//!      51 producer epoch i16
//!      53 base sequence i32      −1 none
//!      57 record count i32
//!      61 records, or one compressed stream
//! ```
//!
//! Between producer and consumer nobody parses records: [`BatchView`] reads the header where it lies, [`stamp`]
//! writes the leader's two fields in place, and neither touches a byte under the CRC.

mod builder;
mod iter;
mod record;
mod stamp;
mod view;

pub use builder::{BatchBuilder, Producer, RecordSize};
pub use iter::{Batches, iter, whole_batches_bytes};
pub use record::{Header, Headers, RecordError, RecordView, Records, records};
pub use stamp::{reassign_producer, stamp, stamp_log_append_time};
pub use view::{BatchError, BatchView, Codec, check_produce};

/// Size of the header, before the records.
pub const HEADER_BYTES: usize = 61;

/// What the batch length field does not count: base offset and the field itself.
pub const LENGTH_OVERHEAD_BYTES: usize = 12;

/// Producer id of a batch from a producer that is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;

/// Producer epoch that goes with [`NO_PRODUCER_ID`].
pub const NO_PRODUCER_EPOCH: i16 = -1;

/// Base sequence that goes with [`NO_PRODUCER_ID`].
pub const NO_SEQUENCE: i32 = -1;

/// Leader epoch of a batch that no leader has stamped yet.
pub const NO_LEADER_EPOCH: i32 = -1;

/// Attribute bit: the timestamps are the leader's.
pub const ATTRIBUTE_LOG_APPEND_TIME: i16 = 1 << 3;

/// Attribute bit: the batch belongs to a transaction.
pub const ATTRIBUTE_TRANSACTIONAL: i16 = 1 << 4;

/// Attribute bit: the batch is a control batch, such as a transaction marker.
pub const ATTRIBUTE_CONTROL: i16 = 1 << 5;

/// The sequence `records` further along: sequences wrap from 2³¹−1 to 0.
#[must_use]
pub const fn sequence_after(sequence: i32, records: i32) -> i32 {
    sequence.wrapping_add(records) & i32::MAX
}

#[cfg(test)]
mod tests;
