//! One run, from an empty directory to a verdict.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use minisr_client::{Address, ClientConfig, Dialer, TlsFiles, Transport};
use minisr_cluster::{Cluster, ClusterError, ClusterOptions};
use tokio::sync::watch as signal;
use tokio::task::JoinSet;

use crate::availability::{self, FaultWindow, Gap};
use crate::check::{self, Finding};
use crate::cli::{RunArgs, TransportName};
use crate::display::Display;
use crate::failover::{self, Summary};
use crate::history::{History, Promise, Slot};
use crate::injector::{BrokerDied, Injected, Injector, Until, WHOLE_BOUND};
use crate::leaders::Leaders;
use crate::observer::{ANSWER_BOUND, Observer};
use crate::plan::{FaultKind, Plan, Profile};
use crate::recorder::{Event, Recorder};
use crate::replica_log::ReplicaLog;
use crate::report::{self, Compared, Conclusion, Pauses, Verdict};
use crate::workload::produce::{WriterPlan, Writers};
use crate::workload::{consume, read_back, watch};

/// The topic written with acks=all.
pub const DURABLE_TOPIC: &str = "chaos";
/// The topic written with acks=1.
pub const LEADER_ONLY_TOPIC: &str = "chaos-acks1";
/// Steady writing before the first fault and after the last one, so that every pause has two ends.
const STEADY: Duration = Duration::from_secs(2);
const READ_BACK_BOUND: Duration = Duration::from_secs(120);
const SMOKE_FAULTS: u32 = 3;
const SMOKE_SECONDS: f64 = 25.0;
/// Less than this share of the planned writes acknowledged means that nothing worth a verdict was tested.
const ACKED_SHARE_MIN: f64 = 0.2;

/// Everything that the parts of a run share.
struct Scene {
    cluster: Arc<Cluster>,
    observer: Arc<Observer>,
    recorder: Arc<Recorder>,
    /// Topic and partition index of each slot.
    slots: Vec<(String, i32)>,
}

/// What the part with the faults ended with.
struct Hurt {
    injected: Injected,
    /// What did not converge, or broke.
    unhealed: Option<String>,
    faults_s: f64,
    end_us: u64,
}

/// Runs, and leaves results behind. The verdict says how it ended.
pub async fn run(args: &RunArgs) -> anyhow::Result<Verdict> {
    args.check()?;
    // Short enough to be typed again.
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let run = run_name(seed);
    let out = std::path::absolute(args.out.join(&run))?;
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let duration = if args.smoke { Duration::from_secs_f64(SMOKE_SECONDS) } else { args.fault_time() };
    let display = Display::new(duration + STEADY * 2);
    display.say(&format!("chaos run {run}: seed {seed} (repeat with --seed {seed})"));

    let cluster = Arc::new(start_cluster(args, &out).await?);
    let slots: Vec<(String, i32)> = (0..args.partitions)
        .map(|index| (DURABLE_TOPIC.to_owned(), index))
        .chain((0..leader_only_partitions(args)).map(|index| (LEADER_ONLY_TOPIC.to_owned(), index)))
        .collect();
    let promise = |topic: &str| if topic == DURABLE_TOPIC { Promise::Durable } else { Promise::LeaderOnly };
    let named = slots.iter().map(|(topic, index)| (format!("{topic}-{index}"), promise(topic))).collect();
    let scene = Scene {
        observer: Arc::new(Observer::new(&cluster, slots.clone())?),
        recorder: Arc::new(Recorder::new(named, display)),
        cluster,
        slots,
    };
    let result = run_in(args, &scene, run, seed, duration, &out).await;
    if result.is_err() {
        scene.cluster.keep_dir();
        scene.recorder.display().say(&format!("the brokers' directories are kept in {}", out.display()));
    }
    result
}

async fn run_in(
    args: &RunArgs,
    scene: &Scene,
    run: String,
    seed: u64,
    duration: Duration,
    out: &Path,
) -> anyhow::Result<Verdict> {
    create_topics(args, scene).await?;
    let plan = Plan::new(seed, &args.faults, args.victims()).with_profile(args.profile);
    let hurt = hurt(args, scene, plan, duration).await?;
    let mut leaders = scene.leaders(TransportName::Tcp, "chaos-read-back", READ_BACK_BOUND / 8)?;
    scene.recorder.event("phase", None, None, None, "reading everything back");
    let (last, unread) = read_back::read_back(
        &scene.cluster,
        &scene.observer,
        &mut leaders,
        &scene.slots,
        Instant::now() + READ_BACK_BOUND,
    )
    .await;
    let read_at_end = last.reads.len() as u64;
    scene.recorder.read_last(last);
    scene.recorder.event("phase", None, None, None, "comparing replicas at rest");
    let stopped = scene.cluster.stop_all().await.err().map(|error| error.to_string());
    let logs = replicas(scene, args)?;
    scene.recorder.display().finish();

    let (history, events) = scene.recorder.take();
    let gaps = availability::gaps(&history, &hurt.injected.windows, hurt.end_us);
    let unhealed: Vec<String> = hurt.unhealed.into_iter().chain(stopped).chain(unread).collect();
    let findings = judge(args, &history, &gaps, &logs, &unhealed);
    let invalid = invalid(args, &history, &hurt.injected, hurt.faults_s);
    let conclusion = match (findings.iter().any(|finding| finding.count > 0), invalid.is_empty()) {
        (true, _) => Conclusion::Anomaly,
        (false, false) => Conclusion::Invalid,
        (false, true) => Conclusion::Fine,
    };
    let verdict = Verdict {
        run,
        conclusion,
        invalid,
        seed,
        brokers: args.brokers,
        flush: args.flush.map_or_else(|| "default".to_owned(), |flush| flush.to_string()),
        transport: args.transport.to_string(),
        duration_s: hurt.faults_s,
        durable: history.outcomes(|send| history.durable(send.slot)),
        leader_only: history.outcomes(|send| !history.durable(send.slot)),
        leader_only_lost: report::leader_only_lost(&history),
        read_at_end,
        faults: hurt.injected.counts,
        unavailability: report::unavailability(&gaps),
        unavailability_kill: Pauses::of(
            gaps.iter().filter(|gap| gap.kind == FaultKind::Kill && gap.alone && gap.affected),
        ),
        compared: Compared {
            partitions: logs.len(),
            replicas: logs.iter().map(|(_, logs)| logs.len()).sum(),
            batches: logs.iter().flat_map(|(_, logs)| logs).map(|log| log.batches.len()).sum(),
        },
        findings,
        failover: match args.profile {
            Profile::Mixed => Vec::new(),
            Profile::Failover => time_failovers(scene, out, &hurt.injected.windows, &gaps)?,
        },
        evidence: (conclusion == Conclusion::Anomaly || args.keep).then(|| out.display().to_string()),
    };
    leave_results(scene, out, &verdict, &history, &events, &gaps)?;
    Ok(verdict)
}

/// What the kills cost, stage by stage; files beside the run's others.
fn time_failovers(scene: &Scene, out: &Path, windows: &[FaultWindow], gaps: &[Gap]) -> anyhow::Result<Vec<Summary>> {
    let mut noted = Vec::new();
    for id in scene.cluster.ids() {
        noted.extend(failover::read_log(&scene.cluster.log_path(id), id, scene.recorder.started_at())?);
    }
    let rows = failover::rows(windows, gaps, &noted);
    let summaries = failover::summaries(&rows, gaps);
    failover::write_files(out, &rows, &summaries)?;
    Ok(summaries)
}

async fn start_cluster(args: &RunArgs, out: &Path) -> anyhow::Result<Cluster> {
    let mut options = ClusterOptions {
        dir: Some(out.join("cluster")),
        flush: args.flush,
        broker_binary: args.broker_binary.clone(),
        remove_dir: true,
        ..ClusterOptions::new(args.brokers)
    };
    options = options.set("min.insync.replicas", args.min_insync_replicas);
    if args.profile == Profile::Failover {
        options.environment.push(("RUST_LOG".to_owned(), failover::LOG_FILTER.to_owned()));
    }
    options.settings.extend(args.settings.iter().cloned());
    Ok(Cluster::start(options).await?)
}

fn leader_only_partitions(args: &RunArgs) -> i32 {
    if args.acks1_rate > 0.0 { args.partitions.min(3) } else { 0 }
}

async fn create_topics(args: &RunArgs, scene: &Scene) -> anyhow::Result<()> {
    let mut leaders = scene.leaders(TransportName::Tcp, "chaos-setup", Duration::from_secs(15))?;
    let broker = scene.cluster.ids().next().expect("a cluster has brokers");
    leaders.create_topic(broker, DURABLE_TOPIC, args.partitions, args.replication_factor).await?;
    if leader_only_partitions(args) > 0 {
        let partitions = leader_only_partitions(args);
        leaders.create_topic(broker, LEADER_ONLY_TOPIC, partitions, args.replication_factor).await?;
    }
    Ok(())
}

/// The part with writers, readers and faults, until the cluster has healed and all writes have ended.
async fn hurt(args: &RunArgs, scene: &Scene, plan: Plan, duration: Duration) -> anyhow::Result<Hurt> {
    let Scene { cluster, observer, recorder, .. } = scene;
    let injector = Injector::new(cluster, observer, recorder);
    anyhow::ensure!(injector.whole(WHOLE_BOUND).await?, "the new topics did not get every replica in sync");
    let (stop, stopped) = signal::channel(false);
    let (views, view) = signal::channel(Arc::default());
    let mut watchers = JoinSet::new();
    watchers.spawn(watch::watch(
        cluster.clone(),
        observer.clone(),
        recorder.clone(),
        scene.leaders(TransportName::Tcp, "chaos-latest", ANSWER_BOUND)?,
        scene.slots.iter().map(|(topic, index)| format!("{topic}-{index}")).collect(),
        views,
        stopped.clone(),
    ));
    let leaders = scene.leaders(TransportName::Tcp, "live-tcp", ANSWER_BOUND)?;
    let slots = scene.slots.len();
    watchers.spawn(consume::follow("live-tcp", slots, leaders, recorder.clone(), view.clone(), stopped.clone()));
    let client = scene.client(TransportName::Quic, "live-quic")?;
    let mut consumers = JoinSet::new();
    consumers.spawn(consume::consume("live-quic", scene.slots.clone(), client, recorder.clone(), stopped.clone()));
    let writers = Writers::start(scene.writers(args)?, recorder)?;
    recorder.event("phase", None, None, None, "writing");
    tokio::time::sleep(STEADY).await;

    let began = Instant::now();
    let until = Until {
        deadline: began + duration,
        faults_max: args.faults_max.unwrap_or(match args.profile {
            Profile::Failover => args.kills,
            Profile::Mixed if args.smoke => SMOKE_FAULTS,
            Profile::Mixed => u32::MAX,
        }),
    };
    let mut injected = Injected::default();
    let mut unhealed = broke(show_progress(recorder, began, injector.run(plan, until, &mut injected)).await)?;
    let faults_s = began.elapsed().as_secs_f64();

    recorder.event("phase", None, None, None, "healing");
    if unhealed.is_none() {
        unhealed = broke(injector.heal().await)?;
    }
    if unhealed.is_none() {
        let whole = injector.whole(WHOLE_BOUND).await;
        unhealed = match whole {
            Ok(true) => None,
            Ok(false) => Some(not_whole(scene).await),
            Err(error) => broke(Err(error))?,
        };
    }
    tokio::time::sleep(STEADY).await;
    let end_us = recorder.now_us();
    recorder.event("phase", None, None, None, "waiting for the last acknowledgements");
    writers.finish().await;
    stop.send_replace(true);
    while let Some(ended) = watchers.join_next().await {
        ended?;
    }
    while let Some(ended) = consumers.join_next().await {
        ended??;
    }
    Ok(Hurt { injected, unhealed, faults_s, end_us })
}

/// A broker that crashed or does not come up is what we are looking for, not an error of ours.
fn broke(result: anyhow::Result<()>) -> anyhow::Result<Option<String>> {
    let Err(error) = result else { return Ok(None) };
    let broken = error.is::<BrokerDied>()
        || matches!(
            error.downcast_ref::<ClusterError>(),
            Some(ClusterError::NotReady { .. } | ClusterError::NotStopped { .. } | ClusterError::WrongState { .. })
        );
    if broken { Ok(Some(error.to_string())) } else { Err(error) }
}

async fn show_progress<T>(recorder: &Recorder, began: Instant, work: impl Future<Output = T>) -> T {
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = tick.tick() => {
                let (begun, ended, acked) = recorder.progress();
                let waiting = begun - ended;
                recorder.display().progress(began.elapsed(), &format!("{acked} acked, {waiting} waiting"));
            }
        }
    }
}

async fn not_whole(scene: &Scene) -> String {
    let seconds = WHOLE_BOUND.as_secs();
    match scene.observer.view(&scene.cluster).await {
        Ok(view) => {
            let describe = |slot: &u16| {
                let partition = &view.partitions[usize::from(*slot)];
                let (topic, index) = &scene.slots[usize::from(*slot)];
                format!("{topic}-{index} leader {:?} in sync {:?}", partition.leader, partition.isr)
            };
            let missing: Vec<String> = view.not_whole.iter().map(describe).collect();
            format!(
                "{seconds} s after healing {} brokers answer and not every replica is in sync: {}",
                view.answered,
                missing.join("; ")
            )
        }
        Err(error) => format!("{seconds} s after healing no broker describes the cluster: {error:#}"),
    }
}

impl Scene {
    fn addresses(&self, transport: TransportName) -> Vec<Address> {
        let sockets = match transport {
            TransportName::Quic => self.cluster.bootstrap_quic(),
            TransportName::Tcp => self.cluster.bootstrap_tcp(),
        };
        sockets.into_iter().map(|socket| Address::new(socket.ip().to_string(), socket.port())).collect()
    }

    fn transport(&self, name: TransportName) -> anyhow::Result<Transport> {
        Ok(match name {
            TransportName::Quic => Transport::Quic(TlsFiles::ca_only(self.cluster.ca_path()).load()?),
            TransportName::Tcp => Transport::Tcp,
        })
    }

    /// Plain connections to leaders.
    fn leaders(&self, transport: TransportName, name: &'static str, bound: Duration) -> anyhow::Result<Leaders> {
        let dialer = Dialer::new(&self.transport(transport)?, ANSWER_BOUND)?;
        let addresses = self.cluster.ids().zip(self.addresses(transport)).collect();
        Ok(Leaders::new(dialer, addresses, self.slots.clone(), name, bound))
    }

    fn client(&self, transport: TransportName, name: &str) -> anyhow::Result<ClientConfig> {
        let config = ClientConfig::new(self.addresses(transport), self.transport(transport)?);
        Ok(ClientConfig { client_id: name.to_owned(), ..config })
    }

    fn writers(&self, args: &RunArgs) -> anyhow::Result<Vec<WriterPlan>> {
        let targets = |wanted: &str| {
            let slots = self.slots.iter().enumerate().filter(|(_, (topic, _))| topic == wanted);
            slots.map(|(slot, (topic, index))| (topic.clone(), *index, slot as Slot)).collect::<Vec<_>>()
        };
        let plan = |writer: u16, acks: i16, rate: f64, targets: Vec<(String, i32, Slot)>| {
            let client = self.client(args.transport, &format!("chaos-writer-{writer}"))?;
            let delivery_timeout = Duration::from_secs_f64(args.delivery_timeout);
            anyhow::Ok(WriterPlan {
                writer,
                client,
                acks,
                rate,
                record_bytes: args.record_bytes,
                delivery_timeout,
                targets,
            })
        };
        let mut plans = Vec::new();
        for writer in 0..args.producers {
            let mut mine = targets(DURABLE_TOPIC);
            // So that the writers are not all at the same partition at the same moment.
            let shift = usize::from(writer) % mine.len();
            mine.rotate_left(shift);
            plans.push(plan(writer, -1, args.rate / f64::from(args.producers), mine)?);
        }
        if leader_only_partitions(args) > 0 {
            plans.push(plan(args.producers, 1, args.acks1_rate, targets(LEADER_ONLY_TOPIC))?);
        }
        Ok(plans)
    }
}

fn replicas(scene: &Scene, args: &RunArgs) -> anyhow::Result<Vec<(String, Vec<ReplicaLog>)>> {
    let mut partitions = Vec::new();
    for (topic, index) in &scene.slots {
        let mut logs = Vec::new();
        for id in scene.cluster.ids() {
            logs.extend(ReplicaLog::read(&scene.cluster.data_dir(id), id, topic, *index)?);
        }
        if logs.len() != args.replication_factor as usize {
            let problem = format!("{} brokers hold it instead of {}", logs.len(), args.replication_factor);
            match logs.first_mut() {
                Some(log) => log.problems.push(problem),
                None => anyhow::bail!("no broker's data directory holds {topic}-{index}"),
            }
        }
        partitions.push((format!("{topic}-{index}"), logs));
    }
    Ok(partitions)
}

fn judge(
    args: &RunArgs,
    history: &History,
    gaps: &[Gap],
    logs: &[(String, Vec<ReplicaLog>)],
    unhealed: &[String],
) -> Vec<Finding> {
    let mut findings = check::history_checks(history);
    findings.push(check::replica_divergence::check(logs));
    findings.push(check::no_progress::check(gaps, (args.unavailability_max * 1e6) as u64, unhealed));
    findings
}

/// Why the run has tested nothing, if so.
fn invalid(args: &RunArgs, history: &History, injected: &Injected, faults_s: f64) -> Vec<String> {
    let mut reasons = Vec::new();
    if injected.windows.is_empty() {
        reasons.push("no fault was injected".to_owned());
    }
    let outcomes = history.outcomes(|send| history.durable(send.slot));
    let planned = args.rate * (faults_s + 2.0 * STEADY.as_secs_f64());
    if outcomes.acked == 0 {
        reasons.push("nothing was acknowledged".to_owned());
    } else if (outcomes.acked as f64) < planned * ACKED_SHARE_MIN {
        reasons.push(format!("only {} of about {planned:.0} planned writes were acknowledged", outcomes.acked));
    }
    reasons
}

fn leave_results(
    scene: &Scene,
    out: &Path,
    verdict: &Verdict,
    history: &History,
    events: &[Event],
    gaps: &[Gap],
) -> anyhow::Result<()> {
    report::write_files(out, verdict, history, events, gaps)?;
    if verdict.evidence.is_some() {
        scene.cluster.keep_dir();
        return Ok(());
    }
    // The logs of the brokers are small and tell most; the data goes.
    for id in scene.cluster.ids() {
        let log: PathBuf = scene.cluster.log_path(id);
        let _ = std::fs::copy(log, out.join(format!("broker-{id}.log")));
    }
    Ok(())
}

/// `20261121-143005-seed42`, in UTC: names sort by time.
fn run_name(seed: u64) -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-seed{seed}")
}

/// The Gregorian date of a day since 1970-01-01 (Howard Hinnant's `civil_from_days`, for days not before it).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_name_dates_are_gregorian() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_778), (2026, 11, 21));
    }

    #[test]
    fn run_without_faults_or_acks_is_invalid() {
        let args = <crate::cli::Cli as clap::Parser>::parse_from(["minisr-chaos", "run"]);
        let crate::cli::Command::Run(args) = args.command else { unreachable!("`run` was asked for") };
        assert_eq!(invalid(&args, &History::default(), &Injected::default(), 10.0).len(), 2);
    }
}
