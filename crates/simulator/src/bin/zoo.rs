//! `minisr-zoo`: plants historical bugs one at a time and reports how soon the simulator catches each.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use clap::Parser;
use minisr_logic::zoo::Bug;
use minisr_simulator::campaign::{replay, run_once, shrink_seed};
use minisr_simulator::schedule::Schedule;
use minisr_simulator::shrink::STORY_EVENTS;
use minisr_simulator::trace::Keep;
use minisr_simulator::zoo::{Catch, Clean, Mix, Row, Search, clean, csv, search, shrunk, table, with_planted};

/// Plants historical bugs one at a time and reports how soon the simulator catches each, and by which invariant. Then
/// runs the code without any planted bug, which must be silent.
#[derive(Debug, Parser)]
#[command(name = "minisr-zoo", version)]
struct Arguments {
    /// Only these bugs, by number.
    #[arg(long, value_delimiter = ',')]
    bugs: Vec<u16>,
    /// Searches for each bug, each from a starting seed of its own.
    #[arg(long, default_value_t = 5)]
    searches: u64,
    /// Seeds after which a search gives up.
    #[arg(long, default_value_t = 20_000)]
    seeds_max: u64,
    /// Seeds of each mix to run without a planted bug.
    #[arg(long, default_value_t = 20_000)]
    clean_seeds: u64,
    /// The first seed of the first search.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Run this one seed with its trace: of the bug given with --bugs, or of the clean code with --mix.
    #[arg(long)]
    seed: Option<u64>,
    /// The mix of --seed on the clean code.
    #[arg(long, requires = "seed", value_parser = Mix::named)]
    mix: Option<Mix>,
    /// Shrink --seed to a short scenario in place of printing its trace.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Where to write the table as CSV.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Directory for the shortest schedule found that shows each bug, as a scenario.
    #[arg(long)]
    stories: Option<PathBuf>,
}

/// Seeds between the starts of two searches.
const STRIDE: u64 = 1_000_000;

enum Task {
    Search(Bug, u64),
    Clean(Mix, u64, u64),
}

enum Done {
    Search(Bug, Search),
    Clean(Clean),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let bugs: Vec<Bug> = Bug::ALL
        .into_iter()
        .filter(|bug| arguments.bugs.is_empty() || arguments.bugs.contains(&bug.about().number))
        .collect();
    if let Some(seed) = arguments.seed {
        return one_seed(seed, &bugs, &arguments);
    }
    let began = Instant::now();
    let done = work(&tasks(&arguments, &bugs), arguments.seeds_max);
    let mut rows: Vec<Row> = bugs.into_iter().map(|bug| Row { bug, searches: Vec::new(), shrunk: None }).collect();
    let mut alarms = Vec::new();
    for it in done {
        match it {
            Done::Search(bug, search) => {
                rows.iter_mut().filter(|row| row.bug == bug).for_each(|row| row.searches.push(search.clone()));
            }
            Done::Clean(clean) => alarms.extend(clean.alarm.map(|alarm| (clean.mix, alarm))),
        }
    }
    let stories = stories(&rows);
    for (row, story) in rows.iter_mut().zip(stories) {
        row.shrunk = story.as_ref().map(Schedule::len);
        if let (Some(directory), Some(story)) = (&arguments.stories, story)
            && let Err(error) = write_story(directory, row.bug, &story)
        {
            eprintln!("cannot write a story to {}: {error}", directory.display());
            return ExitCode::FAILURE;
        }
    }
    print!("{}", table(&rows));
    if let Some(out) = &arguments.out
        && let Err(error) = write_table(out, &rows)
    {
        eprintln!("cannot write {}: {error}", out.display());
        return ExitCode::FAILURE;
    }
    verdict(&arguments, &rows, &alarms, began)
}

fn write_table(out: &Path, rows: &[Row]) -> std::io::Result<()> {
    if let Some(directory) = out.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(out, csv(rows))
}

fn write_story(directory: &Path, bug: Bug, story: &Schedule) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let about = bug.about();
    let text = format!("# {} {}: {}\n{story}", about.number, about.name, about.source);
    std::fs::write(directory.join(format!("{}-{}.scenario", about.number, about.name)), text)
}

fn one_seed(seed: u64, bugs: &[Bug], arguments: &Arguments) -> ExitCode {
    let bug = bugs.first().copied().filter(|_| arguments.mix.is_none());
    let mix = arguments.mix.or(bug.map(Mix::of)).unwrap_or(Mix::Swarm);
    if arguments.shrink {
        let Some(story) = with_planted(bug, || shrink_seed(&mix.plan(seed), false)) else {
            println!("seed {seed} of mix {}: every invariant kept", mix.name());
            return ExitCode::SUCCESS;
        };
        let violation = with_planted(bug, || replay(&story, Keep::Tail)).violation;
        let violation = violation.map_or_else(String::new, |it| it.to_string());
        println!("# seed {seed} of mix {}, shrunk to {} events\n# {violation}\n{story}", mix.name(), story.len());
        return ExitCode::SUCCESS;
    }
    let outcome = with_planted(bug, || run_once(&mix.plan(seed), false, Keep::Print));
    match outcome.violation {
        None => println!("seed {seed} of mix {}: every invariant kept", mix.name()),
        Some(violation) => println!("seed {seed} of mix {}: {violation}", mix.name()),
    }
    ExitCode::SUCCESS
}

fn tasks(arguments: &Arguments, bugs: &[Bug]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for bug in bugs {
        tasks.extend((0..arguments.searches).map(|at| Task::Search(*bug, arguments.start + at * STRIDE)));
    }
    // In pieces, so that all threads are busy to the end.
    for mix in Mix::ALL {
        let mut from = 0;
        while from < arguments.clean_seeds {
            let seeds = (arguments.clean_seeds - from).min(500);
            tasks.push(Task::Clean(mix, arguments.start + from, seeds));
            from += seeds;
        }
    }
    tasks
}

/// Works the tasks off on all cores.
fn work(tasks: &[Task], seeds_max: u64) -> Vec<Done> {
    on_all_cores(tasks, |task| match task {
        Task::Search(bug, start) => {
            let search = search(*bug, *start, seeds_max);
            let how = search
                .catch
                .as_ref()
                .map_or("not caught".to_owned(), |it| format!("{} at {}: {}", it.by, it.seed, it.what));
            eprintln!("{} {}: {} seeds, {how}", bug.about().number, bug.about().name, search.seeds);
            Done::Search(*bug, search)
        }
        Task::Clean(mix, start, seeds) => {
            let clean = clean(*mix, *start, *seeds);
            if let Some(alarm) = &clean.alarm {
                eprintln!("the clean code, mix {}: {} at {}: {}", mix.name(), alarm.by, alarm.seed, alarm.what);
            }
            Done::Clean(clean)
        }
    })
}

/// The shortest schedule found for each row. One search's catch is shrunk after the other until one has become a story.
fn stories(rows: &[Row]) -> Vec<Option<Schedule>> {
    on_all_cores(rows, |row| {
        let mut shortest: Option<Schedule> = None;
        for seed in row.seeds() {
            if shortest.as_ref().is_some_and(|it| it.len() <= STORY_EVENTS) {
                break;
            }
            let story = shrunk(row.bug, seed);
            shortest = shortest.into_iter().chain(story).min_by_key(Schedule::len);
        }
        shortest
    })
}

/// Does something with each item, on all cores; the results are in the order of the items.
fn on_all_cores<I: Sync, O: Send>(items: &[I], each: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let run = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            let done = each(item);
            results.lock().expect("no thread panics here").push((index, done));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(run))));
    let mut results = results.into_inner().expect("no thread panics here");
    results.sort_by_key(|it| it.0);
    results.into_iter().map(|it| it.1).collect()
}

fn verdict(arguments: &Arguments, rows: &[Row], alarms: &[(Mix, Catch)], began: Instant) -> ExitCode {
    let missed: Vec<&str> =
        rows.iter().filter(|row| row.seeds_median().is_none()).map(|row| row.bug.about().name).collect();
    let took = began.elapsed().as_secs();
    let caught = rows.len() - missed.len();
    println!("{caught} of {} planted bugs caught in every search, {} s", rows.len(), took);
    for (mix, alarm) in alarms {
        println!("FALSE ALARM on the clean code, mix {} seed {}: {}: {}", mix.name(), alarm.seed, alarm.by, alarm.what);
    }
    if alarms.is_empty() {
        println!("the clean code: {} seeds of each of {} mixes, no alarm", arguments.clean_seeds, Mix::ALL.len());
    }
    if !missed.is_empty() {
        println!("not caught in every search: {}", missed.join(", "));
    }
    if missed.is_empty() && alarms.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}
