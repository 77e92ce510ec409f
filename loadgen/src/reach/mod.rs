//! How far it reaches: the measures that minisr has to meet, each a ratio to a yardstick of the same run (or a plain
//! figure where there is none), with what it must reach and what is aimed at.
//!
//! A *row* is one of them, by the number under which docs/PERFORMANCE.md lists it, and a file of this directory (or a
//! family of rows is). A row measures each thing as often as it is asked to, its yardstick right before or after it
//! every time (A B A B), so that a slow minute of the machine falls on both. The ratio is taken within a repeat; what is
//! judged is the median over the repeats, and the spread stands beside it.
//!
//! * [`judge`]: measures, samples and verdicts. [`stage`]: clusters, phases and ceilings, as rows need them.
//! * [`report`]: `row-NN.csv` with every repeat, `row-NN.json` with the circumstances, the table.
//! * the rows: [`throughput`] (1, 2, 8), [`latency`] (3), [`consumers`] (9), [`partitions`] (10), [`idle`] (11),
//!   [`connections`] (12), [`endurance`] (13), [`flush`] (14). Rows 4 to 7 compare with another system and are measured
//!   where that is.

pub mod connections;
pub mod consumers;
pub mod endurance;
pub mod flush;
pub mod idle;
pub mod judge;
pub mod latency;
pub mod partitions;
pub mod report;
pub mod stage;
pub mod throughput;

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Result, bail};

use crate::cli::ReachArguments;
use crate::environment::Environment;
use judge::Verdict;
use report::RowReport;
use stage::Stage;

/// The rows that this program measures.
pub const ROWS: [u8; 10] = [1, 2, 3, 8, 9, 10, 11, 12, 13, 14];

/// Measures the rows asked for. The exit code: 0 fine, 1 a row could not be measured, 2 with `--gate` a must is missed.
pub async fn run(arguments: ReachArguments) -> Result<ExitCode> {
    let rows = if arguments.row.is_empty() { ROWS.to_vec() } else { arguments.row.clone() };
    if let Some(row) = rows.iter().find(|row| !ROWS.contains(row)) {
        bail!("there is no row {row} here: the rows are {}", ROWS.map(|row| row.to_string()).join(", "));
    }
    if arguments.repeats == 0 {
        bail!("--repeats must be at least 1, and 5 for a result that counts");
    }
    if !(0.5..=86_400.0).contains(&arguments.seconds.unwrap_or(1.0)) {
        bail!("--seconds must be between 0.5 and 86400");
    }
    let environment = Environment::read();
    let mut stage = Stage::new(&arguments)?;
    let (mut missed, mut failed) = (false, false);
    for row in rows {
        let mut report = RowReport::begin(row, measures(row), SystemTime::now(), &arguments, &environment)?;
        println!("Row {row}: {}", title(row));
        let outcome = measure(row, &mut stage, &mut report).await;
        report.write(stage.ballast.report())?;
        println!("{}", report.table());
        missed |= report.verdicts().any(|(_, verdict)| verdict == Verdict::Missed);
        if let Err(error) = outcome {
            eprintln!("minisr-loadgen: row {row} ended early: {error:#}");
            failed = true;
        }
    }
    Ok(match (failed, missed && arguments.gate) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => {
            eprintln!("minisr-loadgen: something that must be reached is not (exit code 2)");
            ExitCode::from(2)
        }
        (false, false) => ExitCode::SUCCESS,
    })
}

fn title(row: u8) -> &'static str {
    match row {
        1 => "RF 3, acks=all, min ISR 2, 16 partitions × 4 batches of 64 KiB over QUIC, against the QUIC ceiling",
        2 => "the same over TCP, against the TCP ceiling",
        3 => "single 1 KiB records at 500/s, RF 3, acks=all, against the ceiling's round trip",
        8 => "RF 1, one broker, one producer, 64 KiB batches, 64 in flight",
        9 => "a consumer reading a cold and a hot 1 GiB log, against the same bytes through the bare transport",
        10 => "1 → 1,000 partitions, RF 3, the same total load",
        11 => "idle brokers with 1,000 partitions, RF 3",
        12 => "10 → 2,000 connections at the same total rate",
        13 => "full load for minutes with a slow consumer and a stuck follower: memory",
        14 => "flush=commit against flush=never, 64 KiB batches, 16 partitions",
        _ => unreachable!("checked against ROWS"),
    }
}

fn measures(row: u8) -> Vec<judge::Measure> {
    match row {
        1 | 2 | 8 => throughput::measures(row),
        3 => latency::measures(),
        9 => consumers::measures(),
        10 => partitions::measures(),
        11 => idle::measures(),
        12 => connections::measures(),
        13 => endurance::measures(),
        14 => flush::measures(),
        _ => unreachable!("checked against ROWS"),
    }
}

async fn measure(row: u8, stage: &mut Stage, report: &mut RowReport) -> Result<()> {
    match row {
        1 | 2 => throughput::replicated(row, stage, report).await,
        8 => throughput::single(stage, report).await,
        3 => latency::run(stage, report).await,
        9 => consumers::run(stage, report).await,
        10 => partitions::run(stage, report).await,
        11 => idle::run(stage, report).await,
        12 => connections::run(stage, report).await,
        13 => endurance::run(stage, report).await,
        14 => flush::run(stage, report).await,
        _ => unreachable!("checked against ROWS"),
    }
}
