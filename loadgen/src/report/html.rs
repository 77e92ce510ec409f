//! `report.html`: one file without anything from outside, plots first.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::chart::{count, digits, escape, time};
use super::figures;
use super::files::{self, CellFiles, RunFiles};
use crate::plan::Acks;
use crate::tally::Series;

/// Reads a run's files and writes its report beside them.
pub fn write(directory: &Path) -> Result<()> {
    let run = files::read(directory)?;
    let path = directory.join("report.html");
    std::fs::write(&path, page(&run)).with_context(|| format!("the file {} cannot be written", path.display()))
}

fn page(run: &RunFiles) -> String {
    let title = escape(&format!("minisr load: {}", run.run_id));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{}</style></head><body><main>\n",
        include_str!("page.css")
    );
    heading(&mut html, run);
    tiles(&mut html, run);
    percentiles(&mut html, run);
    ceiling(&mut html, run);
    trade_off(&mut html, run);
    table(&mut html, run);
    over_time(&mut html, run);
    manifest(&mut html, run);
    write!(html, "</main>\n<script>\n{}</script></body></html>\n", include_str!("page.js")).expect("string");
    html
}

fn heading(html: &mut String, run: &RunFiles) {
    let text = |pointer: &str| run.manifest.pointer(pointer).and_then(|value| value.as_str()).unwrap_or("?");
    let cpus = run.manifest.pointer("/environment/cpu_count").and_then(|value| value.as_u64()).unwrap_or(0);
    let brokers = run.manifest["brokers"].as_u64().unwrap_or(0);
    let transport = text("/settings/transport").to_uppercase();
    let flush = match run.manifest.pointer("/settings/bootstrap").is_some_and(|list| list.is_array()) {
        true => "an existing cluster".to_owned(),
        false => format!("embedded cluster, flush={}", text("/settings/flush")),
    };
    let facts = [
        text("/started_at_utc").to_owned(),
        format!("{brokers} brokers over {transport}, {flush}"),
        format!("{} CPUs ({})", cpus, text("/environment/cpu_model")),
        format!("minisr {}", text("/environment/version")),
    ];
    let facts = escape(&facts.join(" · "));
    writeln!(html, "<h1>What acks, replicas and min.insync.replicas cost</h1>\n<div class=\"sub\">{facts}</div>")
        .expect("string");
    if let Some(sentence) = busy(run) {
        writeln!(html, "<p class=\"bad\">{}</p>", escape(&sentence)).expect("string");
    }
    if run.manifest.pointer("/environment/optimised_build") == Some(&serde_json::Value::Bool(false)) {
        html.push_str(
            "<p class=\"bad\">Made with a build without optimisation: these figures say nothing about speed.</p>\n",
        );
    }
}

/// Other work on the machine when the run began: a sentence, if there was too much of it.
fn busy(run: &RunFiles) -> Option<String> {
    let load = run.manifest.pointer("/environment/load_average")?.as_f64()?;
    let cpus = run.manifest.pointer("/environment/cpu_count")?.as_f64()?;
    (load > cpus).then(|| {
        format!("The machine was busy with other work when the run began: load average {load} on {cpus} CPUs.")
    })
}

/// The cell that the headline is about: the most demanding one that still takes writes with a broker down.
fn headline(run: &RunFiles) -> Option<&CellFiles> {
    let safe = |files: &&CellFiles| files.cell.acks == Acks::All && files.cell.min_insync_replicas >= 2;
    let writable = |files: &&CellFiles| files.cell.min_insync_replicas < files.cell.replication_factor;
    let best = run.cells.iter().filter(safe).filter(writable).max_by_key(|files| files.cell.replication_factor);
    best.or_else(|| run.cells.iter().rfind(safe)).or_else(|| run.cells.last())
}

fn tiles(html: &mut String, run: &RunFiles) {
    let mut tiles: Vec<(String, &str, String)> = Vec::new();
    if let Some(files) = headline(run) {
        let name = files.cell.title();
        if let Some(mb_s) = files.max_mb_s() {
            let part = match files.ceiling_ratio(&run.ceilings) {
                Some(ratio) => format!("maximum at {name}: {ratio:.2} of the ceiling"),
                None => format!("maximum at {name}"),
            };
            tiles.push((format!("{} MB/s", digits(mb_s)), "", part));
        }
        if let Some(median_us) = files.rate_number("response_p50_us") {
            let rate = files.rate_number("target_rate_records_s").unwrap_or(0.0);
            let mut text = format!("median response at {name}, {} records/s", digits(rate));
            for (ceiling, how) in [
                (run.ceilings.round_trip(files.cell.replication_factor), "back to back"),
                (run.ceilings.round_trip_at_rate(files.cell.replication_factor), "at that rate"),
            ] {
                let Some(ceiling) = ceiling else { continue };
                let times = digits(median_us / ceiling.latency_us.p50);
                let round_trip = time(ceiling.latency_us.p50 / 1_000.0);
                write!(text, "; {times} × the ceiling {how} ({round_trip})").expect("string");
            }
            tiles.push((time(median_us / 1_000.0), "", text));
        }
    }
    let sum = |column: &str| {
        let values: Vec<f64> = run.cells.iter().filter_map(|files| files.sum(column)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>())
    };
    if let Some(verified) = sum("verified_records") {
        let lost = sum("acked_lost").unwrap_or(0.0);
        let text = format!("acknowledged records lost, of {} read back at their offsets", count(verified + lost));
        tiles.push((count(lost), if lost > 0.0 { "bad" } else { "good" }, text));
    }
    if let (Some(elections), Some(shrinks)) = (sum("leader_changes"), sum("isr_shrinks")) {
        let class = if elections > 0.0 { "bad" } else { "good" };
        tiles.push((count(elections), class, format!("elections during load; ISR shrinks: {}", count(shrinks))));
    }
    let invalid = run.cells.iter().filter(|files| !files.invalid_reasons().is_empty()).count();
    if invalid > 0 {
        tiles.push((invalid.to_string(), "bad", "cells with an invalid result: see the table for why".to_owned()));
    }
    html.push_str("<div class=\"tiles\">\n");
    for (value, class, text) in tiles {
        let (value, text) = (escape(&value), escape(&text));
        writeln!(html, "<div class=\"tile\"><b class=\"{class}\">{value}</b><span>{text}</span></div>")
            .expect("string");
    }
    html.push_str("</div>\n");
}

/// Radio buttons for panes that are already named.
fn tabs(html: &mut String, group: &str, panes: &[(String, &str)]) {
    if panes.len() < 2 {
        return;
    }
    html.push_str("<div class=\"tabs\">");
    for (index, (id, name)) in panes.iter().enumerate() {
        let checked = if index == 0 { " checked" } else { "" };
        write!(
            html,
            "<input type=\"radio\" name=\"{group}\" id=\"tab-{id}\" value=\"{id}\"{checked}><label for=\"tab-{id}\">{name}</label>"
        )
        .expect("string");
    }
    html.push_str("</div>\n");
}

fn percentiles(html: &mut String, run: &RunFiles) {
    let names = [
        (Series::Response, "Response: planned → acknowledged"),
        (Series::Service, "Service: sent → acknowledged"),
        (Series::EndToEnd, "End-to-end: planned → read"),
        (Series::Schedule, "Schedule delay: planned → sent"),
    ];
    let drawn: Vec<_> =
        names.iter().filter_map(|(series, name)| Some((*series, *name, figures::percentiles(run, *series)?))).collect();
    if drawn.is_empty() {
        return;
    }
    html.push_str("<section><h2>Latency by percentile</h2>\n<p class=\"note\">At the constant rate, open loop: the clock of each record starts at its planned instant, whether or not it could be sent then. Colour: acks and min ISR; line: replication factor. Dotted: fewer than 100 records lie beyond, so it is the story of a few accidents. Point at a cell to see it alone. acks=0 has no acknowledgement and so no response: see end-to-end.</p>\n");
    let panes: Vec<_> = drawn.iter().map(|(series, name, _)| (format!("pane-{}", series.name()), *name)).collect();
    tabs(html, "percentiles", &panes);
    for (index, (series, _, svg)) in drawn.iter().enumerate() {
        let shown = if index == 0 { " shown" } else { "" };
        write!(html, "<div class=\"pane with-legend{shown}\" id=\"pane-{}\">{svg}", series.name()).expect("string");
        html.push_str("<table class=\"legend\"><tr><th></th><th>p50</th><th>p99</th><th>max</th></tr>\n");
        for files in &run.cells {
            let Some(curve) = files.curves.get(series).filter(|curve| !curve.points.is_empty()) else { continue };
            let of = |statistic: &str| {
                let micros = files.rate_number(&format!("{}_{statistic}_us", series.name()));
                micros.map_or_else(|| "–".to_owned(), |micros| time(micros / 1_000.0))
            };
            let (p50, p99) = (of("p50"), of("p99"));
            let max = time(figures::at(&curve.points, 1.0));
            let (id, title) = (files.cell.id(), escape(&files.cell.title()));
            let sample = figures::sample(&files.cell);
            writeln!(
                html,
                "<tr data-cell=\"{id}\"><td>{sample}{title}</td><td>{p50}</td><td>{p99}</td><td>{max}</td></tr>"
            )
            .expect("string");
        }
        html.push_str("</table></div>\n");
    }
    html.push_str("</section>\n");
}

fn ceiling(html: &mut String, run: &RunFiles) {
    let Some(svg) = figures::ceiling_bars(run) else { return };
    html.push_str("<section><h2>Maximum throughput against the ceiling</h2>\n<p class=\"note\">The ceiling moves the same bytes through the same hops with the same transport and does nothing else; it was measured on this machine just before and just after, and the better run counts. Its files are emptied and used again. The line through a bar spans its slowest and fastest second.</p>\n");
    if let Some(missing) = &run.ceilings.missing {
        writeln!(html, "<p class=\"bad\">{}</p>", escape(missing)).expect("string");
    }
    if let Some(sentence) = super::table::memory(run) {
        writeln!(html, "<p class=\"note\">{}</p>", escape(&sentence)).expect("string");
    }
    html.push_str(&svg);
    html.push_str("</section>\n");
}

fn trade_off(html: &mut String, run: &RunFiles) {
    let kinds = [
        ("response_p99_us", "Response p99", "response p99"),
        ("response_p50_us", "Response p50", "response p50"),
        ("e2e_p99_us", "End-to-end p99", "end-to-end p99"),
    ];
    let drawn: Vec<_> = kinds
        .iter()
        .filter_map(|(column, tab, title)| Some((*column, *tab, figures::trade_off(run, column, title)?)))
        .collect();
    if drawn.is_empty() {
        return;
    }
    html.push_str("<section><h2>Throughput against latency</h2>\n<p class=\"note\">Each cell once: how much it moves at most, and how long a record takes at the constant rate. Circle RF 1, square RF 2, triangle RF 3. The dashed line joins the cells that no other beats in both; bars at the lower edge are cells without such a time (acks=0).</p>\n");
    let panes: Vec<_> = drawn.iter().map(|(column, tab, _)| (format!("trade-{column}"), *tab)).collect();
    tabs(html, "trade", &panes);
    for (index, (column, _, svg)) in drawn.iter().enumerate() {
        let shown = if index == 0 { " shown" } else { "" };
        writeln!(html, "<div class=\"pane{shown}\" id=\"trade-{column}\">{svg}</div>").expect("string");
    }
    html.push_str("</section>\n");
}

fn table(html: &mut String, run: &RunFiles) {
    html.push_str("<section><h2>Every cell</h2>\n<p class=\"note\">Blank: not measured, or fewer than 100 records beyond that percentile. Times at the constant rate; round trips are those of the ceiling at the same rate; CPU at the maximum rate, where 100 % is one core.</p>\n<div class=\"scroll\"><table class=\"table\">\n<tr><th class=\"l\">cell</th><th class=\"l\">an acknowledged<br>record survives</th><th>resp.<br>p50</th><th>in round<br>trips</th><th><br>p99</th><th><br>p99.9</th><th><br>max</th><th>e2e<br>p50</th><th><br>p99</th><th>max<br>MB/s</th><th>of the<br>ceiling</th><th>broker<br>CPU</th><th>client<br>CPU</th><th>read<br>back</th><th>lost</th><th class=\"l\">valid</th></tr>\n");
    for files in &run.cells {
        let rate = |column: &str| files.rate_number(column).map_or(String::new(), |micros| time(micros / 1_000.0));
        let percent = |column: &str| files.max_number(column).map_or(String::new(), |value| format!("{value:.0} %"));
        let reasons = files.invalid_reasons();
        let valid = match reasons.is_empty() {
            true => "<td class=\"l good\">yes</td>".to_owned(),
            false => format!("<td class=\"wrap bad\">{}</td>", escape(&reasons.join("; "))),
        };
        let lost = match files.sum("acked_lost") {
            Some(lost) if lost > 0.0 => format!("<b class=\"bad\">{lost}</b>"),
            Some(_) => "0".to_owned(),
            None => String::new(),
        };
        writeln!(
            html,
            "<tr data-cell=\"{}\"><td class=\"l\">{}{}</td><td class=\"wrap\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{lost}</td>{valid}</tr>",
            files.cell.id(),
            figures::sample(&files.cell),
            escape(&files.cell.title()),
            escape(&files.cell.durability()),
            rate("response_p50_us"),
            files.round_trips(&run.ceilings).map_or(String::new(), |ratio| format!("{ratio:.1}")),
            rate("response_p99_us"),
            rate("response_p999_us"),
            rate("response_max_us"),
            rate("e2e_p50_us"),
            rate("e2e_p99_us"),
            files.max_mb_s().map_or(String::new(), digits),
            files.ceiling_ratio(&run.ceilings).map_or(String::new(), |ratio| format!("{ratio:.2}")),
            percent("broker_cpu_pct_sum"),
            percent("client_cpu_pct"),
            files.sum("verified_records").map_or(String::new(), count),
        )
        .expect("string");
    }
    html.push_str("</table></div></section>\n");
}

fn over_time(html: &mut String, run: &RunFiles) {
    let cards: Vec<(&CellFiles, String)> = run
        .cells
        .iter()
        .map(|files| (files, figures::over_time(files)))
        .filter(|(_, markup)| !markup.is_empty())
        .collect();
    if cards.is_empty() {
        return;
    }
    html.push_str("<section><h2>Second by second</h2>\n<div class=\"cards\">\n");
    for (files, markup) in cards {
        writeln!(html, "<div class=\"card\"><h3>{}</h3>{markup}</div>", escape(&files.cell.title())).expect("string");
    }
    html.push_str("</div></section>\n");
}

fn manifest(html: &mut String, run: &RunFiles) {
    html.push_str("<section><h2>How this was made</h2>\n");
    for (heading, pointer) in [("Machine and build", "/environment"), ("Settings", "/settings")] {
        let Some(values) = run.manifest.pointer(pointer).and_then(|value| value.as_object()) else { continue };
        writeln!(html, "<p><b>{heading}</b></p><dl>").expect("string");
        for (name, value) in values.iter().filter(|(name, value)| !value.is_null() && *name != "cells") {
            let text = match value {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Array(list) => {
                    let words = list.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned));
                    words.collect::<Vec<_>>().join(", ")
                }
                other => other.to_string(),
            };
            writeln!(html, "<dt>{}</dt><dd>{}</dd>", escape(&name.replace('_', " ")), escape(&text)).expect("string");
        }
        html.push_str("</dl>\n");
    }
    let text = serde_json::to_string_pretty(&run.manifest).expect("read from JSON");
    writeln!(html, "<details><summary>manifest.json</summary><pre>{}</pre></details></section>", escape(&text))
        .expect("string");
}
