//! `*.hgrm`: the percentile distribution that HdrHistogram prints and its plotters read. Values in milliseconds.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// Steps for each halving of the distance to 100 %, as HdrHistogram's own default.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Writes the distribution of a histogram of nanoseconds.
pub fn write(path: &Path, histogram: &Histogram<u64>) -> Result<()> {
    std::fs::write(path, format(histogram)).with_context(|| format!("the file {} cannot be written", path.display()))
}

fn format(histogram: &Histogram<u64>) -> String {
    let millis = |nanos: f64| nanos / 1e6;
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut below = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        below += step.count_since_last_iteration();
        let value = millis(step.value_iterated_to() as f64);
        let quantile = step.quantile_iterated_to();
        write!(text, "{value:>12.6} {quantile:>14.12} {below:>10}").expect("writing to a string");
        if quantile < 1.0 {
            write!(text, " {:>14.2}", 1.0 / (1.0 - quantile)).expect("writing to a string");
        }
        text.push('\n');
    }
    let (mean, deviation, max) = match histogram.is_empty() {
        true => (0.0, 0.0, 0.0),
        false => (histogram.mean(), histogram.stdev(), histogram.max() as f64),
    };
    writeln!(text, "#[Mean    = {:>12.6}, StdDeviation   = {:>12.6}]", millis(mean), millis(deviation))
        .expect("string");
    writeln!(text, "#[Max     = {:>12.6}, Total count    = {:>12}]", millis(max), histogram.len()).expect("string");
    let buckets = histogram.buckets();
    writeln!(text, "#[Buckets = {buckets:>12}, SubBuckets     = {:>12}]", 2048).expect("string");
    text
}

/// A curve: quantile and milliseconds, ascending, and how many values it stands for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// Points.
    pub points: Vec<(f64, f64)>,
    /// Values in the histogram.
    pub count: u64,
}

/// Reads a distribution back.
pub fn read(path: &Path) -> Result<Curve> {
    let text = std::fs::read_to_string(path).with_context(|| format!("the file {} cannot be read", path.display()))?;
    let mut curve = Curve::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split_whitespace().map_while(|field| field.parse::<f64>().ok());
        if let (Some(millis), Some(quantile), Some(below)) = (fields.next(), fields.next(), fields.next()) {
            curve.points.push((quantile, millis));
            curve.count = below as u64;
        }
    }
    Ok(curve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hgrm_has_the_layout_of_hdrhistogram_and_reads_back() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        for index in 1..=10_000u64 {
            histogram.record(index * 1_000).unwrap();
        }
        let text = format(&histogram);
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(header, ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
        assert_eq!(lines.next(), Some(""));
        assert!(text.contains("#[Max     =") && text.contains("Total count    =        10000]"));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("one.hgrm");
        write(&path, &histogram).unwrap();
        let curve = read(&path).unwrap();
        assert_eq!(curve.count, 10_000);
        assert!(curve.points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        let median = curve.points.iter().find(|(quantile, _)| *quantile >= 0.5).unwrap();
        assert!((median.1 - 5.0).abs() < 0.05, "{median:?}");
    }
}
