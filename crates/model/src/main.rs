//! `minisr-model`: tries everything that may happen to a small cluster, within bounds.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use minisr_model::bounds::{Bounds, Doctored, Victims};
use minisr_model::report::{Limits, check};

/// Tries everything that may happen to three replicas within bounds, with the broker's own replication code, and
/// checks every state. Exit code 2: an invariant was violated, or something that should happen never did.
#[derive(Debug, Parser)]
#[command(name = "minisr-model", version)]
struct Arguments {
    /// Bounds to begin with: small, isr, deposed, power, failover; `all` for each of them, one after the other.
    #[arg(long, default_value = "small")]
    preset: String,
    /// min.insync.replicas.
    #[arg(long)]
    min_insync_replicas: Option<i32>,
    /// Records produced, acks=all.
    #[arg(long)]
    records: Option<u8>,
    /// Processes killed.
    #[arg(long)]
    kills: Option<u8>,
    /// Machines that lose power.
    #[arg(long)]
    power_losses: Option<u8>,
    /// Brokers fenced, which elects another leader if they lead.
    #[arg(long)]
    fencings: Option<u8>,
    /// Times that a leader sees the lag time pass.
    #[arg(long)]
    lags: Option<u8>,
    /// ISR proposals, or answers to them, that are lost.
    #[arg(long)]
    losses: Option<u8>,
    /// Which brokers may be killed, lose power or be fenced.
    #[arg(long, value_enum)]
    victims: Option<Victims>,
    /// Count only flushed data (log.flush.policy=commit).
    #[arg(long)]
    flush_commit: bool,
    /// Plant a bug: exit code 0 if it is found, 2 if not.
    #[arg(long, value_enum)]
    doctored: Option<Doctored>,
    /// Stop after about this many transitions.
    #[arg(long)]
    max: Option<usize>,
    /// Threads (default: one for each core).
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let presets: Vec<(&str, Bounds)> = match arguments.preset.as_str() {
        "all" => Bounds::PRESETS.to_vec(),
        name => match Bounds::preset(name) {
            Some(bounds) => vec![(name, bounds)],
            None => {
                let known: Vec<&str> = Bounds::PRESETS.iter().map(|(name, _)| *name).collect();
                eprintln!("minisr-model: no preset {name:?}; there are {} and all", known.join(", "));
                return ExitCode::from(1);
            }
        },
    };
    let mut all_fine = true;
    for (name, preset) in presets {
        let bounds = arguments.adjusted(preset);
        if let Err(what) = bounds.check() {
            eprintln!("minisr-model: {what}");
            return ExitCode::from(1);
        }
        all_fine &= run(name, bounds, &arguments);
    }
    ExitCode::from(if all_fine { 0 } else { 2 })
}

impl Arguments {
    fn adjusted(&self, preset: Bounds) -> Bounds {
        Bounds {
            min_insync_replicas: self.min_insync_replicas.unwrap_or(preset.min_insync_replicas),
            records: self.records.unwrap_or(preset.records),
            kills: self.kills.unwrap_or(preset.kills),
            power_losses: self.power_losses.unwrap_or(preset.power_losses),
            fencings: self.fencings.unwrap_or(preset.fencings),
            lags: self.lags.unwrap_or(preset.lags),
            losses: self.losses.unwrap_or(preset.losses),
            victims: self.victims.unwrap_or(preset.victims),
            flush_commit: self.flush_commit || preset.flush_commit,
            doctored: self.doctored,
        }
    }
}

/// Runs one check and prints what it found; whether that was as it should be.
fn run(name: &str, bounds: Bounds, arguments: &Arguments) -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let limits = Limits { threads: arguments.threads.unwrap_or(cores), transitions_max: arguments.max };
    let on_terminal = std::io::stderr().is_terminal();
    let report = check(bounds, limits, |states, depth| {
        if on_terminal {
            eprint!("\r{name}: {states} states, depth {depth}  ");
        }
    });
    if on_terminal {
        eprint!("\r\x1b[K");
    }
    // Nobody reads on: nothing to tell.
    let _ = write!(std::io::stdout(), "{name}: {report}");
    if bounds.doctored.is_some() { !report.violated.is_empty() } else { report.is_fine() }
}
