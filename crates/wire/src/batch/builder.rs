//! Builds an uncompressed batch record by record, in the buffer that goes on the wire.
//!
//! One copy of each payload, no allocation after the first, one CRC pass at the end.

use bytes::{BufMut, Bytes};

use crate::batch::{
    ATTRIBUTE_TRANSACTIONAL, HEADER_BYTES, Header, LENGTH_OVERHEAD_BYTES, NO_LEADER_EPOCH, NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID, NO_SEQUENCE, stamp,
};
use crate::varint::{long_bytes, write_long};

/// What an idempotent producer writes into its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its id, from InitProducerId.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub base_sequence: i32,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
}

impl Producer {
    /// A producer that is not idempotent.
    pub const NONE: Self =
        Self { id: NO_PRODUCER_ID, epoch: NO_PRODUCER_EPOCH, base_sequence: NO_SEQUENCE, transactional: false };
}

/// A batch under construction.
#[derive(Debug)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    record_count: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

impl BatchBuilder {
    /// An empty batch with room for `capacity_bytes`, its header included.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(capacity_bytes.max(HEADER_BYTES));
        buffer.resize(HEADER_BYTES, 0);
        Self { buffer, record_count: 0, base_timestamp_ms: -1, max_timestamp_ms: -1 }
    }

    /// Appends a record.
    ///
    /// # Panics
    /// The batch would exceed 2³¹−1 records or bytes.
    pub fn append(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) {
        self.append_sized(RecordSize::of(key, value, headers), timestamp_ms, key, value, headers);
    }

    /// Appends a record whose size the caller knows already.
    ///
    /// # Panics
    /// The size is another record's, or the batch would exceed 2³¹−1 records or bytes.
    pub fn append_sized(
        &mut self,
        size: RecordSize,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) {
        if self.record_count == 0 {
            self.base_timestamp_ms = timestamp_ms;
            self.max_timestamp_ms = timestamp_ms;
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        let timestamp_delta = timestamp_ms.wrapping_sub(self.base_timestamp_ms);
        let offset_delta = i64::from(self.record_count);
        let body_bytes = size.body_bytes(timestamp_delta, offset_delta);
        let start = self.buffer.len();
        let end = start + long_bytes(body_bytes as i64) + body_bytes;
        assert!(end <= i32::MAX as usize, "a batch has at most 2³¹−1 bytes");
        self.buffer.resize(end, 0);
        let mut out = Fields { rest: &mut self.buffer[start..] };
        out.long(body_bytes as i64);
        out.byte(0);
        out.long(timestamp_delta);
        out.long(offset_delta);
        out.nullable(key);
        out.nullable(value);
        out.long(headers.len() as i64);
        for header in headers {
            out.nullable(Some(header.key));
            out.nullable(header.value);
        }
        assert!(out.rest.is_empty(), "a record is as long as it says");
        self.record_count = self.record_count.checked_add(1).expect("a batch has at most 2³¹−1 records");
    }

    /// How many records there are.
    #[must_use]
    pub const fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Size so far, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there is no record yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// An upper bound of the batch's size if this record were appended: a timestamp delta is taken to be short.
    #[must_use]
    pub fn len_with(&self, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> usize {
        self.buffer.len() + RecordSize::of(key, value, headers).bytes_max()
    }

    /// Writes the header and closes the batch: base offset 0, no leader epoch yet.
    ///
    /// # Panics
    /// There is no record.
    #[must_use]
    pub fn finish(mut self, producer: Producer) -> Bytes {
        assert!(self.record_count > 0, "a batch has at least one record");
        let batch_length = (self.buffer.len() - LENGTH_OVERHEAD_BYTES) as i32;
        let mut header = &mut self.buffer[..HEADER_BYTES];
        header.put_i64(0);
        header.put_i32(batch_length);
        header.put_i32(NO_LEADER_EPOCH);
        header.put_i8(2);
        header.put_u32(0);
        header.put_i16(if producer.transactional { ATTRIBUTE_TRANSACTIONAL } else { 0 });
        header.put_i32(self.record_count - 1);
        header.put_i64(self.base_timestamp_ms);
        header.put_i64(self.max_timestamp_ms);
        header.put_i64(producer.id);
        header.put_i16(producer.epoch);
        header.put_i32(producer.base_sequence);
        header.put_i32(self.record_count);
        stamp::write_crc(&mut self.buffer);
        self.buffer.into()
    }
}

/// What a record takes in a batch, as far as it does not depend on its place there. Worked out once, for the decision
/// which batch it goes into and for writing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSize {
    /// Everything but its length, timestamp delta and offset delta.
    fixed_bytes: usize,
}

impl RecordSize {
    /// Of a record with these fields.
    #[must_use]
    pub fn of(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> Self {
        let header_bytes: usize =
            headers.iter().map(|header| nullable_bytes(Some(header.key)) + nullable_bytes(header.value)).sum();
        let attributes = 1;
        Self {
            fixed_bytes: attributes
                + nullable_bytes(key)
                + nullable_bytes(value)
                + long_bytes(headers.len() as i64)
                + header_bytes,
        }
    }

    /// An upper bound, the record's length included, for deltas that fit 5 bytes.
    #[must_use]
    pub fn bytes_max(self) -> usize {
        // A timestamp delta beyond 2³⁴ ms (half a year) would need more than 5 bytes; nobody batches for that long.
        let body = self.body_bytes(i64::from(i32::MAX), i64::from(i32::MAX));
        long_bytes(body as i64) + body
    }

    /// What follows the record's length.
    fn body_bytes(self, timestamp_delta: i64, offset_delta: i64) -> usize {
        self.fixed_bytes + long_bytes(timestamp_delta) + long_bytes(offset_delta)
    }
}

fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| long_bytes(bytes.len() as i64) + bytes.len())
}

/// The rest of a record that is being written: room for exactly what is missing.
struct Fields<'a> {
    rest: &'a mut [u8],
}

impl Fields<'_> {
    fn byte(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (front, rest) = std::mem::take(&mut self.rest).split_at_mut(bytes.len());
        front.copy_from_slice(bytes);
        self.rest = rest;
    }

    fn long(&mut self, value: i64) {
        let length = write_long(self.rest, value);
        self.rest = &mut std::mem::take(&mut self.rest)[length..];
    }

    fn nullable(&mut self, bytes: Option<&[u8]>) {
        self.long(bytes.map_or(-1, |bytes| bytes.len() as i64));
        self.bytes(bytes.unwrap_or_default());
    }
}
