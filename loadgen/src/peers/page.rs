//! The chart (`peers.svg`, for the README) and the page (`report.html`): both self-contained.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::figures::{Better, Compared};
use super::readme::{peers, title};
use crate::report::chart::{self, Area, Scale, escape};
use crate::report::csv::Row;

/// Name of the chart's file.
pub const CHART: &str = "peers.svg";

const WIDTH: f64 = 920.0;
const BAR: f64 = 18.0;
const HEAD: f64 = 30.0;
const GAP: f64 = 18.0;
const LABELS: f64 = 150.0;
const VALUES: f64 = 250.0;

/// An image has no style sheet around it.
const STYLE: &str = "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;fill:#1b2330}\
.card{fill:#fff}.group{font-weight:650}.hint,.tick{fill:#5b6675}.end{text-anchor:end}\
.bar.k0{fill:#77808d}.bar.k1{fill:#c77700}.bar.k2{fill:#0c8f7c}.bar.k3{fill:#2458d3}.range{stroke:#1b2330;stroke-width:1.3}";

/// Writes both.
pub fn write(directory: &Path, manifest: &serde_json::Value, compared: &[Compared], rows: &[Row]) -> Result<()> {
    let yardstick = manifest["yardstick"].as_str().unwrap_or("kafka");
    let drawn = chart(compared, yardstick);
    let put = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("the file {} cannot be written", path.display()))
    };
    put(CHART, &drawn)?;
    put("report.html", &html(manifest, compared, rows, &drawn))
}

fn colour(peer: &str) -> &'static str {
    match peer {
        "minisr-tcp" => "k2",
        "minisr-quic" => "k3",
        "kafka" => "k1",
        _ => "k0",
    }
}

/// A group of bars for each line; bars of one group share a scale, whiskers show the range.
fn chart(compared: &[Compared], yardstick: &str) -> String {
    let peers = peers(compared, yardstick);
    let group = HEAD + peers.len() as f64 * BAR + GAP;
    let height = compared.len() as f64 * group + 10.0;
    let mut svg = chart::open(WIDTH, height, "minisr and its peers: medians, with the range of the repeats").replacen(
        "<svg ",
        "<svg xmlns=\"http://www.w3.org/2000/svg\" ",
        1,
    );
    writeln!(svg, "<style>{STYLE}</style>\n<rect class=\"card\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>")
        .expect("string");
    let mut y = 8.0;
    for one in compared {
        let good = match one.line.quantity.better() {
            Better::Higher => "more is better",
            Better::Lower => "less is better",
        };
        let must = one.must().map_or_else(String::new, |must| format!(", must be {must}"));
        chart::label(&mut svg, 16.0, y + 18.0, "group", one.line.title);
        chart::label(&mut svg, WIDTH - 16.0, y + 18.0, "hint end", &format!("{good}{must}"));
        y += HEAD;
        let most = one.figures.values().map(|figure| figure.max).fold(0.0, f64::max);
        let area = Area { left: LABELS, right: WIDTH - VALUES, top: y, bottom: y + group };
        let x = Scale::exact(0.0, most, area.left, area.right);
        for peer in &peers {
            let Some(figure) = one.figures.get(peer) else { continue };
            let length = (x.place(figure.median) - area.left).max(1.5);
            let (middle, low, high) = (y + BAR / 2.0 - 1.5, x.place(figure.min), x.place(figure.max));
            chart::label(&mut svg, area.left - 10.0, y + 12.5, "tick end", &title(peer));
            writeln!(
                svg,
                "<rect class=\"bar {}\" x=\"{}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{}\" rx=\"2\"/>\n\
                 <line class=\"range\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>",
                colour(peer),
                area.left,
                BAR - 3.0
            )
            .expect("string");
            let mut value = one.line.quantity.text(figure.median);
            if let Some(ratio) = one.ratio(peer).filter(|_| peer != yardstick) {
                value.push_str(&format!("   {ratio}"));
            }
            let beside = high.max(area.left + length) + 10.0;
            chart::label(&mut svg, beside, y + 12.5, "value", &value);
            y += BAR;
        }
        y += GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

fn html(manifest: &serde_json::Value, compared: &[Compared], rows: &[Row], drawn: &str) -> String {
    let run_id = manifest["run_id"].as_str().unwrap_or("?");
    let yardstick = manifest["yardstick"].as_str().unwrap_or("kafka");
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style></head><body><main>\n",
        escape(&format!("minisr and its peers: {run_id}")),
        include_str!("../report/page.css")
    );
    let started = manifest["started_at_utc"].as_str().unwrap_or("?");
    writeln!(
        html,
        "<h1>minisr beside {}</h1>\n<div class=\"sub\">{} · the same client, settings and seed for everybody · {} repeats, shuffled · RF 3, acks=all, min.insync.replicas 2</div>",
        escape(&title(yardstick)),
        escape(started),
        manifest["repeats"]
    )
    .expect("string");
    if manifest.pointer("/environment/optimised_build") == Some(&serde_json::Value::Bool(false)) {
        html.push_str("<p class=\"note bad\">Made with a build without optimisation: the figures say nothing.</p>\n");
    }
    writeln!(
        html,
        "<section><h2>Medians and ranges</h2>\n<p class=\"note\">Bars of a group share a scale that begins at 0. Ratios are those of the medians to {}.</p>\n{drawn}</section>",
        escape(&title(yardstick))
    )
    .expect("string");
    ratios(&mut html, compared, yardstick);
    every_row(&mut html, rows);
    let manifest = serde_json::to_string_pretty(manifest).expect("made of JSON");
    write!(
        html,
        "<section><h2>How this was made</h2>\n<details><summary>manifest.json</summary><pre>{}</pre></details></section>\n</main></body></html>\n",
        escape(&manifest)
    )
    .expect("string");
    html
}

fn ratios(html: &mut String, compared: &[Compared], yardstick: &str) {
    html.push_str("<section><h2>Ratios</h2>\n<div class=\"scroll\"><table class=\"table\">\n<tr><th class=\"l\">what</th><th class=\"l\">who</th><th>median</th><th>smallest</th><th>largest</th><th>rows</th><th>ratio</th><th>must</th><th>aim</th><th class=\"l\"></th></tr>\n");
    for one in compared {
        for peer in peers(compared, yardstick) {
            let Some(figure) = one.figures.get(&peer) else { continue };
            let is_ours = peer.starts_with("minisr");
            let text = |value| escape(&one.line.quantity.text(value));
            let ratio = one.ratio(&peer).filter(|_| peer != yardstick).unwrap_or_default();
            let of_ours = |text: Option<String>| text.filter(|_| is_ours).unwrap_or_default();
            let reached = match one.reached(&peer).filter(|_| is_ours) {
                Some(true) => "<td class=\"l good\">reached</td>",
                Some(false) => "<td class=\"l bad\">not reached</td>",
                None => "<td></td>",
            };
            writeln!(
                html,
                "<tr><td class=\"l\">{}</td><td class=\"l\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}/{}</td><td>{ratio}</td><td>{}</td><td>{}</td>{reached}</tr>",
                escape(one.line.title),
                escape(&title(&peer)),
                text(figure.median),
                text(figure.min),
                text(figure.max),
                figure.valid,
                figure.of,
                of_ours(one.must()),
                of_ours(one.aim()),
            )
            .expect("string");
        }
    }
    html.push_str("</table></div></section>\n");
}

/// Columns of the last table, with their titles.
const SHOWN: [(&str, &str); 11] = [
    ("measure", "measure"),
    ("peer", "who"),
    ("repeat", "repeat"),
    ("acked_mib_s", "MiB/s"),
    ("acked_rate_records_s", "records/s"),
    ("response_p50_us", "p50 µs"),
    ("response_p99_us", "p99 µs"),
    ("broker_cpu_s_per_million_records", "broker CPU s<br>per million"),
    ("broker_rss_bytes_sum", "broker memory<br>bytes, all"),
    ("verified_records", "read back"),
    ("acked_lost", "lost"),
];

fn every_row(html: &mut String, rows: &[Row]) {
    html.push_str(
        "<section><h2>Every measurement, in its order</h2>\n<div class=\"scroll\"><table class=\"table\">\n<tr>",
    );
    for (_, title) in SHOWN {
        write!(html, "<th>{title}</th>").expect("string");
    }
    html.push_str("<th class=\"l\">invalid</th></tr>\n");
    for row in rows {
        html.push_str("<tr>");
        for (column, _) in SHOWN {
            write!(html, "<td>{}</td>", escape(row.text(column).unwrap_or(""))).expect("string");
        }
        writeln!(html, "<td class=\"l bad\">{}</td></tr>", escape(row.text("invalid_reason").unwrap_or("")))
            .expect("string");
    }
    html.push_str("</table></div></section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::figures::compare;
    use crate::peers::figures::tests::row;
    use crate::peers::plan::Measure;

    #[test]
    fn peers_page_and_chart_need_nothing_from_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let values = |mib_s| [("acked_mib_s", mib_s)];
        let rows = [
            row("kafka", Measure::ManyPartitions, &values(50.0)),
            row("minisr-tcp", Measure::ManyPartitions, &values(300.0)),
        ];
        let manifest = serde_json::json!({ "yardstick": "kafka", "run_id": "x<y", "repeats": 1 });
        write(directory.path(), &manifest, &compare(&rows, "kafka"), &rows).unwrap();
        let svg = fs::read_to_string(directory.path().join(CHART)).unwrap();
        assert!(svg.starts_with("<svg xmlns=") && svg.contains("6×") && svg.contains("must be 5×"), "{svg}");
        let page = fs::read_to_string(directory.path().join("report.html")).unwrap();
        assert!(page.contains("reached") && page.contains("x&lt;y"), "what was measured is shown, escaped");
        for text in [&svg, &page] {
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://") && !text.contains("src="));
        }
    }
}
