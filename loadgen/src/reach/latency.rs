//! Row 3: how long one record takes when the machine has little else to do.
//!
//! The ceiling is asked twice, at the same rate and back to back: at the rate processes sleep between two records, and
//! waking them is most of the time. The brokers stay up meanwhile; idle, they take a fraction of a percent of a core.
//!
//! The ceiling has one leader and two followers, as one partition has. With 16 partitions, whose records are sent in turn,
//! three brokers lead in turn: each has slept longer, and done something else before, when it is needed again.

use anyhow::Result;

use super::judge::{Better, Measure};
use super::report::RowReport;
use super::stage::{Stage, settings};
use crate::ceiling::CeilingRun;
use crate::plan::Phase;
use crate::settings::TransportKind;
use crate::target::Target;

const RATE_RECORDS_S: f64 = 500.0;

const TRANSPORTS: [TransportKind; 2] = [TransportKind::Quic, TransportKind::Tcp];
const PARTITIONS: [u32; 2] = [1, 16];
const YARDSTICKS: [&str; 2] = ["at the rate", "back to back"];

fn name(transport: TransportKind, partitions: u32, percentile: &str, against: &str) -> String {
    let transport = transport.to_string().to_uppercase();
    let partitions = if partitions == 1 { "1 partition".to_owned() } else { format!("{partitions} partitions") };
    format!("{transport}, {partitions}: {percentile} / ceiling {against}")
}

/// What it measures.
pub fn measures() -> Vec<Measure> {
    let mut measures = Vec::new();
    for transport in TRANSPORTS {
        for partitions in PARTITIONS {
            for against in YARDSTICKS {
                let measure = |percentile| name(transport, partitions, percentile, against);
                measures.push(Measure::judged(measure("p50"), "us", Better::Lower, 2.0, 1.3));
                measures.push(Measure::judged(measure("p99"), "us", Better::Lower, 3.0, 1.5));
            }
        }
    }
    measures
}

/// Measures it.
pub async fn run(stage: &mut Stage, report: &mut RowReport) -> Result<()> {
    // A p99 wants 10,000 records.
    let window_s = stage.seconds(20.5);
    for repeat in 1..=report.repeats {
        for transport in TRANSPORTS {
            let settings_for = |partitions| {
                settings(transport, |flags| {
                    flags.partitions = Some(partitions);
                    flags.rate = Some(RATE_RECORDS_S);
                    flags.duration = Some(window_s);
                })
            };
            let [one, many] = PARTITIONS.map(settings_for);
            let (one, many) = (one?, many?);
            let target = Target::start(&one).await?;
            // The yardstick stands between the two that are held against it.
            let with_one = stage.phase(&target, &one, Phase::Rate).await;
            let at_rate = stage.ceiling(&CeilingRun::round_trip(&one, 3, Some(RATE_RECORDS_S), window_s)).await;
            let with_many = stage.phase(&target, &many, Phase::Rate).await;
            let back_to_back = stage.ceiling(&CeilingRun::round_trip(&one, 3, None, window_s.min(5.0))).await;
            target.end().await?;
            let ceilings = [at_rate?, back_to_back?];
            for (partitions, measured) in PARTITIONS.into_iter().zip([with_one?, with_many?]) {
                for (against, ceiling) in YARDSTICKS.into_iter().zip(&ceilings) {
                    let (p50, p99) = (ceiling.latency_us.p50, ceiling.latency_us.p99);
                    let measure = |percentile| name(transport, partitions, percentile, against);
                    report.add(&measure("p50"), repeat, measured.p50_us, Some(p50), String::new())?;
                    report.add(&measure("p99"), repeat, measured.p99_us, Some(p99), measured.note())?;
                }
            }
        }
    }
    Ok(())
}
