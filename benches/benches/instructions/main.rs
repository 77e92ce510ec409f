//! Instructions of the hot functions, counted by Valgrind's callgrind and compared with `instructions.csv`.
//!
//! Run as it is, it starts itself under callgrind once for each function (`--only`), so that no function's count
//! depends on another's. Each run prepares its state uncounted, warms up, and counts [`rounds::COUNTED`] calls.
//!
//! Exit codes: 0 fine, 2 worse than committed, 1 nothing could be compared.

mod client;
mod leader;
mod log;
mod rounds;
mod shard;
mod wire;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Parser;
use minisr_benches::gate::callgrind::{self, cpu};
use minisr_benches::gate::compare::{Comparison, Tolerance};
use minisr_benches::gate::conclude;
use minisr_benches::gate::record::{self, Instructions};
use rounds::COUNTED;

/// The committed counts.
const COUNTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.csv");

/// Counts are the same in every run; what this allows is a change elsewhere that moves what the compiler inlines.
const TOLERANCE: Tolerance = Tolerance { share: 0.03, absolute: 0.0 };

/// Everything that is counted, by the name in the table.
const FUNCTIONS: &[(&str, fn())] = &[
    ("batch.check_produce/1KiB", || wire::check_produce_batch(1 << 10)),
    ("batch.check_produce/64KiB", || wire::check_produce_batch(64 << 10)),
    ("batch.stamp/64KiB", wire::stamp_batch),
    ("produce.decode/1x64KiB", || wire::decode_produce(1, 64 << 10)),
    ("produce.decode/16x4KiB", || wire::decode_produce(16, 4 << 10)),
    ("produce.encode/1x64KiB", || wire::encode_produce(1, 64 << 10)),
    ("fetch.encode/1x64KiB", || wire::encode_fetch(1, 64 << 10)),
    ("fetch.encode/16x4KiB", || wire::encode_fetch(16, 4 << 10)),
    ("leader.admit", leader::admit),
    ("leader.written", leader::written),
    ("leader.follower_fetched", leader::follower_fetched),
    ("log.append/64KiB", log::append),
    ("log.read_tail/64KiB", log::read_tail),
    ("log.read_disk/64KiB", log::read_disk),
    ("shard.append/64KiB", shard::append),
    ("shard.follower_fetch", shard::follower_fetch),
    ("client.append/64x1000B", || client::append(1000, 64)),
    ("client.append/64x100B", || client::append(100, 64)),
];

#[derive(Parser)]
#[command(about = "Instructions of the hot functions, compared with the committed counts")]
struct Options {
    /// Commit the counts of this run: write them into instructions.csv
    #[arg(long)]
    bless: bool,
    /// Run this function and nothing else, as under callgrind
    #[arg(long, hide = true)]
    only: Option<String>,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    match options.only {
        Some(function) => {
            let named = FUNCTIONS.iter().find(|(name, _)| *name == function);
            let (_, run) = named.with_context(|| format!("no function is called {function}"))?;
            // The CPU that the code sees, which is not the one of the process that compares.
            println!("{}", cpu());
            run();
            Ok(ExitCode::SUCCESS)
        }
        None => gate(options.bless),
    }
}

fn gate(bless: bool) -> anyhow::Result<ExitCode> {
    let counted = count_all()?;
    let path = Path::new(COUNTS);
    let committed: Vec<Instructions> = if bless && !path.exists() { Vec::new() } else { record::load(path)? };
    let cpu = &counted[0].cpu;
    let (of_this_cpu, of_others): (Vec<_>, Vec<_>) = committed.into_iter().partition(|row| row.cpu == *cpu);
    if bless {
        let rows: Vec<_> = of_others.into_iter().chain(counted.iter().cloned()).collect();
        record::save(path, &rows)?;
        println!("{} counts written to {COUNTS}", counted.len());
        return Ok(ExitCode::SUCCESS);
    }
    compare(&of_this_cpu, &counted)
}

fn count_all() -> anyhow::Result<Vec<Instructions>> {
    let rustc = first_line(Command::new("rustc").arg("--version"))?;
    let rustc = rustc.split(' ').nth(1).unwrap_or(&rustc).to_owned();
    let libc = first_line(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    let directory = tempfile::tempdir()?;
    let per_call = |count: u64| (count as f64 / f64::from(COUNTED) * 100.0).round() / 100.0;
    let count = |&(function, _): &(&str, fn())| -> anyhow::Result<Instructions> {
        let profile = callgrind::run(directory.path(), function)?;
        Ok(Instructions {
            function: function.to_owned(),
            cpu: profile.stdout.lines().next().context("the function did not name its CPU")?.to_owned(),
            rustc: rustc.clone(),
            libc: libc.clone(),
            instructions: per_call(profile.program),
            elsewhere: per_call(profile.elsewhere),
        })
    };
    FUNCTIONS.iter().map(count).collect()
}

fn first_line(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().next().with_context(|| format!("{command:?} prints nothing"))?.to_owned())
}

fn compare(committed: &[Instructions], counted: &[Instructions]) -> anyhow::Result<ExitCode> {
    let Some(before) = committed.first() else {
        bail!(
            "no counts are committed for {}: write them with `just bench-gate --bless` and commit them",
            counted[0].cpu
        );
    };
    let now = &counted[0];
    if before.rustc != now.rustc {
        bail!(
            "the committed counts are of rustc {}, this is {}: write them anew with `just bench-gate --bless`",
            before.rustc,
            now.rustc
        );
    }
    let by_name = |rows: &[Instructions], count: fn(&Instructions) -> f64| -> BTreeMap<String, f64> {
        rows.iter().map(|row| (row.function.clone(), count(row))).collect()
    };
    let of = |title: &str, count: fn(&Instructions) -> f64| {
        Comparison::new(title, &by_name(committed, count), &by_name(counted, count), TOLERANCE)
    };
    let mut tables = vec![of("instructions per call", |row| row.instructions)];
    if before.libc == now.libc {
        tables.push(of("the same in libraries", |row| row.elsewhere));
    } else {
        println!("Instructions in libraries are not compared: {} here, {} committed.\n", now.libc, before.libc);
    }
    println!("{} on {}", now.rustc, now.cpu);
    Ok(conclude(&tables))
}
