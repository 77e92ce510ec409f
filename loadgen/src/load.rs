//! One phase of one cell, in a thread and runtime of its own: clients, load, reading back.
//!
//! The thread that called goes on watching the cluster; it is told when the measured window begins and ends.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::consumer::{self, Finish};
use crate::driver::Source as _;
use crate::driver::kafka::{KafkaDriver, KafkaSource, end_offsets};
use crate::plan::{Acks, Cell, Phase};
use crate::producer::{self, DRAIN_LIMIT, Live, MaxPlan, Produced, RatePlan};
use crate::record;
use crate::settings::Settings;
use crate::tally::Tally;
use crate::target::Connector;
use crate::verify::Verdict;

/// Between the start of a phase and its first record: clients connect, and the first planned instants are not late.
const LEAD: Duration = Duration::from_millis(50);
/// How long nothing may arrive before reading back ends.
const STILLNESS_LIMIT: Duration = Duration::from_secs(3);
/// Bytes of a batch that are not records, and of a record that are not its value, at most.
const BATCH_HEADER_BYTES: u32 = 61;
const RECORD_HEADER_BYTES: u32 = 12;

/// What a phase needs.
#[derive(Clone)]
pub struct Job {
    /// The cell.
    pub cell: Cell,
    /// The phase.
    pub phase: Phase,
    /// An existing, empty topic.
    pub topic: String,
    /// The run.
    pub settings: Settings,
    /// Way to the cluster.
    pub connector: Connector,
    /// How far it is.
    pub live: Arc<Live>,
    /// How long reading back may take.
    pub verify_limit: Duration,
}

/// What reading back showed.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Found or not.
    pub verdict: Verdict,
    /// Records acknowledged and not yet committed when the load ended.
    pub lag: u64,
}

/// What happens meanwhile.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// The measured window lies here.
    Window {
        /// Its beginning.
        begin: Instant,
        /// Its end, unless a budget ends it before.
        end: Instant,
    },
    /// The load is over; reading back begins.
    LoadEnded,
}

/// What came out.
pub struct Loaded {
    /// Counts and times.
    pub produced: Produced,
    /// Reading back; absent with acks=0.
    pub reading: Option<Reading>,
    /// Beginning of the window.
    pub window_begin: SystemTime,
}

/// Starts the thread.
pub fn start(job: Job) -> (mpsc::UnboundedReceiver<Moment>, oneshot::Receiver<Result<Loaded>>) {
    let (moments, moment_receiver) = mpsc::unbounded_channel();
    let (result, result_receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || {
            let outcome = run(job, moments);
            // Whoever asked may have given up.
            let _ = result.send(outcome);
        })
        .expect("the system starts a thread");
    (moment_receiver, result_receiver)
}

fn run(job: Job, moments: mpsc::UnboundedSender<Moment>) -> Result<Loaded> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let loaded = match job.phase {
            Phase::Rate => constant_rate(&job, &moments).await,
            Phase::Max => maximum(&job, &moments).await,
        };
        let (mut produced, window_begin) = loaded?;
        let _ = moments.send(Moment::LoadEnded);
        let reading = match job.cell.acks {
            Acks::None => None,
            _ => Some(verify(&job, &mut produced).await.context("what was acknowledged could not be read back")?),
        };
        Ok(Loaded { produced, reading, window_begin })
    })
}

/// Announces the window and says when it begins by the wall clock.
fn announce(clock: Clock, moments: &mpsc::UnboundedSender<Moment>, begin_ns: u64, end_ns: u64) -> SystemTime {
    let now_ns = clock.now_ns();
    let after = |instant_ns: u64| Duration::from_nanos(instant_ns.saturating_sub(now_ns));
    let now = Instant::now();
    let _ = moments.send(Moment::Window { begin: now + after(begin_ns), end: now + after(end_ns) });
    SystemTime::now() + after(begin_ns)
}

async fn constant_rate(job: &Job, moments: &mpsc::UnboundedSender<Moment>) -> Result<(Produced, SystemTime)> {
    let settings = &job.settings;
    let client = job.connector.connect()?;
    let clock = Clock::start();
    let linger = Duration::from_micros(settings.linger_us);
    let driver = KafkaDriver::start(&client, clock, &job.topic, job.cell.acks, settings, linger).await?;
    let mut source = KafkaSource::open(&job.connector.connect()?, &job.topic, settings.partitions).await?;
    let plan = RatePlan {
        rate_records_s: settings.rate_records_s,
        warmup_s: settings.warmup_s,
        duration_s: settings.duration_s,
        partitions: settings.partitions,
        record_size_bytes: settings.record_size_bytes,
        seed: settings.seed,
    };
    let start_ns = clock.now_ns() + LEAD.as_nanos() as u64;
    let window = plan.schedule(start_ns).1;
    let window_begin = announce(clock, moments, window.begin_ns, window.end_ns);
    let finish = Finish::default();
    let mut read = Tally::new(window);
    let load = async {
        let produced = producer::produce_at_rate(&driver, clock, start_ns, plan, &job.live).await;
        let records = produced.as_ref().map_or(0, |produced| match job.cell.acks {
            Acks::None => produced.records,
            _ => produced.ledger.acked_records(),
        });
        finish.expected.set(Some(records));
        produced
    };
    let (produced, consumed) = tokio::join!(load, consumer::consume(&mut source, clock, &mut read, &finish));
    consumed.context("the consumer failed")?;
    let mut produced = produced?;
    produced.tally.merge(&read);
    driver.close().await;
    Ok((produced, window_begin))
}

async fn maximum(job: &Job, moments: &mpsc::UnboundedSender<Moment>) -> Result<(Produced, SystemTime)> {
    let settings = &job.settings;
    let client = job.connector.connect()?;
    let clock = Clock::start();
    let linger = Duration::from_micros(settings.max_linger_us);
    let driver = KafkaDriver::start(&client, clock, &job.topic, job.cell.acks, settings, linger).await?;
    let records_per_batch =
        (settings.batch_bytes - BATCH_HEADER_BYTES) / (settings.record_size_bytes + RECORD_HEADER_BYTES);
    let record_bytes = u64::from(settings.record_size_bytes + RECORD_HEADER_BYTES);
    let plan = MaxPlan {
        warmup_s: settings.warmup_s,
        duration_s: settings.max_duration_s,
        partitions: settings.partitions,
        record_size_bytes: settings.record_size_bytes,
        seed: settings.seed,
        batch_records: u64::from(records_per_batch.max(1)),
        batches_in_flight: settings.max_in_flight,
        batches_in_flight_total: settings.batches_in_flight_total,
        records_max: settings.disk_budget_mib * (1 << 20) / record_bytes / u64::from(job.cell.replication_factor),
    };
    let begin_ns = clock.now_ns() + (plan.warmup_s * 1e9) as u64;
    let window_begin = announce(clock, moments, begin_ns, begin_ns + (plan.duration_s * 1e9) as u64);
    let produced = producer::produce_at_maximum(&driver, clock, plan, &job.live).await?;
    driver.close().await;
    Ok((produced, window_begin))
}

/// Reads every partition from its beginning to the end of what was acknowledged, with a fresh client.
///
/// With acks=1 the end may not be committed yet and so not be readable: reading waits for it as long as something
/// arrives. What has not come [`STILLNESS_LIMIT`] after the last record will not come: it is lost.
async fn verify(job: &Job, produced: &mut Produced) -> Result<Reading> {
    let partitions = job.settings.partitions;
    let client = job.connector.connect()?;
    let ledger = &mut produced.ledger;
    ledger.seal();
    let acked_ends: Vec<i64> = (0..partitions).map(|partition| ledger.end_offset(partition)).collect();
    let committed = end_offsets(&client, &job.topic, partitions).await?;
    if committed.len() != partitions as usize {
        bail!("the end offsets of {} partitions are unknown", partitions as usize - committed.len());
    }
    let lag = acked_ends.iter().zip(&committed).map(|(acked, committed)| (acked - committed).max(0) as u64).sum();

    let mut source = KafkaSource::open(&client, &job.topic, partitions).await?;
    let mut read_to = vec![0i64; partitions as usize];
    let deadline = Instant::now() + job.verify_limit;
    let mut last_arrival = Instant::now();
    let mut still = false;
    while read_to.iter().zip(&acked_ends).any(|(read, end)| read < end) && Instant::now() < deadline {
        let records = source
            .poll(|partition, offset, value| {
                ledger.read(partition, offset, record::parse(value).map(|(_, index)| index));
                let read_to = &mut read_to[partition as usize];
                *read_to = (*read_to).max(offset + 1);
            })
            .await?;
        if records > 0 {
            last_arrival = Instant::now();
        } else if last_arrival.elapsed() > STILLNESS_LIMIT {
            still = true;
            break;
        }
    }
    if still {
        // There is nothing behind what was read: what was acknowledged there is lost, not unread.
        read_to.fill(i64::MAX);
    }
    Ok(Reading { verdict: ledger.verdict(&read_to), lag })
}

/// Longest time a phase may take before it is given up.
pub fn time_limit(settings: &Settings, phase: Phase, verify_limit: Duration) -> Duration {
    let window_s = match phase {
        Phase::Rate => settings.duration_s,
        Phase::Max => settings.max_duration_s,
    };
    Duration::from_secs_f64(settings.warmup_s + window_s) + DRAIN_LIMIT + verify_limit + Duration::from_secs(25)
}
