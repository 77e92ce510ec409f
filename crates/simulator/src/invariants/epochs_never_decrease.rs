//! 2: leader and partition epoch never decrease, neither in a broker's view nor in the committed metadata; another
//! leader implies a higher leader epoch.

use minisr_logic::metadata::check_step;

use super::Invariant;
use crate::state::{Fact, Step};

/// Compares each view with the one before.
#[derive(Debug, Default)]
pub struct EpochsNeverDecrease;

impl Invariant for EpochsNeverDecrease {
    fn number(&self) -> u8 {
        2
    }

    fn name(&self) -> &'static str {
        "EpochsNeverDecrease"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Committed { before, command, .. } = fact else { continue };
            let sound = check_step(before, &step.state.image);
            sound.map_err(|violation| format!("{violation} after {command:?}"))?;
        }
        for (place, before, now) in step.views() {
            let Some(before) = before else { continue };
            let (old, new) = (before.leader_epoch, now.leader_epoch);
            if new < old || now.partition_epoch < before.partition_epoch {
                return Err(format!(
                    "{place:?} went from epochs {old:?}/{} to {new:?}/{}",
                    before.partition_epoch, now.partition_epoch
                ));
            }
            let both_known = now.leader.is_some() && before.leader.is_some();
            if new == old && now.leader != before.leader && both_known {
                return Err(format!("{place:?} sees {:?} after {:?} in epoch {new:?}", now.leader, before.leader));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::metadata::{Command, Image};
    use minisr_logic::{BrokerId, PartitionEpoch};

    use super::super::doctor::{TOPIC, must_ring};
    use super::*;

    #[test]
    fn epochs_never_decrease_rings_when_the_metadata_log_goes_back() {
        must_ring(EpochsNeverDecrease, |cluster| {
            let before = std::mem::replace(&mut cluster.state.image, Image::new());
            let command = Command::DeleteTopic { topic_id: TOPIC };
            cluster.facts.push(Fact::Committed { before, command, accepted: true });
        });
    }

    #[test]
    fn epochs_never_decrease_rings_for_each_epoch_and_for_a_silent_change_of_leader() {
        must_ring(EpochsNeverDecrease, |cluster| cluster.view(2).leader_epoch = None);
        must_ring(EpochsNeverDecrease, |cluster| cluster.view(2).partition_epoch = PartitionEpoch(-1));
        must_ring(EpochsNeverDecrease, |cluster| cluster.view(2).leader = Some(BrokerId(3)));
    }
}
