//! `latency.hlog`: the HdrHistogram interval log (version 1.3, compressed V2 histograms), one line for each second and
//! series, values in nanoseconds. HdrHistogram's own tools open it: `HistogramLogProcessor -i latency.hlog -tag response`.
//!
//! The tag is the series. Cells follow one another in time; a comment line names each before its first interval.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::tally::{Series, Tally};

/// The histograms of one phase, and when its window began.
pub struct Logged<'a> {
    /// Comment before them.
    pub title: String,
    /// Beginning of the window.
    pub begin: SystemTime,
    /// Histograms.
    pub tally: &'a Tally,
}

/// Writes the log.
pub fn write(path: &Path, run_start: SystemTime, phases: &[Logged<'_>]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("the file {} cannot be written", path.display()))?;
    let mut out = BufWriter::new(file);
    write_to(&mut out, run_start, phases)?;
    out.flush()?;
    Ok(())
}

fn write_to(out: &mut impl Write, run_start: SystemTime, phases: &[Logged<'_>]) -> Result<()> {
    let mut serializer = V2DeflateSerializer::new();
    let failed = |error| anyhow!("the interval log cannot be written: {error:?}");
    IntervalLogWriterBuilder::new()
        .add_comment("[Latencies in nanoseconds, maxima of the intervals in milliseconds]")
        .add_comment("[Histogram log format version 1.3]")
        .with_start_time(run_start)
        .with_base_time(run_start)
        .begin_log_with(out, &mut serializer)?;
    writeln!(out, "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"")?;
    let mut log = IntervalLogWriterBuilder::new()
        // Maxima are written in milliseconds, as HdrHistogram's tools expect of nanosecond values.
        .with_max_value_divisor(1_000_000.0)
        .begin_log_with(out, &mut serializer)?;
    for phase in phases {
        log.write_comment(&format!("[Cell: {}]", phase.title))?;
        let offset = phase.begin.duration_since(run_start).unwrap_or_default();
        for series in Series::ALL {
            let tag = Tag::new(series.name());
            for (second, histogram) in phase.tally.series(series).seconds.iter().enumerate() {
                if !histogram.is_empty() {
                    let start = offset + Duration::from_secs(second as u64);
                    log.write_histogram(histogram, start, Duration::from_secs(1), tag).map_err(failed)?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Window;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn logged() -> String {
        let mut tally = Tally::new(Window { begin_ns: 0, end_ns: 2_000_000_000 });
        for index in 0..2_000u64 {
            let planned_ns = index * 1_000_000;
            tally.sent(planned_ns, planned_ns + 1_000);
            tally.acked(planned_ns, planned_ns + 1_000, planned_ns + 250_000 + index);
        }
        let run_start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let begin = run_start + Duration::from_secs(10);
        let mut out = Vec::new();
        write_to(&mut out, run_start, &[Logged { title: "acks-all-rf3-min2".to_owned(), begin, tally: &tally }])
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The grammar that HdrHistogram's HistogramLogReader goes by, line by line.
    #[test]
    fn hlog_lines_are_those_of_an_interval_log_version_1_3() {
        let text = logged();
        let mut lines = text.lines();
        assert!(lines.clone().any(|line| line.starts_with("#[StartTime: 1700000000.")));
        assert!(lines.clone().any(|line| line.starts_with("#[BaseTime: 1700000000.")));
        assert!(lines.clone().any(|line| line == "#[Cell: acks-all-rf3-min2]"));
        assert!(lines.any(|line| line.starts_with("#[Histogram log format version 1.")), "{text}");
        let intervals: Vec<&str> = text.lines().filter(|line| !line.starts_with(['#', '"'])).collect();
        assert_eq!(intervals.len(), 6, "three series of two seconds");
        for line in intervals {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields.len(), 5, "{line}");
            let tag = fields[0].strip_prefix("Tag=").unwrap();
            assert!(Series::ALL.iter().any(|series| series.name() == tag));
            assert!(fields[1].parse::<f64>().unwrap() >= 10.0, "relative to the base time");
            assert!(fields[2].parse::<f64>().is_ok() && fields[3].parse::<f64>().is_ok());
            assert!(fields[4].starts_with("HISTFAAAA"), "a compressed V2 histogram in base 64: {line}");
        }
    }

    #[test]
    fn hlog_read_back_gives_the_same_counts() {
        let text = logged();
        let mut total = 0;
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            let LogEntry::Interval(interval) = entry.unwrap() else { continue };
            if interval.tag().map(|tag| tag.as_str().to_owned()).as_deref() != Some("response") {
                continue;
            }
            let bytes = base64(interval.encoded_histogram());
            let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
            assert!((250_000..=253_000).contains(&histogram.max()));
            total += histogram.len();
        }
        assert_eq!(total, 2_000);
    }

    fn base64(text: &str) -> Vec<u8> {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
        for byte in text.bytes().filter(|byte| *byte != b'=') {
            bits = bits << 6 | ALPHABET.iter().position(|known| *known == byte).unwrap() as u32;
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count) as u8);
            }
        }
        bytes
    }
}
