//! Header fields written in place.

use crate::batch::HEADER_BYTES;
use crate::checksum::crc32c;

/// Writes the two fields that belong to the leader; neither is under the CRC.
///
/// # Panics
/// `batch` is shorter than a header: it must have been parsed before.
pub fn stamp(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    assert!(batch.len() >= HEADER_BYTES, "only a parsed batch is stamped");
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Marks a batch as stamped with the leader's time and recomputes its CRC (topics with
/// `message.timestamp.type=LogAppendTime`).
///
/// # Panics
/// As [`stamp`].
pub fn stamp_log_append_time(batch: &mut [u8], max_timestamp_ms: i64) {
    assert!(batch.len() >= HEADER_BYTES, "only a parsed batch is stamped");
    batch[22] |= super::ATTRIBUTE_LOG_APPEND_TIME as u8;
    batch[35..43].copy_from_slice(&max_timestamp_ms.to_be_bytes());
    write_crc(batch);
}

/// Gives a batch that has not been stored another producer id, epoch and sequence, and recomputes its CRC: what an
/// idempotent producer does to its waiting batches after it had to raise its epoch.
///
/// # Panics
/// As [`stamp`].
pub fn reassign_producer(batch: &mut [u8], producer_id: i64, producer_epoch: i16, base_sequence: i32) {
    assert!(batch.len() >= HEADER_BYTES, "only a parsed batch is stamped");
    batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
    batch[51..53].copy_from_slice(&producer_epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&base_sequence.to_be_bytes());
    write_crc(batch);
}

pub(super) fn write_crc(batch: &mut [u8]) {
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}
