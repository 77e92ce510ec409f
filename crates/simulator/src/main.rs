//! `minisr-sim`: runs seeded clusters in virtual time and checks every invariant after every step.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use minisr_simulator::campaign::{Failure, Summary, replay, run_once, run_seeds, run_twice, shrink_seed};
use minisr_simulator::invariants::Invariants;
use minisr_simulator::plan::Plan;
use minisr_simulator::schedule::Schedule;
use minisr_simulator::trace::Keep;

/// Runs clusters of the broker's own replication code in virtual time, each from a seed, with faults, and checks
/// every invariant after every step. Each seed runs twice and must leave the same trace.
#[derive(Debug, Parser)]
#[command(name = "minisr-sim", version)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Run this one seed only.
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
    /// Print what happens, line by line (with --seed or --scenario).
    #[arg(long)]
    trace: bool,
    /// Run the scenario in this file.
    #[arg(long, conflicts_with_all = ["seeds", "start", "seed"])]
    scenario: Option<PathBuf>,
    /// Do not shrink a failing seed to a short scenario.
    #[arg(long)]
    no_shrink: bool,
    /// Number of brokers in place of what the seed says.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=9))]
    brokers: Option<i32>,
    /// Let operators ask for unclean elections too; what these may lose is excused.
    #[arg(long)]
    unclean: bool,
    /// Plant a violation that must be reported: exit code 0 if it was, 2 if the alarm did not ring.
    #[arg(long)]
    canary: bool,
    /// List the invariants that are checked.
    #[arg(long)]
    list_invariants: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list_invariants {
        for (number, name) in Invariants::default().names() {
            println!("{number:>3} {name}");
        }
        return ExitCode::SUCCESS;
    }
    let adjust = |plan: &mut Plan| {
        if arguments.unclean {
            plan.rates.weights.insert("unclean-election", 10);
        }
        if let Some(brokers) = arguments.brokers {
            plan.brokers = brokers;
            plan.replication_factor = plan.replication_factor.min(i16::try_from(brokers).expect("at most 9"));
        }
    };
    if let Some(file) = &arguments.scenario {
        return scenario(file, arguments.trace);
    }
    if arguments.canary {
        return canary(&arguments, adjust);
    }
    match arguments.seed {
        Some(seed) => one_seed(seed, &arguments, adjust),
        None => many_seeds(&arguments, adjust),
    }
}

fn one_seed(seed: u64, arguments: &Arguments, adjust: impl Fn(&mut Plan)) -> ExitCode {
    let mut plan = Plan::draw(seed);
    adjust(&mut plan);
    let result = if arguments.trace {
        let outcome = run_once(&plan, false, Keep::Print);
        let failure = |violation: &_| Failure {
            seed,
            what: format!("{violation}"),
            tail: Vec::new(),
            violation: Some(Clone::clone(violation)),
        };
        outcome.violation.as_ref().map(failure).map_or(Ok(()), Err).map(|()| outcome)
    } else {
        run_twice(&plan, false)
    };
    match result {
        Ok(outcome) => {
            let mut summary = Summary::default();
            summary.add(&outcome);
            print_summary(&summary, None);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            report(&failure, &plan, arguments);
            ExitCode::from(2)
        }
    }
}

fn scenario(file: &Path, trace: bool) -> ExitCode {
    let schedule = std::fs::read_to_string(file)
        .map_err(|error| error.to_string())
        .and_then(|text| text.parse::<Schedule>().map_err(|error| error.to_string()));
    let schedule = match schedule {
        Ok(schedule) => schedule,
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    let outcome = replay(&schedule, if trace { Keep::Print } else { Keep::Tail });
    match outcome.violation {
        None => {
            println!("{}: {} events, {} steps, every invariant kept", file.display(), schedule.len(), outcome.steps);
            ExitCode::SUCCESS
        }
        Some(violation) => {
            outcome.tail.iter().filter(|_| !trace).for_each(|line| eprintln!("{line}"));
            eprintln!("{}: {violation}", file.display());
            ExitCode::from(2)
        }
    }
}

fn many_seeds(arguments: &Arguments, adjust: impl Fn(&mut Plan) + Sync) -> ExitCode {
    let seeds = arguments.start..arguments.start.saturating_add(arguments.seeds);
    let began = Instant::now();
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(arguments.seeds) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {eta} left").expect("a valid template");
    bar.set_style(style);
    let (summary, failure) = run_seeds(seeds, &adjust, |done| bar.set_position(done));
    bar.finish_and_clear();
    print_summary(&summary, Some(began));
    if let Some(failure) = failure {
        let mut plan = Plan::draw(failure.seed);
        adjust(&mut plan);
        report(&failure, &plan, arguments);
        return ExitCode::from(2);
    }
    let never = summary.never_happened();
    if !never.is_empty() {
        eprintln!("not green: in {} seeds these never happened: {}", summary.seeds, never.join(", "));
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}

fn canary(arguments: &Arguments, adjust: impl Fn(&mut Plan)) -> ExitCode {
    let first = arguments.seed.unwrap_or(arguments.start);
    for seed in first..first + 20 {
        let mut plan = Plan::draw(seed);
        adjust(&mut plan);
        if let Some(violation) = run_once(&plan, true, Keep::Tail).violation {
            println!("the alarm rings: seed {seed}: {violation}");
            return ExitCode::SUCCESS;
        }
    }
    eprintln!("the alarm did not ring: a planted violation went unnoticed in 20 seeds");
    ExitCode::from(2)
}

fn print_summary(summary: &Summary, began: Option<Instant>) {
    let took = began.map_or(String::new(), |began| format!(" in {:.1} s", began.elapsed().as_secs_f64()));
    let counts: Vec<String> = summary.counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    println!("{} seeds, each twice{took}, {} steps; {}", summary.seeds, summary.steps, counts.join(", "));
}

fn report(failure: &Failure, plan: &Plan, arguments: &Arguments) {
    for line in &failure.tail {
        eprintln!("{line}");
    }
    eprintln!("seed {}: {}", failure.seed, failure.what);
    eprintln!("replay: just sim-replay {} (minisr-sim --seed {} --trace)", failure.seed, failure.seed);
    if failure.violation.is_none() || arguments.no_shrink {
        return;
    }
    eprintln!("shrinking, as long as the same invariant is violated (--no-shrink leaves it)");
    if let Some(story) = shrink_seed(plan, false) {
        let violation = replay(&story, Keep::Tail).violation.map_or_else(String::new, |it| it.to_string());
        println!("# seed {}, shrunk to {} events\n# {violation}\n{story}", failure.seed, story.len());
    }
}
