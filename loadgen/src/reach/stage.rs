//! What rows are played on: clusters of our own, phases of load, ceilings, each with the memory warmed before it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use minisr_client::{Admin, NewTopic};

use crate::ballast::{self, Ballast};
use crate::ceiling::{self, CeilingReport, CeilingRun};
use crate::cli::{ReachArguments, SweepArguments};
use crate::load::{self, Job, Moment};
use crate::plan::{Acks, Phase};
use crate::producer::Live;
use crate::settings::{Settings, TransportKind};
use crate::tally::Series;
use crate::target::Target;
use crate::usage::{Usage, Used};

/// How long a new topic may take until all replicas are in sync: a thousand partitions take a while.
const TOPIC_READY_LIMIT: Duration = Duration::from_secs(60);
/// How long reading back may take.
const VERIFY_LIMIT: Duration = Duration::from_secs(30);

/// Shared by all rows of a run.
pub struct Stage {
    /// Memory that is held until a throughput is measured.
    pub ballast: Ballast,
    /// Seconds of each measurement, when they were asked for.
    seconds: Option<f64>,
    ceiling_program: PathBuf,
    topics: u32,
}

/// What a phase gave.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Records acknowledged per second.
    pub records_s: f64,
    /// The same in megabytes (10⁶) of their values.
    pub mb_s: f64,
    /// Response times (at a rate), or service times (at the maximum), microseconds.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// Records in those.
    pub records: u64,
    /// Records acknowledged in all, the warm-up included.
    pub acked: u64,
    /// The brokers within the window.
    pub brokers: Option<Used>,
}

impl Measured {
    /// What qualifies the figures: too few records for a percentile.
    pub fn note(&self) -> String {
        if self.records < 10_000 { format!("{} records: few for a p99", self.records) } else { String::new() }
    }
}

/// The settings of the table: acks=all, three replicas, min.insync.replicas 2, 1 KiB records, 64 KiB batches, 16
/// partitions with 4 batches in flight each.
pub fn settings(transport: TransportKind, edit: impl FnOnce(&mut SweepArguments)) -> Result<Settings> {
    let mut arguments = SweepArguments {
        acks: Some(vec![Acks::All]),
        replication_factor: Some(vec![3]),
        min_insync_replicas: Some(vec![2]),
        transport: Some(transport),
        ..SweepArguments::default()
    };
    edit(&mut arguments);
    Settings::resolve(&arguments)
}

impl Stage {
    /// Nothing is started yet.
    pub fn new(arguments: &ReachArguments) -> Result<Stage> {
        let ballast = Ballast::new(std::env::current_exe()?, arguments.memory_warm_mib, ballast::PATIENT);
        let ceiling_program = ceiling::find_program()?;
        Ok(Stage { ballast, seconds: arguments.seconds, ceiling_program, topics: 0 })
    }

    /// Seconds of a measurement: as asked for, or the row's own.
    pub fn seconds(&self, own: f64) -> f64 {
        self.seconds.unwrap_or(own)
    }

    /// A name that no topic of this run had.
    pub fn topic_name(&mut self) -> String {
        self.topics += 1;
        format!("reach-{}", self.topics)
    }

    /// Makes a topic as the settings' first cell wants it, and waits until all replicas are in sync.
    pub async fn topic(&mut self, target: &Target, settings: &Settings) -> Result<String> {
        let topic = self.topic_name();
        let cell = settings.cells[0];
        let admin = target.admin()?;
        let new = NewTopic::new(&topic, settings.partitions as i32, cell.replication_factor as i16)
            .with_config("min.insync.replicas", cell.min_insync_replicas);
        admin.create_topic(&new).await.context("the topic was refused")?;
        admin
            .wait_until_in_sync(&topic, settings.partitions as usize, TOPIC_READY_LIMIT)
            .await
            .context("the replicas are not all in sync")?;
        Ok(topic)
    }

    /// Takes the memory, when something is to be measured at its maximum.
    pub async fn warm(&mut self) {
        if let Some(sentence) = self.ballast.take().await {
            println!("  {sentence}");
        }
    }

    /// One run of the ceiling.
    pub async fn ceiling(&mut self, run: &CeilingRun) -> Result<CeilingReport> {
        if run.throughput {
            self.warm().await;
            self.ballast.release().await?;
        }
        let report = ceiling::run(&self.ceiling_program, run).await.with_context(|| format!("ceiling {}", run.title));
        if run.throughput {
            self.warm().await;
        }
        report
    }

    /// One phase on a topic of its own, which is deleted afterwards. A lost record is an error.
    pub async fn phase(&mut self, target: &Target, settings: &Settings, phase: Phase) -> Result<Measured> {
        if phase == Phase::Max {
            self.warm().await;
        }
        let topic = self.topic(target, settings).await?;
        if phase == Phase::Max {
            self.ballast.release().await?;
        }
        let job = Job {
            cell: settings.cells[0],
            phase,
            topic: topic.clone(),
            settings: settings.clone(),
            connector: target.connector(),
            live: Arc::new(Live::default()),
            verify_limit: VERIFY_LIMIT,
        };
        let measured = play(target, job).await;
        Admin::new(target.client()?).delete_topic(&topic).await.context("the topic stays on disk")?;
        if phase == Phase::Max {
            target.wait_until_removed(&topic).await;
            self.warm().await;
        }
        measured
    }
}

/// Runs a job and looks at the brokers at both ends of its window.
async fn play(target: &Target, job: Job) -> Result<Measured> {
    let settings = job.settings.clone();
    let phase = job.phase;
    let pids = target.broker_pids();
    let limit = load::time_limit(&settings, phase, job.verify_limit);
    let far = tokio::time::Instant::now() + limit * 2;
    let (mut begin_at, mut end_at) = (far, far);
    let (mut begin, mut end) = (None, None);
    let (mut moments, mut result) = load::start(job);
    let deadline = Instant::now() + limit;
    let loaded = loop {
        tokio::select! {
            biased;
            loaded = &mut result => break loaded.context("the load thread ended without a result")??,
            () = tokio::time::sleep_until(begin_at), if begin.is_none() => begin = Some(Usage::read(&pids)),
            () = tokio::time::sleep_until(end_at), if begin.is_some() && end.is_none() => end = Some(Usage::read(&pids)),
            Some(moment) = moments.recv() => match moment {
                Moment::Window { begin, end } => (begin_at, end_at) = (begin.into(), end.into()),
                Moment::LoadEnded => end_at = end_at.min(tokio::time::Instant::now()),
            },
            () = tokio::time::sleep_until(deadline.into()) => {
                bail!("the phase took longer than {:.0} seconds and was given up", limit.as_secs_f64());
            }
        }
    };
    if let Some(reading) = loaded.reading
        && reading.verdict.acked_lost > 0
    {
        bail!("{} acknowledged records are lost", reading.verdict.acked_lost);
    }
    let produced = &loaded.produced;
    let counts = &produced.tally.counts;
    if counts.acked == 0 {
        bail!("nothing was acknowledged within the window");
    }
    let records_s = counts.acked as f64 / produced.measured_s;
    let series = if phase == Phase::Rate { Series::Response } else { Series::Service };
    let histogram = &produced.tally.series(series).total;
    Ok(Measured {
        records_s,
        mb_s: records_s * f64::from(settings.record_size_bytes) / 1e6,
        p50_us: quantile_us(histogram, 0.5),
        p99_us: quantile_us(histogram, 0.99),
        records: histogram.len(),
        acked: produced.ledger.acked_records(),
        brokers: begin.flatten().zip(end.flatten()).map(|(begin, end)| end.since(&begin)),
    })
}

/// A quantile of nanoseconds, in microseconds.
pub fn quantile_us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1_000.0
}
