//! Rows of `summary.csv`, `intervals.csv` and `events.csv`. What was not measured is blank, never 0.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use anyhow::{Context, Result};

/// Columns of `summary.csv`, in their order.
pub const SUMMARY_COLUMNS: [&str; 103] = [
    "schema_version",
    "run_id",
    "cell_id",
    "repeat",
    "valid",
    "invalid_reason",
    "started_at_utc",
    "driver",
    "driver_version",
    "git_sha",
    "host_id",
    "transport",
    "brokers",
    "topics",
    "partitions",
    "replication_factor",
    "acks",
    "min_insync_replicas",
    "flush",
    "producers",
    "consumers",
    "connections",
    "record_size_bytes",
    "compression",
    "key_distribution",
    "linger_us",
    "batch_max_bytes",
    "batch_records_mean",
    "max_in_flight",
    "mode",
    "arrival",
    "seed",
    "target_rate_records_s",
    "offered_rate_records_s",
    "acked_rate_records_s",
    "acked_mib_s",
    "duration_s",
    "warmup_s",
    "scheduled",
    "sent",
    "acked",
    "err_timeout",
    "err_not_enough_replicas",
    "err_not_leader",
    "err_other",
    "unresolved",
    "retries",
    "backlog_end",
    "response_min_us",
    "response_mean_us",
    "response_p50_us",
    "response_p90_us",
    "response_p95_us",
    "response_p99_us",
    "response_p999_us",
    "response_p9999_us",
    "response_max_us",
    "service_min_us",
    "service_mean_us",
    "service_p50_us",
    "service_p90_us",
    "service_p95_us",
    "service_p99_us",
    "service_p999_us",
    "service_p9999_us",
    "service_max_us",
    "schedule_min_us",
    "schedule_mean_us",
    "schedule_p50_us",
    "schedule_p90_us",
    "schedule_p95_us",
    "schedule_p99_us",
    "schedule_p999_us",
    "schedule_p9999_us",
    "schedule_max_us",
    "e2e_min_us",
    "e2e_mean_us",
    "e2e_p50_us",
    "e2e_p90_us",
    "e2e_p95_us",
    "e2e_p99_us",
    "e2e_p999_us",
    "e2e_p9999_us",
    "e2e_max_us",
    "e2e_negative",
    "histogram_overflow",
    "client_cpu_pct",
    "client_rss_bytes",
    "broker_cpu_pct_sum",
    "broker_rss_bytes_sum",
    "broker_disk_write_bytes",
    "replication_bytes",
    "quic_lost_packets",
    "isr_min",
    "isr_shrinks",
    "leader_changes",
    "high_watermark_lag_max_records",
    "fault",
    "unavailable_ms",
    "recovery_ms",
    "verified_records",
    "acked_lost",
    "target",
];

/// Columns of `intervals.csv`.
pub const INTERVAL_COLUMNS: [&str; 29] = [
    "run_id",
    "cell_id",
    "repeat",
    "mode",
    "second",
    "at_utc",
    "sent_records_s",
    "acked_records_s",
    "acked_mib_s",
    "failed_records_s",
    "read_records_s",
    "backlog_records",
    "response_p50_us",
    "response_p90_us",
    "response_p99_us",
    "response_max_us",
    "service_p50_us",
    "service_p90_us",
    "service_p99_us",
    "service_max_us",
    "schedule_max_us",
    "e2e_p50_us",
    "e2e_p90_us",
    "e2e_max_us",
    "isr_min",
    "leaders",
    "high_watermark_lag_records",
    "leader_changes",
    "isr_shrinks",
];

/// Columns of `events.csv`.
pub const EVENT_COLUMNS: [&str; 8] = ["run_id", "cell_id", "repeat", "mode", "at_utc", "event", "partition", "detail"];

/// One row: values by column, absent ones blank.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    values: BTreeMap<String, String>,
}

impl Row {
    /// Sets a column; nothing to say leaves it blank.
    pub fn set(&mut self, column: &str, value: impl Into<Cellular>) {
        if let Some(text) = value.into().0 {
            self.values.insert(column.to_owned(), text);
        }
    }

    /// The text of a column; `None` when it is blank.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.values.get(column).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The number in a column; `None` when it is blank.
    pub fn number(&self, column: &str) -> Option<f64> {
        self.text(column)?.parse().ok()
    }
}

/// What a field of a row can be made of.
pub struct Cellular(Option<String>);

impl<T: Display> From<Option<T>> for Cellular {
    fn from(value: Option<T>) -> Cellular {
        Cellular(value.map(|value| value.to_string()))
    }
}

macro_rules! cellular {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Cellular {
            fn from(value: $kind) -> Cellular {
                Cellular(Some(value.to_string()))
            }
        }
    )*};
}
cellular!(u16, u32, u64, i32, i64, usize, bool, String, &str);

/// A measured number with as many digits as are meant.
pub fn decimals(value: f64, digits: usize) -> String {
    format!("{value:.digits$}")
}

/// Nanoseconds in microseconds.
pub fn micros(value_ns: u64) -> String {
    decimals(value_ns as f64 / 1_000.0, 1)
}

/// Writes rows under a header.
pub fn write(path: &Path, columns: &[&str], rows: &[Row]) -> Result<()> {
    let context = || format!("the file {} cannot be written", path.display());
    let mut writer = csv::Writer::from_path(path).with_context(context)?;
    writer.write_record(columns)?;
    for row in rows {
        for column in row.values.keys() {
            assert!(columns.contains(&column.as_str()), "{column} is no column of {}", path.display());
        }
        writer.write_record(columns.iter().map(|column| row.text(column).unwrap_or("")))?;
    }
    writer.flush().with_context(context)
}

/// Reads rows; columns that this version does not know are kept.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let mut reader =
        csv::Reader::from_path(path).with_context(|| format!("the file {} cannot be read", path.display()))?;
    let header: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.with_context(|| format!("the file {} is not understood", path.display()))?;
        let values = header.iter().cloned().zip(record.iter().map(str::to_owned)).collect();
        rows.push(Row { values });
    }
    Ok(rows)
}

/// Rows as JSON objects; blank columns are left out.
pub fn to_json(rows: &[Row]) -> serde_json::Value {
    let object = |row: &Row| -> serde_json::Map<String, serde_json::Value> {
        let filled = row.values.iter().filter(|(_, text)| !text.is_empty());
        filled.map(|(name, text)| (name.clone(), to_json_value(name, text))).collect()
    };
    rows.iter().map(|row| serde_json::Value::Object(object(row))).collect()
}

/// Columns that are text even where it looks like a number.
const TEXT_COLUMNS: [&str; 6] = ["run_id", "cell_id", "acks", "git_sha", "host_id", "driver_version"];

fn to_json_value(column: &str, text: &str) -> serde_json::Value {
    match (text, text.parse::<f64>()) {
        ("true", _) => true.into(),
        ("false", _) => false.into(),
        (_, Ok(number)) if !TEXT_COLUMNS.contains(&column) => number.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns as the schema lists them, with the two families written out by the braces' rule.
    const SCHEMA: &str = "schema_version,run_id,cell_id,repeat,valid,invalid_reason,started_at_utc,driver,driver_version,\
        git_sha,host_id,transport,brokers,topics,partitions,replication_factor,acks,min_insync_replicas,flush,producers,\
        consumers,connections,record_size_bytes,compression,key_distribution,linger_us,batch_max_bytes,\
        batch_records_mean,max_in_flight,mode,arrival,seed,target_rate_records_s,offered_rate_records_s,\
        acked_rate_records_s,acked_mib_s,duration_s,warmup_s,scheduled,sent,acked,err_timeout,err_not_enough_replicas,\
        err_not_leader,err_other,unresolved,retries,backlog_end,\
        {response,service,schedule,e2e}_{min,mean,p50,p90,p95,p99,p999,p9999,max}_us,e2e_negative,histogram_overflow,\
        client_cpu_pct,client_rss_bytes,broker_cpu_pct_sum,broker_rss_bytes_sum,broker_disk_write_bytes,\
        replication_bytes,quic_lost_packets,isr_min,isr_shrinks,leader_changes,high_watermark_lag_max_records,\
        fault,unavailable_ms,recovery_ms,verified_records,acked_lost";

    #[test]
    fn summary_columns_are_exactly_those_of_the_schema() {
        let mut family = Vec::new();
        for series in ["response", "service", "schedule", "e2e"] {
            for statistic in ["min", "mean", "p50", "p90", "p95", "p99", "p999", "p9999", "max"] {
                family.push(format!("{series}_{statistic}_us"));
            }
        }
        let braces = "{response,service,schedule,e2e}_{min,mean,p50,p90,p95,p99,p999,p9999,max}_us";
        // Ours come behind them: whoever reads by position finds the schema's where they were.
        let expected = SCHEMA.replace(braces, &family.join(",")) + ",target";
        assert_eq!(SUMMARY_COLUMNS.join(","), expected);
    }

    #[test]
    fn rows_come_back_as_written_and_what_was_not_measured_is_blank() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("summary.csv");
        let mut row = Row::default();
        row.set("cell_id", "acks-all-rf3-min2");
        row.set("invalid_reason", "schedule delay, p99: too high");
        row.set("acked", 0u64);
        row.set("response_p999_us", None::<String>);
        write(&path, &SUMMARY_COLUMNS, &[row]).unwrap();
        let back = read(&path).unwrap();
        assert_eq!(back[0].text("invalid_reason"), Some("schedule delay, p99: too high"));
        assert_eq!(back[0].number("acked"), Some(0.0), "a measured zero is a zero");
        assert_eq!(back[0].number("response_p999_us"), None);
    }
}
