//! Two runs, cell by cell: ratios with the range that the runs themselves spread over.
//!
//! The range is made of repeats where there are several, else of seconds. A ratio whose range includes 1 shows no
//! difference, and is not given a direction.

use std::path::Path;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::plan::Cell;
use crate::report::chart::{digits, time};
use crate::report::csv::Row;
use crate::report::files::{self, CellFiles, RunFiles, mib_to_mb};

/// One measure of one cell in both runs.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The cell.
    pub cell: String,
    /// What is compared.
    pub measure: &'static str,
    /// Value of the first run.
    pub a: f64,
    /// Value of the second run.
    pub b: f64,
    /// b / a.
    pub ratio: f64,
    /// Lowest and highest ratio that the spread of both allows; absent when neither repeats nor seconds are known.
    pub range: Option<(f64, f64)>,
    /// `better`, `worse`, or `no difference shown`.
    pub verdict: &'static str,
    /// Whether a row of either run declared itself invalid.
    pub invalid: bool,
}

struct Measure {
    name: &'static str,
    max_phase: bool,
    summary: &'static str,
    second: &'static str,
    higher_is_better: bool,
    format: fn(f64) -> String,
}

const MEASURES: [Measure; 4] = [
    Measure {
        name: "max throughput",
        max_phase: true,
        summary: "acked_mib_s",
        second: "acked_mib_s",
        higher_is_better: true,
        format: |mib| format!("{} MB/s", digits(mib_to_mb(mib))),
    },
    Measure {
        name: "response p50",
        max_phase: false,
        summary: "response_p50_us",
        second: "response_p50_us",
        higher_is_better: false,
        format: |us| time(us / 1_000.0),
    },
    Measure {
        name: "response p99",
        max_phase: false,
        summary: "response_p99_us",
        second: "response_p99_us",
        higher_is_better: false,
        format: |us| time(us / 1_000.0),
    },
    Measure {
        name: "end-to-end p50",
        max_phase: false,
        summary: "e2e_p50_us",
        second: "e2e_p50_us",
        higher_is_better: false,
        format: |us| time(us / 1_000.0),
    },
];

/// Compares the runs in two directories; prints a table or JSON.
pub fn run(a: &Path, b: &Path, json: bool) -> Result<()> {
    let (a, b) = (files::read(&files::find_run(a)?)?, files::read(&files::find_run(b)?)?);
    let comparisons = compare(&a, &b);
    if comparisons.is_empty() {
        bail!("the runs {} and {} have no cell in common", a.run_id, b.run_id);
    }
    match json {
        true => println!("{}", serde_json::to_string_pretty(&comparisons)?),
        false => print!("{}", text(&a, &b, &comparisons)),
    }
    Ok(())
}

fn compare(a: &RunFiles, b: &RunFiles) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    for left in &a.cells {
        let Some(right) = b.cells.iter().find(|files| files.cell == left.cell) else { continue };
        for measure in &MEASURES {
            comparisons.extend(compare_cell(left.cell, measure, left, right));
        }
    }
    comparisons
}

fn compare_cell(cell: Cell, measure: &Measure, left: &CellFiles, right: &CellFiles) -> Option<Comparison> {
    let value = |files: &CellFiles| match measure.max_phase {
        true => files.max_number(measure.summary),
        false => files.rate_number(measure.summary),
    };
    let (a, b) = (value(left)?, value(right)?);
    if a <= 0.0 || b <= 0.0 {
        return None;
    }
    let range = spread(left, measure).zip(spread(right, measure)).map(|((a_low, a_high), (b_low, b_high))| {
        // A spread need not contain the value it belongs to: a p99 of the whole is no p99 of a second.
        (b_low.min(b) / a_high.max(a), b_high.max(b) / a_low.min(a))
    });
    let ratio = b / a;
    let verdict = match range {
        Some((low, high)) if low > 1.0 || high < 1.0 => match (ratio > 1.0) == measure.higher_is_better {
            true => "better",
            false => "worse",
        },
        _ => "no difference shown",
    };
    let invalid = [left, right].iter().any(|files| !files.invalid_reasons().is_empty());
    Some(Comparison { cell: cell.title(), measure: measure.name, a, b, ratio, range, verdict, invalid })
}

/// Lowest and highest of the repeats, or, with one repeat, of its seconds.
fn spread(files: &CellFiles, measure: &Measure) -> Option<(f64, f64)> {
    let (rows, seconds) = match measure.max_phase {
        true => (&files.max, &files.max_seconds),
        false => (&files.rate, &files.rate_seconds),
    };
    let numbers =
        |rows: &[Row], column: &str| -> Vec<f64> { rows.iter().filter_map(|row| row.number(column)).collect() };
    let repeats = numbers(rows, measure.summary);
    let values = if repeats.len() > 1 { repeats } else { numbers(seconds, measure.second) };
    if values.len() < 2 {
        return None;
    }
    Some((values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(0.0, f64::max)))
}

fn text(a: &RunFiles, b: &RunFiles, comparisons: &[Comparison]) -> String {
    let mut text = format!("A = {}\nB = {}\n", a.run_id, b.run_id);
    for line in differences(a, b) {
        text.push_str(&format!("not the same: {line}\n"));
    }
    text.push('\n');
    let header =
        format!("{:<28} {:<15} {:>12} {:>12} {:>7}  {:<15} verdict", "cell", "measure", "A", "B", "B / A", "range");
    text.push_str(&format!("{header}\n{}\n", "─".repeat(header.chars().count() + 12)));
    for one in comparisons {
        let format = MEASURES.iter().find(|measure| measure.name == one.measure).expect("made from it").format;
        let range = one.range.map_or_else(|| "unknown".to_owned(), |(low, high)| format!("{low:.2} to {high:.2}"));
        let invalid = if one.invalid { " (a row is invalid)" } else { "" };
        text.push_str(&format!(
            "{:<28} {:<15} {:>12} {:>12} {:>7.2}  {range:<15} {}{invalid}\n",
            one.cell,
            one.measure,
            format(one.a),
            format(one.b),
            one.ratio,
            one.verdict
        ));
    }
    text.push_str("\nThe range is what the repeats of both runs allow, or with one repeat their seconds; where it includes 1, no difference is shown.\n");
    text
}

/// What else differs between the runs and may be the reason.
fn differences(a: &RunFiles, b: &RunFiles) -> Vec<String> {
    let mut lines = Vec::new();
    for (place, ignored) in [
        ("environment", ["loopback_round_trip_us", "load_average"].as_slice()),
        ("settings", ["name", "output", "cells"].as_slice()),
    ] {
        let (Some(left), Some(right)) = (a.manifest[place].as_object(), b.manifest[place].as_object()) else {
            continue;
        };
        for (name, value) in left {
            let other = right.get(name).unwrap_or(&serde_json::Value::Null);
            if value != other && !ignored.contains(&name.as_str()) {
                lines.push(format!("{} ({value} and {other})", name.replace('_', " ")));
            }
        }
    }
    lines
}
