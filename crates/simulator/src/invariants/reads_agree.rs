//! What a consumer once read at an offset, every consumer reads there ever after (inconsistent-offsets), and a reader
//! gets the offset it asked for.

use std::collections::BTreeMap;

use minisr_logic::{Offset, TopicPartition};

use super::Invariant;
use crate::state::{Fact, Step};

/// The hash of what was read at each offset.
#[derive(Debug, Default)]
pub struct ReadsAgree {
    read: BTreeMap<(TopicPartition, Offset), u64>,
}

impl Invariant for ReadsAgree {
    fn number(&self) -> u8 {
        7
    }

    fn name(&self) -> &'static str {
        "ReadsAgree"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Read { place, consumer, from, batches, .. } = fact else { continue };
            let mut due = None;
            for (base, end, hash) in batches {
                let connects = due.map_or(base <= from && from < end, |due| due == *base);
                if !connects {
                    return Err(format!(
                        "consumer {consumer} asked {place:?} for {from} and got a batch {base}..{end}"
                    ));
                }
                due = Some(*end);
                if step.state.had_unclean_election(place.0) {
                    continue;
                }
                let first = *self.read.entry((place.0, *base)).or_insert(*hash);
                if first != *hash {
                    return Err(format!(
                        "consumer {consumer} read other bytes at {base} of {place:?} than were read before"
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::doctor::{must_pass, must_ring, place};
    use super::*;

    fn read(from: i64, batches: &[(i64, i64, u64)]) -> Fact {
        Fact::Read {
            place: place(1),
            consumer: 0,
            from: Offset(from),
            batches: batches.iter().map(|(base, end, hash)| (Offset(*base), Offset(*end), *hash)).collect(),
            high_watermark: Offset(3),
        }
    }

    #[test]
    fn reads_agree_rings_for_other_bytes_and_for_skipped_offsets() {
        let doctored: [&[Fact]; 3] = [
            &[read(0, &[(0, 1, 5)]), read(0, &[(0, 1, 6)])],
            &[read(0, &[(1, 2, 5)])],
            &[read(0, &[(0, 1, 5), (2, 3, 6)])],
        ];
        for facts in doctored {
            must_ring(ReadsAgree::default(), |cluster| cluster.facts.extend_from_slice(facts));
        }
        must_pass(ReadsAgree::default(), |cluster| {
            cluster.facts.extend([read(0, &[(0, 2, 5), (2, 3, 6)]), read(1, &[(0, 2, 5)])]);
        });
    }
}
