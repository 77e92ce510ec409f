//! **producer-order**: records of one producer and partition appear in an order other than the one in which they were
//! sent.

use std::collections::BTreeMap;

use super::Finding;
use crate::history::{History, Slot, Value};

/// Looks at the durable slots as the last reader saw them.
pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("producer-order", "a producer's records out of order");
    let mut log: Vec<(Slot, i64, Value)> = history.last.reads.iter().map(|r| (r.slot, r.offset, r.value)).collect();
    log.sort_unstable();
    let mut newest: BTreeMap<(Slot, u16), (Value, i64)> = BTreeMap::new();
    for (slot, offset, value) in log.into_iter().filter(|(slot, ..)| history.durable(*slot)) {
        let last = newest.entry((slot, value.writer())).or_insert((value, offset));
        if value < last.0 {
            let (before, at) = *last;
            finding.add(|| format!("{value} at {} offset {offset} follows {before} at {at}", history.name(slot)));
        } else {
            *last = (value, offset);
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::doctored::{at, clean, found};
    use super::*;

    #[test]
    fn producer_order_two_records_exchanged_is_found() {
        let mut history = clean();
        // Offsets 4 and 6 are consecutive records of writer 1.
        let (one, other) = (history.sends[at(4)].value, history.sends[at(6)].value);
        for reader in [&mut history.live[0], &mut history.last] {
            reader.reads[at(4)].value = other;
            reader.reads[at(6)].value = one;
        }
        assert_eq!(check(&history).count, 1);
        assert!(found(&history).contains(&"producer-order"));
    }
}
