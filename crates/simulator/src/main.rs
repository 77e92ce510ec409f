//! `minisr-sim`: runs seeded clusters in virtual time and checks every invariant after every step.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use minisr_simulator::campaign::{Failure, Summary, run_once, run_seeds, run_twice};
use minisr_simulator::invariants::Invariants;
use minisr_simulator::plan::Plan;
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
    /// Print what happens, line by line (with --seed).
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Number of brokers in place of what the seed says.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=9))]
    brokers: Option<i32>,
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
        if let Some(brokers) = arguments.brokers {
            plan.brokers = brokers;
            plan.replication_factor = plan.replication_factor.min(i16::try_from(brokers).expect("at most 9"));
        }
    };
    if arguments.canary {
        return canary(&arguments, adjust);
    }
    match arguments.seed {
        Some(seed) => one_seed(seed, arguments.trace, adjust),
        None => many_seeds(&arguments, adjust),
    }
}

fn one_seed(seed: u64, trace: bool, adjust: impl Fn(&mut Plan)) -> ExitCode {
    let mut plan = Plan::draw(seed);
    adjust(&mut plan);
    let result = if trace { run_once(&plan, false, Keep::Print) } else { run_twice(&plan, false) };
    match result {
        Ok(outcome) => match outcome.violation {
            None => {
                let mut summary = Summary::default();
                summary.add(&outcome);
                print_summary(&summary, None);
                ExitCode::SUCCESS
            }
            Some(violation) => {
                eprintln!("seed {seed}: {violation}");
                ExitCode::from(2)
            }
        },
        Err(failure) => {
            report(&failure);
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
    let (summary, failure) = run_seeds(seeds, adjust, |done| bar.set_position(done));
    bar.finish_and_clear();
    print_summary(&summary, Some(began));
    if let Some(failure) = failure {
        report(&failure);
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
        match run_once(&plan, true, Keep::Tail) {
            Ok(outcome) if outcome.violation.is_none() => {}
            Ok(outcome) => {
                let violation = outcome.violation.expect("just seen");
                println!("the alarm rings: seed {seed}: {violation}");
                return ExitCode::SUCCESS;
            }
            Err(failure) => {
                report(&failure);
                return ExitCode::from(2);
            }
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

fn report(failure: &Failure) {
    for line in &failure.tail {
        eprintln!("{line}");
    }
    eprintln!("seed {}: {}", failure.seed, failure.what);
    eprintln!("replay: just sim-replay {} (minisr-sim --seed {} --trace)", failure.seed, failure.seed);
}
