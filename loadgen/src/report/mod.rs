//! What a run leaves behind, and what is made of it.
//!
//! ```text
//! results/<run>/manifest.json              configuration, machine, ceilings
//!               summary.csv                one row per cell × repeat × phase
//!               intervals.csv              one row per second
//!               events.csv                 elections, ISR changes
//!               latency.hlog               HdrHistogram interval log, tagged by series
//!               <cell>.<series>.hgrm       percentile distribution, repeats merged
//!               report.html                self-contained, plots first
//! ```
//!
//! The HTML is made from the other files alone, so that it can be made again, and from runs of another machine.

pub mod chart;
pub mod csv;
pub mod figures;
pub mod files;
pub mod hgrm;
pub mod hlog;
pub mod html;
pub mod shuttle;
pub mod table;

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::outcome::{Outcome, RunFacts};
use crate::plan::{Cell, Phase};
use crate::tally::Series;

/// Writes every file of a run. Called after each phase as well, so that an interrupted run leaves what it has.
pub fn write_run(
    directory: &Path,
    facts: &RunFacts<'_>,
    manifest: &serde_json::Value,
    run_start: SystemTime,
    outcomes: &[Outcome],
) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("the directory {} cannot be made", directory.display()))?;
    let manifest_path = directory.join("manifest.json");
    fs::write(&manifest_path, serde_json::to_string_pretty(manifest)? + "\n")
        .with_context(|| format!("the file {} cannot be written", manifest_path.display()))?;
    let rows: Vec<_> = outcomes.iter().map(|outcome| outcome.summary_row(facts)).collect();
    csv::write(&directory.join("summary.csv"), &csv::SUMMARY_COLUMNS, &rows)?;
    let rows: Vec<_> = outcomes.iter().flat_map(|outcome| outcome.interval_rows(facts)).collect();
    csv::write(&directory.join("intervals.csv"), &csv::INTERVAL_COLUMNS, &rows)?;
    let rows: Vec<_> = outcomes.iter().flat_map(|outcome| outcome.event_rows(facts)).collect();
    csv::write(&directory.join("events.csv"), &csv::EVENT_COLUMNS, &rows)?;

    let logged: Vec<_> = outcomes
        .iter()
        .map(|outcome| hlog::Logged {
            title: format!("{} {} repeat {}", outcome.cell.id(), outcome.phase, outcome.repeat),
            begin: outcome.window_begin,
            tally: &outcome.produced.tally,
        })
        .collect();
    hlog::write(&directory.join("latency.hlog"), run_start, &logged)?;
    write_distributions(directory, outcomes)?;
    html::write(directory)
}

fn write_distributions(directory: &Path, outcomes: &[Outcome]) -> Result<()> {
    let mut cells: Vec<Cell> = outcomes.iter().map(|outcome| outcome.cell).collect();
    cells.sort_unstable();
    cells.dedup();
    for cell in cells {
        for series in Series::ALL {
            let mut repeats = outcomes
                .iter()
                .filter(|outcome| outcome.cell == cell && outcome.phase == Phase::Rate)
                .map(|outcome| &outcome.produced.tally.series(series).total);
            let Some(mut merged) = repeats.next().cloned() else { continue };
            for histogram in repeats {
                merged.add(histogram).context("histograms of repeats have the same bounds")?;
            }
            if !merged.is_empty() {
                hgrm::write(&directory.join(files::hgrm_name(&cell, series)), &merged)?;
            }
        }
    }
    Ok(())
}
