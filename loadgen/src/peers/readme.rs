//! The table for people: in the terminal, and in `README.md` between its markers.
//!
//! The README's table is made from the files of a run alone. A test sees to it that what stands in `README.md` is what
//! the committed files say.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::figures::{Compared, Figure, compare};
use super::page;
use crate::report::chart::count;
use crate::report::csv;

/// Before the table in `README.md`.
pub const BEGIN: &str = "<!-- peers-table: written by `just bench-peers` -->";
/// After it.
pub const END: &str = "<!-- /peers-table -->";

/// Who stands in which column: minisr first, then the yardstick, then others.
pub fn peers(compared: &[Compared], yardstick: &str) -> Vec<String> {
    let mut names: Vec<&String> = compared.iter().flat_map(|one| one.figures.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let place = |name: &str| match name {
        "minisr-tcp" => 0,
        "minisr-quic" => 1,
        name if name == yardstick => 2,
        _ => 3,
    };
    names.sort_by_key(|name| place(name));
    names.into_iter().cloned().collect()
}

/// A peer's name for people.
pub fn title(peer: &str) -> String {
    match peer {
        "minisr-tcp" => "minisr, TCP".to_owned(),
        "minisr-quic" => "minisr, QUIC".to_owned(),
        "kafka" => format!("Apache Kafka {}", minisr_cluster::KAFKA_VERSION),
        other => other.to_owned(),
    }
}

fn figure(one: &Compared, figure: &Figure) -> String {
    let text = |value| one.line.quantity.text(value);
    let mut cell = text(figure.median);
    if figure.of > 1 {
        cell.push_str(&format!(" ({} to {})", text(figure.min), text(figure.max)));
    }
    if figure.valid < figure.of {
        cell.push_str(&format!(", {} of {} runs valid", figure.valid, figure.of));
    }
    cell
}

/// For a terminal: one block for each line.
pub fn text(compared: &[Compared], yardstick: &str) -> String {
    let mut text = String::new();
    for one in compared {
        let must = match (one.must(), one.aim()) {
            (Some(must), Some(aim)) => format!("  (must {must}, aim {aim})"),
            _ => String::new(),
        };
        text.push_str(&format!("\n{}{must}\n", one.line.title));
        for peer in peers(compared, yardstick) {
            let Some(found) = one.figures.get(&peer) else { continue };
            let ratio = match (peer == yardstick, one.ratio(&peer)) {
                (false, Some(ratio)) => format!("  {ratio}"),
                _ => String::new(),
            };
            let reached = match one.reached(&peer).filter(|_| peer.starts_with("minisr")) {
                Some(true) => "  reached",
                Some(false) => "  not reached",
                None => "",
            };
            text.push_str(&format!("  {:<20} {:<48}{ratio}{reached}\n", title(&peer), figure(one, found)));
        }
    }
    text
}

/// For the README: the circumstances in a sentence, then the table.
pub fn markdown(manifest: &serde_json::Value, compared: &[Compared]) -> String {
    let yardstick = manifest["yardstick"].as_str().unwrap_or("kafka");
    let peers = peers(compared, yardstick);
    let mut text = format!("{}\n\n", circumstances(manifest));
    let mut header = vec!["".to_owned()];
    header.extend(peers.iter().map(|peer| title(peer)));
    let ours: Vec<&String> = peers.iter().filter(|peer| peer.starts_with("minisr")).collect();
    header.extend(ours.iter().map(|peer| format!("{} / {}", title(peer).replace("minisr, ", ""), short(yardstick))));
    header.push("must; aim (TCP)".to_owned());
    text.push_str(&row(&header));
    text.push_str(&format!("|{}\n", "---|".repeat(header.len())));
    for one in compared {
        let mut cells = vec![one.line.title.to_owned()];
        cells.extend(
            peers.iter().map(|peer| one.figures.get(peer).map_or_else(|| "–".to_owned(), |it| figure(one, it))),
        );
        cells.extend(ours.iter().map(|peer| one.ratio(peer).map_or_else(|| "–".to_owned(), |it| format!("**{it}**"))));
        cells.push(match (one.must(), one.aim(), one.reached("minisr-tcp")) {
            (Some(must), Some(aim), reached) => {
                let verdict = match reached {
                    Some(true) => "reached",
                    Some(false) => "not reached",
                    None => "not measured",
                };
                format!("{must}; {aim}: {verdict}")
            }
            _ => "–".to_owned(),
        });
        text.push_str(&row(&cells));
    }
    text
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn short(peer: &str) -> &str {
    if peer == "kafka" { "Kafka" } else { peer }
}

fn circumstances(manifest: &serde_json::Value) -> String {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or("?");
    let number = |pointer: &str| manifest.pointer(pointer).and_then(serde_json::Value::as_f64);
    let date = text("/started_at_utc").split('T').next().unwrap_or("?");
    let warmth = manifest["peers"].as_array().into_iter().flatten().find(|peer| peer["name"] == manifest["yardstick"]);
    let warmth = warmth.map(|peer| &peer["warmth"]).filter(|warmth| !warmth.is_null());
    let warmed = warmth.map_or_else(String::new, |warmth| {
        let records = warmth["records"].as_f64().map_or_else(|| "?".to_owned(), count);
        let flat = if warmth["flat"] == true { "and its rates were flat" } else { "and its rates still rose" };
        format!(" Kafka was warmed with {records} records first, {flat}.")
    });
    let rate = number("/half_rate_records_s").map_or_else(|| "?".to_owned(), |rate| format!("{rate:.0}"));
    format!(
        "Medians of {} (smallest to largest), {date}, {} CPUs ({}), three brokers of each and the client on the same machine, \
         commit {}.{warmed} Half of Kafka's maximum was {rate} records/s.",
        number("/repeats").map_or_else(|| "?".to_owned(), |repeats| format!("{repeats:.0}")),
        number("/environment/cpu_count").map_or_else(|| "?".to_owned(), |cpus| format!("{cpus:.0}")),
        text("/environment/cpu_model"),
        text("/environment/git_sha").get(..9).unwrap_or("?"),
    )
}

/// A text with the table between its markers replaced.
pub fn put(text: &str, table: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("the marker {BEGIN} is missing"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("the marker {END} is missing"))?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

/// The chart and the table of a run's directory.
pub fn table_of(directory: &Path) -> Result<String> {
    let path = directory.join("manifest.json");
    let manifest = fs::read_to_string(&path).with_context(|| format!("the file {} cannot be read", path.display()))?;
    let manifest: serde_json::Value = serde_json::from_str(&manifest)?;
    let rows = csv::read(&directory.join("summary.csv"))?;
    let table = markdown(&manifest, &compare(&rows, manifest["yardstick"].as_str().unwrap_or("kafka")));
    Ok(format!("![minisr beside Apache Kafka: medians and ranges](docs/images/{})\n\n{table}", page::CHART))
}

/// Writes the table of a run into a README, and the chart beside it.
pub fn put_into(readme: &Path, directory: &Path) -> Result<()> {
    let text = fs::read_to_string(readme).with_context(|| format!("the file {} cannot be read", readme.display()))?;
    let text = put(&text, &table_of(directory)?)?;
    fs::write(readme, text).with_context(|| format!("the file {} cannot be written", readme.display()))?;
    let image = readme.parent().unwrap_or(Path::new(".")).join("docs/images").join(page::CHART);
    fs::copy(directory.join(page::CHART), &image)
        .with_context(|| format!("the file {} cannot be written", image.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::figures::tests::row;
    use crate::peers::plan::Measure;

    /// What stands between the markers before there is a whole run.
    const NOT_YET: &str = "No whole run is committed yet: `just bench-peers` puts its chart and table here, \
                           `just bench-peers --repeats 1` only prints them.";

    #[test]
    fn peers_table_of_the_readme_is_that_of_the_committed_run() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        let run = root.join("results/peers");
        if run.join("manifest.json").exists() {
            let table = table_of(&run).unwrap();
            assert!(put(&readme, &table).unwrap() == readme, "the README shows something else: run `just bench-peers`");
        } else {
            let between = readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).unwrap().0;
            assert_eq!(between.trim(), NOT_YET, "the README shows figures that no committed run has");
        }
    }

    #[test]
    fn peers_table_goes_between_the_markers_and_nowhere_else() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let replaced = put(&text, "| new |\n").unwrap();
        assert_eq!(replaced, format!("before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n"));
        assert_eq!(put(&replaced, "| new |\n").unwrap(), replaced, "twice is once");
        assert!(put("no markers", "").is_err());
    }

    #[test]
    fn peers_table_names_ratio_must_and_circumstances() {
        let values = |mib_s| [("acked_mib_s", mib_s)];
        let rows = [
            row("kafka", Measure::ManyPartitions, &values(50.0)),
            row("minisr-tcp", Measure::ManyPartitions, &values(300.0)),
            row("minisr-quic", Measure::ManyPartitions, &values(200.0)),
        ];
        let manifest = serde_json::json!({
            "yardstick": "kafka",
            "repeats": 5,
            "started_at_utc": "2026-01-31T12:00:00.000Z",
            "half_rate_records_s": 25_000.0,
            "environment": { "cpu_count": 2, "cpu_model": "X", "git_sha": "0123456789abcdef" },
            "peers": [{ "name": "kafka", "warmth": { "records": 3_100_000, "flat": true } }],
        });
        let table = markdown(&manifest, &compare(&rows, "kafka"));
        assert!(table.contains("| **6×** | **4×** | 5×; 10×: reached |"), "{table}");
        let without_a_yardstick = markdown(&manifest, &compare(&rows[1..], "kafka"));
        assert!(without_a_yardstick.contains("5×; 10×: not measured |"), "{without_a_yardstick}");
        assert!(table.contains("3.1 M records first, and its rates were flat"), "{table}");
        assert!(table.contains("2026-01-31") && table.contains("commit 012345678."), "{table}");
        let said = text(&compare(&rows, "kafka"), "kafka");
        assert!(said.contains("not reached") && said.contains("must 5×"), "QUIC is held to the same: {said}");
    }
}
