//! Medians, ranges and ratios, each beside what it must be.
//!
//! Everything here comes from the rows of `summary.csv`. A row that declared itself invalid does not count; a figure says
//! how many rows it rests on.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::plan::Measure;
use crate::report::chart::{digits, time};
use crate::report::csv::{self, Row, decimals};
use crate::report::files::{median, mib_to_mb};

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More.
    Higher,
    /// Less.
    Lower,
}

/// What is taken from a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Megabytes (10⁶) of record values acknowledged in a second.
    MegabytesPerSecond,
    /// Records acknowledged in a second.
    RecordsPerSecond,
    /// Median response time, milliseconds.
    ResponseP50,
    /// 99th percentile of the response time, milliseconds.
    ResponseP99,
    /// CPU seconds of all brokers for a million acknowledged records.
    BrokerCpu,
    /// Resident MiB of a broker at the end of the window.
    BrokerMemory,
}

impl Quantity {
    fn of(self, row: &Row) -> Option<f64> {
        match self {
            Self::MegabytesPerSecond => row.number("acked_mib_s").map(mib_to_mb),
            Self::RecordsPerSecond => row.number("acked_rate_records_s"),
            Self::ResponseP50 => row.number("response_p50_us").map(|us| us / 1e3),
            Self::ResponseP99 => row.number("response_p99_us").map(|us| us / 1e3),
            Self::BrokerCpu => row.number("broker_cpu_s_per_million_records"),
            Self::BrokerMemory => {
                Some(row.number("broker_rss_bytes_sum")? / row.number("brokers")? / f64::from(1 << 20))
            }
        }
    }

    /// With its unit.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::MegabytesPerSecond => format!("{} MB/s", digits(value)),
            Self::RecordsPerSecond => format!("{}/s", thousands(value)),
            Self::ResponseP50 | Self::ResponseP99 => time(value),
            Self::BrokerCpu => format!("{} s", digits(value)),
            Self::BrokerMemory => format!("{} MiB", digits(value)),
        }
    }

    /// Which way is good.
    pub const fn better(self) -> Better {
        match self {
            Self::MegabytesPerSecond | Self::RecordsPerSecond => Better::Higher,
            _ => Better::Lower,
        }
    }
}

fn thousands(value: f64) -> String {
    let whole = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// CPU seconds of all brokers for a million records: what they used within the window over what was acknowledged in it.
pub fn broker_cpu_s_per_million_records(row: &Row) -> Option<f64> {
    let cpu_s = row.number("broker_cpu_pct_sum")? / 100.0 * row.number("duration_s")?;
    let acked = row.number("acked").filter(|acked| *acked > 0.0)?;
    Some(cpu_s / acked * 1e6)
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Name in `ratios.csv`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Which rows.
    pub measure: Measure,
    /// What of them.
    pub quantity: Quantity,
    /// How many times better minisr over TCP must be than the yardstick; none where it is shown for its own sake.
    pub must: Option<f64>,
    /// How many times better it shall be.
    pub aim: Option<f64>,
}

/// The table.
pub const LINES: [Line; 8] = [
    line("throughput-1", "throughput, 1 partition", Measure::OnePartition, Quantity::MegabytesPerSecond, 5.0, 10.0),
    line(
        "throughput-16",
        "throughput, 16 partitions",
        Measure::ManyPartitions,
        Quantity::MegabytesPerSecond,
        5.0,
        10.0,
    ),
    line(
        "half-rate-p99",
        "response p99 at half of Kafka's maximum",
        Measure::HalfRate,
        Quantity::ResponseP99,
        10.0,
        50.0,
    ),
    line(
        "broker-cpu",
        "CPU of the brokers, 1 million records",
        Measure::ManyPartitions,
        Quantity::BrokerCpu,
        5.0,
        10.0,
    ),
    line("broker-memory", "memory of a broker", Measure::ManyPartitions, Quantity::BrokerMemory, 10.0, 20.0),
    line("small-records", "100 B records, 16 partitions", Measure::SmallRecords, Quantity::RecordsPerSecond, 4.0, 10.0),
    shown("single-records-p50", "1,000 single records/s, response p50", Measure::SingleRecords, Quantity::ResponseP50),
    shown("single-records-p99", "1,000 single records/s, response p99", Measure::SingleRecords, Quantity::ResponseP99),
];

const fn line(
    name: &'static str,
    title: &'static str,
    measure: Measure,
    quantity: Quantity,
    must: f64,
    aim: f64,
) -> Line {
    Line { name, title, measure, quantity, must: Some(must), aim: Some(aim) }
}

const fn shown(name: &'static str, title: &'static str, measure: Measure, quantity: Quantity) -> Line {
    Line { name, title, measure, quantity, must: None, aim: None }
}

/// A figure of one peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Median of the valid repeats.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Rows that it rests on.
    pub valid: usize,
    /// Rows there are.
    pub of: usize,
}

/// A line with its figures.
#[derive(Debug, Clone)]
pub struct Compared {
    /// The line.
    pub line: Line,
    /// By peer.
    pub figures: BTreeMap<String, Figure>,
    /// The yardstick's figure is absent where it was not measured.
    pub yardstick: String,
}

impl Compared {
    /// How many times better a peer is than the yardstick, by the medians.
    pub fn times_better(&self, peer: &str) -> Option<f64> {
        let (ours, theirs) = (self.figures.get(peer)?.median, self.figures.get(&self.yardstick)?.median);
        let ratio = match self.line.quantity.better() {
            Better::Higher => ours / theirs,
            Better::Lower => theirs / ours,
        };
        ratio.is_finite().then_some(ratio)
    }

    /// The ratio of a peer to the yardstick as people write it: `6.2×` of what is good, `1/12` of what is not.
    pub fn ratio(&self, peer: &str) -> Option<String> {
        Some(self.written(self.times_better(peer)?))
    }

    /// The same of what must be reached.
    pub fn must(&self) -> Option<String> {
        self.line.must.map(|must| self.written(must))
    }

    /// The same of what shall be reached.
    pub fn aim(&self) -> Option<String> {
        self.line.aim.map(|aim| self.written(aim))
    }

    fn written(&self, times: f64) -> String {
        match self.line.quantity.better() {
            Better::Higher => format!("{}×", digits(times)),
            Better::Lower if times >= 1.0 => format!("1/{}", digits(times)),
            Better::Lower => format!("{}×", digits(1.0 / times)),
        }
    }

    /// Whether a peer reaches what must be reached.
    pub fn reached(&self, peer: &str) -> Option<bool> {
        Some(self.times_better(peer)? >= self.line.must?)
    }
}

/// All lines for which there are rows.
pub fn compare(rows: &[Row], yardstick: &str) -> Vec<Compared> {
    let mut compared = Vec::new();
    for line in LINES {
        let mut by_peer: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.text("measure") == Some(line.measure.name())) {
            by_peer.entry(row.text("peer").unwrap_or("?").to_owned()).or_default().push(row);
        }
        let figures: BTreeMap<String, Figure> =
            by_peer.into_iter().filter_map(|(peer, rows)| Some((peer, figure(&rows, line.quantity)?))).collect();
        if !figures.is_empty() {
            compared.push(Compared { line, figures, yardstick: yardstick.to_owned() });
        }
    }
    compared
}

fn figure(rows: &[&Row], quantity: Quantity) -> Option<Figure> {
    let valid = rows.iter().filter(|row| row.text("valid") == Some("true"));
    let values: Vec<f64> = valid.filter_map(|row| quantity.of(row)).collect();
    Some(Figure {
        median: median(values.iter().copied())?,
        min: values.iter().copied().fold(f64::INFINITY, f64::min),
        max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        valid: values.len(),
        of: rows.len(),
    })
}

/// Columns of `ratios.csv`.
pub const RATIO_COLUMNS: [&str; 13] = [
    "run_id",
    "line",
    "measure",
    "peer",
    "median",
    "min",
    "max",
    "rows_valid",
    "rows",
    "times_better",
    "must_times_better",
    "aim_times_better",
    "reached",
];

/// Writes `ratios.csv`: one row for each line and peer.
pub fn write(path: &Path, run_id: &str, compared: &[Compared]) -> Result<()> {
    let mut rows = Vec::new();
    for one in compared {
        for (peer, figure) in &one.figures {
            let mut row = Row::default();
            row.set("run_id", run_id);
            row.set("line", one.line.name);
            row.set("measure", one.line.measure.name());
            row.set("peer", peer.as_str());
            row.set("median", decimals(figure.median, 3));
            row.set("min", decimals(figure.min, 3));
            row.set("max", decimals(figure.max, 3));
            row.set("rows_valid", figure.valid);
            row.set("rows", figure.of);
            if *peer != one.yardstick {
                row.set("times_better", one.times_better(peer).map(|times| decimals(times, 3)));
                row.set("must_times_better", one.line.must.map(|must| decimals(must, 0)));
                row.set("aim_times_better", one.line.aim.map(|aim| decimals(aim, 0)));
                row.set("reached", one.reached(peer));
            }
            rows.push(row);
        }
    }
    csv::write(path, &RATIO_COLUMNS, &rows)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row with what the table needs.
    pub(in crate::peers) fn row(peer: &str, measure: Measure, values: &[(&str, f64)]) -> Row {
        let mut row = Row::default();
        row.set("peer", peer);
        row.set("measure", measure.name());
        row.set("valid", true);
        for (column, value) in values {
            row.set(column, decimals(*value, 3));
        }
        row
    }

    #[test]
    fn peers_ratios_are_of_medians_and_say_whether_they_are_reached() {
        let throughput = |peer: &str, mib_s: f64| row(peer, Measure::ManyPartitions, &[("acked_mib_s", mib_s)]);
        let rows: Vec<Row> = [("kafka", [40.0, 50.0, 90.0]), ("minisr-tcp", [240.0, 300.0, 310.0])]
            .into_iter()
            .flat_map(|(peer, values)| values.map(|mib_s| throughput(peer, mib_s)))
            .collect();
        let compared = compare(&rows, "kafka");
        assert_eq!(compared.len(), 1, "only what was measured");
        let one = &compared[0];
        assert_eq!((one.ratio("minisr-tcp").unwrap(), one.must().unwrap()), ("6×".to_owned(), "5×".to_owned()));
        assert_eq!(one.reached("minisr-tcp"), Some(true));
        assert_eq!(one.figures["kafka"].valid, 3);
        assert!(one.figures["kafka"].min < one.figures["kafka"].median);
    }

    #[test]
    fn peers_ratios_of_what_shall_be_small_are_fractions() {
        let p99 = |peer: &str, us: f64| row(peer, Measure::HalfRate, &[("response_p99_us", us)]);
        let compared = compare(&[p99("kafka", 120_000.0), p99("minisr-tcp", 10_000.0), p99("x", 240_000.0)], "kafka");
        let one = &compared[0];
        assert_eq!(one.ratio("minisr-tcp").unwrap(), "1/12");
        assert_eq!(one.must().unwrap(), "1/10");
        assert_eq!(one.ratio("x").unwrap(), "2×", "twice as much as the yardstick");
        assert_eq!((one.reached("minisr-tcp"), one.reached("x")), (Some(true), Some(false)));
    }

    #[test]
    fn peers_rows_that_are_invalid_do_not_count_and_are_counted() {
        let mut late = row("kafka", Measure::HalfRate, &[("response_p99_us", 1.0)]);
        late.set("valid", false);
        let compared =
            compare(&[late.clone(), row("kafka", Measure::HalfRate, &[("response_p99_us", 9_000.0)])], "kafka");
        let figure = compared[0].figures["kafka"];
        assert_eq!((figure.median, figure.valid, figure.of), (9.0, 1, 2));
        assert!(compare(&[late], "kafka").is_empty());
    }

    #[test]
    fn peers_broker_cpu_is_per_million_acknowledged_records() {
        let values = [("broker_cpu_pct_sum", 150.0), ("duration_s", 4.0), ("acked", 2_000_000.0)];
        let row = row("kafka", Measure::ManyPartitions, &values);
        assert_eq!(broker_cpu_s_per_million_records(&row), Some(3.0));
        assert_eq!(thousands(1_234_567.0), "1,234,567");
    }
}
