//! Counts against the committed ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// By how much a count may differ before it is called another.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// As a share of the committed count.
    pub share: f64,
    /// And so much besides: for counts so small that a share of them is nothing.
    pub absolute: f64,
}

/// How a count compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Within the tolerance.
    Same,
    /// Lower by more than the tolerance: to be renewed, so that the gain is kept.
    Better,
    /// Higher by more than the tolerance.
    Worse,
    /// It has no committed count.
    New,
    /// It is committed, and is not counted any more.
    Gone,
}

impl Judgement {
    /// Whether the gate must fail for it.
    #[must_use]
    pub const fn fails(self) -> bool {
        matches!(self, Self::Worse | Self::New | Self::Gone)
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::New => "NOT COMMITTED",
            Self::Gone => "NOT COUNTED",
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was counted.
    pub name: String,
    /// The committed count.
    pub committed: Option<f64>,
    /// The count of this run.
    pub counted: Option<f64>,
    /// How they compare.
    pub judgement: Judgement,
}

/// A table of counts beside the committed ones.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What the counts are of.
    pub title: String,
    /// One for each name, in order.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// Compares by name.
    #[must_use]
    pub fn new(
        title: impl Into<String>,
        committed: &BTreeMap<String, f64>,
        counted: &BTreeMap<String, f64>,
        tolerance: Tolerance,
    ) -> Self {
        let names: BTreeSet<&String> = committed.keys().chain(counted.keys()).collect();
        let row = |name: &String| {
            let (committed, counted) = (committed.get(name).copied(), counted.get(name).copied());
            let judgement = match (committed, counted) {
                (Some(committed), Some(counted)) => judge(committed, counted, tolerance),
                (None, _) => Judgement::New,
                (_, None) => Judgement::Gone,
            };
            Row { name: name.clone(), committed, counted, judgement }
        };
        Self { title: title.into(), rows: names.into_iter().map(row).collect() }
    }

    /// Whether the gate must fail.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.rows.iter().any(|row| row.judgement.fails())
    }

    /// Whether counts fell, so that the committed ones no longer guard them.
    #[must_use]
    pub fn has_improved(&self) -> bool {
        self.rows.iter().any(|row| row.judgement == Judgement::Better)
    }
}

fn judge(committed: f64, counted: f64, tolerance: Tolerance) -> Judgement {
    let slack = committed * tolerance.share + tolerance.absolute;
    if counted > committed + slack {
        Judgement::Worse
    } else if counted < committed - slack {
        Judgement::Better
    } else {
        Judgement::Same
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.len()).chain([self.title.len()]).max().unwrap_or(0);
        writeln!(f, "{:width$}  {:>12}  {:>12}  {:>8}", self.title, "committed", "counted", "change")?;
        let number = |count: Option<f64>| count.map_or_else(|| "-".to_owned(), plain);
        for row in &self.rows {
            let change = match (row.committed, row.counted) {
                (Some(committed), Some(counted)) if committed > 0.0 => {
                    format!("{:+.1} %", 100.0 * (counted - committed) / committed)
                }
                _ => String::new(),
            };
            let (committed, counted) = (number(row.committed), number(row.counted));
            let line = format!("{:width$}  {committed:>12}  {counted:>12}  {change:>8}", row.name);
            writeln!(f, "{}", format!("{line}  {}", row.judgement.text()).trim_end())?;
        }
        Ok(())
    }
}

/// With two decimals where there are any.
#[must_use]
pub fn plain(count: f64) -> String {
    if count.fract() == 0.0 { format!("{count:.0}") } else { format!("{count:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE_PERCENT: Tolerance = Tolerance { share: 0.03, absolute: 0.0 };

    fn counts(counts: &[(&str, f64)]) -> BTreeMap<String, f64> {
        counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    fn compared(committed: &[(&str, f64)], counted: &[(&str, f64)]) -> Comparison {
        Comparison::new("instructions", &counts(committed), &counts(counted), THREE_PERCENT)
    }

    #[test]
    fn compare_equal_counts_pass_and_ask_for_nothing() {
        let same = compared(&[("a", 100.0), ("b", 1_000.0)], &[("a", 103.0), ("b", 970.0)]);
        assert!(!same.fails() && !same.has_improved(), "{same}");
    }

    #[test]
    fn compare_planted_regression_fails_and_is_named_in_the_table() {
        let worse = compared(&[("a", 100.0), ("b", 1_000.0)], &[("a", 104.0), ("b", 1_000.0)]);
        assert!(worse.fails());
        let table = worse.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].starts_with("a ") && lines[1].ends_with("+4.0 %  WORSE"), "{table}");
        assert!(lines[2].ends_with("+0.0 %"), "{table}");
    }

    #[test]
    fn compare_improvement_passes_and_asks_to_be_kept() {
        let better = compared(&[("a", 100.0)], &[("a", 90.0)]);
        assert!(!better.fails() && better.has_improved());
    }

    #[test]
    fn compare_count_without_a_committed_one_fails_and_so_does_the_reverse() {
        assert!(compared(&[], &[("a", 1.0)]).fails());
        assert!(compared(&[("a", 1.0)], &[]).fails());
        assert!(!compared(&[], &[]).fails());
    }

    #[test]
    fn compare_small_counts_have_slack_of_their_own() {
        let tolerance = Tolerance { share: 0.0, absolute: 0.5 };
        let judged = |counted| Comparison::new("", &counts(&[("a", 3.0)]), &counts(&[("a", counted)]), tolerance);
        assert!(!judged(3.5).fails());
        assert!(judged(3.51).fails());
        assert!(judged(2.0).has_improved());
    }
}
