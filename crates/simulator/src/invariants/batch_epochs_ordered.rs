//! 18: leader epochs of batches never fall along a log, and none is above the replica's own leader epoch.

use super::Invariant;
use crate::state::{Fact, Step};

/// Looks at each appended batch.
#[derive(Debug, Default)]
pub struct BatchEpochsOrdered;

impl Invariant for BatchEpochsOrdered {
    fn number(&self) -> u8 {
        18
    }

    fn name(&self) -> &'static str {
        "BatchEpochsOrdered"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Appended { place, from_index } = fact else { continue };
            let replica = &step.state.replicas[place];
            let from = from_index.saturating_sub(1);
            if let Some(pair) = replica.log[from..].windows(2).find(|pair| pair[1].epoch < pair[0].epoch) {
                return Err(format!(
                    "{place:?} has epoch {} at {} after epoch {}",
                    pair[1].epoch, pair[1].base, pair[0].epoch
                ));
            }
            let last = replica.log.last().expect("something was appended");
            if replica.view.as_ref().and_then(|view| view.leader_epoch).is_some_and(|epoch| epoch < last.epoch) {
                return Err(format!("{place:?} holds epoch {} at {} and is not there yet", last.epoch, last.base));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::Epoch;

    use super::super::doctor::must_ring;
    use super::*;

    #[test]
    fn batch_epochs_ordered_rings_for_a_falling_and_for_a_future_epoch() {
        must_ring(BatchEpochsOrdered, |cluster| {
            cluster.replica(2).log[2].epoch = Epoch(1);
            cluster.view(2).leader_epoch = Some(Epoch(1));
            cluster.append(2, 0);
        });
        must_ring(BatchEpochsOrdered, |cluster| {
            cluster.append(2, 1);
        });
    }
}
