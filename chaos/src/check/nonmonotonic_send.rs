//! **nonmonotonic-send**: the offsets acknowledged to one producer for one partition go back.

use std::collections::BTreeMap;

use super::Finding;
use crate::history::{History, Slot};

/// Takes the acknowledgements in the order in which the records were sent.
pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("nonmonotonic-send", "acknowledged offsets went back");
    let mut newest: BTreeMap<(Slot, u16), i64> = BTreeMap::new();
    let mut acked: Vec<_> = history.acked().map(|(send, offset)| (send.value, send.slot, offset)).collect();
    acked.sort_unstable();
    for (value, slot, offset) in acked {
        let last = newest.entry((slot, value.writer())).or_insert(-1);
        if offset <= *last {
            let before = *last;
            finding
                .add(|| format!("{value} was acknowledged at {} offset {offset} after {before}", history.name(slot)));
        }
        *last = offset;
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::doctored::{at, clean, found};
    use super::*;
    use crate::history::Outcome;

    #[test]
    fn nonmonotonic_send_ack_below_the_one_before_is_found() {
        let mut history = clean();
        history.sends[at(8)].outcome = Outcome::Ok { offset: 2 };
        assert_eq!(check(&history).count, 1);
        assert!(found(&history).contains(&"nonmonotonic-send"));
    }
}
