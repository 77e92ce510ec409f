//! The shuttle of the in-sync set under a rule by messages, which is why Kafka dropped `replica.lag.max.messages`.
//!
//! The same healthy cluster takes batches of N and of N + 1 records under each policy, one batch after another with
//! all acknowledged before the next. Nobody is slow and nothing is lost; what is counted is how often the ISR shrinks
//! and expands. The counts are the leaders' own ([`minisr_wire::isr_report`]): a window of a few milliseconds is not
//! seen by asking for metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use minisr_client::producer::{Outcome, Record};
use minisr_client::{Admin, NewTopic, Producer, ProducerConfig};
use minisr_wire::isr_report::IsrReport;
use serde::Serialize;

use crate::cli::{IsrShuttleArguments, SweepArguments};
use crate::environment::{self, Environment};
use crate::report::csv::Row;
use crate::report::shuttle;
use crate::settings::Settings;
use crate::target::Target;

/// How long the replicas may take to be in sync, before the first batch and after the last.
const IN_SYNC_LIMIT: Duration = Duration::from_secs(20);
/// How long a batch may take.
const BATCH_LIMIT: Duration = Duration::from_secs(20);
/// A leader remembers 64 changes, and a batch makes at most four.
const ASK_EVERY_BATCHES: u32 = 10;
const REPLICATION_FACTOR: i16 = 3;

/// Which rule says who is in sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// `lag ≥ N`.
    GreaterOrEqual,
    /// `lag > N`, as old Kafka had it.
    Greater,
    /// `replica.lag.time.max.ms` alone.
    Time,
}

impl Policy {
    /// All of them, in the order of the table.
    pub const ALL: [Policy; 3] = [Policy::GreaterOrEqual, Policy::Greater, Policy::Time];

    /// Name in the files.
    pub const fn name(self) -> &'static str {
        match self {
            Policy::GreaterOrEqual => "greater-or-equal",
            Policy::Greater => "greater",
            Policy::Time => "time",
        }
    }

    /// Name for people.
    pub fn title(self, limit: u64) -> String {
        match self {
            Policy::GreaterOrEqual => format!("messages, lag ≥ {limit}"),
            Policy::Greater => format!("messages, lag > {limit}"),
            Policy::Time => "time".to_owned(),
        }
    }

    fn settings(self, limit: u64) -> Vec<String> {
        match self {
            Policy::Time => Vec::new(),
            messages => vec![
                format!("replica.lag.max.messages={limit}"),
                format!("replica.lag.max.messages.comparison={}", messages.name()),
            ],
        }
    }

    /// Whether batches of so many records put healthy followers out of sync.
    pub const fn shuttles_at(self, records: u64, limit: u64) -> bool {
        match self {
            Policy::GreaterOrEqual => records >= limit,
            Policy::Greater => records > limit,
            Policy::Time => false,
        }
    }
}

/// A member left or joined.
#[derive(Debug, Clone)]
pub struct Change {
    /// When the leader noted it.
    pub at: SystemTime,
    /// Milliseconds since the first batch was due.
    pub after_ms: f64,
    /// The leader.
    pub leader: i32,
    /// Who.
    pub broker: i32,
    /// Joined; otherwise left.
    pub joined: bool,
    /// Why.
    pub reason: &'static str,
    /// Records it lacked, where that is known.
    pub lacked_records: Option<i64>,
    /// Members afterwards.
    pub isr_size: i32,
}

/// One policy with one size of batch.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The policy.
    pub policy: Policy,
    /// Records of a batch.
    pub batch_records: u64,
    /// Batches sent and acknowledged.
    pub batches: u32,
    /// Times that the ISR shrank.
    pub shrinks: i64,
    /// Times that it grew.
    pub expansions: i64,
    /// Its smallest size.
    pub isr_min: i32,
    /// Acknowledgement times, microseconds, ascending.
    pub ack_us: Vec<f64>,
    /// Every change that the leaders told.
    pub changes: Vec<Change>,
}

impl Cell {
    /// Whether the count is what the rule foretells.
    pub fn as_foretold(&self, limit: u64) -> bool {
        (self.shrinks > 0) == self.policy.shuttles_at(self.batch_records, limit)
    }

    /// A percentile of the acknowledgement times.
    pub fn ack_us_at(&self, share: f64) -> Option<f64> {
        let last = self.ack_us.len().checked_sub(1)?;
        Some(self.ack_us[((last as f64) * share).round() as usize])
    }

    /// Its row of `isr_shuttle.csv`.
    pub fn row(&self, run_id: &str, limit: u64) -> Row {
        let mut row = Row::default();
        row.set("run_id", run_id);
        row.set("policy", self.policy.name());
        row.set("lag_max_messages", (self.policy != Policy::Time).then_some(limit));
        row.set("batch_records", self.batch_records);
        row.set("batches", self.batches);
        row.set("isr_shrinks", self.shrinks);
        row.set("isr_expansions", self.expansions);
        row.set("isr_min", self.isr_min);
        row.set("ack_p50_us", self.ack_us_at(0.5).map(|us| format!("{us:.1}")));
        row.set("ack_max_us", self.ack_us_at(1.0).map(|us| format!("{us:.1}")));
        row.set("as_foretold", self.as_foretold(limit));
        row
    }

    /// Its rows of `events.csv`.
    pub fn event_rows<'a>(&'a self, run_id: &'a str) -> impl Iterator<Item = Row> + 'a {
        self.changes.iter().map(move |change| {
            let mut row = Row::default();
            row.set("run_id", run_id);
            row.set("policy", self.policy.name());
            row.set("batch_records", self.batch_records);
            row.set("at_utc", environment::utc(change.at));
            row.set("after_ms", format!("{:.0}", change.after_ms));
            row.set("event", if change.joined { "isr_expand" } else { "isr_shrink" });
            row.set("leader", change.leader);
            row.set("broker", change.broker);
            row.set("reason", change.reason);
            row.set("lacked_records", change.lacked_records);
            row.set("isr_size", change.isr_size);
            row
        })
    }
}

/// Runs the experiment. The exit code: 0 the counts are what the rules foretell, 2 they are not.
pub async fn run(arguments: &IsrShuttleArguments) -> Result<ExitCode> {
    ensure!(arguments.limit > 0, "--limit 0 would switch the rule off; it must be at least 1");
    ensure!(arguments.batches > 0, "--batches must be at least 1");
    let started = SystemTime::now();
    let run_id = match &arguments.name {
        Some(name) => name.clone(),
        None => format!("{}-isr-shuttle", environment::utc_compact(started)),
    };
    let directory = arguments.output.join(&run_id);
    let environment = Environment::read();
    let sizes = [arguments.limit, arguments.limit + 1];
    println!(
        "Batches of {} and {} records, {} of each, under {} policies; results go to {}",
        sizes[0],
        sizes[1],
        arguments.batches,
        Policy::ALL.len(),
        directory.display()
    );
    let mut cells = Vec::new();
    for policy in Policy::ALL {
        let settings = Settings::resolve(&SweepArguments {
            set: policy.settings(arguments.limit),
            brokers: Some(REPLICATION_FACTOR as u16),
            ..SweepArguments::default()
        })?;
        let target = Target::start(&settings).await?;
        for records in sizes {
            let cell = measure(&target, policy, records, arguments).await;
            let cell = cell.with_context(|| format!("{}, batches of {records}", policy.title(arguments.limit)))?;
            println!(
                "{}, batches of {records}: {} shrinks, {} expansions",
                policy.title(arguments.limit),
                cell.shrinks,
                cell.expansions
            );
            cells.push(cell);
        }
        target.end().await?;
    }
    let manifest = serde_json::json!({
        "schema_version": 1,
        "experiment": shuttle::EXPERIMENT,
        "run_id": run_id,
        "started_at_utc": environment::utc(started),
        "settings": {
            "limit": arguments.limit,
            "batches": arguments.batches,
            "interval_ms": arguments.interval_ms,
            "acks": "all",
            "brokers": REPLICATION_FACTOR,
            "replication_factor": REPLICATION_FACTOR,
            "min_insync_replicas": 1,
            "transport": "quic",
        },
        "environment": environment,
    });
    shuttle::write(&directory, &manifest, &cells, arguments.limit)?;
    let run = shuttle::read(&directory)?;
    println!("{}", shuttle::text(&run));
    println!("Report: {}", directory.join("report.html").display());
    if cells.iter().all(|cell| cell.as_foretold(arguments.limit)) {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("minisr-loadgen: the counts are not what the rules foretell (exit code 2)");
    Ok(ExitCode::from(2))
}

async fn measure(target: &Target, policy: Policy, records: u64, arguments: &IsrShuttleArguments) -> Result<Cell> {
    let client = target.client()?;
    let admin = Admin::new(client.clone());
    let topic = format!("shuttle-{records}");
    admin.create_topic(&NewTopic::new(&topic, 1, REPLICATION_FACTOR)).await.context("the topic was refused")?;
    admin.wait_until_in_sync(&topic, 1, IN_SYNC_LIMIT).await?;

    let config = ProducerConfig {
        acks: -1,
        idempotence: true,
        batch_records_max: i32::try_from(records)?,
        // A batch leaves when it has its records, and never before.
        linger: BATCH_LIMIT,
        max_in_flight: 1,
        ..ProducerConfig::default()
    };
    let (producer, mut reports) = Producer::with_reports(client.clone(), config)?;
    let partition = producer.partition(&topic, 0);
    let (begun, began_at) = (Instant::now(), SystemTime::now());
    let mut told = Told::new(began_at);
    let mut ack_us = Vec::new();
    let value = [b'x'; 100];
    for number in 0..arguments.batches {
        let due = begun + Duration::from_millis(u64::from(number) * arguments.interval_ms);
        tokio::time::sleep_until(due.into()).await;
        let sent = Instant::now();
        for tag in 0..records {
            producer.append(partition, &Record::of(&value), tag)?;
        }
        let report = tokio::time::timeout(BATCH_LIMIT, reports.recv()).await.context("a batch is not answered")?;
        let report = report.context("the producer ended")?;
        ensure!(report.outcome == Outcome::Ok, "batch {number} was not acknowledged: {:?}", report.outcome);
        ensure!(report.tags.len() as u64 == records, "batch {number} has {} records", report.tags.len());
        ack_us.push(report.completed_at.duration_since(sent).as_secs_f64() * 1e6);
        if (number + 1) % ASK_EVERY_BATCHES == 0 {
            told.hear(&admin.isr_reports(&topic).await?);
        }
    }
    // Whoever was thrown out by the last batch comes back too.
    admin.wait_until_in_sync(&topic, 1, IN_SYNC_LIMIT).await?;
    admin.topic(&topic).await?;
    told.hear(&admin.isr_reports(&topic).await?);
    producer.close(BATCH_LIMIT).await;
    ensure!(!told.counts.is_empty(), "no leader told its counts");
    ack_us.sort_by(f64::total_cmp);
    told.changes.sort_by_key(|change| change.at);
    Ok(Cell {
        policy,
        batch_records: records,
        batches: arguments.batches,
        shrinks: told.counts.values().map(|(shrinks, _)| shrinks).sum(),
        expansions: told.counts.values().map(|(_, expansions)| expansions).sum(),
        isr_min: told.changes.iter().map(|change| change.isr_size).fold(i32::from(REPLICATION_FACTOR), i32::min),
        ack_us,
        changes: told.changes,
    })
}

/// What the leaders have told so far. Should the leader change, each tells its part.
struct Told {
    began_at: SystemTime,
    counts: BTreeMap<i32, (i64, i64)>,
    seen: BTreeSet<(i32, i64)>,
    changes: Vec<Change>,
}

impl Told {
    fn new(began_at: SystemTime) -> Told {
        Told { began_at, counts: BTreeMap::new(), seen: BTreeSet::new(), changes: Vec::new() }
    }

    fn hear(&mut self, reports: &BTreeMap<i32, (i32, IsrReport)>) {
        let now = SystemTime::now();
        for (leader, report) in reports.values() {
            self.counts.insert(*leader, (report.shrinks, report.expansions));
            for change in report.changes.iter().filter(|change| self.seen.insert((*leader, change.number))) {
                let at = now - Duration::from_millis(u64::try_from(change.ago_ms).unwrap_or(0));
                let after_ms = at.duration_since(self.began_at).unwrap_or_default().as_secs_f64() * 1e3;
                self.changes.push(Change {
                    at,
                    after_ms,
                    leader: *leader,
                    broker: change.broker,
                    joined: change.joined,
                    reason: change.reason.name(),
                    lacked_records: change.lacked_records,
                    isr_size: change.isr_size,
                });
            }
        }
    }
}
