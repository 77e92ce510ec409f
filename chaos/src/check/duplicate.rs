//! **duplicate**: one value at two or more offsets. An error because the producers are idempotent.

use super::Finding;
use crate::history::{History, Slot, Value};

/// Looks at the durable slots; the acks=1 stream is not idempotent.
pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("duplicate", "one record at two offsets");
    let read = history.reads().filter(|read| history.durable(read.slot));
    let read = read.map(|read| (read.value, read.slot, read.offset));
    let acked = history.acked().map(|(send, offset)| (send.value, send.slot, offset));
    let mut seen: Vec<(Value, Slot, i64)> = read.chain(acked).collect();
    seen.sort_unstable();
    seen.dedup();
    for pair in seen.windows(2) {
        let ((value, slot, offset), (next, other_slot, other_offset)) = (pair[0], pair[1]);
        if value == next {
            let (name, other) = (history.name(slot), history.name(other_slot));
            finding.add(|| format!("{value} is at {name} offset {offset} and at {other} offset {other_offset}"));
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::doctored::{DURABLE, RECORDS, clean, found};
    use super::*;
    use crate::history::Read;

    #[test]
    fn duplicate_retried_record_appended_twice_is_found() {
        let mut history = clean();
        let value = history.sends[6].value;
        history.last.reads.push(Read { slot: DURABLE, offset: 2 * RECORDS as i64, value });
        assert_eq!(check(&history).count, 1);
        assert!(found(&history).contains(&"duplicate"));
    }
}
