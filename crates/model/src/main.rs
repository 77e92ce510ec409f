//! `minisr-model`: tries everything that may happen to a small cluster, within bounds.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use minisr_model::bounds::{Bounds, Doctored, Victims};
use minisr_model::report::{Limits, check};

/// Tries everything that may happen to three replicas within the given bounds, with the broker's own replication
/// code, and checks every state. Exit code 2: an invariant was violated, or something that should happen never did.
#[derive(Debug, Parser)]
#[command(name = "minisr-model", version)]
struct Arguments {
    /// min.insync.replicas.
    #[arg(long, default_value_t = Bounds::SMALL.min_insync_replicas)]
    min_insync_replicas: i32,
    /// Records produced, acks=all.
    #[arg(long, default_value_t = Bounds::SMALL.records)]
    records: u8,
    /// Processes killed.
    #[arg(long, default_value_t = Bounds::SMALL.kills)]
    kills: u8,
    /// Machines that lose power.
    #[arg(long, default_value_t = Bounds::SMALL.power_losses)]
    power_losses: u8,
    /// Brokers fenced, which elects another leader if they lead.
    #[arg(long, default_value_t = Bounds::SMALL.fencings)]
    fencings: u8,
    /// Times that a leader sees the lag time pass.
    #[arg(long, default_value_t = Bounds::SMALL.lags)]
    lags: u8,
    /// ISR proposals, or answers to them, that are lost.
    #[arg(long, default_value_t = Bounds::SMALL.losses)]
    losses: u8,
    /// Which brokers may be killed, lose power or be fenced.
    #[arg(long, value_enum, default_value = "any")]
    victims: Victims,
    /// Count only flushed data (log.flush.policy=commit).
    #[arg(long)]
    flush_commit: bool,
    /// Plant a bug: exit code 0 if it is found, 2 if not.
    #[arg(long, value_enum)]
    doctored: Option<Doctored>,
    /// Stop after about this many transitions.
    #[arg(long)]
    max: Option<usize>,
    /// Threads (default: one for each core); with one, ways to a violation are the shortest.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let bounds = Bounds {
        min_insync_replicas: arguments.min_insync_replicas,
        records: arguments.records,
        kills: arguments.kills,
        power_losses: arguments.power_losses,
        fencings: arguments.fencings,
        lags: arguments.lags,
        losses: arguments.losses,
        victims: arguments.victims,
        flush_commit: arguments.flush_commit,
        doctored: arguments.doctored,
    };
    if let Err(what) = bounds.check() {
        eprintln!("minisr-model: {what}");
        return ExitCode::from(1);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let limits = Limits { threads: arguments.threads.unwrap_or(cores), states_max: arguments.max };
    let on_terminal = std::io::stderr().is_terminal();
    let report = check(bounds, limits, |states, depth| {
        if on_terminal {
            eprint!("\r{states} states, depth {depth}  ");
        }
    });
    if on_terminal {
        eprintln!();
    }
    print!("{report}");
    let found = !report.violated.is_empty();
    let as_wanted = if bounds.doctored.is_some() { found } else { report.is_fine() };
    ExitCode::from(if as_wanted { 0 } else { 2 })
}
