//! What is checked and what `docs/INVARIANTS.md` says is checked are the same.

use minisr_simulator::invariants::Invariants;

const DOCUMENT: &str = include_str!("../../../docs/INVARIANTS.md");

/// Number and name in the rows that name a file of the simulator's invariants; `–` is 0, for what follows from several.
fn documented(document: &str) -> Vec<(u8, String)> {
    let rows = document.lines().filter(|line| line.contains("crates/simulator/src/invariants/"));
    let cells = rows.filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        Some((cells.next()?.parse().unwrap_or(0), cells.next()?.to_owned()))
    });
    let mut all: Vec<_> = cells.collect();
    all.sort();
    all
}

#[test]
fn invariants_that_are_checked_are_those_of_the_document() {
    let mut checked: Vec<_> = Invariants::default().names().map(|(number, name)| (number, name.to_owned())).collect();
    checked.sort();
    assert_eq!(documented(DOCUMENT), checked);
}

#[test]
fn invariants_about_replication_controllers_and_producers_are_all_there() {
    let checked: Vec<u8> = Invariants::default().names().map(|(number, _)| number).collect();
    // 24 to 28 speak of transactions and consumer groups.
    let missing: Vec<u8> = (1..=23).chain(29..=32).filter(|number| !checked.contains(number)).collect();
    assert!(missing.is_empty(), "nobody checks {missing:?}");
}

#[test]
fn invariants_missing_in_a_document_are_noticed() {
    let row = "| 5 | LogMatching | two replicas agree | – | `crates/simulator/src/invariants/log_matching.rs` |";
    assert_eq!(documented(row), [(5, "LogMatching".to_owned())]);
    assert_ne!(documented(&DOCUMENT.replace("| 5 | LogMatching", "| 5 | LogMatches")), documented(DOCUMENT));
}
