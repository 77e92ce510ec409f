//! Everything that may happen within small bounds, tried; and planted bugs, found.

use minisr_model::bounds::{Bounds, Doctored};
use minisr_model::report::{Limits, Report, check};

fn tried(bounds: Bounds) -> Report {
    check(bounds, Limits { threads: 2, transitions_max: None }, |_, _| {})
}

fn preset(name: &str) -> Bounds {
    Bounds::preset(name).expect("a preset")
}

#[test]
fn model_leader_killed_and_back_around_one_record_every_state_is_sound() {
    let report = tried(Bounds::SMALL);
    assert!(report.is_fine() && report.exhaustive, "{report}");
    assert!(report.states > 10_000, "too few states to mean anything: {report}");
}

#[test]
fn model_followers_that_hide_their_last_epoch_are_found() {
    let report = tried(Bounds { doctored: Some(Doctored::NoDivergenceCheck), ..preset("deposed") });
    let violated: Vec<&str> = report.violated.iter().map(|(name, _)| *name).collect();
    let expected = ["LogMatching", "StrongIsr", "AckedOnMinIsr", "LeaderCompleteness"];
    assert!(violated.iter().any(|name| expected.contains(name)), "{report}");
}

#[test]
fn model_leader_that_takes_an_unanswered_proposal_for_refused_is_found() {
    let report = tried(Bounds { doctored: Some(Doctored::RevertsUnanswered), ..preset("isr") });
    assert!(report.violated.iter().any(|(name, _)| *name == "StrongIsr"), "{report}");
}

#[test]
fn model_bounds_that_allow_to_lose_every_copy_are_refused() {
    assert!(Bounds { min_insync_replicas: 1, power_losses: 1, ..Bounds::SMALL }.check().is_err());
    assert!(Bounds::PRESETS.iter().all(|(_, bounds)| bounds.check().is_ok()));
}
