//! What a reassignment costs the workload beside it: response times at a constant rate before, during and after the
//! replication factor of a large topic is raised, without and with a replication throttle.
//!
//! The workload is open-loop: a record's time runs from when it was due. The catching-up replicas read another topic,
//! which was filled before, from the same brokers over the same links.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use minisr_client::producer::{Outcome, Record};
use minisr_client::{Admin, ConfigResource, NewTopic, Producer, ProducerConfig, Reassignment};
use serde::Serialize;

use crate::cli::{ReassignArguments, SweepArguments};
use crate::environment::{self, Environment};
use crate::settings::Settings;
use crate::target::Target;

const LOAD_TOPIC: &str = "load";
const LOAD_PARTITIONS: i32 = 3;
const BULK_PARTITIONS: i32 = 3;
const BROKERS: i32 = 3;
const IN_SYNC_LIMIT: Duration = Duration::from_secs(30);
const REASSIGN_LIMIT: Duration = Duration::from_secs(300);
/// How often the progress of the reassignment is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Size of the records that fill the bulk topic.
const BULK_RECORD_BYTES: usize = 16 * 1024;
const RATES: [&str; 2] = ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
const LISTS: [&str; 2] = ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"];

/// One phase of one variant: a row of `reassign.csv`.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// The run.
    pub run_id: String,
    /// Bytes per second that each broker gives to catching-up replicas; empty without a throttle.
    pub throttle_bytes_per_s: Option<u64>,
    /// `before`, `during` or `after`.
    pub phase: &'static str,
    /// How long it lasted.
    pub seconds: f64,
    /// Records of the workload per second, as planned.
    pub rate_per_s: u64,
    /// Records due in it.
    pub records: u64,
    /// Of these, not acknowledged.
    pub failed: u64,
    /// Response time, from when the record was due.
    pub response_p50_us: f64,
    /// Response time.
    pub response_p99_us: f64,
    /// Response time.
    pub response_max_us: f64,
    /// p99 as a multiple of the p99 before.
    pub p99_ratio: f64,
    /// Bytes that were copied to new replicas in it.
    pub copied_bytes: u64,
}

/// A record's plan and fate.
struct Sample {
    due: Instant,
    took: Duration,
    ok: bool,
}

/// Runs the experiment.
pub async fn run(arguments: &ReassignArguments) -> Result<ExitCode> {
    ensure!(arguments.rate > 0 && arguments.phase_seconds > 0, "--rate and --phase-seconds must be at least 1");
    let started = SystemTime::now();
    let run_id = match &arguments.name {
        Some(name) => name.clone(),
        None => format!("{}-reassign", environment::utc_compact(started)),
    };
    let directory = arguments.output.join(&run_id);
    let environment = Environment::read();
    println!(
        "{} records/s of {} bytes to a topic of 3 replicas while {} MiB are copied twice; results go to {}",
        arguments.rate,
        arguments.record_bytes,
        arguments.bulk_mib,
        directory.display()
    );
    let mut phases = Vec::new();
    for throttle in [None, Some(arguments.throttle)] {
        // A cluster of its own for each, so that neither finds what the other left in caches and logs.
        let settings =
            Settings::resolve(&SweepArguments { brokers: Some(BROKERS as u16), ..SweepArguments::default() })?;
        let target = Target::start(&settings).await?;
        let measured = measure(&target, throttle, &run_id, arguments).await;
        target.end().await?;
        for phase in measured? {
            println!(
                "{:>12} {:<7} {:>6.1} s  p50 {:>8.0} µs  p99 {:>8.0} µs ({:.2} ×)  failed {}",
                throttle.map_or_else(|| "no throttle".to_owned(), |rate| format!("{} MB/s", rate / 1_000_000)),
                phase.phase,
                phase.seconds,
                phase.response_p50_us,
                phase.response_p99_us,
                phase.p99_ratio,
                phase.failed
            );
            phases.push(phase);
        }
    }
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let path = directory.join("reassign.csv");
    let mut file = csv::Writer::from_path(&path).with_context(|| format!("cannot write {}", path.display()))?;
    for phase in &phases {
        file.serialize(phase)?;
    }
    file.flush()?;
    let manifest = serde_json::json!({
        "schema_version": 1,
        "experiment": "reassign",
        "run_id": run_id,
        "started_at_utc": environment::utc(started),
        "settings": {
            "rate": arguments.rate,
            "record_bytes": arguments.record_bytes,
            "bulk_mib": arguments.bulk_mib,
            "throttle": arguments.throttle,
            "phase_seconds": arguments.phase_seconds,
            "acks": "all",
            "min_insync_replicas": 2,
            "brokers": BROKERS,
            "transport": "quic",
        },
        "environment": environment,
    });
    let path = directory.join("manifest.json");
    std::fs::write(&path, serde_json::to_string_pretty(&manifest)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("Results: {}", directory.display());
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    target: &Target,
    throttle: Option<u64>,
    run_id: &str,
    arguments: &ReassignArguments,
) -> Result<Vec<Phase>> {
    let client = target.client()?;
    let admin = Admin::new(client.clone());
    let load = NewTopic::new(LOAD_TOPIC, LOAD_PARTITIONS, 3).with_config("min.insync.replicas", 2);
    admin.create_topic(&load).await.context("the topic was refused")?;
    admin.create_topic(&NewTopic::new("bulk", BULK_PARTITIONS, 1)).await.context("the topic was refused")?;
    admin.wait_until_in_sync(LOAD_TOPIC, LOAD_PARTITIONS as usize, IN_SYNC_LIMIT).await?;
    let copied_bytes = fill(target, arguments.bulk_mib).await? * 2;

    let samples = Arc::new(Mutex::new(Vec::new()));
    let (begin, interval) = (Instant::now(), Duration::from_secs(1) / u32::try_from(arguments.rate)?);
    let due_of = move |tag: u64| begin + interval * u32::try_from(tag).unwrap_or(u32::MAX);
    let sink = Arc::clone(&samples);
    let producer = Producer::start(client.clone(), ProducerConfig::default(), move |report| {
        let mut samples = sink.lock().expect("no panic while it is held");
        for tag in report.tags {
            let due = due_of(tag);
            let took = report.completed_at.saturating_duration_since(due);
            samples.push(Sample { due, took, ok: report.outcome == Outcome::Ok });
        }
    })?;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writing = tokio::spawn({
        let (stop, bytes) = (Arc::clone(&stop), arguments.record_bytes);
        async move {
            let handles: Vec<_> = (0..LOAD_PARTITIONS).map(|it| producer.partition(LOAD_TOPIC, it)).collect();
            let value = vec![b'x'; bytes];
            let mut tag = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                tokio::time::sleep_until(due_of(tag).into()).await;
                let partition = handles[(tag % handles.len() as u64) as usize];
                producer.append_wait(partition, &Record::of(&value), tag).await?;
                tag += 1;
            }
            producer.close(Duration::from_secs(30)).await;
            anyhow::Ok(())
        }
    });

    let phase = Duration::from_secs(arguments.phase_seconds);
    // The first seconds warm connections and caches up.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = Instant::now();
    tokio::time::sleep(phase).await;
    if let Some(rate) = throttle {
        let rates: Vec<_> = RATES.iter().map(|name| (*name, Some(rate.to_string()))).collect();
        let lists: Vec<_> = LISTS.iter().map(|name| (*name, Some("*".to_owned()))).collect();
        admin.alter_configs(&ConfigResource::AllBrokers, &rates).await?;
        admin.alter_configs(&ConfigResource::Topic("bulk".to_owned()), &lists).await?;
    }
    let during = Instant::now();
    let view = admin.topic("bulk").await?;
    let wanted = view.topics["bulk"].partitions.iter().map(|(&partition, info)| {
        let first = info.replicas[0];
        let replicas = (0..BROKERS).map(|i| (first - 1 + i) % BROKERS + 1).collect();
        Reassignment { topic: "bulk".to_owned(), partition, replicas: Some(replicas) }
    });
    admin.reassign(&wanted.collect::<Vec<_>>()).await?;
    while !admin.list_reassignments().await?.is_empty() {
        ensure!(during.elapsed() < REASSIGN_LIMIT, "the reassignment is not done after {REASSIGN_LIMIT:?}");
        tokio::time::sleep(LOOK).await;
    }
    let after = Instant::now();
    tokio::time::sleep(phase).await;
    let end = Instant::now();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writing.await.context("the workload ended early")??;

    let samples = samples.lock().expect("no panic while it is held");
    let mut p99_before = 0.0;
    let mut phases = Vec::new();
    for (name, from, to) in [("before", before, during), ("during", during, after), ("after", after, end)] {
        let mut histogram = Histogram::<u64>::new(3)?;
        let (mut records, mut failed) = (0, 0);
        for sample in samples.iter().filter(|it| from <= it.due && it.due < to) {
            records += 1;
            if sample.ok {
                histogram.record(u64::try_from(sample.took.as_nanos())?)?;
            } else {
                failed += 1;
            }
        }
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        if name == "before" {
            p99_before = at(0.99);
        }
        phases.push(Phase {
            run_id: run_id.to_owned(),
            throttle_bytes_per_s: throttle,
            phase: name,
            seconds: (to - from).as_secs_f64(),
            rate_per_s: arguments.rate,
            records,
            failed,
            response_p50_us: at(0.5),
            response_p99_us: at(0.99),
            response_max_us: at(1.0),
            p99_ratio: at(0.99) / p99_before,
            copied_bytes: if name == "during" { copied_bytes } else { 0 },
        });
    }
    Ok(phases)
}

/// Fills the bulk topic; returns how many bytes of values it holds.
async fn fill(target: &Target, mib: u64) -> Result<u64> {
    let config = ProducerConfig { acks: 1, idempotence: false, ..ProducerConfig::default() };
    let failed = Arc::new(Mutex::new(None));
    let sink = Arc::clone(&failed);
    let producer = Producer::start(target.client()?, config, move |report| {
        if report.outcome != Outcome::Ok {
            *sink.lock().expect("no panic while it is held") = Some(report.outcome);
        }
    })?;
    let handles: Vec<_> = (0..BULK_PARTITIONS).map(|it| producer.partition("bulk", it)).collect();
    let value = vec![b'y'; BULK_RECORD_BYTES];
    let records = mib * 1024 * 1024 / BULK_RECORD_BYTES as u64;
    for number in 0..records {
        let partition = handles[(number % handles.len() as u64) as usize];
        producer.append_wait(partition, &Record::of(&value), number).await?;
    }
    producer.flush().await;
    producer.close(Duration::from_secs(30)).await;
    if let Some(outcome) = failed.lock().expect("no panic while it is held").take() {
        anyhow::bail!("the bulk topic could not be filled: {outcome:?}");
    }
    Ok(records * BULK_RECORD_BYTES as u64)
}
