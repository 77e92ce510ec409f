//! 16: a leader's high watermark does not rise while its committed ISR is smaller than min.insync.replicas.

use minisr_replica::RoleName;

use super::Invariant;
use crate::state::Step;

/// Compares each leader's view with the one before.
#[derive(Debug, Default)]
pub struct HighWatermarkNeedsMinIsr;

impl Invariant for HighWatermarkNeedsMinIsr {
    fn number(&self) -> u8 {
        16
    }

    fn name(&self) -> &'static str {
        "HighWatermarkNeedsMinIsr"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for (place, before, now) in step.views().filter(|(_, _, now)| now.role == RoleName::Leader) {
            // Several images may come in one step; it may have risen under one that is past already.
            if before.is_some_and(|it| now.partition_epoch.0 > it.partition_epoch.0 + 1) {
                continue;
            }
            let min_isr = step.state.replicas[&place].min_isr;
            if before.is_some_and(|it| it.high_watermark < now.high_watermark) && now.isr.len() < min_isr {
                return Err(format!(
                    "leader {place:?} raised its high watermark to {} with {:?} in sync, not {min_isr}",
                    now.high_watermark, now.isr
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::{BrokerId, Offset};

    use super::super::doctor::{must_pass, must_ring};
    use super::*;

    #[test]
    fn high_watermark_needs_min_isr_rings_below_it() {
        must_ring(HighWatermarkNeedsMinIsr, |cluster| {
            cluster.append(1, 0);
            cluster.view(1).high_watermark = Offset(4);
            cluster.view(1).isr = vec![BrokerId(1)];
        });
        must_pass(HighWatermarkNeedsMinIsr, |cluster| {
            cluster.append(1, 0);
            cluster.view(1).high_watermark = Offset(4);
        });
    }
}
