//! A restart brings back everything that the kind of crash had to leave: all of it after a process kill, everything
//! flushed after a power loss.

use super::Invariant;
use crate::state::{Fact, Step};

/// Looks at each recovered log.
#[derive(Debug, Default)]
pub struct RecoveryKeeps;

impl Invariant for RecoveryKeeps {
    fn number(&self) -> u8 {
        0
    }

    fn name(&self) -> &'static str {
        "RecoveryKeeps"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Recovered { place, kept, must_keep } = fact else { continue };
            if kept < must_keep {
                return Err(format!(
                    "{place:?} came back with its log intact up to {kept}; up to {must_keep} had to survive"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::Offset;

    use super::super::doctor::{must_pass, must_ring, place};
    use super::*;

    #[test]
    fn recovery_keeps_rings_for_a_log_that_came_back_short() {
        let recovered = |must_keep| Fact::Recovered { place: place(1), kept: Offset(3), must_keep: Offset(must_keep) };
        must_ring(RecoveryKeeps, |cluster| cluster.facts.push(recovered(4)));
        must_pass(RecoveryKeeps, |cluster| cluster.facts.push(recovered(3)));
    }
}
