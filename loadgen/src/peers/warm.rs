//! Warms a cluster up: a Java machine compiles what it runs often, and until it has, its figures rise from second to
//! second. Who compares with a cold one compares with nothing that anybody runs.

use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::ballast::Ballast;
use crate::plan::{Acks, Cell, Phase};
use crate::progress::Progress;
use crate::report::chart::count;
use crate::settings::Settings;
use crate::sweep::{Step, run_step};
use crate::target::Target;

/// Seconds of one round.
pub(super) const ROUND_S: f64 = 4.0;
/// Rates are flat when the last rounds are at most this much faster than any before them with the same records.
const FLAT: f64 = 1.10;
/// So many last rounds: one alone may be slow for a reason of its own.
const LAST_ROUNDS: usize = 2;
/// Rounds of each kind after which it is no use to go on. A slow machine compiles slowly: where seven rounds were enough
/// one day, a dozen did not get half as far on another.
const ROUNDS_MAX: usize = 40;

/// What was sent before anything was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Warmth {
    /// Records acknowledged in all rounds.
    pub records: u64,
    /// Whether the last rounds of each kind were hardly faster than those before.
    pub flat: bool,
    /// Seconds all of it took.
    pub seconds: f64,
    /// Each kind of load, in the order in which they took turns.
    pub kinds: Vec<Kind>,
}

/// Rounds of one kind of load.
#[derive(Debug, Clone, Serialize)]
pub struct Kind {
    /// Partitions.
    pub partitions: u32,
    /// Bytes of a record's value.
    pub record_size_bytes: u32,
    /// Records per second of each round.
    pub rates_records_s: Vec<f64>,
}

impl Kind {
    fn is_flat(&self) -> bool {
        let fastest = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
        let Some((before, last)) = self.rates_records_s.split_last_chunk::<LAST_ROUNDS>() else { return false };
        fastest(last) <= fastest(before) * FLAT
    }
}

impl Warmth {
    /// In a sentence.
    pub fn sentence(&self) -> String {
        let rates = |kind: &Kind| {
            let rates: Vec<String> = kind.rates_records_s.iter().map(|rate| count(*rate)).collect();
            let (size, partitions) = (kind.record_size_bytes, kind.partitions);
            format!("{size} B × {partitions} partitions: {} records/s", rates.join(", "))
        };
        let kinds: Vec<String> = self.kinds.iter().map(rates).collect();
        let flat = if self.flat { "flat at the end" } else { "still rising at the end" };
        format!(
            "warmed with {} records in {:.0} s, {flat} ({})",
            count(self.records as f64),
            self.seconds,
            kinds.join("; ")
        )
    }
}

/// Sends rounds of each of these loads in turn until `records_min` are acknowledged and all rates are flat.
pub async fn warm(target: &Target, loads: &[Settings], records_min: u64, progress: &Progress) -> Result<Warmth> {
    let begun = Instant::now();
    // Nothing that is measured here is compared, so no memory is held ready for it.
    let mut no_ballast = Ballast::none();
    let kind = |settings: &Settings| Kind {
        partitions: settings.partitions,
        record_size_bytes: settings.record_size_bytes,
        rates_records_s: Vec::new(),
    };
    let mut warmth = Warmth { records: 0, flat: false, seconds: 0.0, kinds: loads.iter().map(kind).collect() };
    for round in 0..ROUNDS_MAX {
        for (number, load) in loads.iter().enumerate() {
            let mut settings = load.clone();
            (settings.warmup_s, settings.max_duration_s) = (0.0, ROUND_S);
            let step = Step { cell: heaviest(load)?, phase: Phase::Max, repeat: 1 };
            let topic = format!("warm-{}-{round}-{number}", std::process::id());
            let outcome = run_step(target, &settings, &step, &topic, &mut no_ballast, progress).await?;
            if let Some(broken) = &outcome.broken {
                anyhow::bail!("warming up failed: {broken}");
            }
            if outcome.acked_lost() > 0 {
                anyhow::bail!("{} records that were acknowledged while warming up are lost", outcome.acked_lost());
            }
            warmth.records += outcome.produced.ledger.acked_records();
            warmth.kinds[number].rates_records_s.push(outcome.achieved_records_s().unwrap_or(0.0).round());
        }
        warmth.flat = warmth.kinds.iter().all(Kind::is_flat);
        if warmth.flat && warmth.records >= records_min {
            break;
        }
    }
    warmth.seconds = begun.elapsed().as_secs_f64();
    progress.say(&warmth.sentence());
    Ok(warmth)
}

/// The cell that makes brokers do most: every one of its kind of work is done in the others as well. Only what is
/// acknowledged is counted, so not acks=0.
fn heaviest(settings: &Settings) -> Result<Cell> {
    let replicas = settings.cells.iter().map(|cell| cell.replication_factor).max().context("there is no cell")?;
    Ok(Cell { acks: Acks::All, replication_factor: replicas, min_insync_replicas: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(rates_records_s: &[f64]) -> Kind {
        Kind { partitions: 16, record_size_bytes: 1024, rates_records_s: rates_records_s.to_vec() }
    }

    #[test]
    fn warmth_is_flat_once_two_rounds_are_hardly_faster_than_those_before() {
        assert!(!kind(&[10_000.0]).is_flat(), "one round tells nothing");
        assert!(!kind(&[10_000.0, 30_000.0]).is_flat());
        assert!(!kind(&[10_000.0, 30_000.0, 31_000.0]).is_flat(), "two that are alike come by chance");
        assert!(kind(&[10_000.0, 30_000.0, 31_000.0, 32_000.0]).is_flat());
        assert!(!kind(&[40_600.0, 27_600.0, 51_600.0, 40_100.0]).is_flat(), "a slow round hides nothing");
        assert!(kind(&[30_000.0, 28_000.0, 29_000.0]).is_flat());
    }

    #[test]
    fn warmth_says_how_many_records_and_whether_it_is_flat() {
        let warmth = Warmth { records: 3_200_000, flat: true, seconds: 61.0, kinds: vec![kind(&[10_000.0, 60_000.0])] };
        let sentence = warmth.sentence();
        assert!(sentence.contains("3.2 M records") && sentence.contains("flat at the end"), "{sentence}");
    }
}
