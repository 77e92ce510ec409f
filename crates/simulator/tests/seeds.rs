//! Some seeds of every day, and the proof that the alarm rings.

use minisr_simulator::campaign::{Summary, record, replay, run_once, run_seeds, run_twice, shrink_seed};
use minisr_simulator::plan::{Plan, Rates};
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

/// Only what an unclean election may lose is excused, and only in its partition; all other invariants hold.
#[test]
fn unclean_elections_on_request_break_nothing_else() {
    let ask = |plan: &mut Plan| {
        plan.rates.weights.insert("unclean-election", 10);
    };
    let (summary, failure) = run_seeds(0..30, ask, |_| {});
    if let Some(failure) = failure {
        panic!("seed {}: {}\n{}", failure.seed, failure.what, failure.tail.join("\n"));
    }
    for what in ["unclean-election", "unclean-leaders"] {
        assert!(summary.counts.get(what).is_some_and(|count| *count > 0), "{what} never happened: {summary:?}");
    }
}

#[test]
fn planted_violation_is_reported() {
    let rang = (0..20).any(|seed| run_once(&Plan::draw(seed), true, Keep::Tail).violation.is_some());
    assert!(rang, "a planted violation went unnoticed in 20 seeds");
}

#[test]
fn trace_of_a_seed_repeats_line_by_line() {
    let lines = || run_once(&Plan::draw(3), false, Keep::All).lines;
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
    plan.rates = Rates { produce_pause_ms: 50, fault_pause_ms: 1_000, ..Rates::default() };
    let outcome = run_twice(&plan, false).expect("green");
    assert_eq!(outcome.counts.get("elections"), None, "{:?}", outcome.counts);
    assert_eq!(outcome.counts.get("truncations"), None, "{:?}", outcome.counts);
    assert!(outcome.counts["acked-all"] > 0);
}

#[test]
fn replay_of_a_recorded_schedule_leaves_the_same_trace() {
    for seed in 0..10 {
        let plan = Plan::draw(seed);
        let (schedule, outcome) = record(&plan, false);
        assert!(schedule.len() > 10, "seed {seed} has {} events", schedule.len());
        let again = replay(&schedule, Keep::Tail);
        assert_eq!(again.trace_hash, outcome.trace_hash, "seed {seed}");
        // As text it is another plan (rates are not written), and the same run.
        let text = schedule.to_string();
        let read = text.parse().expect("what is printed can be read");
        assert_eq!(replay(&read, Keep::All).lines[1..], replay(&schedule, Keep::All).lines[1..], "seed {seed}");
    }
}

#[test]
fn planted_violation_is_shrunk_to_a_short_story() {
    let story = shrink_seed(&Plan::draw(3), true).expect("the canary is heard");
    assert!(story.len() <= 3, "{story}");
    let read = story.to_string().parse().expect("what is printed can be read");
    assert!(replay(&read, Keep::Tail).violation.is_some(), "{story}");
}
