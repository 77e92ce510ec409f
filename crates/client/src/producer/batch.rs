//! A batch on its way: filling, sealed, sent, perhaps again.

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::time::Instant;

use minisr_wire::batch::{self, BatchBuilder, Header, Producer, RecordSize};

use super::report::{Cause, Delivered, ProduceError};

/// A record to be sent; its bytes are copied once, into the batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// Milliseconds since 1970; the time of the append if `None`.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [Header<'a>],
}

impl<'a> Record<'a> {
    /// A record with a value only.
    #[must_use]
    pub const fn of(value: &'a [u8]) -> Self {
        Self { timestamp_ms: None, key: None, value: Some(value), headers: &[] }
    }
}

/// Who waits for a single record.
pub(super) type Waiter = oneshot::Sender<Result<Delivered, ProduceError>>;

/// The producer identity and sequence that a batch was sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) base: i32,
}

enum Content {
    Filling(BatchBuilder),
    Sealed(Bytes),
}

/// See the module.
pub(super) struct Batch {
    content: Content,
    pub(super) tags: Vec<u64>,
    /// Index of the record, and who waits for it.
    pub(super) waiters: Vec<(usize, Waiter)>,
    pub(super) opened_at: Instant,
    /// Place among the partition's batches, given when it is first sent.
    pub(super) order: Option<u64>,
    pub(super) sequence: Option<Sequence>,
    pub(super) first_sent_at: Option<Instant>,
    pub(super) attempts: u32,
    /// The cause of the first attempt that may have been applied.
    pub(super) maybe_applied: Option<Cause>,
    /// The cause of the last attempt.
    pub(super) last_cause: Option<Cause>,
    /// What it holds of the buffer.
    pub(super) reserved_bytes: usize,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("order", &self.order)
            .field("sequence", &self.sequence)
            .field("records", &self.tags.len())
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

impl Batch {
    pub(super) fn open(capacity_bytes: usize, records_hint: usize, now: Instant) -> Self {
        Self {
            content: Content::Filling(BatchBuilder::new(capacity_bytes)),
            tags: Vec::with_capacity(records_hint),
            waiters: Vec::new(),
            opened_at: now,
            order: None,
            sequence: None,
            first_sent_at: None,
            attempts: 0,
            maybe_applied: None,
            last_cause: None,
            reserved_bytes: 0,
        }
    }

    pub(super) fn append(
        &mut self,
        size: RecordSize,
        timestamp_ms: i64,
        record: &Record<'_>,
        tag: u64,
        waiter: Option<Waiter>,
    ) {
        let Content::Filling(builder) = &mut self.content else {
            panic!("a sealed batch takes no records");
        };
        builder.append_sized(size, timestamp_ms, record.key, record.value, record.headers);
        if let Some(waiter) = waiter {
            self.waiters.push((self.tags.len(), waiter));
        }
        self.tags.push(tag);
    }

    pub(super) fn len(&self) -> usize {
        match &self.content {
            Content::Filling(builder) => builder.len(),
            Content::Sealed(bytes) => bytes.len(),
        }
    }

    pub(super) fn record_count(&self) -> i32 {
        self.tags.len() as i32
    }

    /// The bytes to be sent under this sequence. The CRC is computed when the batch is sealed, and again only if
    /// the sequence has changed since.
    pub(super) fn seal(&mut self, sequence: Option<Sequence>) -> Bytes {
        let bytes = match std::mem::replace(&mut self.content, Content::Sealed(Bytes::new())) {
            Content::Filling(builder) => builder.finish(sequence.map_or(Producer::NONE, |sequence| Producer {
                id: sequence.producer_id,
                epoch: sequence.producer_epoch,
                base_sequence: sequence.base,
                transactional: false,
            })),
            Content::Sealed(bytes) if sequence == self.sequence => bytes,
            Content::Sealed(bytes) => {
                let sequence = sequence.expect("a batch that had a sequence is not sent without one");
                // The connection may hold on to the old bytes for a while: then this copies.
                let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                batch::reassign_producer(&mut bytes, sequence.producer_id, sequence.producer_epoch, sequence.base);
                bytes.freeze()
            }
        };
        self.sequence = sequence;
        self.content = Content::Sealed(bytes.clone());
        bytes
    }
}
