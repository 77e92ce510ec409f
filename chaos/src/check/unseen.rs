//! **unseen**: committed, and not read by the fresh client that reads everything at the end. Catches the loss of a
//! log's tail, which lost-write cannot.

use std::collections::BTreeSet;

use super::Finding;
use crate::history::{History, Outcome, Value};

/// Committed means acknowledged with acks=all, or seen by any consumer during the run, whatever the topic promises:
/// consumers see only what is below the high watermark, and that never goes away.
pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("unseen", "committed, and not read at the end");
    let last: BTreeSet<Value> = history.last.reads.iter().map(|read| read.value).collect();
    let mut missing: BTreeSet<Value> = BTreeSet::new();
    for send in history.sends.iter().filter(|send| history.durable(send.slot)) {
        let Outcome::Ok { offset } = send.outcome else { continue };
        if !last.contains(&send.value) && missing.insert(send.value) {
            finding.add(|| {
                format!(
                    "{} was acknowledged at {} offset {offset} ({} µs) and is gone",
                    send.value,
                    history.name(send.slot),
                    send.done_us
                )
            });
        }
    }
    for reader in &history.live {
        for read in &reader.reads {
            if !last.contains(&read.value) && missing.insert(read.value) {
                let name = history.name(read.slot);
                finding.add(|| {
                    format!("{} was read by {} at {name} offset {} and is gone", read.value, reader.name, read.offset)
                });
            }
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::doctored::{DURABLE, LEADER_ONLY, RECORDS, clean, found};
    use super::*;

    #[test]
    fn unseen_lost_tail_is_found() {
        let mut history = clean();
        let tail = 2 * RECORDS as i64 - 3;
        for reader in [&mut history.live[0], &mut history.last] {
            reader.reads.retain(|read| read.slot != DURABLE || read.offset < tail);
        }
        assert_eq!(check(&history).count, 3);
        assert_eq!(found(&history), ["unseen"]);
    }

    #[test]
    fn unseen_acks_1_record_that_a_consumer_had_seen_is_found() {
        let mut history = clean();
        history.last.reads.retain(|read| read.slot != LEADER_ONLY || read.offset != 7);
        assert_eq!(check(&history).count, 1);
    }
}
