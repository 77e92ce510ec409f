//! **nonmonotonic-poll**: a consumer's position goes back without a seek.

use std::collections::BTreeMap;

use super::Finding;
use crate::history::{History, Slot};

/// Looks at every reader; none of ours ever seeks.
pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("nonmonotonic-poll", "a consumer went back");
    for reader in history.readers() {
        let mut position: BTreeMap<Slot, i64> = BTreeMap::new();
        for read in &reader.reads {
            if let Some(before) = position.insert(read.slot, read.offset)
                && read.offset <= before
            {
                let name = history.name(read.slot);
                finding.add(|| format!("{} read {name} offset {} after {before}", reader.name, read.offset));
            }
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::doctored::{at, clean, found};
    use super::*;

    #[test]
    fn nonmonotonic_poll_record_delivered_again_is_found() {
        let mut history = clean();
        let again = history.live[0].reads[at(5)];
        history.live[0].reads.insert(at(9), again);
        assert_eq!(check(&history).count, 1);
        assert!(found(&history).contains(&"nonmonotonic-poll"));
    }
}
