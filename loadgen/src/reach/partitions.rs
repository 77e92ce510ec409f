//! Row 10: what many partitions cost.
//!
//! Twice the same total load, whatever the number of partitions: at the maximum 64 batches of 64 KiB are in flight (one
//! partition takes five, ten take 50; among a hundred or a thousand they move on in turn), and at a constant rate 5,000
//! records a second go round the partitions. Nobody asks for metadata meanwhile.

use anyhow::Result;

use super::judge::{Better, Measure};
use super::report::RowReport;
use super::stage::{Measured, Stage, settings};
use crate::plan::Phase;
use crate::settings::{Settings, TransportKind};
use crate::target::Target;

const PARTITIONS: [u32; 4] = [1, 10, 100, 1_000];
/// Batches in flight over all partitions.
const BATCHES_IN_FLIGHT: u32 = 64;
const RATE_RECORDS_S: f64 = 5_000.0;

fn maximum(partitions: u32) -> String {
    format!("maximum with {partitions} partitions / with 1")
}

fn response(partitions: u32) -> String {
    format!("response p99 at 5000/s with {partitions} partitions / with 1")
}

/// What it measures.
pub fn measures() -> Vec<Measure> {
    let mut measures = vec![Measure::judged(maximum(1_000), "MB/s", Better::Higher, 0.75, 0.9)];
    measures.extend([10, 100].map(|partitions| Measure::shown(maximum(partitions), "MB/s", Better::Higher)));
    measures.push(Measure::shown("acknowledged at 5000/s with 1000 partitions / offered", "records/s", Better::Higher));
    measures.extend([10, 100, 1_000].map(|partitions| Measure::shown(response(partitions), "us", Better::Lower)));
    measures
}

/// Measures it.
pub async fn run(stage: &mut Stage, report: &mut RowReport) -> Result<()> {
    let window_s = stage.seconds(4.0);
    let with = |partitions: u32| -> Result<Settings> {
        let mut settings = settings(TransportKind::Quic, |flags| {
            flags.partitions = Some(partitions);
            flags.max_in_flight = Some(5);
            flags.max_duration = Some(window_s);
            flags.duration = Some(window_s);
            flags.rate = Some(RATE_RECORDS_S);
        })?;
        settings.batches_in_flight_total = BATCHES_IN_FLIGHT;
        Ok(settings)
    };
    let target = Target::start(&with(1)?).await?;
    let outcome = repeats(stage, report, &target, with).await;
    target.end().await?;
    outcome
}

async fn repeats(
    stage: &mut Stage,
    report: &mut RowReport,
    target: &Target,
    with: impl Fn(u32) -> Result<Settings>,
) -> Result<()> {
    let cpu = |measured: &Measured| {
        measured.brokers.map_or_else(String::new, |used| format!("brokers {:.0} % of a core", used.cpu_pct))
    };
    for repeat in 1..=report.repeats {
        let (mut one_at_maximum, mut one_at_rate) = (0.0, 0.0);
        for partitions in PARTITIONS {
            let settings = with(partitions)?;
            let at_maximum = stage.phase(target, &settings, Phase::Max).await?;
            let at_rate = stage.phase(target, &settings, Phase::Rate).await?;
            if partitions == 1 {
                (one_at_maximum, one_at_rate) = (at_maximum.mb_s, at_rate.p99_us);
                continue;
            }
            report.add(&maximum(partitions), repeat, at_maximum.mb_s, Some(one_at_maximum), cpu(&at_maximum))?;
            report.add(&response(partitions), repeat, at_rate.p99_us, Some(one_at_rate), cpu(&at_rate))?;
            if partitions == 1_000 {
                let measure = "acknowledged at 5000/s with 1000 partitions / offered";
                report.add(measure, repeat, at_rate.records_s, Some(RATE_RECORDS_S), String::new())?;
            }
        }
    }
    Ok(())
}
