//! The whole run: ceilings, cluster, every cell and phase, files, table, verdict.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use minisr_client::{Admin, Client, NewTopic};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use crate::ballast::Ballast;
use crate::ceiling::{self, Ceilings};
use crate::environment::{self, Environment};
use crate::load::{self, Job, Moment};
use crate::offsets;
use crate::outcome::{Outcome, RunFacts};
use crate::peers;
use crate::plan::{Acks, Cell, Phase};
use crate::producer::{Live, Produced};
use crate::progress::Progress;
use crate::report::chart::{digits, time};
use crate::report::files::mib_to_mb;
use crate::report::{self, table};
use crate::settings::Settings;
use crate::tally::{Series, Tally, Window, percentile_ns};
use crate::target::Target;
use crate::usage::Usage;
use crate::verify::Ledger;
use crate::watch;

/// How often the ends of the logs are asked for before they count as not measured.
const LOG_END_ATTEMPTS: u32 = 4;
/// How long a new topic may take until all replicas are in sync.
const TOPIC_READY_LIMIT: Duration = Duration::from_secs(20);
/// How long reading back one phase may take; what is not read then is left unverified, and the row shows it.
const VERIFY_LIMIT: Duration = Duration::from_secs(12);
/// Planned seconds around a phase: topic, drain, reading back, files.
pub(crate) const PHASE_OVERHEAD_S: f64 = 2.0;
/// How long the memory of one phase may take: the whole sweep is to end within minutes.
const WARM_WITHIN: Duration = Duration::from_secs(4);
/// MiB of memory that are taken in a second, as planned; a host that has to give them first is slower.
pub(crate) const WARM_MIB_S: f64 = 3_000.0;

/// One phase of one cell, once.
pub(crate) struct Step {
    pub cell: Cell,
    pub phase: Phase,
    pub repeat: u32,
}

/// Runs the sweep. The exit code: 0 fine, 2 an acknowledged record was lost, 3 a result is invalid.
pub async fn run(settings: Settings, json: bool) -> Result<ExitCode> {
    let run_start = SystemTime::now();
    let run_id = settings.name.clone().unwrap_or_else(|| environment::utc_compact(run_start));
    let directory = settings.output.join(&run_id);
    let environment = Environment::read();
    let steps = steps(&settings);
    let ceiling_runs = if settings.ceiling { ceiling::plan(&settings) } else { Vec::new() };
    let phase_s = |phase: Phase| {
        let window_s = if phase == Phase::Rate { settings.duration_s } else { settings.max_duration_s };
        settings.warmup_s + window_s + PHASE_OVERHEAD_S
    };
    let again: Vec<_> = ceiling_runs.iter().filter(|run| run.again).cloned().collect();
    let ceiling_count = ceiling_runs.len() + again.len();
    let measured_max = steps.iter().filter(|step| step.phase == Phase::Max).count();
    // For the ceilings before, for those after, and for each phase.
    let warmed = if measured_max == 0 { 0 } else { measured_max + 2 };
    let planned_s = ceiling_count as f64 * ceiling::RUN_S
        + steps.iter().map(|step| phase_s(step.phase)).sum::<f64>()
        + warmed as f64 * settings.memory_warm_mib as f64 / WARM_MIB_S;
    let mut progress = Progress::new(ceiling_count + steps.len(), planned_s, json);
    progress.say(&format!(
        "{} cells, about {:.0} minutes; results go to {}",
        settings.cells.len(),
        (planned_s / 60.0).max(1.0),
        directory.display()
    ));
    if !environment.optimised_build {
        progress.say("This is a build without optimisation: its figures say nothing about speed.");
    }

    if let Some(load) = environment.load_average.filter(|load| *load > environment.cpu_count as f64) {
        progress.say(&format!(
            "The machine is busy with other work (load average {load} on {} CPUs): expect noise.",
            environment.cpu_count
        ));
    }

    let mut ballast = match measured_max {
        0 => Ballast::none(),
        _ => Ballast::new(std::env::current_exe()?, settings.memory_warm_mib, WARM_WITHIN),
    };
    warm(&mut ballast, &progress).await;
    let mut ceilings = Ceilings::default();
    measure_ceilings(&settings, &ceiling_runs, &mut ceilings, &mut ballast, &mut progress).await?;
    warm(&mut ballast, &progress).await;
    let target = Target::start(&settings).await?;
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("the directory {} cannot be made", directory.display()))?;
    let warmth = match settings.warm_records {
        0 => None,
        records => Some(peers::warm::warm(&target, std::slice::from_ref(&settings), records, &progress).await?),
    };
    let facts = RunFacts {
        run_id: &run_id,
        settings: &settings,
        environment: &environment,
        brokers: target.brokers,
        // Ordered Kafka connections of the producer: streams over QUIC, sockets over TCP.
        connections: Some(settings.streams * target.brokers),
    };
    let manifest = |ceilings: &Ceilings, ballast: &Ballast| {
        serde_json::json!({
            "schema_version": 1,
            "run_id": run_id,
            "started_at_utc": environment::utc(run_start),
            "argv": arguments(),
            "brokers": facts.brokers,
            "runtime": "current_thread",
            "crypto": (settings.transport == crate::settings::TransportKind::Quic).then_some("ring"),
            "congestion": "cubic",
            "settings": settings,
            "warmth": warmth,
            "environment": environment,
            "ceilings": ceilings,
            "memory_warm": ballast.report(),
        })
    };
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let topic = format!("load-{run_id}-{number}");
        progress.begin(&format!("{} {}", step.cell.title(), step.phase));
        let outcome = run_step(&target, &settings, step, &topic, &mut ballast, &progress).await?;
        progress.end(phase_s(step.phase), &line(&outcome, &ceilings, &settings));
        outcomes.push(outcome);
        report::write_run(&directory, &facts, &manifest(&ceilings, &ballast), run_start, &outcomes)?;
    }
    // The other half of the yardstick is measured without the brokers, as the first was.
    let brokers_ended = target.end().await;
    measure_ceilings(&settings, &again, &mut ceilings, &mut ballast, &mut progress).await?;
    report::write_run(&directory, &facts, &manifest(&ceilings, &ballast), run_start, &outcomes)?;
    progress.finish();
    brokers_ended?;

    let run = report::files::read(&directory)?;
    if json {
        println!(
            "{}",
            serde_json::to_string(&report::csv::to_json(&report::csv::read(&directory.join("summary.csv"))?))?
        );
    } else {
        println!("{}", table::text(&run));
        println!("Report: {}", directory.join("report.html").display());
    }
    let lost: u64 = outcomes.iter().map(Outcome::acked_lost).sum();
    let invalid = outcomes.iter().any(|outcome| !outcome.invalid_reasons(&settings).is_empty());
    Ok(match (lost, invalid) {
        (0, false) => ExitCode::SUCCESS,
        (0, true) => {
            eprintln!("minisr-loadgen: at least one result is invalid; the table says why (exit code 3)");
            ExitCode::from(3)
        }
        (lost, _) => {
            eprintln!("minisr-loadgen: {lost} acknowledged records are lost (exit code 2)");
            ExitCode::from(2)
        }
    })
}

/// Both phases of a cell follow one another. Several repeats are shuffled, so that a slow minute of the machine does
/// not fall on the same cells each time.
fn steps(settings: &Settings) -> Vec<Step> {
    let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
    let mut steps = Vec::new();
    for repeat in 1..=settings.repeats {
        let mut cells = settings.cells.clone();
        if settings.repeats > 1 {
            cells.shuffle(&mut random);
        }
        for cell in cells {
            steps.extend(settings.phases.iter().map(|&phase| Step { cell, phase, repeat }));
        }
    }
    steps
}

/// The command line, with the program's name only: where it stands is nobody's business.
pub(crate) fn arguments() -> Vec<String> {
    let mut arguments: Vec<String> = std::env::args().collect();
    if let Some(program) = arguments.first_mut() {
        *program = PathBuf::from(&*program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    }
    arguments
}

async fn measure_ceilings(
    settings: &Settings,
    runs: &[ceiling::CeilingRun],
    ceilings: &mut Ceilings,
    ballast: &mut Ballast,
    progress: &mut Progress,
) -> Result<()> {
    if !settings.ceiling {
        ceilings.missing = Some(ceiling::LEFT_OUT.to_owned());
        return Ok(());
    }
    let program = match ceiling::find_program() {
        Ok(program) => program,
        Err(error) => {
            let sentence = format!("{error:#}");
            progress.say(&sentence);
            ceilings.missing = Some(sentence);
            return Ok(());
        }
    };
    for run in runs {
        progress.begin(&format!("ceiling {}", run.title));
        match run.throughput {
            true => ballast.release().await?,
            false => warm(ballast, progress).await,
        }
        match ceiling::run(&program, run).await {
            Ok(report) => {
                let result = match report.mode.as_str() {
                    "throughput" => format!("{} MB/s", digits(report.acked_mb_s)),
                    _ => format!("round trip p50 {}", time(report.latency_us.p50 / 1_000.0)),
                };
                progress.end(ceiling::RUN_S, &format!("ceiling {}: {result}", run.title));
                ceilings.reports.push(report);
            }
            Err(error) => {
                let sentence = format!("ceiling {}: {error:#}", run.title);
                progress.end(ceiling::RUN_S, &sentence);
                // One failed run is no reason to doubt the others; which ratios are missing is seen in the table.
                ceilings.missing = Some(sentence);
            }
        }
    }
    Ok(())
}

/// Takes the ballast, if it is not held, and says so when that fails.
pub(crate) async fn warm(ballast: &mut Ballast, progress: &Progress) {
    if let Some(sentence) = ballast.take().await {
        progress.say(&sentence);
    }
}

/// Makes a topic, runs the phase on it, reads it back, removes the topic.
pub(crate) async fn run_step(
    target: &Target,
    settings: &Settings,
    step: &Step,
    topic: &str,
    ballast: &mut Ballast,
    progress: &Progress,
) -> Result<Outcome> {
    let client = target.client()?;
    let admin = Admin::new(client.clone());
    let partitions = settings.partitions as usize;
    let new = NewTopic::new(topic, settings.partitions as i32, step.cell.replication_factor as i16)
        .with_config("min.insync.replicas", step.cell.min_insync_replicas);
    admin.create_topic(&new).await.with_context(|| format!("the topic of {} was refused", step.cell.title()))?;
    admin
        .wait_until_in_sync(topic, partitions, TOPIC_READY_LIMIT)
        .await
        .with_context(|| format!("the replicas of {} are not all in sync", step.cell.title()))?;
    let job = Job {
        cell: step.cell,
        phase: step.phase,
        topic: topic.to_owned(),
        settings: settings.clone(),
        connector: target.connector(),
        live: Arc::new(Live::default()),
        verify_limit: VERIFY_LIMIT,
    };
    if step.phase == Phase::Max {
        ballast.release().await?;
    }
    let outcome = watch_step(target, &client, settings, step, job, progress).await;
    // The disk space of the next phase.
    if let Err(error) = admin.delete_topic(topic).await {
        progress.say(&format!("the topic of {} stays on disk: {error}", step.cell.title()));
    } else if step.phase == Phase::Max {
        target.wait_until_removed(topic).await;
    }
    warm(ballast, progress).await;
    outcome
}

/// Processes at one end of the window.
struct Marks {
    client: Option<Usage>,
    brokers: Option<Usage>,
}

async fn watch_step(
    target: &Target,
    client: &Client,
    settings: &Settings,
    step: &Step,
    job: Job,
    progress: &Progress,
) -> Result<Outcome> {
    let topic: Arc<str> = job.topic.as_str().into();
    let limit = load::time_limit(settings, step.phase, job.verify_limit);
    let pids = target.broker_pids();
    let mark = || Marks { client: Usage::read(&[std::process::id()]), brokers: Usage::read(&pids) };
    let partitions: Arc<[i32]> = (0..settings.partitions as i32).collect();
    let begun = Instant::now();
    let (mut moments, mut result) = load::start(job);
    // Questions to a saturated cluster may take long. They have tasks of their own, so that nothing here is late.
    let (load_over, load_over_seen) = tokio::sync::watch::channel(false);
    let looks = tokio::spawn(watch::look_until(load_over_seen, client.clone(), topic.clone(), partitions.clone()));
    let ask_log_end =
        |asked: bool| asked.then(|| tokio::spawn(log_end(client.clone(), topic.clone(), partitions.clone())));
    let by_growth = step.cell.acks == Acks::None;

    let mut tick = tokio::time::interval(Duration::from_millis(100));
    // Until the window is known both lie beyond the limit.
    let (mut begin_at, mut end_at) = (begun + limit * 2, begun + limit * 2);
    let (mut begin, mut end) = (None, None);
    let loaded = loop {
        tokio::select! {
            biased;
            loaded = &mut result => break loaded.context("the load thread ended without a result")?,
            () = tokio::time::sleep_until(begin_at.into()), if begin.is_none() => {
                begin = Some((mark(), ask_log_end(by_growth)));
            }
            () = tokio::time::sleep_until(end_at.into()), if end.is_none() && begin.is_some() => {
                end = Some((mark(), ask_log_end(by_growth)));
            }
            Some(moment) = moments.recv() => match moment {
                Moment::Window { begin, end } => (begin_at, end_at) = (begin, end),
                Moment::LoadEnded => {
                    // Reading back loads the brokers as well, but it is no longer what is watched.
                    let _ = load_over.send(true);
                    end_at = end_at.min(Instant::now());
                }
            },
            _ = tick.tick() => progress.within(begun.elapsed().as_secs_f64()),
            () = tokio::time::sleep_until((begun + limit).into()) => {
                break Err(anyhow::anyhow!("the phase took longer than {:.0} seconds and was given up", limit.as_secs_f64()));
            }
        }
    };
    if begin.is_some() && end.is_none() {
        // With nothing to read back the result comes with the end of the window, and may be seen before it.
        end = Some((mark(), ask_log_end(by_growth)));
    }
    let _ = load_over.send(true);
    let watcher = looks.await.context("the watching task failed")?;
    let lag_max = watcher.high_watermark_lags.iter().map(|(_, lag)| *lag).max();
    let (produced, reading, window_begin, broken) = match loaded {
        Ok(loaded) => (loaded.produced, loaded.reading, loaded.window_begin, None),
        Err(error) => (nothing_produced(settings), None, SystemTime::now(), Some(format!("{error:#}"))),
    };
    let (begin, begin_end) = begin.unzip();
    let (end, end_end) = end.unzip();
    let log_growth_records = match (begin_end.flatten(), end_end.flatten()) {
        (Some(begin), Some(end)) => growth(begin.await?, end.await?, produced.measured_s),
        _ => None,
    };
    let used = |pick: fn(&Marks) -> Option<Usage>| Some(pick(end.as_ref()?)?.since(&pick(begin.as_ref()?)?));
    Ok(Outcome {
        cell: step.cell,
        phase: step.phase,
        repeat: step.repeat,
        window_begin,
        produced,
        client: used(|marks| marks.client),
        brokers: used(|marks| marks.brokers),
        events: watcher.events,
        isr_min: watcher.isr_min,
        leaders: watcher.leaders,
        log_growth_records,
        verdict: reading.map(|reading| reading.verdict),
        high_watermark_lag_max_records: lag_max.max(reading.map(|reading| reading.lag)),
        high_watermark_lags: watcher.high_watermark_lags,
        broken,
    })
}

/// The ends of all logs together, and when they were learnt.
type LogEnd = Option<(Instant, i64)>;

async fn log_end(client: Client, topic: Arc<str>, partitions: Arc<[i32]>) -> LogEnd {
    for attempt in 1..=LOG_END_ATTEMPTS {
        let asked_at = Instant::now();
        let ends = offsets::log_ends(&client, &topic, &partitions).await;
        let (after_ms, known) = (asked_at.elapsed().as_millis(), ends.is_some());
        tracing::debug!(attempt, after_ms, known, "asked for the ends of the logs");
        if let Some(ends) = ends {
            return Some((Instant::now(), ends.values().sum()));
        }
        // A leader is not known or did not answer: look for it again.
        let _ = Admin::new(client.clone()).topic(&topic).await;
    }
    None
}

/// Records by which the logs grew in the window. The answers come a little after its ends, under load more than a
/// little: the rate is that of the time between them.
fn growth(begin: LogEnd, end: LogEnd, measured_s: f64) -> Option<u64> {
    let ((begin_at, begin), (end_at, end)) = (begin?, end?);
    let grown = u64::try_from(end - begin).ok()?;
    let seconds = end_at.checked_duration_since(begin_at)?.as_secs_f64();
    (seconds > 0.1).then(|| (grown as f64 / seconds * measured_s).round() as u64)
}

fn nothing_produced(settings: &Settings) -> Produced {
    Produced {
        tally: Tally::new(Window { begin_ns: 0, end_ns: 0 }),
        ledger: Ledger::new(settings.partitions),
        records: 0,
        backlog_end: 0,
        measured_s: 0.0,
    }
}

/// What came out of a phase, in a line.
fn line(outcome: &Outcome, ceilings: &Ceilings, settings: &Settings) -> String {
    let mut text = format!("{} {}: ", outcome.cell.title(), outcome.phase);
    let tally = &outcome.produced.tally;
    match outcome.phase {
        Phase::Rate => {
            let series = if outcome.cell.acks == Acks::None { Series::EndToEnd } else { Series::Response };
            let histogram = &tally.series(series).total;
            let of = |percentile| {
                percentile_ns(histogram, percentile).map_or_else(|| "–".to_owned(), |nanos| time(nanos as f64 / 1e6))
            };
            text.push_str(&format!("{} p50 {}, p99 {}", series.name(), of(50.0), of(99.0)));
        }
        Phase::Max => {
            let records_s = outcome.achieved_records_s().unwrap_or(0.0);
            let mb_s = records_s * f64::from(settings.record_size_bytes) / 1e6;
            text.push_str(&format!("{} MB/s", digits(mb_s)));
            if let Some(ceiling) = ceilings.throughput(outcome.cell.replication_factor) {
                text.push_str(&format!(", {:.2} of the ceiling", mb_s / mib_to_mb(ceiling.acked_mib_s)));
            }
        }
    }
    if let Some(verdict) = outcome.verdict {
        text.push_str(&format!(", {} verified", verdict.verified_records));
        if verdict.not_read > 0 {
            text.push_str(&format!(", {} not read within {} s", verdict.not_read, VERIFY_LIMIT.as_secs()));
        }
        if verdict.acked_lost > 0 {
            text.push_str(&format!(", {} LOST", verdict.acked_lost));
        }
    }
    for reason in outcome.invalid_reasons(settings) {
        text.push_str(&format!(" [invalid: {reason}]"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::SweepArguments;

    #[test]
    fn sweep_repeats_are_shuffled_by_the_seed_and_each_has_every_cell() {
        let arguments = SweepArguments { repeats: Some(3), seed: Some(9), ..SweepArguments::default() };
        let settings = Settings::resolve(&arguments).unwrap();
        let order = |repeat: u32| -> Vec<Cell> {
            steps(&settings).iter().filter(|step| step.repeat == repeat).map(|step| step.cell).collect()
        };
        assert_eq!(order(1), order(1), "the same seed gives the same order");
        assert_ne!(order(1), order(2));
        let mut sorted = order(3);
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 12);
        assert_eq!(steps(&settings).len(), 3 * 12 * 2);
    }
}
