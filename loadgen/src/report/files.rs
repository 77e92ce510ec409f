//! Reads a run's files back, for the report and for comparisons.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::csv::{self, Row};
use super::hgrm::{self, Curve};
use crate::ceiling::Ceilings;
use crate::plan::{Acks, Cell};
use crate::tally::Series;

/// Everything a run left behind.
pub struct RunFiles {
    /// Name of the run.
    pub run_id: String,
    /// `manifest.json`.
    pub manifest: serde_json::Value,
    /// The ceilings in it.
    pub ceilings: Ceilings,
    /// Cells in the order of the table.
    pub cells: Vec<CellFiles>,
}

/// What is known about one cell, over all repeats.
pub struct CellFiles {
    /// The cell.
    pub cell: Cell,
    /// Rows of the constant-rate phase.
    pub rate: Vec<Row>,
    /// Rows of the maximum-rate phase.
    pub max: Vec<Row>,
    /// Seconds of the constant-rate phase.
    pub rate_seconds: Vec<Row>,
    /// Seconds of the maximum-rate phase.
    pub max_seconds: Vec<Row>,
    /// Percentile curves, repeats merged.
    pub curves: BTreeMap<Series, Curve>,
}

impl CellFiles {
    /// Median over the repeats of a column of the constant-rate phase; blank values do not count.
    pub fn rate_number(&self, column: &str) -> Option<f64> {
        median(self.rate.iter().filter_map(|row| row.number(column)))
    }

    /// The same of the maximum-rate phase.
    pub fn max_number(&self, column: &str) -> Option<f64> {
        median(self.max.iter().filter_map(|row| row.number(column)))
    }

    /// Megabytes (10⁶) per second at the maximum rate.
    pub fn max_mb_s(&self) -> Option<f64> {
        self.max_number("acked_mib_s").map(mib_to_mb)
    }

    /// Ratio to the ceiling with the same number of copies.
    pub fn ceiling_ratio(&self, ceilings: &Ceilings) -> Option<f64> {
        let ceiling = ceilings.throughput(self.cell.replication_factor)?;
        Some(self.max_mb_s()? / ceiling.acked_mb_s)
    }

    /// Median response time as a multiple of the ceiling's round trip with the same number of copies: at the same rate
    /// where that was measured, back to back otherwise.
    pub fn round_trips(&self, ceilings: &Ceilings) -> Option<f64> {
        let factor = self.cell.replication_factor;
        let ceiling = ceilings.round_trip_at_rate(factor).or_else(|| ceilings.round_trip(factor))?;
        Some(self.rate_number("response_p50_us")? / ceiling.latency_us.p50)
    }

    /// Sum over all rows of a column.
    pub fn sum(&self, column: &str) -> Option<f64> {
        let values: Vec<f64> = self.rate.iter().chain(&self.max).filter_map(|row| row.number(column)).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Why rows are invalid, each reason once.
    pub fn invalid_reasons(&self) -> Vec<String> {
        let mut reasons: Vec<String> = Vec::new();
        for row in self.rate.iter().chain(&self.max).filter(|row| row.text("valid") == Some("false")) {
            let reason = format!("{}: {}", row.text("mode").unwrap_or("?"), row.text("invalid_reason").unwrap_or("?"));
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        reasons
    }
}

/// 2²⁰ to 10⁶ bytes.
pub fn mib_to_mb(mib: f64) -> f64 {
    mib * f64::from(1 << 20) / 1e6
}

/// The middle value; of two middle values their mean.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// The directory of a run: the one named, or the newest run in it.
pub fn find_run(directory: &Path) -> Result<PathBuf> {
    if directory.join("manifest.json").is_file() {
        return Ok(directory.to_path_buf());
    }
    let entries = fs::read_dir(directory).with_context(|| format!("there is no directory {}", directory.display()))?;
    let newest = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((fs::metadata(path.join("manifest.json")).ok()?.modified().ok()?, path)))
        .max();
    match newest {
        Some((_, path)) => Ok(path),
        None => bail!("{} holds no run: a run has a manifest.json", directory.display()),
    }
}

/// Reads a run.
pub fn read(directory: &Path) -> Result<RunFiles> {
    let manifest_path = directory.join("manifest.json");
    let text = fs::read_to_string(&manifest_path)
        .with_context(|| format!("the file {} cannot be read", manifest_path.display()))?;
    let manifest: serde_json::Value = serde_json::from_str(&text)
        .with_context(|| format!("the file {} is not understood", manifest_path.display()))?;
    let ceilings = serde_json::from_value(manifest["ceilings"].clone()).unwrap_or_default();
    let summary = csv::read(&directory.join("summary.csv"))?;
    let intervals = csv::read(&directory.join("intervals.csv"))?;
    let mut cells: Vec<CellFiles> = Vec::new();
    for row in &summary {
        let cell = cell_of(row).with_context(|| format!("a row of {} names no cell", directory.display()))?;
        if !cells.iter().any(|known| known.cell == cell) {
            cells.push(read_cell(directory, cell, &summary, &intervals)?);
        }
    }
    cells.sort_by_key(|files| files.cell);
    let run_id = manifest["run_id"].as_str().unwrap_or("?").to_owned();
    Ok(RunFiles { run_id, manifest, ceilings, cells })
}

fn cell_of(row: &Row) -> Option<Cell> {
    Some(Cell {
        acks: row.text("acks")?.parse::<Acks>().ok()?,
        replication_factor: row.text("replication_factor")?.parse().ok()?,
        min_insync_replicas: row.text("min_insync_replicas")?.parse().ok()?,
    })
}

fn read_cell(directory: &Path, cell: Cell, summary: &[Row], intervals: &[Row]) -> Result<CellFiles> {
    let id = cell.id();
    let select = |rows: &[Row], mode: &str| -> Vec<Row> {
        let ours = |row: &&Row| row.text("cell_id") == Some(&id) && row.text("mode") == Some(mode);
        rows.iter().filter(ours).cloned().collect()
    };
    let mut curves = BTreeMap::new();
    for series in Series::ALL {
        let path = directory.join(hgrm_name(&cell, series));
        if path.is_file() {
            curves.insert(series, hgrm::read(&path)?);
        }
    }
    Ok(CellFiles {
        cell,
        rate: select(summary, "rate"),
        max: select(summary, "max"),
        rate_seconds: select(intervals, "rate"),
        max_seconds: select(intervals, "max"),
        curves,
    })
}

/// Name of the percentile file of a cell's constant-rate phase.
pub fn hgrm_name(cell: &Cell, series: Series) -> String {
    format!("{}.{}.hgrm", cell.id(), series.name())
}
