//! 21: a follower's bytes are those of the leader of that epoch, when first appended.

use std::collections::BTreeMap;

use minisr_logic::{Epoch, Offset, TopicPartition};

use super::Invariant;
use crate::state::{Fact, Step};

/// The hash of the first batch seen at each (offset, epoch).
#[derive(Debug, Default)]
pub struct FollowerBytesEqual {
    hashes: BTreeMap<(TopicPartition, Offset, Epoch), u64>,
}

impl Invariant for FollowerBytesEqual {
    fn number(&self) -> u8 {
        21
    }

    fn name(&self) -> &'static str {
        "FollowerBytesEqual"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Appended { place, from_index } = fact else { continue };
            for entry in &step.state.replicas[place].log[*from_index..] {
                let first = *self.hashes.entry((place.0, entry.base, entry.epoch)).or_insert(entry.bytes_hash);
                if first != entry.bytes_hash {
                    return Err(format!("{place:?} holds other bytes at {} of epoch {}", entry.base, entry.epoch));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::doctor::must_ring;
    use super::*;

    #[test]
    fn follower_bytes_equal_rings_for_one_changed_batch() {
        must_ring(FollowerBytesEqual::default(), |cluster| {
            cluster.append(1, 0);
            cluster.append(2, 0);
            cluster.replica(2).log.last_mut().expect("appended").bytes_hash += 1;
        });
    }
}
