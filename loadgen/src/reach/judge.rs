//! What is measured, what it must reach, and whether it does.

use serde::Serialize;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better: `must` and `aim` are lower bounds.
    Higher,
    /// Less is better: they are upper bounds.
    Lower,
}

/// One measure of a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measure {
    /// Names it within the row.
    pub name: String,
    /// Of the value; a measure with a yardstick is judged by the ratio, which has none.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// What it must reach; nothing for a figure that is only shown.
    pub must: Option<f64>,
    /// What is aimed at.
    pub aim: Option<f64>,
}

impl Measure {
    /// A measure with both bounds.
    pub fn judged(name: impl Into<String>, unit: &'static str, better: Better, must: f64, aim: f64) -> Measure {
        Measure { name: name.into(), unit, better, must: Some(must), aim: Some(aim) }
    }

    /// A figure that is shown and not judged.
    pub fn shown(name: impl Into<String>, unit: &'static str, better: Better) -> Measure {
        Measure { name: name.into(), unit, better, must: None, aim: None }
    }
}

/// One repeat of a measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The measure's name.
    pub measure: String,
    /// First is 1.
    pub repeat: u32,
    /// What was measured.
    pub value: f64,
    /// What it is compared with, of the same repeat; absent for a plain figure.
    pub yardstick: Option<f64>,
    /// What else is known about it.
    pub note: String,
}

impl Sample {
    /// What is judged: the ratio, or the value where there is no yardstick.
    pub fn judged(&self) -> f64 {
        self.yardstick.map_or(self.value, |yardstick| self.value / yardstick)
    }
}

/// Median and spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle repeat; of two middle ones their mean.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Repeats.
    pub repeats: usize,
}

impl Spread {
    /// Of these values; nothing when there are none.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let values: Vec<f64> = values.collect();
        let median = crate::report::files::median(values.iter().copied())?;
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Spread { median, min, max, repeats: values.len() })
    }
}

/// Whether a measure reaches what it has to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The aim is reached.
    Aim,
    /// What must be reached is.
    Must,
    /// It is not.
    Missed,
    /// There is nothing to reach.
    Shown,
    /// There is no repeat.
    NotMeasured,
}

impl Verdict {
    /// Judges the median.
    pub fn of(measure: &Measure, spread: Option<Spread>) -> Verdict {
        let Some(spread) = spread else { return Verdict::NotMeasured };
        let reaches = |bound: Option<f64>| {
            bound.map(|bound| match measure.better {
                Better::Higher => spread.median >= bound,
                Better::Lower => spread.median <= bound,
            })
        };
        match (reaches(measure.must), reaches(measure.aim)) {
            (None, None) => Verdict::Shown,
            (_, Some(true)) => Verdict::Aim,
            (Some(true), _) => Verdict::Must,
            _ => Verdict::Missed,
        }
    }

    /// For the table.
    pub const fn words(self) -> &'static str {
        match self {
            Verdict::Aim => "aim reached",
            Verdict::Must => "reached",
            Verdict::Missed => "NOT reached",
            Verdict::Shown => "",
            Verdict::NotMeasured => "not measured",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Option<Spread> {
        Spread::of(values.iter().copied())
    }

    #[test]
    fn judge_looks_at_the_median_in_the_direction_that_is_better() {
        let throughput = Measure::judged("throughput", "MB/s", Better::Higher, 0.7, 0.9);
        assert_eq!(
            Verdict::of(&throughput, spread(&[0.1, 0.95, 0.99])),
            Verdict::Aim,
            "one slow repeat is an accident"
        );
        assert_eq!(Verdict::of(&throughput, spread(&[0.7])), Verdict::Must);
        assert_eq!(Verdict::of(&throughput, spread(&[0.69, 0.6, 2.0])), Verdict::Missed);
        let latency = Measure::judged("p50", "us", Better::Lower, 2.0, 1.3);
        assert_eq!(Verdict::of(&latency, spread(&[1.2])), Verdict::Aim);
        assert_eq!(Verdict::of(&latency, spread(&[1.9])), Verdict::Must);
        assert_eq!(Verdict::of(&latency, spread(&[2.1])), Verdict::Missed);
    }

    #[test]
    fn judge_says_what_was_not_measured_and_what_is_only_shown() {
        let throughput = Measure::judged("throughput", "MB/s", Better::Higher, 0.7, 0.9);
        assert_eq!(Verdict::of(&throughput, None), Verdict::NotMeasured);
        let figure = Measure::shown("memory", "MiB", Better::Lower);
        assert_eq!(Verdict::of(&figure, spread(&[1e9])), Verdict::Shown);
    }

    #[test]
    fn judge_takes_the_ratio_within_a_repeat() {
        let sample =
            |value, yardstick| Sample { measure: "x".to_owned(), repeat: 1, value, yardstick, note: String::new() };
        assert_eq!(sample(300.0, Some(400.0)).judged(), 0.75);
        assert_eq!(sample(300.0, None).judged(), 300.0);
    }
}
