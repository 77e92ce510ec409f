//! What is printed and written of the searches.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use minisr_logic::zoo::{About, Bug, NOT_PLANTED};

use super::Mix;
use super::search::Search;

/// One bug and its searches.
#[derive(Clone, Debug)]
pub struct Row {
    /// The bug.
    pub bug: Bug,
    /// From different starting seeds.
    pub searches: Vec<Search>,
    /// Events in the shortest schedule that still shows it.
    pub shrunk: Option<usize>,
}

impl Row {
    /// Seeds until it was caught: the median of the searches; `None` unless all of them caught it.
    #[must_use]
    pub fn seeds_median(&self) -> Option<u64> {
        let mut seeds: Vec<u64> =
            self.searches.iter().map(|it| it.catch.as_ref().map(|_| it.seeds)).collect::<Option<_>>()?;
        seeds.sort_unstable();
        seeds.get(seeds.len() / 2).copied()
    }

    /// The most seeds that any search took.
    #[must_use]
    pub fn seeds_max(&self) -> u64 {
        self.searches.iter().map(|it| it.seeds).max().unwrap_or(0)
    }

    /// The seeds that caught it, in order.
    #[must_use]
    pub fn seeds(&self) -> Vec<u64> {
        let mut seeds: Vec<u64> = self.searches.iter().filter_map(|it| it.catch.as_ref()).map(|it| it.seed).collect();
        seeds.sort_unstable();
        seeds
    }

    /// How many searches caught it.
    #[must_use]
    pub fn catches(&self) -> usize {
        self.searches.iter().filter(|it| it.catch.is_some()).count()
    }

    /// Who caught it, the most frequent first.
    #[must_use]
    pub fn caught_by(&self) -> Vec<String> {
        let mut counts = BTreeMap::new();
        for catch in self.searches.iter().filter_map(|it| it.catch.as_ref()) {
            *counts.entry(catch.by.clone()).or_insert(0) += 1;
        }
        let mut names: Vec<(String, i32)> = counts.into_iter().collect();
        names.sort_by_key(|(_, count)| -count);
        names.into_iter().map(|(name, _)| name).collect()
    }
}

/// For people.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:>3}  {:<30} {:<28} {:>7} {:>7} {:>6}  {}\n",
        "#", "bug", "source", "median", "most", "shrunk", "caught by"
    );
    for row in rows {
        let About { number, name, source } = row.bug.about();
        let median =
            row.seeds_median().map_or_else(|| format!("{}/{}", row.catches(), row.searches.len()), |it| it.to_string());
        let shrunk = row.shrunk.map_or_else(|| "-".to_owned(), |it| it.to_string());
        let by = row.caught_by().join(", ");
        let _ =
            writeln!(text, "{number:>3}  {name:<30} {source:<28} {median:>7} {:>7} {shrunk:>6}  {by}", row.seeds_max());
    }
    for (About { number, name, source }, reason) in NOT_PLANTED {
        let _ = writeln!(text, "{number:>3}  {name:<30} {source:<28} not planted: {reason}");
    }
    text
}

/// For machines.
#[must_use]
pub fn csv(rows: &[Row]) -> String {
    let mut text = String::from(
        "number,name,source,mix,searches,caught,seeds_median,seeds_max,shrunk_events,caught_by,not_planted\n",
    );
    let quoted = |it: &str| format!("\"{}\"", it.replace('"', "'"));
    for row in rows {
        let About { number, name, source } = row.bug.about();
        let _ = writeln!(
            text,
            "{number},{},{},{},{},{},{},{},{},{},",
            quoted(name),
            quoted(source),
            Mix::of(row.bug).name(),
            row.searches.len(),
            row.catches(),
            row.seeds_median().map_or_else(String::new, |it| it.to_string()),
            row.seeds_max(),
            row.shrunk.map_or_else(String::new, |it| it.to_string()),
            quoted(&row.caught_by().join(" ")),
        );
    }
    for (About { number, name, source }, reason) in NOT_PLANTED {
        let _ = writeln!(text, "{number},{},{},,,,,,,,{}", quoted(name), quoted(source), quoted(reason));
    }
    text
}
