//! 5: if two replicas hold the same (offset, batch leader epoch), they agree there and at every lower offset.

use std::collections::BTreeMap;

use minisr_logic::{Epoch, Offset, TopicPartition};

use super::Invariant;
use crate::state::{Fact, Step};

/// The hash of the log up to each (offset, epoch) that anybody ever held.
#[derive(Debug, Default)]
pub struct LogMatching {
    prefixes: BTreeMap<(TopicPartition, Offset, Epoch), u64>,
}

impl Invariant for LogMatching {
    fn number(&self) -> u8 {
        5
    }

    fn name(&self) -> &'static str {
        "LogMatching"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Appended { place, from_index } = fact else { continue };
            for entry in &step.state.replicas[place].log[*from_index..] {
                let first = *self.prefixes.entry((place.0, entry.base, entry.epoch)).or_insert(entry.prefix_hash);
                if first != entry.prefix_hash {
                    return Err(format!(
                        "{place:?} holds offset {} of epoch {} on top of another log than someone before it",
                        entry.base, entry.epoch
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::doctor::{must_pass, must_ring};
    use super::*;

    #[test]
    fn log_matching_rings_when_the_logs_below_differ() {
        must_ring(LogMatching::default(), |cluster| {
            cluster.replica(2).log = super::super::doctor::log(&[0, 0, 1]);
            cluster.append(1, 2);
            cluster.append(2, 2);
        });
        must_pass(LogMatching::default(), |cluster| {
            cluster.append(1, 1);
            cluster.append(2, 1);
        });
    }
}
