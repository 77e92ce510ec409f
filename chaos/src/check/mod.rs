//! One file per anomaly, by the names under which the literature knows them. Each check is a function of the recorded
//! history alone, and each has a doctored history that it must fail beside the clean one that it must pass.

pub mod duplicate;
pub mod high_watermark_regress;
pub mod inconsistent_offsets;
pub mod lost_write;
pub mod no_progress;
pub mod nonmonotonic_poll;
pub mod nonmonotonic_send;
pub mod phantom;
pub mod poll_skip;
pub mod producer_order;
pub mod realtime_order;
pub mod replica_divergence;
pub mod unseen;

#[cfg(test)]
mod doctored;

use crate::history::History;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The anomaly's name.
    pub check: &'static str,
    /// What it means, for the verdict table.
    pub meaning: &'static str,
    /// How often it occurred.
    pub count: u64,
    /// The first few occurrences in words.
    pub examples: Vec<String>,
}

const EXAMPLES_MAX: usize = 10;

impl Finding {
    /// Nothing found yet.
    pub fn new(check: &'static str, meaning: &'static str) -> Self {
        Self { check, meaning, count: 0, examples: Vec::new() }
    }

    /// Counts an occurrence and keeps the first few in words.
    pub fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

/// All checks that need nothing but the history. Offsets first: the others rely on them.
pub fn history_checks(history: &History) -> Vec<Finding> {
    vec![
        inconsistent_offsets::check(history),
        lost_write::check(history),
        unseen::check(history),
        duplicate::check(history),
        phantom::check(history),
        producer_order::check(history),
        realtime_order::check(history),
        nonmonotonic_send::check(history),
        nonmonotonic_poll::check(history),
        poll_skip::check(history),
        high_watermark_regress::check(history),
    ]
}
