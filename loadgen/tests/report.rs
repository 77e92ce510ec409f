//! A made-up run through every writer and back: what is shown is what was counted.
//!
//! `MINISR_KEEP_REPORT=<directory>` keeps the files for a look in a browser.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use minisr_loadgen::cli::SweepArguments;
use minisr_loadgen::environment::Environment;
use minisr_loadgen::outcome::{Outcome, RunFacts};
use minisr_loadgen::plan::{Acks, Cell, Phase};
use minisr_loadgen::producer::Produced;
use minisr_loadgen::report;
use minisr_loadgen::settings::Settings;
use minisr_loadgen::tally::{Tally, Window};
use minisr_loadgen::usage::Used;
use minisr_loadgen::verify::{Ledger, Verdict};
use minisr_loadgen::watch::{Event, Leaders};

const SECOND_NS: u64 = 1_000_000_000;

/// A reproducible number between 0 and 1.
fn noise(seed: u64) -> f64 {
    let mut value = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value ^= value >> 29;
    value = value.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value ^= value >> 32;
    (value % 1_000_003) as f64 / 1_000_003.0
}

fn rate_phase(cell: Cell, number: u64, start: SystemTime) -> Outcome {
    let window = Window { begin_ns: SECOND_NS, end_ns: 13 * SECOND_NS };
    let mut tally = Tally::new(window);
    let records = 12_000u64;
    let typical_us = 110.0 + 60.0 * f64::from(cell.replication_factor) * f64::from(u8::from(cell.acks == Acks::All));
    for index in 0..records {
        let planned_ns = SECOND_NS + index * 1_000_000;
        let late_ns = 20_000 + (noise(index + number) * 60_000.0) as u64;
        let chance = noise(index * 7 + number * 1_000_003);
        let service_us =
            typical_us * (0.7 + 0.6 * noise(index * 3 + number)) + 40.0 / (1.0 - chance).max(1e-4).powf(0.8);
        let acked_ns = planned_ns + late_ns + (service_us * 1_000.0) as u64;
        tally.sent(planned_ns, planned_ns + late_ns);
        if cell.acks == Acks::None {
            tally.left(planned_ns);
        } else {
            tally.acked(planned_ns, planned_ns + late_ns, acked_ns);
        }
        tally.batch(acked_ns, 1, 0);
        tally.read(planned_ns, acked_ns + 150_000);
    }
    tally.counts.scheduled = records;
    outcome(cell, Phase::Rate, tally, 12.0, start)
}

fn max_phase(cell: Cell, number: u64, start: SystemTime) -> Outcome {
    let window = Window { begin_ns: SECOND_NS, end_ns: 4 * SECOND_NS };
    let mut tally = Tally::new(window);
    let batches = (26_000.0 / f64::from(cell.replication_factor) * (1.0 - 0.1 * number as f64 / 12.0)) as u64;
    for index in 0..batches {
        let acked_ns = SECOND_NS + index * 3 * SECOND_NS / batches;
        if cell.acks == Acks::None {
            tally.left_closed_loop(acked_ns, 63);
        } else {
            tally.acked_closed_loop(acked_ns - 9_000_000, acked_ns, 63);
        }
        tally.batch(acked_ns, 63, 0);
    }
    let grown = batches * 63;
    let mut outcome = outcome(cell, Phase::Max, tally, 3.0, start);
    outcome.log_growth_records = (cell.acks == Acks::None).then_some(grown);
    outcome
}

fn outcome(cell: Cell, phase: Phase, tally: Tally, measured_s: f64, start: SystemTime) -> Outcome {
    let acked = tally.counts.acked;
    let grown = tally.counts.left;
    Outcome {
        cell,
        phase,
        repeat: 1,
        window_begin: start,
        produced: Produced { tally, ledger: Ledger::new(16), records: acked, backlog_end: 0, measured_s },
        client: Some(Used { cpu_pct: 38.0, rss_bytes: 40 << 20, disk_write_bytes: 0 }),
        brokers: Some(Used { cpu_pct: 151.5, rss_bytes: 210 << 20, disk_write_bytes: 3 << 30 }),
        events: Vec::new(),
        isr_min: Some(usize::from(cell.replication_factor)),
        log_growth_records: (cell.acks == Acks::None).then_some(grown),
        verdict: (cell.acks != Acks::None).then_some(Verdict { verified_records: acked, acked_lost: 0, not_read: 0 }),
        high_watermark_lag_max_records: Some(0),
        leaders: vec![(start, Leaders::from([(Some(1), 6), (Some(2), 5), (Some(3), 5)]))],
        high_watermark_lags: vec![(start + Duration::from_millis(1_500), 7)],
        broken: None,
    }
}

fn made_up_run() -> (tempfile::TempDir, PathBuf) {
    let settings = Settings::resolve(&SweepArguments::default()).unwrap();
    let environment = Environment::read();
    let facts = RunFacts {
        run_id: "made-up",
        settings: &settings,
        environment: &environment,
        brokers: 3,
        connections: Some(48),
    };
    let run_start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let mut outcomes = Vec::new();
    for (number, cell) in settings.cells.iter().enumerate() {
        let start = run_start + Duration::from_secs(number as u64 * 15);
        outcomes.push(rate_phase(*cell, number as u64, start));
        outcomes.push(max_phase(*cell, number as u64, start + Duration::from_secs(8)));
    }
    let at = run_start + Duration::from_secs(2);
    let detail = "leader 1 to 2, epoch 0 to 1".to_owned();
    outcomes[2].events.push(Event { at, kind: "leader_change", partition: 3, detail, isr_size: None });
    let ceiling = |replication_factor: u16, mode: &str, mb_s: f64| {
        serde_json::json!({
            "replication_factor": replication_factor, "mode": mode, "transport": "quic", "acked_mb_s": mb_s,
            "acked_mib_s": mb_s / 1.048576, "interval_mb_s": [mb_s * 0.9, mb_s * 1.1], "latency_us": {"p50": 121.0, "p99": 310.0},
            "streams": 8, "in_flight": 64,
        })
    };
    let manifest = serde_json::json!({
        "run_id": "made-up", "started_at_utc": "2027-01-15T08:00:00.000Z", "brokers": 3,
        "settings": settings, "environment": environment,
        "ceilings": {"reports": [
            ceiling(1, "throughput", 1900.0), ceiling(2, "throughput", 1150.0), ceiling(3, "throughput", 720.0),
            ceiling(1, "ping-pong", 8.0), ceiling(2, "ping-pong", 8.0), ceiling(3, "ping-pong", 8.0),
        ], "missing": null},
    });
    let temporary = tempfile::tempdir().unwrap();
    let directory = match std::env::var_os("MINISR_KEEP_REPORT") {
        Some(kept) => PathBuf::from(kept),
        None => temporary.path().join("made-up"),
    };
    report::write_run(&directory, &facts, &manifest, run_start, &outcomes).unwrap();
    (temporary, directory)
}

#[test]
fn report_of_a_run_has_every_file_and_every_cell() {
    let (_kept, directory) = made_up_run();
    for name in ["manifest.json", "summary.csv", "intervals.csv", "events.csv", "latency.hlog", "report.html"] {
        assert!(directory.join(name).is_file(), "{name} is missing");
    }
    let run = report::files::read(&directory).unwrap();
    assert_eq!(run.cells.len(), 12);
    for files in &run.cells {
        assert_eq!((files.rate.len(), files.max.len()), (1, 1));
        let silent = files.cell.acks == Acks::None;
        assert_eq!(files.rate_number("response_p99_us").is_none(), silent, "acks=0 has no response, the others do");
        assert_eq!(files.rate_number("response_p999_us"), None, "12,000 records are too few for it");
        assert!(files.rate_number("e2e_p99_us").is_some());
        assert!(files.ceiling_ratio(&run.ceilings).unwrap() > 0.1);
        assert_eq!(files.rate[0].text("valid"), Some("true"), "{:?}", files.rate[0].text("invalid_reason"));
        assert_eq!(files.rate_seconds.len(), 12);
        let seconds =
            |column: &str| -> Vec<Option<&str>> { files.rate_seconds.iter().map(|row| row.text(column)).collect() };
        assert!(seconds("leaders").iter().all(|leaders| *leaders == Some("1:6 2:5 3:5")));
        assert_eq!(seconds("high_watermark_lag_records")[..3], [None, Some("7"), None], "blank where nobody looked");
        assert!(seconds("backlog_records").iter().all(Option::is_some));
        assert_eq!(files.round_trips(&run.ceilings).is_none(), silent);
    }
}

#[test]
fn report_page_stands_alone_and_its_markup_is_balanced() {
    let (_kept, directory) = made_up_run();
    let page = std::fs::read_to_string(directory.join("report.html")).unwrap();
    for outside in ["http://", "https://", "<link", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "the page refers to something outside: {outside}");
    }
    for tag in ["svg", "section", "table", "g", "text", "div", "dl", "tr", "td", "style", "script"] {
        let opened = page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "<{tag}> is not closed as often as opened");
    }
    for place in ["NaN", "inf\"", "=\"-inf"] {
        assert!(!page.contains(place), "a number is missing: {place}");
    }
    assert!(page.contains("acks=all RF 3 min ISR 2"));
}

#[test]
fn report_generator_that_was_late_is_excused_only_beside_responses_ten_times_as_long() {
    let settings = Settings::resolve(&SweepArguments::default()).unwrap();
    let cell = Cell { acks: Acks::All, replication_factor: 3, min_insync_replicas: 2 };
    let reasons = |late_ms: u64, response_ms: u64| {
        let window = Window { begin_ns: SECOND_NS, end_ns: 13 * SECOND_NS };
        let mut tally = Tally::new(window);
        for index in 0..12_000u64 {
            let planned_ns = SECOND_NS + index * 1_000_000;
            let sent_ns = planned_ns + late_ms * 1_000_000;
            tally.sent(planned_ns, sent_ns);
            tally.acked(planned_ns, sent_ns, planned_ns + response_ms * 1_000_000);
        }
        tally.counts.scheduled = 12_000;
        outcome(cell, Phase::Rate, tally, 12.0, SystemTime::UNIX_EPOCH).invalid_reasons(&settings)
    };
    assert_eq!(reasons(4, 5), Vec::<String>::new(), "below the limit");
    assert!(reasons(8, 50)[0].contains("the generator was late"), "{:?}", reasons(8, 50));
    assert_eq!(reasons(8, 100), Vec::<String>::new());
}
