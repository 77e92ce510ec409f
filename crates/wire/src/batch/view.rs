//! A borrowed view of one batch, and the checks of Produce.

use crate::batch::{
    ATTRIBUTE_CONTROL, ATTRIBUTE_LOG_APPEND_TIME, ATTRIBUTE_TRANSACTIONAL, HEADER_BYTES, LENGTH_OVERHEAD_BYTES,
    sequence_after,
};
use crate::checksum::crc32c;
use crate::error_code::ErrorCode;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy, in xerial framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard; only from Produce v7 on.
    Zstd,
    /// A number that nobody has assigned.
    Unknown(u8),
}

/// Why bytes are not a batch, or not one that a client may produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header.
    #[error("{available} bytes are fewer than a batch header")]
    NoHeader {
        /// How many there are.
        available: usize,
    },
    /// The length field is too small for a header, or negative.
    #[error("batch length {length} is smaller than the header")]
    Length {
        /// The field's value.
        length: i32,
    },
    /// The batch ends after the bytes do.
    #[error("batch of {batch_bytes} bytes is cut off after {available}")]
    Truncated {
        /// Size by the length field.
        batch_bytes: usize,
        /// How many bytes there are.
        available: usize,
    },
    /// The format is not v2.
    #[error("magic {magic} is not 2")]
    Magic {
        /// The byte found.
        magic: i8,
    },
    /// The checksum does not match.
    #[error("CRC-32C is {computed:08x}, the header says {stored:08x}")]
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A partition's records in a Produce request hold bytes beyond the one batch.
    #[error("{total_bytes} bytes hold more than one batch of {batch_bytes}")]
    MoreThanOne {
        /// Size of the first batch.
        batch_bytes: usize,
        /// Size of everything.
        total_bytes: usize,
    },
    /// The batch exceeds the limit.
    #[error("batch of {batch_bytes} bytes exceeds {batch_bytes_max}")]
    TooLarge {
        /// Its size.
        batch_bytes: usize,
        /// The limit.
        batch_bytes_max: usize,
    },
    /// A client stamped a base offset.
    #[error("base offset {base_offset} of a produced batch is not 0")]
    BaseOffset {
        /// What it stamped.
        base_offset: i64,
    },
    /// Record count and last offset delta disagree, or there are no records.
    #[error("record count {record_count} and last offset delta {last_offset_delta} disagree")]
    Count {
        /// The count.
        record_count: i32,
        /// The last offset delta.
        last_offset_delta: i32,
    },
    /// More records are claimed than the bytes can hold. (Of compressed ones nobody can tell without unpacking them.)
    #[error("{record_count} records cannot lie in {record_bytes} bytes")]
    TooManyRecords {
        /// The count.
        record_count: i32,
        /// Bytes after the header.
        record_bytes: usize,
    },
    /// A client sent a control batch.
    #[error("a client may not produce control batches")]
    Control,
    /// A producer id without sequence, or a negative producer epoch.
    #[error("producer {producer_id} (epoch {producer_epoch}) without a sequence ({base_sequence})")]
    Sequence {
        /// The producer id.
        producer_id: i64,
        /// The producer epoch.
        producer_epoch: i16,
        /// The base sequence.
        base_sequence: i32,
    },
    /// A client set LogAppendTime.
    #[error("a client may not set LogAppendTime")]
    LogAppendTime,
    /// The codec is unknown, or zstd before Produce v7.
    #[error("codec {codec:?} is not supported in Produce v{version}")]
    Codec {
        /// The codec.
        codec: Codec,
        /// The request's version.
        version: i16,
    },
}

impl BatchError {
    /// The code with which a Produce request is answered.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NoHeader { .. } | Self::Length { .. } | Self::Truncated { .. } | Self::Crc { .. } => {
                ErrorCode::CORRUPT_MESSAGE
            }
            Self::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            Self::Magic { .. }
            | Self::MoreThanOne { .. }
            | Self::BaseOffset { .. }
            | Self::Count { .. }
            | Self::TooManyRecords { .. }
            | Self::Control
            | Self::Sequence { .. } => ErrorCode::INVALID_RECORD,
            Self::LogAppendTime => ErrorCode::INVALID_TIMESTAMP,
            Self::Codec { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        }
    }
}

/// One batch where it lies. Made by [`BatchView::parse`], so length and magic are right; the CRC is checked on
/// demand, since it costs a pass over the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
}

impl std::fmt::Debug for BatchView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchView")
            .field("base_offset", &self.base_offset())
            .field("bytes", &self.bytes.len())
            .field("leader_epoch", &self.leader_epoch())
            .field("crc", &format_args!("{:08x}", self.crc()))
            .field("record_count", &self.record_count())
            .field("producer_id", &self.producer_id())
            .field("producer_epoch", &self.producer_epoch())
            .field("base_sequence", &self.base_sequence())
            .finish()
    }
}

impl<'a> BatchView<'a> {
    /// The batch at the front of `bytes`; what follows it is ignored.
    ///
    /// # Errors
    /// There is no whole batch v2 at the front.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::NoHeader { available: bytes.len() });
        }
        let length = i32_at(bytes, 8);
        if length < (HEADER_BYTES - LENGTH_OVERHEAD_BYTES) as i32 {
            return Err(BatchError::Length { length });
        }
        let magic = bytes[16] as i8;
        if magic != 2 {
            return Err(BatchError::Magic { magic });
        }
        let batch_bytes = length as usize + LENGTH_OVERHEAD_BYTES;
        match bytes.get(..batch_bytes) {
            Some(bytes) => Ok(Self { bytes }),
            None => Err(BatchError::Truncated { batch_bytes, available: bytes.len() }),
        }
    }

    /// The size of the batch that starts with `header`, for readers that have only part of it at hand. `None` when
    /// there are fewer than 12 bytes.
    ///
    /// # Errors
    /// The length field is too small for a header.
    pub fn peek_bytes(header: &[u8]) -> Option<Result<usize, BatchError>> {
        let length = i32_at(header.get(..LENGTH_OVERHEAD_BYTES)?, 8);
        if length < (HEADER_BYTES - LENGTH_OVERHEAD_BYTES) as i32 {
            return Some(Err(BatchError::Length { length }));
        }
        Some(Ok(length as usize + LENGTH_OVERHEAD_BYTES))
    }

    /// All bytes of the batch.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its size.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty: it has a header")]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Checks the CRC-32C.
    ///
    /// # Errors
    /// It does not match.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let (stored, computed) = (self.crc(), crc32c(&self.bytes[21..]));
        if stored == computed { Ok(()) } else { Err(BatchError::Crc { stored, computed }) }
    }

    /// Offset of the first record.
    #[must_use]
    pub fn base_offset(&self) -> i64 {
        i64_at(self.bytes, 0)
    }

    /// Offset of the last record. Survives compaction, which may have removed that record.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset().wrapping_add(i64::from(self.last_offset_delta()))
    }

    /// The offset after the batch.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// The leader epoch in which it was appended; −1 before that.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        i32_at(self.bytes, 12)
    }

    /// The stored CRC-32C.
    #[must_use]
    pub fn crc(&self) -> u32 {
        i32_at(self.bytes, 17) as u32
    }

    /// The attribute bits.
    #[must_use]
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes([self.bytes[21], self.bytes[22]])
    }

    /// How the records are compressed.
    #[must_use]
    pub fn codec(&self) -> Codec {
        match (self.attributes() & 7) as u8 {
            0 => Codec::None,
            1 => Codec::Gzip,
            2 => Codec::Snappy,
            3 => Codec::Lz4,
            4 => Codec::Zstd,
            number => Codec::Unknown(number),
        }
    }

    /// Whether the timestamps are the leader's.
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & ATTRIBUTE_LOG_APPEND_TIME != 0
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes() & ATTRIBUTE_TRANSACTIONAL != 0
    }

    /// Whether it is a control batch.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes() & ATTRIBUTE_CONTROL != 0
    }

    /// Offset of the last record relative to the first.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        i32_at(self.bytes, 23)
    }

    /// Timestamp to which the records' deltas are added.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        i64_at(self.bytes, 27)
    }

    /// The latest timestamp in the batch.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        i64_at(self.bytes, 35)
    }

    /// The producer's id; −1 for none.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        i64_at(self.bytes, 43)
    }

    /// The producer's epoch.
    #[must_use]
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes([self.bytes[51], self.bytes[52]])
    }

    /// Sequence of the first record; −1 for none.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        i32_at(self.bytes, 53)
    }

    /// Sequence of the last record, with the wrap at 2³¹−1.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence(), self.last_offset_delta())
    }

    /// How many records there are.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        i32_at(self.bytes, 57)
    }

    /// The bytes after the header: records, or one compressed stream.
    #[must_use]
    pub fn record_section(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }
}

/// The fewest bytes that a record takes: its length, attributes, two deltas, the lengths of key and value, the number of
/// its headers.
const RECORD_BYTES_MIN: usize = 7;

/// Every check of Produce that needs the bytes alone, in Kafka's order: exactly one whole batch, magic 2, size, CRC,
/// base offset 0, count (which uncompressed records must have room for), no control bit, producer id with sequence, no LogAppendTime, codec.
///
/// What needs the topic's settings (keys on compacted topics, timestamp bounds, segment size) is the caller's.
///
/// # Errors
/// The first check that fails; [`BatchError::code`] is the answer to the client.
pub fn check_produce(bytes: &[u8], version: i16, batch_bytes_max: usize) -> Result<BatchView<'_>, BatchError> {
    let batch = BatchView::parse(bytes)?;
    if batch.len() != bytes.len() {
        return Err(BatchError::MoreThanOne { batch_bytes: batch.len(), total_bytes: bytes.len() });
    }
    if batch.len() > batch_bytes_max {
        return Err(BatchError::TooLarge { batch_bytes: batch.len(), batch_bytes_max });
    }
    batch.check_crc()?;
    if batch.base_offset() != 0 {
        return Err(BatchError::BaseOffset { base_offset: batch.base_offset() });
    }
    let (record_count, last_offset_delta) = (batch.record_count(), batch.last_offset_delta());
    if record_count <= 0 || last_offset_delta != record_count - 1 {
        return Err(BatchError::Count { record_count, last_offset_delta });
    }
    let record_bytes = batch.record_section().len();
    if batch.codec() == Codec::None && record_count as usize > record_bytes / RECORD_BYTES_MIN {
        return Err(BatchError::TooManyRecords { record_count, record_bytes });
    }
    if batch.is_control() {
        return Err(BatchError::Control);
    }
    let (producer_id, producer_epoch, base_sequence) =
        (batch.producer_id(), batch.producer_epoch(), batch.base_sequence());
    if producer_id >= 0 && (base_sequence < 0 || producer_epoch < 0) {
        return Err(BatchError::Sequence { producer_id, producer_epoch, base_sequence });
    }
    if batch.is_log_append_time() {
        return Err(BatchError::LogAppendTime);
    }
    match batch.codec() {
        codec @ Codec::Unknown(_) => Err(BatchError::Codec { codec, version }),
        codec @ Codec::Zstd if version < 7 => Err(BatchError::Codec { codec, version }),
        _ => Ok(batch),
    }
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
