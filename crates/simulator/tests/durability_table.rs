//! The durability table in the README is the committed measurement, and says what replication promises.

use std::fs;
use std::path::PathBuf;

use minisr_simulator::durability::table::{Row, from_csv, put, to_csv, to_markdown};
use minisr_simulator::durability::{Acks, rows};

fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn committed() -> Vec<Row> {
    from_csv(&file("results/durability/table.csv")).expect("the committed table")
}

#[test]
fn durability_table_of_the_readme_is_the_committed_csv() {
    let readme = file("README.md");
    assert_eq!(put(&readme, &to_markdown(&committed())).expect("markers"), readme, "run `just durability-table`");
    assert_eq!(to_csv(&committed()), file("results/durability/table.csv"));
}

#[test]
fn durability_table_has_every_row_and_each_was_run_both_ways() {
    let measured = committed();
    assert!(measured.iter().map(|row| row.settings).eq(rows()));
    assert!(measured.iter().all(|row| row.survives.runs > 0 && row.process_rounds > 0));
}

#[test]
fn durability_table_says_what_replication_promises() {
    for Row { settings, survives, .. } in committed() {
        let (replicas, min_isr) = (settings.replication_factor, settings.min_insync_replicas);
        let is_all = settings.acks == Acks::All;
        // The leader of acks=1 acknowledges alone; what nobody acknowledges counts when it can be read.
        let writing = if settings.acks == Acks::Leader { replicas - 1 } else { replicas - min_isr };
        assert_eq!(survives.writing, writing, "{settings:?}");
        assert_eq!(survives.data_wiped, if is_all { replicas - 1 } else { 0 }, "{settings:?}");
        assert_eq!(survives.data_wiped_minimal, if is_all { min_isr - 1 } else { 0 }, "{settings:?}");
        assert!(!is_all || survives.data_killed == replicas, "{settings:?}");
    }
}
