//! **inconsistent-offsets**: one offset of a partition holds two or more values across acknowledgements and reads.

use super::Finding;
use crate::history::{History, Slot, Value};

/// Looks at every acknowledged offset and every read. Offsets acknowledged with acks=1 promise nothing and are left
/// out; what consumers read counts everywhere, since they only see what is committed.
pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("inconsistent-offsets", "one offset held two values");
    let acked = history.acked().map(|(send, offset)| (send.slot, offset, send.value));
    let read = history.reads().map(|read| (read.slot, read.offset, read.value));
    let mut seen: Vec<(Slot, i64, Value)> = acked.chain(read).collect();
    seen.sort_unstable();
    seen.dedup();
    for pair in seen.windows(2) {
        let ((slot, offset, one), (next_slot, next_offset, other)) = (pair[0], pair[1]);
        if (slot, offset) == (next_slot, next_offset) {
            finding.add(|| format!("{} offset {offset} held {one} and {other}", history.name(slot)));
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::doctored::{at, clean, found};
    use super::*;

    #[test]
    fn inconsistent_offsets_two_readers_disagree_is_found() {
        let mut history = clean();
        history.live[0].reads[at(3)].value = history.live[0].reads[at(4)].value;
        assert_eq!(check(&history).count, 1);
        assert!(found(&history).contains(&"inconsistent-offsets"));
    }

    #[test]
    fn inconsistent_offsets_ack_disagrees_with_read_is_found() {
        let mut history = clean();
        history.sends[at(3)].outcome = crate::history::Outcome::Ok { offset: 4 };
        assert_eq!(check(&history).count, 1);
    }
}
