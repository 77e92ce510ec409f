//! The table at the end of a run, for a person at a terminal.

use super::chart::{count, digits, time};
use super::files::{CellFiles, RunFiles};

/// The run as text.
pub fn text(run: &RunFiles) -> String {
    let header = [
        "cell",
        "an acknowledged record survives",
        "p50",
        "trips",
        "p99",
        "p99.9",
        "max",
        "MB/s",
        "ceiling",
        "broker CPU",
        "",
    ];
    let mut rows: Vec<Vec<String>> = vec![header.map(str::to_owned).into()];
    rows.extend(run.cells.iter().map(|files| row(run, files)));
    let widths: Vec<usize> =
        (0..header.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text =
        String::from("\nResponse at the constant rate (planned to acknowledged), then maximum throughput:\n\n");
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 | 1 | 10 => line.push_str(&format!("{cell:<width$}  ")),
                _ => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
        if number == 0 {
            text.push_str(&"─".repeat(widths.iter().map(|width| width + 2).sum::<usize>() - 2));
            text.push('\n');
        }
    }
    text.push_str(&footer(run));
    text
}

fn row(run: &RunFiles, files: &CellFiles) -> Vec<String> {
    let micros = |column: &str| files.rate_number(column).map_or_else(|| "–".to_owned(), |us| time(us / 1_000.0));
    let blank = || "–".to_owned();
    let mark = match (files.sum("acked_lost"), files.invalid_reasons().is_empty()) {
        (Some(lost), _) if lost > 0.0 => format!("LOST {lost}"),
        (_, false) => "invalid".to_owned(),
        _ => String::new(),
    };
    vec![
        files.cell.title(),
        files.cell.durability(),
        micros("response_p50_us"),
        files.round_trips(&run.ceilings).map_or_else(blank, |ratio| format!("{ratio:.1}")),
        micros("response_p99_us"),
        micros("response_p999_us"),
        micros("response_max_us"),
        files.max_mb_s().map_or_else(blank, digits),
        files.ceiling_ratio(&run.ceilings).map_or_else(blank, |ratio| format!("{ratio:.2}")),
        files.max_number("broker_cpu_pct_sum").map_or_else(blank, |percent| format!("{percent:.0} %")),
        mark,
    ]
}

fn footer(run: &RunFiles) -> String {
    let mut text = String::from("\n");
    let mut factors: Vec<u16> = run.cells.iter().map(|files| files.cell.replication_factor).collect();
    factors.sort_unstable();
    factors.dedup();
    for factor in factors {
        let Some(ceiling) = run.ceilings.throughput(factor) else { continue };
        let mut round_trip = run.ceilings.round_trip(factor).map_or_else(String::new, |report| {
            format!(", round trip of one record {} back to back", time(report.latency_us.p50 / 1_000.0))
        });
        if let Some(report) = run.ceilings.round_trip_at_rate(factor) {
            let rate = report.rate_frames_s.unwrap_or(0.0);
            round_trip.push_str(&format!(", {} at {rate} records/s", time(report.latency_us.p50 / 1_000.0)));
        }
        let transport = ceiling.transport.to_uppercase();
        let mb_s = digits(ceiling.acked_mb_s);
        text.push_str(&format!("Ceiling RF {factor} ({transport}): {mb_s} MB/s{round_trip}\n"));
    }
    match &run.ceilings.missing {
        Some(missing) => text.push_str(&format!("No ceiling: {missing}\n")),
        None => text.push_str(
            "trips: the median response in round trips of the ceiling at that rate; ceiling: throughput as a part of its\n",
        ),
    }
    text.push_str(&memory(run).map_or_else(String::new, |sentence| sentence + "\n"));
    let sum = |column: &str| run.cells.iter().filter_map(|files| files.sum(column)).sum::<f64>();
    let (verified, lost) = (sum("verified_records"), sum("acked_lost"));
    text.push_str(&format!(
        "Acknowledged records read back at their offsets: {}; lost: {}. Elections: {}, ISR shrinks: {}\n",
        count(verified),
        count(lost),
        count(sum("leader_changes")),
        count(sum("isr_shrinks")),
    ));
    if run.cells.iter().any(|files| files.rate_number("response_p999_us").is_none()) {
        text.push_str(
            "– : not measured, or fewer than 100 records beyond that percentile (p99.9 needs 100000 records)\n",
        );
    }
    for files in &run.cells {
        for reason in files.invalid_reasons() {
            text.push_str(&format!("invalid: {}: {reason}\n", files.cell.title()));
        }
    }
    text
}

/// What was done about memory that the machine may not have at hand; nothing in runs of earlier versions.
pub fn memory(run: &RunFiles) -> Option<String> {
    let warm = run.manifest.get("memory_warm").filter(|warm| warm.is_object())?;
    let number = |name: &str| warm[name].as_f64();
    if let Some(missing) = warm["missing"].as_str() {
        return Some(format!("Memory not warm: {missing}"));
    }
    if number("asked_mib") == Some(0.0) {
        return Some("Memory not warmed (--memory-warm-mib 0).".to_owned());
    }
    let (mib, first_s) = (number("taken_mib_min")?, number("first_take_s")?);
    let huge = number("huge_mib_min").unwrap_or(0.0);
    let small = match huge < mib * 0.9 {
        true => format!(", only {huge} MiB of it in huge pages, which may leave logs cold"),
        false => String::new(),
    };
    let later =
        number("later_take_s_max").map_or_else(String::new, |later_s| format!(", at most {later_s:.1} s later"));
    Some(format!(
        "Memory warm: {mib} MiB were held until maximum-throughput phases and ceilings began (taking them lasted \
         {first_s:.1} s the first time{later}{small})."
    ))
}
