//! `minisr-durability`: measures the durability table with the simulator and with real processes, and writes it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{fs, io};

use clap::{Parser, Subcommand};
use minisr_simulator::durability::table::{Row, put, to_csv, to_markdown};
use minisr_simulator::durability::{Acks, Settings, Survives, rows, survives};

/// How many replicas may be lost together, for every replication factor, min.insync.replicas and acks.
#[derive(Debug, Parser)]
#[command(name = "minisr-durability", version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Simulate every row and print the table; changes no file
    Simulate {
        /// Seeds for each choice of victims
        #[arg(long, default_value_t = 10)]
        seeds: u64,
    },
    /// Simulate every row, confirm it with real processes, write the CSV and the table of the README
    Table {
        /// Seeds for each choice of victims
        #[arg(long, default_value_t = 10)]
        seeds: u64,
        /// The program that kills real brokers
        #[arg(long, value_name = "FILE")]
        chaos: PathBuf,
        /// The repository
        #[arg(long, default_value = ".", value_name = "DIRECTORY")]
        repository: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Task::Simulate { seeds } => simulate(seeds),
        Task::Table { seeds, chaos, repository } => table(seeds, &chaos, &repository),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("minisr-durability: {what}");
            ExitCode::from(2)
        }
    }
}

fn simulate(seeds: u64) -> Result<(), String> {
    let measured = rows().map(|settings| Ok(Row { settings, survives: survives(settings, seeds)?, process_rounds: 0 }));
    print!("{}", to_markdown(&measured.collect::<Result<Vec<_>, String>>()?));
    Ok(())
}

fn table(seeds: u64, chaos: &Path, repository: &Path) -> Result<(), String> {
    let mut measured = Vec::new();
    for settings in rows() {
        let survives = survives(settings, seeds)?;
        let mut process_rounds = 0;
        for trial in trials(settings, &survives) {
            process_rounds += trial.confirm(settings, chaos)?;
        }
        measured.push(Row { settings, survives, process_rounds });
    }
    let failed = |error: io::Error| error.to_string();
    let results = repository.join("results/durability");
    fs::create_dir_all(&results).map_err(failed)?;
    fs::write(results.join("table.csv"), to_csv(&measured)).map_err(failed)?;
    let readme = repository.join("README.md");
    let text = put(&fs::read_to_string(&readme).map_err(failed)?, &to_markdown(&measured))?;
    fs::write(readme, text).map_err(failed)
}

/// One command with real processes, and what must come out of it.
#[derive(Debug)]
struct Trial {
    losses: i32,
    loss: &'static str,
    in_sync: &'static str,
    choices: i32,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    /// Writing goes on, and with acks=all nothing is lost.
    WritingGoesOn,
    WritingStops,
    NothingLost,
    SomethingLost,
}

/// What tells this row from its neighbours: the most losses it survives, and one more. The loss of every copy, after
/// which nothing comes back, is left to the simulator.
fn trials(settings: Settings, survives: &Survives) -> Vec<Trial> {
    let Settings { replication_factor: replicas, min_insync_replicas: min_isr, .. } = settings;
    let trial = |losses, loss, in_sync, choices, expected| Trial { losses, loss, in_sync, choices, expected };
    let mut trials = Vec::new();
    if survives.writing > 0 {
        trials.push(trial(survives.writing, "kill", "full", 2, Expected::WritingGoesOn));
    }
    if survives.writing < replicas {
        trials.push(trial(survives.writing + 1, "kill", "full", 1, Expected::WritingStops));
    }
    if survives.data_wiped > 0 {
        trials.push(trial(survives.data_wiped, "wipe", "full", 2, Expected::NothingLost));
    } else if replicas > 1 {
        // One of the choices is the leader.
        trials.push(trial(1, "wipe", "full", replicas, Expected::SomethingLost));
    }
    if survives.data_wiped_minimal > 0 && min_isr < replicas {
        trials.push(trial(survives.data_wiped_minimal, "wipe", "minimal", 2, Expected::NothingLost));
    }
    trials
}

impl Trial {
    /// Runs it; the number of rounds, or in what it differs.
    fn confirm(&self, settings: Settings, chaos: &Path) -> Result<u64, String> {
        let Settings { replication_factor, min_insync_replicas, acks } = settings;
        let mut command = Command::new(chaos);
        command
            .args(["durability", "--json", "--observe", "2"])
            .args(["--replication-factor", &replication_factor.to_string()])
            .args(["--min-insync-replicas", &min_insync_replicas.to_string()])
            .args(["--acks", &acks.to_string()])
            .args(["--losses", &self.losses.to_string()])
            .args(["--choices-max", &self.choices.to_string()])
            .args(["--loss", self.loss, "--in-sync", self.in_sync])
            .stderr(Stdio::inherit());
        let output = command.output().map_err(|error| format!("{}: {error}", chaos.display()))?;
        let verdict: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("{settings:?}, {self:?}: no verdict ({error}), {}", output.status))?;
        let is = |name: &str| verdict[name].as_bool().ok_or_else(|| format!("the verdict does not say {name}"));
        let lost = verdict["committed_lost"].as_u64().ok_or("the verdict does not say what was lost")?;
        let rounds = verdict["rounds"].as_array().map_or(0, Vec::len) as u64;
        let agrees = match self.expected {
            Expected::WritingGoesOn => is("writes_survive")? && (acks != Acks::All || lost == 0),
            Expected::WritingStops => !is("writes_survive")? && (acks != Acks::All || lost == 0),
            Expected::NothingLost => lost == 0 && is("healed")?,
            Expected::SomethingLost => lost > 0,
        };
        if !agrees || rounds == 0 {
            return Err(format!("{settings:?}, {self:?}: processes disagree with the simulator: {verdict}"));
        }
        Ok(rounds)
    }
}
