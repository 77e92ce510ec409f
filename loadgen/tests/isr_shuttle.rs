//! A short run of the experiment `isr-shuttle` on real brokers. The counts are the test: they hang on conditions
//! (every batch is acknowledged before the next is sent), not on how long anything takes.

use minisr_loadgen::cli::IsrShuttleArguments;
use minisr_loadgen::experiment::isr_shuttle;
use minisr_loadgen::report::{csv, shuttle};

#[tokio::test]
async fn experiment_isr_shuttle_counts_what_the_rules_foretell() {
    let output = tempfile::tempdir().expect("a directory");
    let arguments = IsrShuttleArguments {
        limit: 4,
        batches: 12,
        interval_ms: 20,
        output: output.path().to_owned(),
        name: Some("short".to_owned()),
    };
    isr_shuttle::run(&arguments).await.expect("it runs");

    let directory = output.path().join("short");
    let rows = csv::read(&directory.join("isr_shuttle.csv")).expect("a table");
    let shrinks = |policy: &str, records: u64| -> f64 {
        let is_it =
            |row: &&csv::Row| row.text("policy") == Some(policy) && row.number("batch_records") == Some(records as f64);
        let row = rows.iter().find(is_it).expect("every policy with every size");
        assert_eq!(row.number("batches"), Some(12.0));
        // Two that leave together may come back one by one.
        assert!(row.number("isr_expansions") >= row.number("isr_shrinks"), "whoever was thrown out came back");
        row.number("isr_shrinks").expect("counted")
    };
    assert!(shrinks("greater-or-equal", 4) > 0.0, "{rows:?}");
    assert!(shrinks("greater-or-equal", 5) > 0.0, "{rows:?}");
    assert!(shrinks("greater", 4) == 0.0, "{rows:?}");
    assert!(shrinks("greater", 5) > 0.0, "{rows:?}");
    assert!(shrinks("time", 4) == 0.0 && shrinks("time", 5) == 0.0, "{rows:?}");

    let events = csv::read(&directory.join("events.csv")).expect("events");
    let left: Vec<_> = events.iter().filter(|row| row.text("event") == Some("isr_shrink")).collect();
    assert!(!left.is_empty());
    assert!(left.iter().all(|row| row.text("reason") == Some("lag-messages")), "{left:?}");

    let page = std::fs::read_to_string(directory.join("report.html")).expect("a page");
    assert!(page.contains("<svg") && page.contains("lag ≥ 4"), "the chart is there");
    assert!(shuttle::is_one(&directory), "and the page can be made again");
    shuttle::write_page(&directory).expect("from the files alone");
}
