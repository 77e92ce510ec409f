//! The header of a stored record batch, as far as a log needs it: owned, so that it outlives the bytes, and readable
//! from the header alone, since a walk over a segment does not read the records.

pub use minisr_wire::batch::HEADER_BYTES;
use minisr_wire::batch::{ATTRIBUTE_CONTROL, ATTRIBUTE_TRANSACTIONAL, LENGTH_OVERHEAD_BYTES};
use minisr_wire::checksum::crc32c;

/// Where the bytes covered by the CRC start.
const CRC_START: usize = 21;

const ATTRIBUTE_CODEC: i16 = 0b111;

/// The fixed part of one record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Length of the whole batch in bytes, header included.
    pub size: usize,
    /// Epoch of the leader that appended it.
    pub leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, time-stamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record minus the base offset.
    pub last_offset_delta: i32,
    /// Timestamp of the first record.
    pub base_timestamp: i64,
    /// Largest timestamp of any record.
    pub max_timestamp: i64,
    /// Producer id, −1 for none.
    pub producer_id: i64,
    /// Producer epoch, −1 for none.
    pub producer_epoch: i16,
    /// Sequence of the first record, −1 for none.
    pub base_sequence: i32,
    /// How many records there are.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a header from the front of `bytes`. `None` when there are too few bytes or they cannot be the header
    /// of a batch: wrong magic, a length below the header's own, a negative offset, epoch or delta.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let i64_at = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let i32_at = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let i16_at = |at: usize| i16::from_be_bytes([bytes[at], bytes[at + 1]]);
        if bytes[16] != 2 {
            return None;
        }
        let header = Self {
            base_offset: i64_at(0),
            size: usize::try_from(i32_at(8)).ok()? + LENGTH_OVERHEAD_BYTES,
            leader_epoch: i32_at(12),
            crc: i32_at(17).cast_unsigned(),
            attributes: i16_at(21),
            last_offset_delta: i32_at(23),
            base_timestamp: i64_at(27),
            max_timestamp: i64_at(35),
            producer_id: i64_at(43),
            producer_epoch: i16_at(51),
            base_sequence: i32_at(53),
            record_count: i32_at(57),
        };
        let sound = header.size >= HEADER_BYTES
            && header.base_offset >= 0
            && header.leader_epoch >= 0
            && header.last_offset_delta >= 0
            && header.base_offset.checked_add(i64::from(header.last_offset_delta) + 1).is_some();
        sound.then_some(header)
    }

    /// Whether `batch` (the whole batch, of `self.size` bytes) matches the CRC in its header.
    #[must_use]
    pub fn crc_matches(&self, batch: &[u8]) -> bool {
        assert_eq!(batch.len(), self.size, "the CRC covers the whole batch");
        crc32c(&batch[CRC_START..]) == self.crc
    }

    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> i64 {
        self.base_offset + self.last_offset_delta as i64
    }

    /// The offset after the last record.
    #[must_use]
    pub const fn end_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    /// Whether the batch holds control records (transaction markers) in place of data.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & ATTRIBUTE_CONTROL != 0
    }

    /// Whether the records are compressed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.attributes & ATTRIBUTE_CODEC != 0
    }
}

/// The headers of consecutive whole batches, each with its position in `bytes`.
///
/// # Panics
/// When the bytes are not a run of whole batches: who appends has checked that.
pub(crate) fn headers(bytes: &[u8]) -> impl Iterator<Item = (usize, BatchHeader)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == bytes.len() {
            return None;
        }
        let header = BatchHeader::parse(&bytes[at..]).expect("the bytes are whole record batches");
        assert!(at + header.size <= bytes.len(), "the last batch is whole");
        let position = at;
        at += header.size;
        Some((position, header))
    })
}
