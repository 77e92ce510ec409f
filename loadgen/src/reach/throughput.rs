//! Rows 1, 2 and 8: maximum throughput.
//!
//! A cluster is started for each measurement and ended before the ceiling runs: the ceiling has the machine to itself,
//! as the brokers have. Over TCP clients, brokers among one another (`--insecure-peers`) and the ceiling are plaintext.

use anyhow::Result;

use super::judge::{Better, Measure};
use super::report::RowReport;
use super::stage::{Measured, Stage, settings};
use crate::ceiling::{CeilingRun, Files};
use crate::plan::Phase;
use crate::settings::{Settings, TransportKind};
use crate::target::Target;

const AGAINST_REUSED: &str = "throughput / ceiling";
const AGAINST_GROWING: &str = "throughput / ceiling with growing files";

/// What rows 1, 2 and 8 measure.
pub fn measures(row: u8) -> Vec<Measure> {
    if row == 8 {
        return vec![
            Measure::judged("TCP, 16 partitions", "MB/s", Better::Higher, 600.0, 900.0),
            Measure::judged("QUIC, 16 partitions", "MB/s", Better::Higher, 400.0, 600.0),
            Measure::shown("TCP, 1 partition, 5 in flight", "MB/s", Better::Higher),
            Measure::shown("QUIC, 1 partition, 5 in flight", "MB/s", Better::Higher),
        ];
    }
    vec![
        Measure::judged(AGAINST_REUSED, "MB/s", Better::Higher, 0.7, 0.9),
        Measure::shown(AGAINST_GROWING, "MB/s", Better::Higher),
    ]
}

/// Rows 1 and 2.
pub async fn replicated(row: u8, stage: &mut Stage, report: &mut RowReport) -> Result<()> {
    let transport = if row == 1 { TransportKind::Quic } else { TransportKind::Tcp };
    let window_s = stage.seconds(3.0);
    let settings = settings(transport, |flags| flags.max_duration = Some(window_s))?;
    for repeat in 1..=report.repeats {
        let reused = stage.ceiling(&CeilingRun::throughput(&settings, 3, Files::Reused, window_s)).await?;
        let cell = on_a_cluster_of_its_own(stage, &settings).await?;
        let growing = stage.ceiling(&CeilingRun::throughput(&settings, 3, Files::Growing, window_s)).await?;
        let note = format!("service p50 {:.1} ms, p99 {:.1} ms", cell.p50_us / 1e3, cell.p99_us / 1e3);
        report.add(AGAINST_REUSED, repeat, cell.mb_s, Some(reused.acked_mb_s), note)?;
        report.add(AGAINST_GROWING, repeat, cell.mb_s, Some(growing.acked_mb_s), String::new())?;
    }
    Ok(())
}

/// Row 8. One broker, so that no idle process takes part; the depth is that of the figures it is compared with.
pub async fn single(stage: &mut Stage, report: &mut RowReport) -> Result<()> {
    let window_s = stage.seconds(3.0);
    for repeat in 1..=report.repeats {
        for transport in [TransportKind::Tcp, TransportKind::Quic] {
            for (partitions, max_in_flight, name) in [(16, 4, "16 partitions"), (1, 5, "1 partition, 5 in flight")] {
                let settings = settings(transport, |flags| {
                    flags.replication_factor = Some(vec![1]);
                    flags.min_insync_replicas = Some(vec![1]);
                    flags.brokers = Some(1);
                    flags.partitions = Some(partitions);
                    flags.max_in_flight = Some(max_in_flight);
                    flags.max_duration = Some(window_s);
                })?;
                let cell = on_a_cluster_of_its_own(stage, &settings).await?;
                let measure = format!("{}, {name}", transport.to_string().to_uppercase());
                let note = format!("service p50 {:.1} ms, p99 {:.1} ms", cell.p50_us / 1e3, cell.p99_us / 1e3);
                report.add(&measure, repeat, cell.mb_s, None, note)?;
            }
        }
    }
    Ok(())
}

async fn on_a_cluster_of_its_own(stage: &mut Stage, settings: &Settings) -> Result<Measured> {
    let target = Target::start(settings).await?;
    let measured = stage.phase(&target, settings, Phase::Max).await;
    target.end().await?;
    measured
}
