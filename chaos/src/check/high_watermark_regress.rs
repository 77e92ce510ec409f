//! **high-watermark regress**: the end of a partition, as ListOffsets(latest) reports it, goes down; or the high
//! watermark in the leader's fetch responses goes down within one leader epoch (after an election it may start lower).

use std::collections::BTreeMap;

use super::Finding;
use crate::history::{History, Latest, Slot};

/// The answers stand in the order in which they were asked for, each after the one before. An answer from an older
/// leader epoch than one already seen comes from a leader that does not know yet that it is none, and proves nothing.
pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("high-watermark-regress", "the end of a log went back");
    let mut highest: BTreeMap<Slot, (i32, i64)> = BTreeMap::new();
    for latest in &history.latest {
        let known = highest.entry(latest.slot).or_insert((latest.leader_epoch, latest.offset));
        if latest.leader_epoch < known.0 {
            continue;
        }
        if latest.offset < known.1 {
            let (epoch, offset) = *known;
            finding.add(|| {
                format!(
                    "{} ended at {offset} in epoch {epoch} and then at {} in epoch {} ({} µs)",
                    history.name(latest.slot),
                    latest.offset,
                    latest.leader_epoch,
                    latest.at_us
                )
            });
        }
        *known = (latest.leader_epoch, latest.offset.max(known.1));
    }
    let mut marks: BTreeMap<(Slot, i32), i64> = BTreeMap::new();
    for mark in &history.marks {
        let known = marks.entry((mark.slot, mark.leader_epoch)).or_insert(mark.offset);
        if mark.offset < *known {
            let (name, before) = (history.name(mark.slot), *known);
            let Latest { leader_epoch, offset, at_us, .. } = mark;
            finding.add(|| {
                format!("fetches of {name} told {before} and then {offset} in epoch {leader_epoch} ({at_us} µs)")
            });
        }
        *known = mark.offset.max(*known);
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::doctored::{clean, found};
    use super::*;

    #[test]
    fn high_watermark_regress_after_an_election_is_found() {
        let mut history = clean();
        let first_of_epoch = history.latest.iter().position(|latest| latest.leader_epoch == 1).unwrap();
        history.latest[first_of_epoch].offset -= 2;
        assert_eq!(check(&history).count, 1);
        assert_eq!(found(&history), ["high-watermark-regress"]);
    }

    #[test]
    fn high_watermark_regress_in_fetches_counts_within_one_epoch_only() {
        let mut history = clean();
        let mark = |leader_epoch, offset| Latest { slot: 0, at_us: 1, leader_epoch, offset };
        history.marks = vec![mark(1, 10), mark(1, 12), mark(2, 11)];
        assert_eq!(check(&history).count, 0);
        history.marks.push(mark(2, 10));
        assert_eq!(check(&history).count, 1);
    }

    #[test]
    fn high_watermark_regress_answer_of_a_deposed_leader_proves_nothing() {
        let mut history = clean();
        let last = history.latest.len() - 1;
        history.latest[last].leader_epoch = 0;
        history.latest[last].offset = 1;
        assert_eq!(check(&history).count, 0);
    }
}
