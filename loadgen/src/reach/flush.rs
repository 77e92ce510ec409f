//! Row 14: what it costs that an acknowledged record is on stable storage everywhere.
//!
//! Both policies at the maximum, one after the other on clusters of their own. How many batches share a sync is counted
//! by the brokers, which log it when they stop: batches acknowledged, times copies, by files synced.

use anyhow::{Context, Result};

use super::judge::{Better, Measure};
use super::report::RowReport;
use super::stage::{Measured, Stage, settings};
use crate::plan::Phase;
use crate::settings::{Flush, TransportKind};
use crate::target::Target;

const THROUGHPUT: &str = "throughput with flush=commit / flush=never";
const SHARED: &str = "batches per fsync, a batch counted on each replica";

/// What it measures.
pub fn measures() -> Vec<Measure> {
    vec![
        Measure::judged(THROUGHPUT, "MB/s", Better::Higher, 0.5, 0.8),
        Measure::shown(SHARED, "batches", Better::Higher),
    ]
}

/// Measures it.
pub async fn run(stage: &mut Stage, report: &mut RowReport) -> Result<()> {
    let window_s = stage.seconds(3.0);
    for repeat in 1..=report.repeats {
        let (never, _) = with_policy(stage, Flush::Never, window_s).await?;
        let (commit, synced) = with_policy(stage, Flush::Commit, window_s).await?;
        let note = format!("service p50 {:.1} ms against {:.1} ms", commit.p50_us / 1e3, never.p50_us / 1e3);
        report.add(THROUGHPUT, repeat, commit.mb_s, Some(never.mb_s), note)?;
        let copies = commit.acked as f64 / RECORDS_PER_BATCH * 3.0;
        let note = format!("{synced} files synced");
        report.add(SHARED, repeat, copies / synced.max(1) as f64, None, note)?;
    }
    Ok(())
}

/// Records of 1 KiB that fit into a batch of 64 KiB, with their headers.
const RECORDS_PER_BATCH: f64 = 63.0;

/// Throughput, and how many files all brokers synced in their lives.
async fn with_policy(stage: &mut Stage, flush: Flush, window_s: f64) -> Result<(Measured, u64)> {
    let settings = settings(TransportKind::Quic, |flags| {
        flags.flush = Some(flush);
        flags.max_duration = Some(window_s);
    })?;
    let target = Target::start(&settings).await?;
    let measured = stage.phase(&target, &settings, Phase::Max).await;
    let synced = match target.cluster() {
        Some(cluster) => {
            cluster.stop_all().await.context("the brokers do not stop")?;
            let mut synced = 0;
            for id in cluster.ids() {
                synced += synced_files(&std::fs::read_to_string(cluster.log_path(id))?);
            }
            synced
        }
        None => 0,
    };
    target.end().await?;
    Ok((measured?, synced))
}

/// `synced_files=N` of the line that a broker logs when it stops.
fn synced_files(log: &str) -> u64 {
    let count = |line: &str| line.split("synced_files=").nth(1)?.split_whitespace().next()?.parse().ok();
    log.lines().rev().find_map(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flush_counts_are_read_from_the_line_of_a_broker_that_stopped() {
        let log =
            "INFO ready\nINFO minisr_broker: data plane stopped counters=requests=7 sync_rounds=3 synced_files=48\n";
        assert_eq!(synced_files(log), 48);
        assert_eq!(synced_files("INFO killed before it could say anything\n"), 0);
    }
}
