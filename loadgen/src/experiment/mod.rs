//! Experiments: small measured stories, each about one thing, with files and a report of their own.

pub mod isr_shuttle;
pub mod reassign;
