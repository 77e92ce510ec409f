//! Row 11: what a cluster costs that nobody uses.
//!
//! Three brokers, each with a replica of every one of the 1,000 partitions. The busiest and the largest of the three
//! count. Each repeat is another window on the same brokers.

use std::time::Duration;

use anyhow::{Context, Result};

use super::judge::{Better, Measure};
use super::report::RowReport;
use super::stage::{Stage, settings};
use crate::settings::{Settings, TransportKind};
use crate::target::Target;
use crate::usage::Usage;

const PARTITIONS: u32 = 1_000;
const CPU: &str = "CPU of the busiest broker";
const MEMORY: &str = "memory of the largest broker";

/// What it measures.
pub fn measures() -> Vec<Measure> {
    vec![
        Measure::judged(CPU, "% of a core", Better::Lower, 3.0, 1.0),
        Measure::judged(MEMORY, "MiB", Better::Lower, 150.0, 60.0),
    ]
}

/// Measures it.
pub async fn run(stage: &mut Stage, report: &mut RowReport) -> Result<()> {
    let settings = settings(TransportKind::Quic, |flags| flags.partitions = Some(PARTITIONS))?;
    let target = Target::start(&settings).await?;
    let outcome = windows(stage, report, &target, &settings).await;
    target.end().await?;
    outcome
}

async fn windows(stage: &mut Stage, report: &mut RowReport, target: &Target, settings: &Settings) -> Result<()> {
    stage.topic(target, settings).await?;
    let read = || -> Result<Vec<Usage>> {
        let pids = target.broker_pids().into_iter();
        pids.map(|pid| Usage::read(&[pid]).context("a broker is gone")).collect()
    };
    for repeat in 1..=report.repeats {
        let begin = read()?;
        // The window itself.
        tokio::time::sleep(Duration::from_secs_f64(stage.seconds(30.0))).await;
        let used: Vec<_> = read()?.iter().zip(&begin).map(|(end, begin)| end.since(begin)).collect();
        let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        let cpu_pct = largest(&mut used.iter().map(|used| used.cpu_pct));
        let mib = largest(&mut used.iter().map(|used| used.rss_bytes as f64 / f64::from(1 << 20)));
        let all: Vec<String> = used.iter().map(|used| format!("{:.2} %", used.cpu_pct)).collect();
        report.add(CPU, repeat, cpu_pct, None, all.join(", "))?;
        let all: Vec<String> = used.iter().map(|used| format!("{} MiB", used.rss_bytes >> 20)).collect();
        report.add(MEMORY, repeat, mib, None, all.join(", "))?;
    }
    Ok(())
}
