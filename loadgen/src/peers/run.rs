//! The whole comparison: clusters, warming up, turns, files, verdict.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde_json::json;

use super::figures::{self, Compared, broker_cpu_s_per_million_records};
use super::plan::{Measure, Turn, Way, turns};
use super::warm::{self, ROUND_S, Warmth};
use super::{PeersArguments, page, readme, still};
use crate::ballast::{self, Ballast};
use crate::environment::{self, Environment};
use crate::outcome::RunFacts;
use crate::plan::Phase;
use crate::progress::Progress;
use crate::report::chart::{digits, time};
use crate::report::csv::{self, Row, SUMMARY_COLUMNS, decimals};
use crate::report::files::{median, mib_to_mb};
use crate::settings::{Settings, TransportKind};
use crate::sweep::{self, PHASE_OVERHEAD_S, Step, WARM_MIB_S, arguments as command_line, run_step};
use crate::target::Target;
use crate::usage::Usage;

/// Planned seconds until all clusters are up.
const START_S: f64 = 15.0;
/// Planned seconds for warming one peer up.
const WARM_S: f64 = 75.0;
/// Planned seconds until a cluster that stood still is what it was, beside the round of load that shows it.
const GO_ON_S: f64 = 5.0;
/// How long the idle clusters are watched.
const IDLE: Duration = Duration::from_secs(3);

/// Somebody who is measured.
struct Peer {
    way: Way,
    name: String,
    target: Target,
    warmth: Option<Warmth>,
    /// What all its brokers used while nobody asked anything of any cluster; 100 is one core.
    idle_cpu_pct: Option<f64>,
    /// Each time it went on after standing still: rounds that were not measured.
    rounds_after_stillness: Vec<u32>,
}

/// Runs the comparison. The exit code: 0 fine, 2 an acknowledged record was lost by somebody.
pub async fn run(arguments: &PeersArguments) -> Result<ExitCode> {
    arguments.check()?;
    let run_start = SystemTime::now();
    let environment = Environment::read();
    let measures = arguments.measures();
    let ways = ways(arguments);
    let [first, second] = turns(&measures, ways.len(), arguments.repeats, arguments.seed);
    let warmed = ways.iter().filter(|way| is_warmed(way)).count() as f64 * WARM_S;
    let turn_s = |turn: &Turn| planned_s(turn.measure, arguments);
    let changes = ways.len() * (arguments.repeats as usize + 1);
    let planned_s =
        START_S + warmed + changes as f64 * (GO_ON_S + ROUND_S) + first.iter().chain(&second).map(turn_s).sum::<f64>();
    let mut progress = Progress::new(first.len() + second.len(), planned_s, false);
    progress.say(&format!(
        "{} measures of {} peers, {} times, about {:.0} minutes; results go to {}",
        measures.len(),
        ways.len(),
        arguments.repeats,
        (planned_s / 60.0).max(1.0),
        arguments.output.display()
    ));
    if !environment.optimised_build {
        progress.say("This is a build without optimisation: its figures say nothing about speed.");
    }
    let mut run = Run {
        arguments,
        environment,
        run_id: environment::utc_compact(run_start),
        run_start,
        peers: start(arguments, ways, &progress).await?,
        moving: None,
        rows: Vec::new(),
        rate_records_s: None,
        ballast: Ballast::new(std::env::current_exe()?, arguments.memory_warm_mib, ballast::PATIENT),
        no_ballast: Ballast::none(),
        lost: 0,
    };
    run.watch_idle().await;
    for peer in &run.peers {
        still::stand_still(&peer.target).await?;
    }
    sweep::warm(&mut run.ballast, &progress).await;
    std::fs::create_dir_all(&arguments.output)
        .with_context(|| format!("the directory {} cannot be made", arguments.output.display()))?;
    for turn in &first {
        run.let_move_alone(turn.peer, &progress).await?;
        run.take(turn, &mut progress).await?;
    }
    run.rate_records_s = run.half_of_the_yardstick();
    // What is held counts as used: the kernel would make writers wait for the disk at half as many unwritten bytes.
    run.ballast.release().await?;
    run.let_all_move(&progress).await?;
    for turn in &second {
        run.take(turn, &mut progress).await?;
    }
    progress.finish();
    let compared = run.write()?;
    let Run { peers, lost, run_id, .. } = run;
    let yardstick = yardstick(&peers).to_owned();
    let is_warm = peers.iter().all(|peer| peer.warmth.as_ref().is_none_or(|warmth| warmth.flat));
    for peer in peers {
        peer.target.end().await?;
    }
    println!("{}", readme::text(&compared, &yardstick));
    println!("Report: {}", arguments.output.join("report.html").display());
    if let Some(path) = &arguments.readme {
        let path_shown = path.display();
        match (arguments.is_whole(), is_warm) {
            (true, true) => {
                readme::put_into(path, &arguments.output)?;
                println!("{path_shown} has the table of run {run_id}");
            }
            (true, false) => println!("{path_shown} keeps its table: {yardstick} was still getting faster"),
            (false, _) => println!("{path_shown} keeps its table: this run was shortened"),
        }
    }
    if lost > 0 {
        eprintln!("minisr-loadgen: {lost} acknowledged records are lost (exit code 2)");
        return Ok(ExitCode::from(2));
    }
    Ok(ExitCode::SUCCESS)
}

fn ways(arguments: &PeersArguments) -> Vec<Way> {
    let mut ways = vec![Way::Minisr(TransportKind::Tcp), Way::Minisr(TransportKind::Quic)];
    if !arguments.no_kafka {
        ways.push(Way::Kafka);
    }
    if arguments.bootstrap.is_some() {
        ways.push(Way::Named(arguments.bootstrap_name.clone()));
    }
    ways
}

/// minisr is compiled before it runs.
fn is_warmed(way: &Way) -> bool {
    !matches!(way, Way::Minisr(_))
}

fn planned_s(measure: Measure, arguments: &PeersArguments) -> f64 {
    let window_s = match (measure.phase(), measure) {
        (Phase::Max, _) => arguments.max_duration,
        (Phase::Rate, Measure::HalfRate) => arguments.duration,
        (Phase::Rate, _) => arguments.single_duration,
    };
    let memory_s = match measure.phase() {
        Phase::Max => arguments.memory_warm_mib as f64 / WARM_MIB_S,
        Phase::Rate => 0.0,
    };
    // One second of warm-up within each phase.
    1.0 + memory_s + window_s + PHASE_OVERHEAD_S
}

/// Starts what is ours, finds what is not, warms up what needs it.
async fn start(arguments: &PeersArguments, ways: Vec<Way>, progress: &Progress) -> Result<Vec<Peer>> {
    let settings = |way: &Way| Measure::ManyPartitions.settings(arguments, way, None);
    let mut peers = Vec::new();
    for way in ways {
        let settings = settings(&way)?;
        let target = Target::start(&settings).await?;
        peers.push(Peer {
            name: way.name(),
            way,
            target,
            warmth: None,
            idle_cpu_pct: None,
            rounds_after_stillness: Vec::new(),
        });
    }
    for peer in peers.iter_mut().filter(|peer| is_warmed(&peer.way) && arguments.warm_records > 0) {
        progress.say(&format!("{} is warmed up", peer.name));
        let measures = [Measure::ManyPartitions, Measure::OnePartition, Measure::SmallRecords];
        let loads: Vec<Settings> =
            measures.iter().map(|measure| measure.settings(arguments, &peer.way, None)).collect::<Result<_>>()?;
        peer.warmth = Some(warm::warm(&peer.target, &loads, arguments.warm_records, progress).await?);
    }
    Ok(peers)
}

/// Against whom minisr is held: Apache Kafka, or the cluster that was named instead.
fn yardstick(peers: &[Peer]) -> &str {
    let found = peers.iter().find(|peer| peer.way == Way::Kafka).or_else(|| peers.last());
    &found.expect("there are peers").name
}

struct Run<'a> {
    arguments: &'a PeersArguments,
    environment: Environment,
    run_id: String,
    run_start: SystemTime,
    peers: Vec<Peer>,
    /// The one that does not stand still.
    moving: Option<usize>,
    rows: Vec<Row>,
    /// Of the half rate, once it is known.
    rate_records_s: Option<f64>,
    /// The same for everybody: a Java machine's pages come from the same host.
    ballast: Ballast,
    /// While response times are measured.
    no_ballast: Ballast,
    lost: u64,
}

impl Run<'_> {
    async fn watch_idle(&mut self) {
        let begun: Vec<Option<Usage>> = self.peers.iter().map(|peer| Usage::read(&peer.target.broker_pids())).collect();
        tokio::time::sleep(IDLE).await;
        for (peer, begin) in self.peers.iter_mut().zip(begun) {
            let used = begin.and_then(|begin| Some(Usage::read(&peer.target.broker_pids())?.since(&begin)));
            peer.idle_cpu_pct = used.map(|used| used.cpu_pct);
        }
    }

    /// Half of the yardstick's median. A rate is what everybody is asked for, so it is one number for all repeats.
    fn half_of_the_yardstick(&self) -> Option<f64> {
        let yardstick = yardstick(&self.peers);
        let of_yardstick = |row: &&Row| {
            row.text("peer") == Some(yardstick)
                && row.text("measure") == Some(Measure::ManyPartitions.name())
                && row.text("valid") == Some("true")
        };
        let rates = self.rows.iter().filter(of_yardstick).filter_map(|row| row.number("acked_rate_records_s"));
        Some((median(rates)? / 2.0).round())
    }

    /// From here on this peer runs and all others stand still.
    async fn let_move_alone(&mut self, next: usize, progress: &Progress) -> Result<()> {
        if self.moving == Some(next) {
            return Ok(());
        }
        if let Some(last) = self.moving.take() {
            still::stand_still(&self.peers[last].target).await?;
        }
        self.let_go_on(next, progress).await?;
        self.moving = Some(next);
        Ok(())
    }

    async fn let_all_move(&mut self, progress: &Progress) -> Result<()> {
        for peer in (0..self.peers.len()).filter(|peer| self.moving != Some(*peer)).collect::<Vec<_>>() {
            self.let_go_on(peer, progress).await?;
        }
        Ok(())
    }

    async fn let_go_on(&mut self, next: usize, progress: &Progress) -> Result<()> {
        let peer = &mut self.peers[next];
        let load = Measure::ManyPartitions.settings(self.arguments, &peer.way, None)?;
        let topic = format!("unmeasured-{}-{}-{next}", self.run_id, self.rows.len());
        let rounds = still::go_on(&peer.target, &load, &topic, progress)
            .await
            .with_context(|| format!("{} is not ready to be measured", peer.name))?;
        peer.rounds_after_stillness.push(rounds);
        Ok(())
    }

    async fn take(&mut self, turn: &Turn, progress: &mut Progress) -> Result<()> {
        let peer = &self.peers[turn.peer];
        let title = format!("{} {}", turn.measure, peer.name);
        progress.begin(&title);
        if turn.measure == Measure::HalfRate && self.rate_records_s.is_none() {
            anyhow::bail!("half of the maximum rate is not known: no measurement of it was valid");
        }
        let settings = turn.measure.settings(self.arguments, &peer.way, self.rate_records_s)?;
        let step = Step { cell: settings.cells[0], phase: turn.measure.phase(), repeat: turn.repeat };
        let topic = format!("peers-{}-{}", self.run_id, self.rows.len());
        let ballast = match turn.measure.phase() {
            Phase::Max => &mut self.ballast,
            Phase::Rate => &mut self.no_ballast,
        };
        let outcome = run_step(&peer.target, &settings, &step, &topic, ballast, progress).await?;
        let facts = RunFacts {
            run_id: &self.run_id,
            settings: &settings,
            environment: &self.environment,
            brokers: peer.target.brokers,
            connections: Some(settings.streams * peer.target.brokers),
        };
        let mut row = outcome.summary_row(&facts);
        row.set("peer", peer.name.as_str());
        row.set("measure", turn.measure.name());
        let cpu = broker_cpu_s_per_million_records(&row);
        row.set("broker_cpu_s_per_million_records", cpu.map(|seconds| decimals(seconds, 3)));
        progress.end(planned_s(turn.measure, self.arguments), &said(&title, &row));
        self.lost += outcome.acked_lost();
        self.rows.push(row);
        // An interrupted run leaves what it has.
        self.write().map(drop)
    }

    fn write(&self) -> Result<Vec<Compared>> {
        let output = &self.arguments.output;
        let yardstick = yardstick(&self.peers);
        csv::write(&output.join("summary.csv"), &columns(), &self.rows)?;
        let compared = figures::compare(&self.rows, yardstick);
        figures::write(&output.join("ratios.csv"), &self.run_id, &compared)?;
        let peers = self.peers.iter().map(|peer| {
            json!({
                "name": peer.name,
                "brokers": peer.target.brokers,
                "kafka_version": (peer.way == Way::Kafka).then_some(minisr_cluster::KAFKA_VERSION),
                "warmth": peer.warmth,
                "idle_cpu_pct": peer.idle_cpu_pct.map(|pct| (pct * 10.0).round() / 10.0),
                "rounds_after_stillness": peer.rounds_after_stillness,
            })
        });
        let measures = self.arguments.measures().into_iter().map(|measure| {
            let settings = measure.settings(self.arguments, &Way::Minisr(TransportKind::Tcp), self.rate_records_s)?;
            Ok(json!({ "measure": measure.name(), "settings": settings }))
        });
        let manifest = json!({
            "schema_version": 1,
            "run_id": self.run_id,
            "started_at_utc": environment::utc(self.run_start),
            "argv": command_line(),
            "yardstick": yardstick,
            "repeats": self.arguments.repeats,
            "seed": self.arguments.seed,
            "half_rate_records_s": self.rate_records_s,
            "kafka_settings": self.arguments.kafka_settings(),
            "runtime": "current_thread",
            "congestion": "cubic",
            "crypto": "ring",
            "peers": peers.collect::<Vec<_>>(),
            "measures": measures.collect::<Result<Vec<_>>>()?,
            "environment": self.environment,
            "memory_warm": self.ballast.report(),
        });
        let path = output.join("manifest.json");
        std::fs::write(&path, serde_json::to_string_pretty(&manifest)? + "\n")
            .with_context(|| format!("the file {} cannot be written", path.display()))?;
        page::write(output, &manifest, &compared, &self.rows)?;
        Ok(compared)
    }
}

/// Columns of `summary.csv`: those of a sweep behind what tells the rows apart, and one that is worked out of them.
fn columns() -> Vec<&'static str> {
    let mut columns = vec!["peer", "measure"];
    columns.extend(SUMMARY_COLUMNS);
    columns.push("broker_cpu_s_per_million_records");
    columns
}

/// What came out of a turn, in a line.
fn said(title: &str, row: &Row) -> String {
    let mut text = format!("{title}: ");
    match row.text("mode") {
        Some("max") => {
            let mb_s = row.number("acked_mib_s").map_or_else(|| "–".to_owned(), |mib_s| digits(mib_to_mb(mib_s)));
            text.push_str(&format!("{mb_s} MB/s"));
        }
        _ => {
            let of = |column| row.number(column).map_or_else(|| "–".to_owned(), |us| time(us / 1e3));
            text.push_str(&format!("p50 {}, p99 {}", of("response_p50_us"), of("response_p99_us")));
        }
    }
    if let Some(verified) = row.text("verified_records") {
        text.push_str(&format!(", {verified} verified"));
    }
    if let Some(lost) = row.number("acked_lost").filter(|lost| *lost > 0.0) {
        text.push_str(&format!(", {lost} LOST"));
    }
    if let Some(reason) = row.text("invalid_reason") {
        text.push_str(&format!(" [invalid: {reason}]"));
    }
    text
}
