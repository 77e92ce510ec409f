//! 19: offsets rise strictly and without gaps along a log.

use minisr_logic::Offset;

use super::Invariant;
use crate::state::{Fact, Step};

/// Looks at each appended batch.
#[derive(Debug, Default)]
pub struct OffsetsWithoutGaps;

impl Invariant for OffsetsWithoutGaps {
    fn number(&self) -> u8 {
        19
    }

    fn name(&self) -> &'static str {
        "OffsetsWithoutGaps"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Appended { place, from_index } = fact else { continue };
            let log = &step.state.replicas[place].log;
            let mut due = if *from_index == 0 { Offset::ZERO } else { log[from_index - 1].end };
            for entry in &log[*from_index..] {
                if entry.base != due || entry.end <= entry.base {
                    return Err(format!("{place:?} holds a batch {}..{} where {due} was due", entry.base, entry.end));
                }
                due = entry.end;
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
    fn offsets_without_gaps_rings_for_a_gap_and_for_a_repeat() {
        for base in [2, 4] {
            must_ring(OffsetsWithoutGaps, |cluster| {
                cluster.append(2, 0);
                let last = cluster.replica(2).log.last_mut().expect("appended");
                (last.base, last.end) = (Offset(base), Offset(base + 1));
            });
        }
    }
}
