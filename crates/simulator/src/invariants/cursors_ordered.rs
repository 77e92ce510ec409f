//! 3: log start ≤ high watermark ≤ log end on every replica, and flushed ≤ log end.

use super::Invariant;
use crate::state::Step;

/// Looks at each view alone.
#[derive(Debug, Default)]
pub struct CursorsOrdered;

impl Invariant for CursorsOrdered {
    fn number(&self) -> u8 {
        3
    }

    fn name(&self) -> &'static str {
        "CursorsOrdered"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for (place, _, view) in step.views() {
            let ordered = view.log_start <= view.high_watermark
                && view.high_watermark <= view.log_end
                && view.flushed <= view.log_end;
            if !ordered {
                return Err(format!(
                    "{place:?}: log start {}, high watermark {}, flushed {}, log end {}",
                    view.log_start, view.high_watermark, view.flushed, view.log_end
                ));
            }
            let end = step.state.replicas[&place].end();
            if view.log_end != end {
                return Err(format!("{place:?} says that its log ends at {}, the disk says {end}", view.log_end));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::Offset;

    use super::super::doctor::must_ring;
    use super::*;

    #[test]
    fn cursors_ordered_rings_for_each_pair() {
        must_ring(CursorsOrdered, |cluster| cluster.view(2).log_start = Offset(4));
        must_ring(CursorsOrdered, |cluster| cluster.view(2).high_watermark = Offset(4));
        must_ring(CursorsOrdered, |cluster| cluster.view(2).flushed = Offset(4));
        must_ring(CursorsOrdered, |cluster| {
            cluster.replica(2).log.pop();
        });
    }
}
