//! A clean history to doctor: two writers, one durable slot and one with acks=1, one live reader and the last one.

use crate::history::{History, Latest, Outcome, Promise, Read, Reader, Send, Slot, Value};

pub const DURABLE: Slot = 0;
pub const LEADER_ONLY: Slot = 1;
/// Records per writer and slot.
pub const RECORDS: u64 = 20;

/// Writers take turns; each write is acknowledged before the next but one is sent; everything is read twice.
pub fn clean() -> History {
    let mut history = History {
        slots: vec![("durable-0".into(), Promise::Durable), ("acks1-0".into(), Promise::LeaderOnly)],
        live: vec![Reader { name: "live".into(), reads: Vec::new() }],
        last: Reader { name: "last".into(), reads: Vec::new() },
        ..History::default()
    };
    let mut at_us = 1_000;
    for slot in [DURABLE, LEADER_ONLY] {
        let mut offset = 0;
        for count in 0..RECORDS {
            for writer in [1, 2] {
                let value = Value::new(writer + slot * 10, count);
                let sent_us = at_us;
                at_us += 100;
                history.sends.push(Send { value, slot, sent_us, done_us: at_us - 10, outcome: Outcome::Ok { offset } });
                let read = Read { slot, offset, value };
                history.live[0].reads.push(read);
                history.last.reads.push(read);
                offset += 1;
                history.latest.push(Latest { slot, at_us, leader_epoch: (count / 5) as i32, offset });
            }
        }
    }
    history
}

/// Index in `sends`, `live[0].reads` and `last.reads` of the record at `offset` of the durable slot.
pub fn at(offset: usize) -> usize {
    offset
}

/// The checks that find something in a history.
pub fn found(history: &History) -> Vec<&'static str> {
    super::history_checks(history)
        .into_iter()
        .filter(|finding| finding.count > 0)
        .map(|finding| finding.check)
        .collect()
}

#[test]
fn doctored_clean_history_passes_every_check() {
    assert_eq!(found(&clean()), Vec::<&str>::new());
}

#[test]
fn doctored_empty_history_passes_every_check() {
    assert_eq!(found(&History::default()), Vec::<&str>::new());
}
