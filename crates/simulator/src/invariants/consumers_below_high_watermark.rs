//! 10: no consumer sees an offset at or above the high watermark of the replica that serves it.

use super::Invariant;
use crate::state::{Fact, Step};

/// Looks at each answered read.
#[derive(Debug, Default)]
pub struct ConsumersBelowHighWatermark;

impl Invariant for ConsumersBelowHighWatermark {
    fn number(&self) -> u8 {
        10
    }

    fn name(&self) -> &'static str {
        "ConsumersBelowHighWatermark"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Read { place, batches, high_watermark, .. } = fact else { continue };
            let end = batches.last().map(|it| it.1);
            let known = step.state.replicas.get(place).and_then(|it| it.view.as_ref()).map(|view| view.high_watermark);
            if end.is_some_and(|end| end > *high_watermark) || known.is_some_and(|known| *high_watermark > known) {
                return Err(format!(
                    "{place:?} gave a consumer data up to {end:?}; it said its high watermark was {high_watermark}, it is {known:?}"
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

    fn read(to: i64, high_watermark: i64) -> Fact {
        Fact::Read {
            place: place(1),
            consumer: 0,
            from: Offset(0),
            batches: vec![(Offset(0), Offset(to), 5)],
            high_watermark: Offset(high_watermark),
        }
    }

    #[test]
    fn consumers_below_high_watermark_rings_for_data_past_it() {
        must_ring(ConsumersBelowHighWatermark, |cluster| cluster.facts.push(read(4, 3)));
        must_ring(ConsumersBelowHighWatermark, |cluster| cluster.facts.push(read(4, 4)));
        must_pass(ConsumersBelowHighWatermark, |cluster| cluster.facts.push(read(3, 3)));
    }
}
