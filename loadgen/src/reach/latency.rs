//! Row 3: how long one record takes when the machine has little else to do.
//!
//! The ceiling is asked twice, at the same rate and back to back: at the rate processes sleep between two records, and
//! waking them is most of the time. The brokers stay up meanwhile; idle, they take a fraction of a percent of a core.

use anyhow::Result;

use super::judge::{Better, Measure};
use super::report::RowReport;
use super::stage::{Stage, settings};
use crate::ceiling::CeilingRun;
use crate::plan::Phase;
use crate::settings::TransportKind;
use crate::target::Target;

const RATE_RECORDS_S: f64 = 500.0;

fn name(transport: TransportKind, percentile: &str, against: &str) -> String {
    format!("{} {percentile} / ceiling {against}", transport.to_string().to_uppercase())
}

const TRANSPORTS: [TransportKind; 2] = [TransportKind::Quic, TransportKind::Tcp];

/// What it measures.
pub fn measures() -> Vec<Measure> {
    let mut measures = Vec::new();
    for transport in TRANSPORTS {
        for against in ["at the rate", "back to back"] {
            measures.push(Measure::judged(name(transport, "p50", against), "us", Better::Lower, 2.0, 1.3));
            measures.push(Measure::judged(name(transport, "p99", against), "us", Better::Lower, 3.0, 1.5));
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
            let settings = settings(transport, |flags| {
                flags.rate = Some(RATE_RECORDS_S);
                flags.duration = Some(window_s);
            })?;
            let target = Target::start(&settings).await?;
            let at_rate = stage.ceiling(&CeilingRun::round_trip(&settings, 3, Some(RATE_RECORDS_S), window_s)).await;
            let measured = stage.phase(&target, &settings, Phase::Rate).await;
            let back_to_back = stage.ceiling(&CeilingRun::round_trip(&settings, 3, None, window_s.min(5.0))).await;
            target.end().await?;
            let measured = measured?;
            for (against, ceiling) in [("at the rate", at_rate?), ("back to back", back_to_back?)] {
                let (p50, p99) = (ceiling.latency_us.p50, ceiling.latency_us.p99);
                report.add(&name(transport, "p50", against), repeat, measured.p50_us, Some(p50), String::new())?;
                report.add(&name(transport, "p99", against), repeat, measured.p99_us, Some(p99), measured.note())?;
            }
        }
    }
    Ok(())
}
