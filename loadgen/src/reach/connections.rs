//! Row 12: what many connections cost.
//!
//! The same thousand records a second come from 10 or from 2,000 producers in turn, each with a client of its own: at
//! least one connection each, to the leader of the partition that it writes to. One topic, 16 partitions, all there
//! before the first record is due.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context, Result};
use minisr_client::producer::{self, PartitionHandle, Record};
use minisr_client::{Admin, Client, Producer, ProducerConfig};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::judge::{Better, Measure};
use super::report::RowReport;
use super::stage::{Stage, quantile_us, settings};
use crate::clock::Clock;
use crate::driver::kafka::translate;
use crate::driver::{BatchReport, Driver};
use crate::plan::Acks;
use crate::producer::{Live, RatePlan, produce_at_rate};
use crate::settings::{Settings, TransportKind};
use crate::tally::Series;
use crate::target::Target;
use crate::usage::Usage;

const FEW: u32 = 10;
const MANY: u32 = 2_000;
const RATE_RECORDS_S: f64 = 1_000.0;
/// Producers that connect at the same time.
const CONNECTING: usize = 50;
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
const TRANSPORTS: [TransportKind; 2] = [TransportKind::Tcp, TransportKind::Quic];

fn p99(transport: TransportKind) -> String {
    format!("{} p99 with {MANY} connections / with {FEW}", transport.to_string().to_uppercase())
}

fn memory(transport: TransportKind) -> String {
    format!("{} memory of all brokers with {MANY} connections", transport.to_string().to_uppercase())
}

/// What it measures.
pub fn measures() -> Vec<Measure> {
    let mut measures: Vec<Measure> =
        TRANSPORTS.iter().map(|&it| Measure::judged(p99(it), "us", Better::Lower, 2.0, 1.3)).collect();
    measures.extend(TRANSPORTS.iter().map(|&it| Measure::shown(memory(it), "MiB", Better::Lower)));
    measures
}

/// Measures it.
pub async fn run(stage: &mut Stage, report: &mut RowReport) -> Result<()> {
    let window_s = stage.seconds(10.5);
    for repeat in 1..=report.repeats {
        for transport in TRANSPORTS {
            let settings = settings(transport, |flags| {
                flags.rate = Some(RATE_RECORDS_S);
                flags.duration = Some(window_s);
                flags.streams = Some(1);
            })?;
            let few = with_connections(stage, &settings, FEW).await?;
            let many = with_connections(stage, &settings, MANY).await?;
            let of_a_core = |side: &Side| side.brokers_cpu_pct;
            let note = format!("brokers {:.0} % of a core, {:.0} % with {FEW}", of_a_core(&many), of_a_core(&few));
            report.add(&p99(transport), repeat, many.p99_us, Some(few.p99_us), note)?;
            report.add(
                &memory(transport),
                repeat,
                many.brokers_mib,
                None,
                format!("{:.0} with {FEW}", few.brokers_mib),
            )?;
        }
    }
    Ok(())
}

struct Side {
    p99_us: f64,
    brokers_cpu_pct: f64,
    brokers_mib: f64,
}

async fn with_connections(stage: &mut Stage, settings: &Settings, connections: u32) -> Result<Side> {
    let target = Target::start(settings).await?;
    let topic = stage.topic(&target, settings).await?;
    let side = produce(&target, settings, &topic, connections).await;
    target.end().await?;
    side.with_context(|| format!("{connections} connections over {}", settings.transport))
}

async fn produce(target: &Target, settings: &Settings, topic: &str, connections: u32) -> Result<Side> {
    let clock = Clock::start();
    let driver = ManyDriver::connect(target, settings, topic, connections, clock).await?;
    let plan = RatePlan {
        rate_records_s: settings.rate_records_s,
        warmup_s: settings.warmup_s,
        duration_s: settings.duration_s,
        partitions: connections,
        record_size_bytes: settings.record_size_bytes,
        seed: settings.seed,
    };
    let pids = target.broker_pids();
    let begin = Usage::read(&pids).context("a broker is gone")?;
    let start_ns = clock.now_ns() + 1_000_000;
    let produced = produce_at_rate(&driver, clock, start_ns, plan, &Live::default()).await?;
    let used = Usage::read(&pids).context("a broker is gone")?.since(&begin);
    driver.close().await?;
    let counts = &produced.tally.counts;
    anyhow::ensure!(
        counts.acked * 100 >= counts.scheduled * 99,
        "only {} of {} records were acknowledged",
        counts.acked,
        counts.scheduled
    );
    Ok(Side {
        p99_us: quantile_us(&produced.tally.series(Series::Response).total, 0.99),
        brokers_cpu_pct: used.cpu_pct,
        brokers_mib: used.rss_bytes as f64 / f64::from(1 << 20),
    })
}

/// One producer for each "partition" of the plan, each with connections of its own.
struct ManyDriver {
    clients: Vec<Client>,
    producers: Vec<(Producer, PartitionHandle)>,
    reports: Mutex<mpsc::UnboundedReceiver<(u32, producer::BatchReport)>>,
    clock: Clock,
    /// Offsets stand for nothing here: the producers share partitions.
    next_offset: Cell<i64>,
}

impl ManyDriver {
    /// Connects all of them, and has each write one record, so that nobody connects later.
    async fn connect(
        target: &Target,
        settings: &Settings,
        topic: &str,
        count: u32,
        clock: Clock,
    ) -> Result<ManyDriver> {
        let (sender, reports) = mpsc::unbounded_channel();
        let (mut clients, mut producers) = (Vec::new(), Vec::new());
        let mut connecting = JoinSet::new();
        for number in 0..count {
            let client = target.client()?;
            let config =
                ProducerConfig { acks: Acks::All.wire_value(), idempotence: false, ..ProducerConfig::default() };
            let sender = sender.clone();
            let told = move |report| {
                // Nobody listens when the phase is over.
                let _ = sender.send((number, report));
            };
            let producer = Producer::start(client.clone(), config, told)?;
            let handle = producer.partition(topic, (number % settings.partitions) as i32);
            if connecting.len() >= CONNECTING {
                connecting.join_next().await.expect("some are connecting")??;
            }
            clients.push(client.clone());
            let topic = topic.to_owned();
            let partitions = settings.partitions as usize;
            connecting.spawn(async move {
                Admin::new(client).wait_until_led(&topic, partitions, Duration::from_secs(30)).await
            });
            producers.push((producer, handle));
        }
        while let Some(connected) = connecting.join_next().await {
            connected??;
        }
        let mut driver =
            ManyDriver { clients, producers, reports: Mutex::new(reports), clock, next_offset: Cell::new(0) };
        for some in driver.producers.chunks(CONNECTING) {
            for (producer, handle) in some {
                producer.append_wait(*handle, &Record::of(b"connected"), 0).await?;
            }
            for _ in some {
                let report = driver.reports.get_mut().recv().await.context("the producers ended")?;
                anyhow::ensure!(
                    report.1.outcome == producer::Outcome::Ok,
                    "a first record failed: {:?}",
                    report.1.outcome
                );
            }
        }
        Ok(driver)
    }

    async fn close(self) -> Result<()> {
        let mut closing = JoinSet::new();
        for (producer, _) in self.producers {
            closing.spawn(producer.close(CLOSE_LIMIT));
        }
        closing.join_all().await;
        // The next cluster finds two thousand sockets with their buffers gone: beside too much address space the kernel
        // starts no other process.
        let mut closing = JoinSet::new();
        for client in self.clients {
            closing.spawn(async move { client.dialer().close().await });
        }
        tokio::time::timeout(CLOSE_LIMIT, closing.join_all()).await.context("the connections do not close")?;
        Ok(())
    }
}

impl Driver for ManyDriver {
    async fn send(&self, number: u32, value: &[u8], made_ns: u64, tag: u64) -> Result<()> {
        let (producer, handle) = &self.producers[number as usize];
        let record = Record { timestamp_ms: Some(self.clock.wall_ms(made_ns)), ..Record::of(value) };
        Ok(producer.append_wait(*handle, &record, tag).await?)
    }

    async fn next_report(&self) -> Result<BatchReport> {
        let (number, report) = self.reports.lock().await.recv().await.context("the producers ended")?;
        let mut report = translate(report, self.clock, Acks::All);
        report.partition = number;
        if let crate::driver::Outcome::Acked { base_offset } = &mut report.outcome {
            *base_offset = self.next_offset.get();
            self.next_offset.set(*base_offset + report.tags.len() as i64);
        }
        Ok(report)
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}
