//! Some seeds of every day, and the proof that the alarm rings.

use minisr_simulator::campaign::{Summary, run_once, run_seeds, run_twice};
use minisr_simulator::plan::Plan;
use minisr_simulator::trace::Keep;

#[test]
fn fifty_seeds_keep_every_invariant_and_repeat_their_traces() {
    let (summary, failure) = run_seeds(0..50, |_| {}, |_| {});
    if let Some(failure) = failure {
        panic!("seed {}: {}\n{}", failure.seed, failure.what, failure.tail.join("\n"));
    }
    assert_eq!(summary.seeds, 50);
    for what in ["acked-all", "elections", "isr-changes", "truncations", "tails-lost", "pauses-outlived"] {
        assert!(summary.counts.get(what).is_some_and(|count| *count > 0), "{what} never happened: {summary:?}");
    }
}

#[test]
fn planted_violation_is_reported() {
    let rang = (0..20).any(|seed| {
        let outcome = run_once(&Plan::draw(seed), true, Keep::Tail).expect("no panic");
        outcome.violation.is_some()
    });
    assert!(rang, "a planted violation went unnoticed in 20 seeds");
}

#[test]
fn trace_of_a_seed_repeats_line_by_line() {
    let lines = || run_once(&Plan::draw(3), false, Keep::All).expect("no panic").lines;
    let (first, second) = (lines(), lines());
    assert!(first.len() > 100);
    assert_eq!(first, second);
}

#[test]
fn a_campaign_in_which_nothing_happens_is_not_green() {
    let idle = Summary { seeds: 100, ..Summary::default() };
    assert!(idle.never_happened().contains(&"elections"));
    assert!(idle.never_happened().contains(&"power-loss"));
}

#[test]
fn calm_cluster_elects_once_and_loses_nothing() {
    let mut plan = Plan::draw(7);
    plan.weights = [0; 11];
    (plan.loss_permille, plan.duplicate_permille, plan.slow_permille, plan.proposal_loss_permille) = (0, 0, 0, 0);
    let outcome = run_twice(&plan, false).expect("green");
    assert_eq!(outcome.counts.get("elections"), None, "{:?}", outcome.counts);
    assert_eq!(outcome.counts.get("truncations"), None, "{:?}", outcome.counts);
    assert!(outcome.counts["acked-all"] > 0);
}
