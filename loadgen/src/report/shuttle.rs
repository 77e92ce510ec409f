//! Files, table and page of the experiment `isr-shuttle`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::chart::{self, Area, Scale, escape, time};
use super::csv::{self, Row};
use crate::experiment::isr_shuttle::{Cell, Policy};

/// The name in `manifest.json`.
pub const EXPERIMENT: &str = "isr-shuttle";

/// Columns of `isr_shuttle.csv`.
pub const COLUMNS: [&str; 11] = [
    "run_id",
    "policy",
    "lag_max_messages",
    "batch_records",
    "batches",
    "isr_shrinks",
    "isr_expansions",
    "isr_min",
    "ack_p50_us",
    "ack_max_us",
    "as_foretold",
];

/// Columns of this experiment's `events.csv`.
pub const EVENT_COLUMNS: [&str; 11] = [
    "run_id",
    "policy",
    "batch_records",
    "at_utc",
    "after_ms",
    "event",
    "leader",
    "broker",
    "reason",
    "lacked_records",
    "isr_size",
];

/// Milliseconds of the ISR's size that the page draws.
const DRAWN_MS: f64 = 1_000.0;

/// A run of the experiment, read back.
pub struct Run {
    manifest: serde_json::Value,
    cells: Vec<Row>,
    events: Vec<Row>,
}

impl Run {
    fn limit(&self) -> u64 {
        self.manifest.pointer("/settings/limit").and_then(serde_json::Value::as_u64).unwrap_or(0)
    }

    fn setting(&self, name: &str) -> String {
        self.manifest.pointer(&format!("/settings/{name}")).map_or_else(|| "?".to_owned(), ToString::to_string)
    }

    /// A sentence about times that say little, if they do.
    fn caution(&self) -> Option<&'static str> {
        let unoptimised =
            self.manifest.pointer("/environment/optimised_build") == Some(&serde_json::Value::Bool(false));
        unoptimised.then_some("Made with a build without optimisation: the counts hold, the times say nothing.")
    }

    fn title(&self, cell: &Row) -> String {
        let policy = Policy::ALL.into_iter().find(|policy| Some(policy.name()) == cell.text("policy"));
        policy.map_or_else(|| "?".to_owned(), |policy| policy.title(self.limit()))
    }
}

/// Whether a run's manifest is one of this experiment.
pub fn is_one(directory: &Path) -> bool {
    let manifest = fs::read_to_string(directory.join("manifest.json")).ok();
    let manifest = manifest.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    manifest.is_some_and(|manifest| manifest["experiment"] == EXPERIMENT)
}

/// Writes every file of a run.
pub fn write(directory: &Path, manifest: &serde_json::Value, cells: &[Cell], limit: u64) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("the directory {} cannot be made", directory.display()))?;
    let path = directory.join("manifest.json");
    fs::write(&path, serde_json::to_string_pretty(manifest)? + "\n")
        .with_context(|| format!("the file {} cannot be written", path.display()))?;
    let run_id = manifest["run_id"].as_str().unwrap_or("?");
    let rows: Vec<Row> = cells.iter().map(|cell| cell.row(run_id, limit)).collect();
    csv::write(&directory.join("isr_shuttle.csv"), &COLUMNS, &rows)?;
    let rows: Vec<Row> = cells.iter().flat_map(|cell| cell.event_rows(run_id)).collect();
    csv::write(&directory.join("events.csv"), &EVENT_COLUMNS, &rows)?;
    write_page(directory)
}

/// Reads a run back.
pub fn read(directory: &Path) -> Result<Run> {
    let path = directory.join("manifest.json");
    let text = fs::read_to_string(&path).with_context(|| format!("the file {} cannot be read", path.display()))?;
    let manifest = serde_json::from_str(&text).with_context(|| format!("{} is not understood", path.display()))?;
    let cells = csv::read(&directory.join("isr_shuttle.csv"))?;
    let events = csv::read(&directory.join("events.csv"))?;
    Ok(Run { manifest, cells, events })
}

/// Writes `report.html` from the other files.
pub fn write_page(directory: &Path) -> Result<()> {
    let path = directory.join("report.html");
    let run = read(directory)?;
    fs::write(&path, page(&run)).with_context(|| format!("the file {} cannot be written", path.display()))
}

/// The table for a terminal.
pub fn text(run: &Run) -> String {
    let mut text = format!(
        "\nN = {}; {} batches each, one every {} ms, acks=all, three brokers, replication factor 3\n\n",
        run.limit(),
        run.setting("batches"),
        run.setting("interval_ms")
    );
    let rule = "─".repeat(88);
    writeln!(
        text,
        "{:<20}{:>12}{:>14}{:>16}{:>14}{:>12}",
        "rule", "batch", "ISR shrinks", "ISR expansions", "smallest ISR", "ack p50"
    )
    .expect("string");
    writeln!(text, "{rule}").expect("string");
    for cell in &run.cells {
        let field = |column: &str| cell.text(column).unwrap_or("–").to_owned();
        let ack = cell.number("ack_p50_us").map_or_else(|| "–".to_owned(), |us| time(us / 1e3));
        let batch = format!("{} records", field("batch_records"));
        let (shrinks, expansions, isr_min) = (field("isr_shrinks"), field("isr_expansions"), field("isr_min"));
        let mark = if cell.text("as_foretold") == Some("true") { "" } else { "  not as foretold" };
        writeln!(text, "{:<20}{batch:>12}{shrinks:>14}{expansions:>16}{isr_min:>14}{ack:>12}{mark}", run.title(cell))
            .expect("string");
    }
    if let Some(caution) = run.caution() {
        writeln!(text, "\n{caution}").expect("string");
    }
    text
}

fn page(run: &Run) -> String {
    let run_id = run.manifest["run_id"].as_str().unwrap_or("?");
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style></head><body><main>\n",
        escape(&format!("minisr experiment: {run_id}")),
        include_str!("page.css")
    );
    let limit = run.limit();
    let text = |pointer: &str| run.manifest.pointer(pointer).and_then(|value| value.as_str()).unwrap_or("?");
    let facts = format!(
        "{} · 3 brokers over QUIC, replication factor 3, acks=all · {} batches each, one every {} ms · minisr {}",
        text("/started_at_utc"),
        run.setting("batches"),
        run.setting("interval_ms"),
        text("/environment/version"),
    );
    writeln!(
        html,
        "<h1>Healthy followers, thrown out and readmitted</h1>\n<div class=\"sub\">{}</div>",
        escape(&facts)
    )
    .expect("string");
    if let Some(caution) = run.caution() {
        writeln!(html, "<p class=\"note\">{caution}</p>").expect("string");
    }
    writeln!(
        html,
        "<section><h2>ISR changes by rule and batch size</h2>\n<p class=\"note\">Until 0.9 Kafka dropped a follower that lacked too many records (<code>replica.lag.max.messages</code>, here N = {limit}). One batch at the limit puts every healthy follower beyond it the moment it is appended; their next fetches bring them back, one proposal at a time. Kafka gave the rule up for one of time (KIP-16). The counts are the leader's own.</p>\n{}</section>",
        bars(run)
    )
    .expect("string");
    writeln!(
        html,
        "<section><h2>Size of the in-sync set, first second</h2>\n<p class=\"note\">Each step down is a committed change of metadata, and while the set is small an acknowledgement rests on fewer copies. With min.insync.replicas=2 writes would be refused wherever it is 1.</p>\n{}</section>",
        sizes(run)
    )
    .expect("string");
    table(&mut html, run);
    let manifest = serde_json::to_string_pretty(&run.manifest).expect("read from JSON");
    write!(
        html,
        "<section><h2>How this was made</h2>\n<details><summary>manifest.json</summary><pre>{}</pre></details></section>\n</main></body></html>\n",
        escape(&manifest)
    )
    .expect("string");
    html
}

fn colour(cell: &Row) -> &'static str {
    match cell.text("policy") {
        Some("greater-or-equal") => "k4",
        Some("greater") => "k1",
        _ => "k2",
    }
}

fn name(run: &Run, cell: &Row) -> String {
    format!("{}, batches of {}", run.title(cell), cell.text("batch_records").unwrap_or("?"))
}

/// Shrinks and expansions of each cell, side by side.
fn bars(run: &Run) -> String {
    let (width, row_height, gap) = (1160.0, 19.0, 15.0);
    let height = 14.0 + run.cells.len() as f64 * (2.0 * row_height + gap) + 52.0;
    let area = Area { left: 250.0, right: width - 110.0, top: 8.0, bottom: height - 52.0 };
    let value = |cell: &Row, column: &str| cell.number(column).unwrap_or(0.0);
    let both = ["isr_shrinks", "isr_expansions"];
    let most = run.cells.iter().flat_map(|cell| both.map(|column| value(cell, column))).fold(1.0, f64::max);
    let x = Scale::linear(most, area.left, area.right);
    let mut svg = chart::open(width, height, "ISR shrinks and expansions by rule and batch size");
    let ticks: Vec<_> = x.ticks().into_iter().map(|(value, _)| (x.place(value), format!("{value:.0}"))).collect();
    let batches = run.setting("batches");
    chart::x_axis(&mut svg, area, &ticks, &format!("changes of the in-sync set in {batches} batches"));
    let mut y = area.top + 8.0;
    for cell in &run.cells {
        chart::label(&mut svg, area.left - 12.0, y + row_height + 4.0, "tick end", &name(run, cell));
        for (column, word, class) in [("isr_shrinks", "shrinks", ""), ("isr_expansions", "expansions", " pale")] {
            let count = value(cell, column);
            let length = (x.place(count) - area.left).max(1.5);
            writeln!(
                svg,
                "<rect class=\"bar {}{class}\" x=\"{}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{}\" rx=\"2\"/>",
                colour(cell),
                area.left,
                row_height - 3.0
            )
            .expect("string");
            chart::label(&mut svg, area.left + length + 8.0, y + 12.5, "value", &format!("{count:.0} {word}"));
            y += row_height;
        }
        y += gap;
    }
    svg.push_str("</svg>\n");
    svg
}

/// The size of the ISR over time, one strip for each cell.
fn sizes(run: &Run) -> String {
    let (width, strip, gap) = (1160.0, 62.0, 20.0);
    let height = 10.0 + run.cells.len() as f64 * (strip + gap) + 44.0;
    let area = Area { left: 250.0, right: width - 20.0, top: 10.0, bottom: height - 52.0 };
    let x = Scale::exact(0.0, DRAWN_MS, area.left, area.right);
    let mut svg = chart::open(width, height, "size of the in-sync set over time");
    let ticks: Vec<_> =
        (0..=5).map(|step| f64::from(step) * DRAWN_MS / 5.0).map(|ms| (x.place(ms), format!("{ms:.0}"))).collect();
    chart::x_axis(&mut svg, area, &ticks, "milliseconds since the first batch");
    for (index, cell) in run.cells.iter().enumerate() {
        let bottom = area.top + index as f64 * (strip + gap) + strip;
        let y = Scale::exact(0.0, 3.0, bottom, bottom - strip);
        chart::label(&mut svg, area.left - 44.0, bottom - strip / 2.0 + 4.0, "tick end", &name(run, cell));
        for size in 1..=3 {
            let place = y.place(f64::from(size));
            writeln!(
                svg,
                "<line class=\"grid minor\" x1=\"{}\" x2=\"{}\" y1=\"{place:.1}\" y2=\"{place:.1}\"/>",
                area.left, area.right
            )
            .expect("string");
            chart::label(&mut svg, area.left - 8.0, place + 4.0, "small end", &size.to_string());
        }
        let mut points = vec![(x.place(0.0), y.place(3.0))];
        let mut size = 3.0;
        let same =
            |event: &&Row| ["policy", "batch_records"].iter().all(|column| event.text(column) == cell.text(column));
        for event in run.events.iter().filter(same) {
            let (Some(after_ms), Some(next)) = (event.number("after_ms"), event.number("isr_size")) else { continue };
            if after_ms > DRAWN_MS {
                break;
            }
            points.push((x.place(after_ms), y.place(size)));
            points.push((x.place(after_ms), y.place(next)));
            size = next;
        }
        points.push((x.place(DRAWN_MS), y.place(size)));
        writeln!(
            svg,
            "<path class=\"line {}\" d=\"{}\"><title>{}</title></path>",
            colour(cell),
            chart::path(&points),
            escape(&name(run, cell))
        )
        .expect("string");
    }
    svg.push_str("</svg>\n");
    svg
}

fn table(html: &mut String, run: &Run) {
    html.push_str("<section><h2>Every cell</h2>\n<div class=\"scroll\"><table class=\"table\">\n<tr><th class=\"l\">rule</th><th>records<br>of a batch</th><th>batches</th><th>ISR<br>shrinks</th><th>ISR<br>expansions</th><th>smallest<br>ISR</th><th>ack p50</th><th>ack max</th><th class=\"l\">as foretold</th></tr>\n");
    for cell in &run.cells {
        let field = |column: &str| cell.text(column).unwrap_or("").to_owned();
        let ack = |column: &str| cell.number(column).map_or_else(String::new, |us| time(us / 1e3));
        let foretold = match cell.text("as_foretold") {
            Some("true") => "<td class=\"l good\">yes</td>",
            _ => "<td class=\"l bad\">no</td>",
        };
        writeln!(
            html,
            "<tr><td class=\"l\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>{foretold}</tr>",
            escape(&run.title(cell)),
            field("batch_records"),
            field("batches"),
            field("isr_shrinks"),
            field("isr_expansions"),
            field("isr_min"),
            ack("ack_p50_us"),
            ack("ack_max_us"),
        )
        .expect("string");
    }
    html.push_str("</table></div></section>\n");
}
