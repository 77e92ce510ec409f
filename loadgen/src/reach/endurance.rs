//! Row 13: whether memory grows under full load for minutes, with somebody who does not keep up on every side.
//!
//! A producer writes as fast as it is answered; a consumer reads 1 MB/s of it and so falls behind what retention
//! deletes; one broker is stopped (SIGSTOP) with its connections open, so that it is a follower that is stuck, until its
//! session ends and the others go on without it. Each second the memory of the two others and the size of their logs is
//! looked at.
//!
//! *Growth* is the median of the last quarter less the median of the first quarter after the settling time (the first
//! minute, of shorter runs the first quarter). *Noise* is how far the first quarter spreads, at least 1 MiB. The bound is
//! the formula of docs/OPERATIONS.md ("How much memory a broker takes") with this run's numbers.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use minisr_client::transport::tuning::{CONNECTION_WINDOW_BYTES, SEND_WINDOW_BYTES};
use minisr_client::{Consumer, ConsumerConfig, OffsetReset};

use super::judge::{Better, Measure, Spread};
use super::report::RowReport;
use super::stage::{Stage, settings};
use crate::clock::Clock;
use crate::driver::Driver as _;
use crate::driver::Outcome;
use crate::driver::kafka::KafkaDriver;
use crate::plan::Acks;
use crate::record::RecordBuilder;
use crate::report::csv::{self, Row};
use crate::settings::{Settings, TransportKind};
use crate::target::Target;
use crate::usage::Usage;

const GROWTH: &str = "memory growth after the settling time / noise";
const PEAK: &str = "largest memory / documented bound";
const DISK: &str = "largest logs / bound by retention";
const THROUGHPUT: &str = "throughput";

const MIB: f64 = (1 << 20) as f64;
/// The broker that is stopped.
const STUCK: i32 = 3;
/// Load before it is.
const STUCK_AFTER: Duration = Duration::from_secs(3);
const SLOW_BYTES_S: f64 = 1e6;
const SEGMENT_MIB: u64 = 16;
const RETENTION_MIB: u64 = 64;
const RETENTION_CHECK_MS: u64 = 1_000;
/// Records of 1 KiB in a batch of 64 KiB.
const BATCH_RECORDS: u64 = 63;
/// Columns of the file with every second.
const SECOND_COLUMNS: [&str; 5] = ["second", "broker", "memory_bytes", "log_bytes", "acked_records"];

/// What it measures.
pub fn measures() -> Vec<Measure> {
    vec![
        Measure { aim: None, ..Measure::judged(GROWTH, "MiB", Better::Lower, 1.0, 1.0) },
        Measure { aim: None, ..Measure::judged(PEAK, "MiB", Better::Lower, 1.0, 1.0) },
        Measure { aim: None, ..Measure::judged(DISK, "MiB", Better::Lower, 1.0, 1.0) },
        Measure::shown(THROUGHPUT, "MB/s", Better::Higher),
    ]
}

/// Measures it, once: the seconds are its repeats.
pub async fn run(stage: &mut Stage, report: &mut RowReport) -> Result<()> {
    let length = Duration::from_secs_f64(stage.seconds(600.0));
    let settings = settings(TransportKind::Quic, |flags| {
        flags.set = vec![
            format!("log.segment.bytes={}", SEGMENT_MIB << 20),
            format!("log.retention.bytes={}", RETENTION_MIB << 20),
            format!("log.retention.check.interval.ms={RETENTION_CHECK_MS}"),
        ];
    })?;
    report.repeats = 1;
    let target = Target::start(&settings).await?;
    let outcome = endure(stage, report, &target, &settings, length).await;
    target.end().await?;
    outcome
}

/// One look at one broker.
struct Second {
    at_s: f64,
    broker: i32,
    memory_bytes: u64,
    log_bytes: u64,
    acked_records: u64,
}

async fn endure(
    stage: &mut Stage,
    report: &mut RowReport,
    target: &Target,
    settings: &Settings,
    length: Duration,
) -> Result<()> {
    let cluster = target.cluster().context("the brokers are those of an embedded cluster")?;
    let topic = stage.topic(target, settings).await?;
    let watched: Vec<(i32, u32)> =
        cluster.pids().into_iter().filter(|(id, _)| *id != STUCK).map(|(id, pid)| (id, pid as u32)).collect();
    let idle_bytes = watched.iter().filter_map(|(_, pid)| Some(Usage::read(&[*pid])?.rss_bytes)).max().unwrap_or(0);
    let begun = Instant::now();
    let deadline = begun + length;
    let acked = Cell::new(0u64);
    let seconds: RefCell<Vec<Second>> = RefCell::default();
    let look = async {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while Instant::now() < deadline {
            tick.tick().await;
            for (broker, pid) in &watched {
                let memory_bytes = Usage::read(&[*pid]).with_context(|| format!("broker {broker} is gone"))?.rss_bytes;
                let (at_s, log_bytes) = (begun.elapsed().as_secs_f64(), size_of(&cluster.data_dir(*broker)));
                let second = Second { at_s, broker: *broker, memory_bytes, log_bytes, acked_records: acked.get() };
                seconds.borrow_mut().push(second);
            }
        }
        anyhow::Ok(())
    };
    let stick = async {
        tokio::time::sleep(STUCK_AFTER).await;
        cluster.pause(STUCK).await?;
        anyhow::Ok(())
    };
    let played = tokio::try_join!(
        produce(target, settings, &topic, deadline, &acked),
        read_slowly(target, settings, &topic, deadline),
        look,
        stick,
    );
    cluster.resume(STUCK)?;
    let seconds = seconds.into_inner();
    write_seconds(&report.path("-seconds.csv"), &seconds)?;
    played?;
    judge(report, settings, &watched, &seconds, idle_bytes, length)
}

fn judge(
    report: &mut RowReport,
    settings: &Settings,
    watched: &[(i32, u32)],
    seconds: &[Second],
    idle_bytes: u64,
    length: Duration,
) -> Result<()> {
    let settling_s = (length.as_secs_f64() / 4.0).min(60.0);
    let quarter_s = (length.as_secs_f64() - settling_s) / 4.0;
    for (broker, _) in watched {
        let of_broker = || seconds.iter().filter(|second| second.broker == *broker);
        let mib_within = |from_s: f64, to_s: f64| {
            let within = of_broker().filter(|second| (from_s..to_s).contains(&second.at_s));
            Spread::of(within.map(|second| second.memory_bytes as f64 / MIB))
        };
        let first =
            mib_within(settling_s, settling_s + quarter_s).context("too short to say anything: use --seconds")?;
        let last = mib_within(settling_s + 3.0 * quarter_s, f64::INFINITY).context("too short: use --seconds")?;
        let noise = (first.max - first.min).max(1.0);
        let note = format!("broker {broker}: {:.1} MiB, then {:.1}", first.median, last.median);
        report.add(GROWTH, 1, last.median - first.median, Some(noise), note)?;
        let peak_mib = of_broker().map(|second| second.memory_bytes as f64 / MIB).fold(0.0, f64::max);
        let note = format!("broker {broker}: {:.0} MiB when idle", idle_bytes as f64 / MIB);
        report.add(PEAK, 1, peak_mib, Some(bound_mib(settings, idle_bytes)), note)?;
        let logs_mib = of_broker().map(|second| second.log_bytes as f64 / MIB).fold(0.0, f64::max);
        let acked = seconds.last().map_or(0, |second| second.acked_records);
        let mb_s = acked as f64 * f64::from(settings.record_size_bytes) / length.as_secs_f64() / 1e6;
        // Retention counts whole segments, keeps the active one, and looks once in a while: meanwhile as much is
        // written as can be.
        let written_between_mib = mb_s * 1e6 / MIB * (2 * RETENTION_CHECK_MS) as f64 / 1e3;
        let kept_mib = u64::from(settings.partitions) * (RETENTION_MIB + 2 * SEGMENT_MIB);
        report.add(DISK, 1, logs_mib, Some(kept_mib as f64 + written_between_mib), format!("broker {broker}"))?;
        if broker == &watched[0].0 {
            report.add(THROUGHPUT, 1, mb_s, None, format!("over {:.0} s", length.as_secs_f64()))?;
        }
    }
    Ok(())
}

/// The formula of docs/OPERATIONS.md: what the broker takes when idle, the windows of its QUIC connections, and for each
/// reader and each leader it follows one answer.
fn bound_mib(settings: &Settings, idle_bytes: u64) -> f64 {
    // The producer, the slow consumer, this row's questions, and the two other brokers in both directions.
    let quic_connections = 3 + 2 * 2;
    let windows = f64::from(CONNECTION_WINDOW_BYTES) + SEND_WINDOW_BYTES as f64;
    let consumer_answer = f64::from(ConsumerConfig::default().fetch_bytes_max);
    // `replica.fetch.response.max.bytes`, given to two followers and taken from two leaders.
    let replica_answers = 4.0 * 10.0 * MIB;
    let requests = f64::from(settings.streams) * f64::from(settings.batch_bytes) * f64::from(settings.max_in_flight);
    let read_buffers = 8.0 * MIB;
    (idle_bytes as f64
        + read_buffers
        + f64::from(quic_connections) * windows
        + consumer_answer
        + replica_answers
        + requests)
        / MIB
}

/// As fast as answers come, without a ledger: retention deletes what could be read back.
async fn produce(
    target: &Target,
    settings: &Settings,
    topic: &str,
    deadline: Instant,
    acked: &Cell<u64>,
) -> Result<()> {
    let clock = Clock::start();
    let driver = KafkaDriver::start(&target.client()?, clock, topic, Acks::All, settings, Duration::ZERO).await?;
    let mut builder = RecordBuilder::new(settings.record_size_bytes, settings.seed);
    let mut sent = 0u64;
    for partition in 0..settings.partitions {
        for _ in 0..u64::from(settings.max_in_flight) * BATCH_RECORDS {
            let now_ns = clock.now_ns();
            driver.send(partition, builder.build(now_ns, sent), now_ns, 0).await?;
            sent += 1;
        }
    }
    while Instant::now() < deadline {
        let report = driver.next_report().await?;
        if let Outcome::Acked { .. } = report.outcome {
            acked.set(acked.get() + report.tags.len() as u64);
        }
        // What failed when the stuck broker was left behind is replaced as well: the load goes on.
        let now_ns = clock.now_ns();
        for _ in &report.tags {
            driver.send(report.partition, builder.build(now_ns, sent), now_ns, 0).await?;
            sent += 1;
        }
    }
    driver.close().await;
    Ok(())
}

/// Reads, but not more than [`SLOW_BYTES_S`]; where it stands is deleted under it again and again.
async fn read_slowly(target: &Target, settings: &Settings, topic: &str, deadline: Instant) -> Result<()> {
    let config = ConsumerConfig { reset: OffsetReset::Earliest, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(target.client()?, config);
    for partition in 0..settings.partitions as i32 {
        consumer.assign(topic, partition, 0);
    }
    while let Ok(fetched) = tokio::time::timeout_at(deadline.into(), consumer.poll()).await {
        let pause = Duration::from_secs_f64(fetched?.bytes.len() as f64 / SLOW_BYTES_S);
        tokio::time::sleep_until((Instant::now() + pause).min(deadline).into()).await;
    }
    Ok(())
}

/// Bytes of all files below a directory; what is deleted meanwhile is not counted.
fn size_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn write_seconds(path: &Path, seconds: &[Second]) -> Result<()> {
    let rows: Vec<Row> = seconds
        .iter()
        .map(|second| {
            let mut row = Row::default();
            row.set("second", format!("{:.1}", second.at_s));
            row.set("broker", second.broker);
            row.set("memory_bytes", second.memory_bytes);
            row.set("log_bytes", second.log_bytes);
            row.set("acked_records", second.acked_records);
            row
        })
        .collect();
    csv::write(path, &SECOND_COLUMNS, &rows)
}
