//! 17: a replica never cuts its log below its own high watermark.

use super::Invariant;
use crate::state::{Fact, Step};

/// Looks at each cut that no injected loss made.
#[derive(Debug, Default)]
pub struct NoCutBelowHighWatermark;

impl Invariant for NoCutBelowHighWatermark {
    fn number(&self) -> u8 {
        17
    }

    fn name(&self) -> &'static str {
        "NoCutBelowHighWatermark"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Cut { place, entries, high_watermark, injected: false } = fact else { continue };
            if step.state.had_unclean_election(place.0) {
                continue;
            }
            if let Some(first) = entries.first().filter(|first| first.base < *high_watermark) {
                return Err(format!(
                    "{place:?} cut its log to {}, below its high watermark {high_watermark}",
                    first.base
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::Offset;

    use super::super::doctor::{log, must_pass, must_ring, place};
    use super::*;

    fn cut(high_watermark: i64) -> Fact {
        let entries = log(&[0, 0, 0]).split_off(2);
        Fact::Cut { place: place(2), entries, high_watermark: Offset(high_watermark), injected: false }
    }

    #[test]
    fn no_cut_below_high_watermark_rings_for_a_cut_below_it() {
        must_ring(NoCutBelowHighWatermark, |cluster| cluster.facts.push(cut(3)));
        must_pass(NoCutBelowHighWatermark, |cluster| cluster.facts.push(cut(2)));
    }
}
