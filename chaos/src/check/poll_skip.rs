//! **poll-skip**: a consumer's position jumps over existing records without a seek.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use crate::history::{History, Slot};

/// A record exists when anyone read it or an acknowledgement with acks=all named its offset. (A record that nobody
/// read at all is lost-write's business.)
pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("poll-skip", "a consumer jumped over records");
    let mut existing: BTreeSet<(Slot, i64)> = history.reads().map(|read| (read.slot, read.offset)).collect();
    existing.extend(history.acked().map(|(send, offset)| (send.slot, offset)));
    for reader in history.readers() {
        let mut position: BTreeMap<Slot, i64> = BTreeMap::new();
        for read in &reader.reads {
            // Every reader begins at the start of the log.
            let before = position.insert(read.slot, read.offset).unwrap_or(-1);
            if read.offset <= before + 1 {
                continue;
            }
            let skipped = existing.range((read.slot, before + 1)..(read.slot, read.offset)).count();
            if skipped > 0 {
                let name = history.name(read.slot);
                finding.add(|| {
                    format!(
                        "{} went from {name} offset {before} to {} over {skipped} records",
                        reader.name, read.offset
                    )
                });
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
    fn poll_skip_record_left_out_by_one_reader_is_found() {
        let mut history = clean();
        history.live[0].reads.remove(at(7));
        assert_eq!(check(&history).count, 1);
        assert_eq!(found(&history), ["poll-skip"]);
    }
}
