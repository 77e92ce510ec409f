//! **realtime-order**: an acknowledged offset is at or below the highest offset that had been acknowledged when the
//! send began.

use std::collections::BTreeMap;

use super::Finding;
use crate::history::{History, Outcome, Slot};

/// Walks through sends and acknowledgements in the order of time.
pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("realtime-order", "an offset not above those known before");
    let mut acks: Vec<(u64, Slot, i64)> = Vec::new();
    let mut sends: Vec<(u64, usize, i64)> = Vec::new();
    for (index, send) in history.sends.iter().enumerate() {
        if let Outcome::Ok { offset } = send.outcome
            && offset >= 0
            && history.durable(send.slot)
        {
            acks.push((send.done_us, send.slot, offset));
            sends.push((send.sent_us, index, offset));
        }
    }
    acks.sort_unstable();
    sends.sort_unstable();
    let mut highest: BTreeMap<Slot, i64> = BTreeMap::new();
    let mut acks = acks.into_iter().peekable();
    for (sent_us, index, offset) in sends {
        // Strictly earlier: at the same microsecond the order is not known.
        while let Some((_, slot, acked)) = acks.next_if(|(done_us, ..)| *done_us < sent_us) {
            let known = highest.entry(slot).or_insert(acked);
            *known = (*known).max(acked);
        }
        let send = &history.sends[index];
        if let Some(known) = highest.get(&send.slot).filter(|known| offset <= **known) {
            finding.add(|| {
                format!(
                    "{} sent at {sent_us} µs got {} offset {offset}, when {known} had been acknowledged before",
                    send.value,
                    history.name(send.slot)
                )
            });
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::doctored::{at, clean, found};
    use super::*;

    #[test]
    fn realtime_order_send_after_the_ack_with_a_lower_offset_is_found() {
        let mut history = clean();
        // The record at offset 5 was handed over only after offset 9 had been acknowledged.
        history.sends[at(5)].sent_us = history.sends[at(9)].done_us + 1;
        assert_eq!(check(&history).count, 1);
        assert_eq!(found(&history), ["realtime-order"]);
    }

    #[test]
    fn realtime_order_overlapping_writes_may_take_any_order() {
        let mut history = clean();
        history.sends[at(5)].sent_us = history.sends[at(9)].sent_us;
        history.sends[at(5)].done_us = history.sends[at(9)].done_us;
        history.sends[at(6)].done_us = history.sends[at(9)].done_us;
        history.sends[at(7)].done_us = history.sends[at(9)].done_us;
        history.sends[at(8)].done_us = history.sends[at(9)].done_us;
        assert_eq!(check(&history).count, 0);
    }
}
