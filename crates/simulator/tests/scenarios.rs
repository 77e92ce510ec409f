//! Every story under `scenarios/` is run again, and must not go wrong.

use std::path::{Path, PathBuf};

use minisr_simulator::campaign::replay;
use minisr_simulator::schedule::Schedule;
use minisr_simulator::trace::Keep;

fn stories() -> Vec<(PathBuf, Schedule)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(&folder).expect("the folder of scenarios").map(|it| it.expect("an entry").path());
    let mut files: Vec<PathBuf> = files.filter(|it| it.extension().is_some_and(|it| it == "scenario")).collect();
    files.sort();
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).expect("readable");
        let schedule = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (file, schedule)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn every_saved_scenario_keeps_every_invariant() {
    let stories = stories();
    assert!(!stories.is_empty());
    for (file, schedule) in stories {
        let outcome = replay(&schedule, Keep::Tail);
        if let Some(violation) = outcome.violation {
            panic!("{}: {violation}\n{}", file.display(), outcome.tail.join("\n"));
        }
    }
}

#[test]
fn every_event_of_a_saved_scenario_happens() {
    for (file, schedule) in stories() {
        let happened = replay(&schedule, Keep::Tail).events.len();
        assert_eq!(happened, schedule.len(), "{}", file.display());
    }
}
