//! What a row leaves behind: every repeat in `row-NN.csv`, the circumstances and verdicts in `row-NN.json`, a table.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::judge::{Better, Measure, Sample, Spread, Verdict};
use crate::ballast::BallastReport;
use crate::cli::ReachArguments;
use crate::environment::{self, Environment};
use crate::report::chart::digits;
use crate::report::csv::{self, Row};

/// Columns of `row-NN.csv`.
const COLUMNS: [&str; 8] = ["row", "measure", "repeat", "value", "unit", "yardstick", "ratio", "note"];

/// One row of the table while it is measured.
pub struct RowReport {
    row: u8,
    measures: Vec<Measure>,
    samples: Vec<Sample>,
    started_at: SystemTime,
    directory: PathBuf,
    environment: Environment,
    /// How often each thing is measured.
    pub repeats: u32,
}

impl RowReport {
    /// Nothing measured yet.
    pub fn begin(
        row: u8,
        measures: Vec<Measure>,
        started_at: SystemTime,
        arguments: &ReachArguments,
        environment: &Environment,
    ) -> Result<RowReport> {
        let directory = arguments.output.clone();
        fs::create_dir_all(&directory)
            .with_context(|| format!("the directory {} cannot be made", directory.display()))?;
        let environment = environment.clone();
        let repeats = arguments.repeats;
        Ok(RowReport { row, measures, samples: Vec::new(), started_at, directory, environment, repeats })
    }

    /// Adds a repeat, says it, and keeps it in the file at once: an interrupted run leaves what it has.
    pub fn add(&mut self, measure: &str, repeat: u32, value: f64, yardstick: Option<f64>, note: String) -> Result<()> {
        let known = self.measures.iter().find(|known| known.name == measure);
        let unit = known.unwrap_or_else(|| panic!("{measure} is no measure of row {}", self.row)).unit;
        let sample = Sample { measure: measure.to_owned(), repeat, value, yardstick, note };
        let compared = yardstick
            .map_or_else(String::new, |yardstick| format!(" / {} = {:.2}", digits(yardstick), sample.judged()));
        let note = if sample.note.is_empty() { String::new() } else { format!("  ({})", sample.note) };
        println!("  {repeat}/{} {measure}: {} {unit}{compared}{note}", self.repeats, digits(value));
        self.samples.push(sample);
        self.write_samples()
    }

    /// Where a row may put further files.
    pub fn path(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("row-{:02}{ending}", self.row))
    }

    /// Each measure with what it came to.
    pub fn verdicts(&self) -> impl Iterator<Item = (&Measure, Verdict)> {
        self.measures.iter().map(|measure| (measure, Verdict::of(measure, self.spread(measure))))
    }

    fn spread(&self, measure: &Measure) -> Option<Spread> {
        Spread::of(self.samples.iter().filter(|sample| sample.measure == measure.name).map(Sample::judged))
    }

    fn write_samples(&self) -> Result<()> {
        let rows: Vec<Row> = self
            .samples
            .iter()
            .map(|sample| {
                let measure = self.measures.iter().find(|measure| measure.name == sample.measure);
                let number = |value: f64| format!("{value:.4}");
                let mut row = Row::default();
                row.set("row", u32::from(self.row));
                row.set("measure", sample.measure.as_str());
                row.set("repeat", sample.repeat);
                row.set("value", number(sample.value));
                row.set("unit", measure.map(|measure| measure.unit));
                row.set("yardstick", sample.yardstick.map(number));
                row.set("ratio", sample.yardstick.map(|_| number(sample.judged())));
                row.set("note", sample.note.as_str());
                row
            })
            .collect();
        csv::write(&self.path(".csv"), &COLUMNS, &rows)
    }

    /// Writes both files.
    pub fn write(&self, memory_warm: &BallastReport) -> Result<()> {
        self.write_samples()?;
        let measures: Vec<serde_json::Value> = self
            .measures
            .iter()
            .map(|measure| {
                let spread = self.spread(measure);
                serde_json::json!({
                    "measure": measure, "judged": spread, "verdict": Verdict::of(measure, spread),
                })
            })
            .collect();
        let manifest = serde_json::json!({
            "schema_version": 1,
            "row": self.row,
            "started_at_utc": environment::utc(self.started_at),
            "argv": crate::sweep::arguments(),
            "repeats": self.repeats,
            "environment": self.environment,
            "memory_warm": memory_warm,
            "measures": measures,
        });
        let path = self.path(".json");
        fs::write(&path, serde_json::to_string_pretty(&manifest)? + "\n")
            .with_context(|| format!("the file {} cannot be written", path.display()))
    }

    /// The row for a person at a terminal.
    pub fn table(&self) -> String {
        let name_width = self.measures.iter().map(|measure| measure.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for (measure, verdict) in self.verdicts() {
            let measured = self.spread(measure).map_or_else(String::new, |spread| {
                format!("{} [{} – {}]", digits(spread.median), digits(spread.min), digits(spread.max))
            });
            let sign = if measure.better == Better::Higher { '≥' } else { '≤' };
            let bounds = match (measure.must, measure.aim) {
                (Some(must), Some(aim)) => format!("must {sign} {must}, aim {sign} {aim}"),
                (Some(must), None) => format!("must {sign} {must}"),
                _ => String::new(),
            };
            let is_ratio = self.samples.iter().any(|it| it.measure == measure.name && it.yardstick.is_some());
            let unit = if is_ratio { "×" } else { measure.unit };
            let line =
                format!("  {:<name_width$}  {measured:>26} {unit:<5} {bounds:<26} {}", measure.name, verdict.words());
            text.push_str(line.trim_end());
            text.push('\n');
        }
        if self.repeats < 5 {
            text.push_str("  Fewer than 5 repeats: an impression, no result.\n");
        }
        text.push_str(&format!("  {}\n", self.path(".csv").display()));
        text
    }
}
