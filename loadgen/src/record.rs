//! What stands in a record: enough to time it and to recognise it, then bytes that do not compress.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Smallest value that holds what is needed.
pub const RECORD_BYTES_MIN: usize = 16;

/// Builds values: planned time, index, filler.
pub struct RecordBuilder {
    value: Vec<u8>,
}

impl RecordBuilder {
    /// Values of `size_bytes`, filled from `seed`.
    pub fn new(size_bytes: u32, seed: u64) -> RecordBuilder {
        let size_bytes = size_bytes as usize;
        assert!(size_bytes >= RECORD_BYTES_MIN, "refused when settings are checked");
        let mut value = vec![0; size_bytes];
        ChaCha8Rng::seed_from_u64(seed).fill(&mut value[..]);
        RecordBuilder { value }
    }

    /// The value of one record, valid until the next call.
    pub fn build(&mut self, planned_ns: u64, index: u64) -> &[u8] {
        self.value[..8].copy_from_slice(&planned_ns.to_le_bytes());
        self.value[8..16].copy_from_slice(&index.to_le_bytes());
        &self.value
    }
}

/// Planned time and index of a value, if it is one of ours.
pub fn parse(value: &[u8]) -> Option<(u64, u64)> {
    let planned_ns = value.get(..8)?.try_into().ok()?;
    let index = value.get(8..16)?.try_into().ok()?;
    Some((u64::from_le_bytes(planned_ns), u64::from_le_bytes(index)))
}

const INDEX_BITS: u32 = 40;
const LATENESS_US_MAX: u64 = (1 << (64 - INDEX_BITS)) - 1;

/// A record's tag: its index, and by how much it was handed over late, in microseconds up to 16 seconds. So a report
/// gives planned and sent time without a table of records in flight.
pub fn tag(index: u64, lateness_ns: u64) -> u64 {
    assert!(index < 1 << INDEX_BITS, "a run has fewer than 2^40 records");
    ((lateness_ns / 1_000).min(LATENESS_US_MAX) << INDEX_BITS) | index
}

/// Index and lateness of a tag.
pub fn untag(tag: u64) -> (u64, u64) {
    (tag & ((1 << INDEX_BITS) - 1), (tag >> INDEX_BITS) * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_value_carries_plan_and_index() {
        let mut builder = RecordBuilder::new(64, 7);
        let value = builder.build(123_456_789, 42).to_vec();
        assert_eq!(value.len(), 64);
        assert_eq!(parse(&value), Some((123_456_789, 42)));
        assert_eq!(parse(&value[..15]), None);
    }

    #[test]
    fn record_tag_carries_index_and_lateness() {
        assert_eq!(untag(tag(77, 1_234_567)), (77, 1_234_000));
        let longest = untag(tag(1, u64::MAX));
        assert_eq!(longest, (1, LATENESS_US_MAX * 1_000));
    }
}
