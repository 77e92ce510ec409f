//! Whether everything acknowledged can be read at its offset.
//!
//! Nothing of a record is stored: for each acknowledged batch the ledger keeps base offset, count and a digest of the
//! record numbers at their offsets. Reading the log back builds the same digest from what stands there.

/// One acknowledged batch, and what was found of it.
#[derive(Debug, Clone, Copy)]
struct AckedBatch {
    base_offset: i64,
    count: u32,
    expected: u64,
    found: u64,
    found_count: u32,
}

/// What was acknowledged, by partition.
#[derive(Debug, Default)]
pub struct Ledger {
    partitions: Vec<Vec<AckedBatch>>,
    sealed: bool,
}

/// What reading back showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged records that stand at their offset.
    pub verified_records: u64,
    /// Acknowledged records that do not, within what was read.
    pub acked_lost: u64,
    /// Acknowledged records beyond what was read: the time for reading was over.
    pub not_read: u64,
}

/// Digest of one record at its offset. Sums of it do not depend on the order of reading, but on every pair.
fn digest(offset: i64, index: u64) -> u64 {
    // The finaliser of splitmix64, twice, so that neither input cancels the other.
    fn mix(mut value: u64) -> u64 {
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
    mix(mix(offset as u64 ^ 0x9e37_79b9_7f4a_7c15) ^ index)
}

impl Ledger {
    /// A ledger of `partitions` partitions.
    pub fn new(partitions: u32) -> Ledger {
        Ledger { partitions: vec![Vec::new(); partitions as usize], sealed: false }
    }

    /// A batch was acknowledged: these record numbers stand at `base_offset` and after it.
    pub fn acked(&mut self, partition: u32, base_offset: i64, indexes: impl Iterator<Item = u64>) {
        assert!(!self.sealed, "nothing is acknowledged after reading back has begun");
        let (mut expected, mut count) = (0u64, 0u32);
        for index in indexes {
            expected = expected.wrapping_add(digest(base_offset + i64::from(count), index));
            count += 1;
        }
        let batch = AckedBatch { base_offset, count, expected, found: 0, found_count: 0 };
        self.partitions[partition as usize].push(batch);
    }

    /// No more will be acknowledged. Answers of different requests may have come in any order: sorts them.
    pub fn seal(&mut self) {
        for batches in &mut self.partitions {
            batches.sort_unstable_by_key(|batch| batch.base_offset);
        }
        self.sealed = true;
    }

    /// Acknowledged records.
    pub fn acked_records(&self) -> u64 {
        self.partitions.iter().flatten().map(|batch| u64::from(batch.count)).sum()
    }

    /// First offset behind everything acknowledged in a partition.
    pub fn end_offset(&self, partition: u32) -> i64 {
        assert!(self.sealed);
        self.partitions[partition as usize].last().map_or(0, |batch| batch.base_offset + i64::from(batch.count))
    }

    /// A record was read back. Records that were never acknowledged are none of the ledger's business.
    pub fn read(&mut self, partition: u32, offset: i64, index: Option<u64>) {
        assert!(self.sealed);
        let Some(batches) = self.partitions.get_mut(partition as usize) else { return };
        let after = batches.partition_point(|batch| batch.base_offset <= offset);
        let Some(batch) = after.checked_sub(1).map(|place| &mut batches[place]) else { return };
        if offset < batch.base_offset + i64::from(batch.count) {
            batch.found_count += 1;
            batch.found = batch.found.wrapping_add(index.map_or(0, |index| digest(offset, index)));
        }
    }

    /// The verdict, where `read_to[p]` is the first offset of partition p that was not read.
    pub fn verdict(&self, read_to: &[i64]) -> Verdict {
        assert!(self.sealed);
        let mut verdict = Verdict { verified_records: 0, acked_lost: 0, not_read: 0 };
        for (batches, read_to) in self.partitions.iter().zip(read_to) {
            for batch in batches {
                let count = u64::from(batch.count);
                let found = u64::from(batch.found_count);
                if batch.found == batch.expected && batch.found_count == batch.count {
                    verdict.verified_records += count;
                } else if batch.base_offset + i64::from(batch.count) > *read_to {
                    verdict.not_read += count;
                } else if found < count {
                    verdict.acked_lost += count - found;
                    verdict.verified_records += found;
                } else {
                    // As many records as acknowledged, or more, but not these: which of them cannot be told.
                    verdict.acked_lost += count;
                }
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(2);
        ledger.acked(0, 3, [13, 14].into_iter());
        ledger.acked(0, 0, [10, 11, 12].into_iter());
        ledger.acked(1, 0, [20].into_iter());
        ledger.seal();
        ledger
    }

    #[test]
    fn verify_everything_at_its_offset_is_verified() {
        let mut ledger = ledger();
        for (offset, index) in (0..5).zip(10..15) {
            ledger.read(0, offset, Some(index));
        }
        ledger.read(0, 5, Some(99));
        ledger.read(1, 0, Some(20));
        assert_eq!(ledger.acked_records(), 6);
        assert_eq!(ledger.verdict(&[6, 1]), Verdict { verified_records: 6, acked_lost: 0, not_read: 0 });
    }

    #[test]
    fn verify_a_missing_record_is_lost() {
        let mut ledger = ledger();
        for offset in [0, 1, 3, 4] {
            ledger.read(0, offset, Some(10 + offset as u64));
        }
        ledger.read(1, 0, Some(20));
        assert_eq!(ledger.verdict(&[5, 1]).acked_lost, 1);
    }

    #[test]
    fn verify_swapped_or_foreign_records_are_lost() {
        let mut swapped = ledger();
        for (offset, index) in [(0, 11), (1, 10), (2, 12), (3, 13), (4, 14)] {
            swapped.read(0, offset, Some(index));
        }
        swapped.read(1, 0, None);
        assert_eq!(swapped.verdict(&[5, 1]), Verdict { verified_records: 2, acked_lost: 4, not_read: 0 });
    }

    #[test]
    fn verify_a_log_shorter_than_acknowledged_is_lost_once_read_to_its_end() {
        let ledger = ledger();
        assert_eq!(ledger.verdict(&[0, 0]).not_read, 6, "nothing was read yet");
        assert_eq!(ledger.verdict(&[i64::MAX, i64::MAX]).acked_lost, 6, "the end of the log was reached");
    }
}
