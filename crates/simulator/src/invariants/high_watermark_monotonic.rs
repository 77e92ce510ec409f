//! 4: a leader's high watermark never falls within one leader epoch.

use minisr_replica::RoleName;

use super::Invariant;
use crate::state::Step;

/// Compares each leader's view with the one before.
#[derive(Debug, Default)]
pub struct HighWatermarkMonotonic;

impl Invariant for HighWatermarkMonotonic {
    fn number(&self) -> u8 {
        4
    }

    fn name(&self) -> &'static str {
        "HighWatermarkMonotonic"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for (place, before, now) in step.views() {
            let Some(before) = before.filter(|it| it.role == RoleName::Leader && it.leader_epoch == now.leader_epoch)
            else {
                continue;
            };
            if now.high_watermark < before.high_watermark {
                return Err(format!(
                    "leader {place:?} lowered its high watermark from {} to {} in epoch {:?}",
                    before.high_watermark, now.high_watermark, now.leader_epoch
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::{Epoch, Offset};

    use super::super::doctor::{must_pass, must_ring};
    use super::*;

    #[test]
    fn high_watermark_monotonic_rings_within_an_epoch_only() {
        must_ring(HighWatermarkMonotonic, |cluster| cluster.view(1).high_watermark = Offset(2));
        must_pass(HighWatermarkMonotonic, |cluster| {
            cluster.view(1).high_watermark = Offset(2);
            cluster.view(1).leader_epoch = Some(Epoch(2));
        });
    }
}
