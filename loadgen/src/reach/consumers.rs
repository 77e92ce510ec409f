//! Row 9: reading a log of 1 GiB in one partition, over one stream or connection.
//!
//! *Hot*: all of it is in the page cache. *Cold*: it was dropped from there first, and the broker's own count of bytes
//! read from storage has to show that it was. The yardstick is the bare transport: one hop, one stream, the server sends
//! from memory. Where storage is slower than that, cold cannot come near it whatever the broker does, so it is shown
//! beside a second one: the same cold file read from end to end by a program that does nothing else.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use minisr_client::{Client, Consumer, ConsumerConfig};

use super::judge::{Better, Measure};
use super::report::RowReport;
use super::stage::{Stage, settings};
use crate::ceiling::CeilingRun;
use crate::clock::Clock;
use crate::driver::kafka::{KafkaDriver, end_offsets};
use crate::plan::Acks;
use crate::producer::{self, Live, MaxPlan};
use crate::settings::{Settings, TransportKind};
use crate::target::Target;

const LOG_BYTES: u64 = 1 << 30;
/// Records of 1 KiB in a batch of 64 KiB.
const BATCH_RECORDS: u64 = 63;
/// Part of the log that has to come from storage for a read to count as cold: the rest may be read ahead or be kept for
/// the broker's own reasons.
const COLD_PART_MIN: f64 = 0.95;

fn name(state: &str, transport: TransportKind) -> String {
    format!("{state}, {} / bare transport", transport.to_string().to_uppercase())
}

const TRANSPORTS: [TransportKind; 2] = [TransportKind::Quic, TransportKind::Tcp];

fn name_beside_storage(transport: TransportKind) -> String {
    format!("cold, {} / the file alone", transport.to_string().to_uppercase())
}

/// What it measures.
pub fn measures() -> Vec<Measure> {
    let of_transport = |transport| {
        let [hot, cold] = ["hot", "cold"].map(|state| name(state, transport));
        let judged = [hot, cold].map(|name| Measure::judged(name, "MB/s", Better::Higher, 0.6, 0.9));
        judged.into_iter().chain([Measure::shown(name_beside_storage(transport), "MB/s", Better::Higher)])
    };
    TRANSPORTS.into_iter().flat_map(of_transport).collect()
}

/// Measures it.
pub async fn run(stage: &mut Stage, report: &mut RowReport) -> Result<()> {
    for transport in TRANSPORTS {
        let settings = settings(transport, |flags| {
            flags.replication_factor = Some(vec![1]);
            flags.min_insync_replicas = Some(vec![1]);
            flags.brokers = Some(1);
            flags.partitions = Some(1);
            flags.streams = Some(1);
        })?;
        let target = Target::start(&settings).await?;
        let outcome = read_again_and_again(stage, report, &target, &settings).await;
        target.end().await?;
        outcome?;
    }
    Ok(())
}

async fn read_again_and_again(
    stage: &mut Stage,
    report: &mut RowReport,
    target: &Target,
    settings: &Settings,
) -> Result<()> {
    let topic = stage.topic(target, settings).await?;
    fill(target, settings, &topic).await?;
    let cluster = target.cluster().context("the log's files are those of an embedded cluster")?;
    let files = log_files(&cluster.data_dir(1), &topic)?;
    let sizes = files.iter().map(|file| fs::metadata(file).map(|metadata| metadata.len()));
    let log_bytes = sizes.sum::<std::io::Result<u64>>()?;
    let pid = *target.broker_pids().first().context("the broker is gone")?;
    let transport = settings.transport;
    for repeat in 1..=report.repeats {
        let bare = stage.ceiling(&CeilingRun::receive(settings, stage.seconds(2.0))).await?.acked_mb_s;
        drop_from_cache(&files)?;
        // What is read goes into pages that the machine has, as after any other ceiling.
        stage.ballast.release().await?;
        let before = bytes_from_storage(pid)?;
        let cold = read_to_end(&target.client()?, &topic).await?;
        let from_storage = bytes_from_storage(pid)? - before;
        if (from_storage as f64) < COLD_PART_MIN * log_bytes as f64 {
            bail!("only {from_storage} of {log_bytes} bytes came from storage: the log was not cold");
        }
        report.add(
            &name("cold", transport),
            repeat,
            cold,
            Some(bare),
            format!("{} MiB from storage", from_storage >> 20),
        )?;
        // The cold reading has made it hot.
        let hot = read_to_end(&target.client()?, &topic).await?;
        report.add(&name("hot", transport), repeat, hot, Some(bare), String::new())?;
        // Last, so that what it does to the page cache concerns neither of the others.
        drop_from_cache(&files)?;
        report.add(&name_beside_storage(transport), repeat, cold, Some(read_alone(&files)?), String::new())?;
        stage.warm().await;
    }
    Ok(())
}

async fn fill(target: &Target, settings: &Settings, topic: &str) -> Result<()> {
    let clock = Clock::start();
    let none = std::time::Duration::ZERO;
    let driver = KafkaDriver::start(&target.client()?, clock, topic, Acks::All, settings, none).await?;
    let plan = MaxPlan {
        warmup_s: 0.0,
        duration_s: 600.0,
        partitions: 1,
        record_size_bytes: settings.record_size_bytes,
        seed: settings.seed,
        batch_records: BATCH_RECORDS,
        batches_in_flight: settings.max_in_flight,
        batches_in_flight_total: u32::MAX,
        records_max: LOG_BYTES / u64::from(settings.record_size_bytes),
    };
    let produced = producer::produce_at_maximum(&driver, clock, plan, &Live::default()).await?;
    driver.close().await;
    let end = end_offsets(&target.client()?, topic, 1).await?.first().copied().unwrap_or(0);
    let acked = produced.ledger.acked_records();
    if u64::try_from(end).unwrap_or(0) < acked || acked < plan.records_max - 2 * BATCH_RECORDS * 5 {
        bail!("the log was to hold {} records, and {acked} were acknowledged", plan.records_max);
    }
    Ok(())
}

/// Megabytes per second of batches, from the first fetch, connecting included, to the last byte.
async fn read_to_end(client: &Client, topic: &str) -> Result<f64> {
    let end = *end_offsets(client, topic, 1).await?.first().context("the end of the log is unknown")?;
    let mut consumer = Consumer::new(client.clone(), ConsumerConfig::default());
    consumer.assign(topic, 0, 0);
    let begun = Instant::now();
    let (mut bytes, mut next) = (0u64, 0);
    while next < end {
        let fetched = consumer.poll().await?;
        bytes += fetched.bytes.len() as u64;
        next = fetched.next;
    }
    Ok(bytes as f64 / begun.elapsed().as_secs_f64() / 1e6)
}

/// Megabytes per second of the files, one after the other, with nobody to send them to.
fn read_alone(files: &[PathBuf]) -> Result<f64> {
    let mut buffer = vec![0; 1 << 20];
    let begun = Instant::now();
    let mut bytes = 0u64;
    for path in files {
        let mut file = File::open(path).with_context(|| format!("the file {} cannot be opened", path.display()))?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => bytes += read as u64,
            }
        }
    }
    Ok(bytes as f64 / begun.elapsed().as_secs_f64() / 1e6)
}

fn log_files(data: &Path, topic: &str) -> Result<Vec<PathBuf>> {
    let directory = data.join(format!("{topic}-0"));
    let entries = fs::read_dir(&directory).with_context(|| format!("there is no log at {}", directory.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect())
}

/// Writes what is not yet on the disk, then drops the pages: only clean ones can be.
#[cfg(target_os = "linux")]
fn drop_from_cache(files: &[PathBuf]) -> Result<()> {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    for path in files {
        let file = File::open(path).with_context(|| format!("the file {} cannot be opened", path.display()))?;
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn drop_from_cache(_files: &[PathBuf]) -> Result<()> {
    bail!("files are dropped from the page cache on Linux only, so there is no cold log to measure here")
}

/// Bytes that a process had read from storage so far.
fn bytes_from_storage(pid: u32) -> Result<u64> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/io")).context("what the broker reads from storage is unknown")?;
    let line = text.lines().find_map(|line| line.strip_prefix("read_bytes:"));
    line.and_then(|number| number.trim().parse().ok()).context("what the broker reads from storage is unknown")
}
