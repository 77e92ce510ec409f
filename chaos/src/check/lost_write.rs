//! **lost-write**: a committed value that no one ever read, at or below the highest offset that anyone read in its
//! partition; or a consumer's position that does not exist any more.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use crate::history::{History, Slot, Value};

/// Committed means acknowledged with acks=all. An unknown write counts only once it was read, and then it is not lost.
pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("lost-write", "acknowledged, and missing below what was read");
    let mut bound: BTreeMap<Slot, i64> = BTreeMap::new();
    let mut read: BTreeSet<Value> = BTreeSet::new();
    for record in history.reads() {
        let highest = bound.entry(record.slot).or_insert(record.offset);
        *highest = (*highest).max(record.offset);
        read.insert(record.value);
    }
    for (send, offset) in history.acked() {
        if bound.get(&send.slot).is_some_and(|bound| offset <= *bound) && !read.contains(&send.value) {
            finding.add(|| {
                format!(
                    "{} was acknowledged at {} offset {offset} (sent at {} µs, acknowledged at {} µs) and never read",
                    send.value,
                    history.name(send.slot),
                    send.sent_us,
                    send.done_us
                )
            });
        }
    }
    for (slot, offset) in &history.out_of_range {
        let name = history.name(*slot);
        finding
            .add(|| format!("a consumer that had read {name} up to offset {offset} was told that it does not exist"));
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::doctored::{LEADER_ONLY, at, clean, found};
    use super::*;

    #[test]
    fn lost_write_in_the_middle_is_found() {
        let mut history = clean();
        history.live[0].reads.remove(at(7));
        history.last.reads.remove(at(7));
        assert_eq!(check(&history).count, 1);
        assert!(found(&history).contains(&"lost-write"));
    }

    #[test]
    fn lost_write_position_of_a_consumer_that_does_not_exist_any_more_is_found() {
        let mut history = clean();
        history.out_of_range.push((LEADER_ONLY, 12));
        assert_eq!(found(&history), ["lost-write"]);
    }

    #[test]
    fn lost_write_of_acks_1_is_expected() {
        let mut history = clean();
        for reader in [&mut history.live[0], &mut history.last] {
            reader.reads.retain(|read| read.slot != LEADER_ONLY || read.offset != 7);
        }
        assert_eq!(check(&history).count, 0);
    }
}
