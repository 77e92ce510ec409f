//! Whether allocations per request grow with the size of a batch. They must not: whatever is done once for each record,
//! or again and again while a buffer grows, would be done eight times as often for eight times the records.

use std::collections::BTreeMap;

use super::compare::plain;
use super::record::Allocations;

/// From this size on a batch is a piece of its own all the way. Smaller ones are copied beside their neighbours, which
/// may save an allocation; so growth is judged from here on, and below by the committed counts alone.
pub const WHOLE_BYTES_MIN: usize = 16 << 10;

/// A sentence for each path and size that allocates more often than the smallest whole batch does, by more than `slack`.
#[must_use]
pub fn growing(counted: &[Allocations], slack: f64) -> Vec<String> {
    let mut paths: BTreeMap<&str, Vec<&Allocations>> = BTreeMap::new();
    for row in counted.iter().filter(|row| row.batch_bytes >= WHOLE_BYTES_MIN) {
        paths.entry(&row.path).or_default().push(row);
    }
    let mut sentences = Vec::new();
    for (path, mut rows) in paths {
        rows.sort_by_key(|row| row.batch_bytes);
        let smallest = rows[0];
        for larger in rows.iter().filter(|row| row.allocations > smallest.allocations + slack) {
            sentences.push(format!(
                "{path} GROWS: {} allocations for a batch of {} KiB, {} for one of {} KiB",
                plain(larger.allocations),
                larger.batch_bytes >> 10,
                plain(smallest.allocations),
                smallest.batch_bytes >> 10,
            ));
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(counts: &[(usize, f64)]) -> Vec<Allocations> {
        let row = |&(kib, allocations): &(usize, f64)| {
            let path = "broker.produce".to_owned();
            Allocations { path, batch_bytes: kib << 10, allocations, allocated_bytes: 0.0 }
        };
        counts.iter().map(row).collect()
    }

    #[test]
    fn growth_with_every_record_is_named_with_both_counts() {
        let sentences = growing(&rows(&[(1, 10.0), (16, 25.0), (64, 73.0), (512, 521.5)]), 0.1);
        assert_eq!(sentences.len(), 2);
        let expected = "broker.produce GROWS: 521.50 allocations for a batch of 512 KiB, 25 for one of 16 KiB";
        assert_eq!(sentences[1], expected);
    }

    #[test]
    fn growth_of_buffers_by_doubling_is_found() {
        assert_eq!(growing(&rows(&[(16, 4.0), (64, 6.0), (512, 9.0)]), 0.1).len(), 2);
    }

    #[test]
    fn growth_is_not_seen_in_equal_counts_nor_between_a_small_batch_and_a_whole_one() {
        assert!(growing(&rows(&[(1, 10.0), (16, 12.0), (64, 12.05), (512, 12.0)]), 0.1).is_empty());
    }
}
