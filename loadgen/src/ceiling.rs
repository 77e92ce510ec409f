//! Runs the ceiling program before and after the sweep: the yardstick of the same machine in the same minutes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

/// What one run of `minisr-ceiling` said. Only what is used here is named; the rest is kept for the manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CeilingReport {
    /// Copies of every byte.
    pub replication_factor: u16,
    /// `throughput` or `ping-pong`.
    pub mode: String,
    /// `quic`, `tcp` or `tcp-tls`.
    pub transport: String,
    /// Megabytes (10⁶) of user data per second.
    pub acked_mb_s: f64,
    /// The same in MiB.
    pub acked_mib_s: f64,
    /// Size at which each process empties its file and begins again.
    #[serde(default = "reused_file_mib")]
    pub file_mib: u64,
    /// Frames per second at most; absent without a limit.
    #[serde(default)]
    pub rate_frames_s: Option<f64>,
    /// By half second: the spread.
    pub interval_mb_s: Vec<f64>,
    /// Send to acknowledgement.
    pub latency_us: CeilingLatency,
    /// Everything else.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// Times of a ceiling.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CeilingLatency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Everything else.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// The ceilings of one sweep, or why there are none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ceilings {
    /// Every run.
    pub reports: Vec<CeilingReport>,
    /// A sentence when there is nothing to compare with.
    pub missing: Option<String>,
}

/// The ceiling's own default, which runs of earlier versions used throughout.
fn reused_file_mib() -> u64 {
    256
}

/// A file that is never full within a run, so that it only grows, as a log does.
const GROWING_FILE_MIB: u64 = 16 * 1024;

/// Why ceilings were not measured, when that is what the user asked for.
pub const LEFT_OUT: &str = "the ceiling was left out (--no-ceiling), so there are no ratios";

impl Ceilings {
    /// Largest throughput with this many copies: what a machine shared with others allows is seen in its best run. An
    /// earlier version's sweeps have runs with growing files too, which are another yardstick.
    pub fn throughput(&self, replication_factor: u16) -> Option<&CeilingReport> {
        self.find("throughput", replication_factor)
            .filter(|report| report.file_mib < GROWING_FILE_MIB)
            .max_by(|one, other| one.acked_mb_s.total_cmp(&other.acked_mb_s))
    }

    /// Round trip of one record through all hops with this many copies, the next sent when the last has come back.
    pub fn round_trip(&self, replication_factor: u16) -> Option<&CeilingReport> {
        self.find("ping-pong", replication_factor).find(|report| report.rate_frames_s.is_none())
    }

    /// The same at the rate of the constant-rate phase: processes sleep between two records, and waking them is most
    /// of the time.
    pub fn round_trip_at_rate(&self, replication_factor: u16) -> Option<&CeilingReport> {
        self.find("ping-pong", replication_factor).find(|report| report.rate_frames_s.is_some())
    }

    fn find<'a>(&'a self, mode: &'a str, replication_factor: u16) -> impl Iterator<Item = &'a CeilingReport> {
        self.reports.iter().filter(move |report| report.mode == mode && report.replication_factor == replication_factor)
    }
}

/// One run to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CeilingRun {
    /// For people.
    pub title: String,
    /// Made again after the sweep. Throughput is: the machine may have been busy with something else the first time.
    pub again: bool,
    /// Whether it writes as much as it can, for which the memory is warmed.
    pub throughput: bool,
    arguments: Vec<String>,
}

/// Seconds that a run of the sweep measures.
const WINDOW_S: f64 = 2.0;
/// Seconds before them.
const WARMUP_S: f64 = 0.5;
/// Seconds that one run of the sweep takes, its start and end included.
pub const RUN_S: f64 = WARMUP_S + WINDOW_S + 0.5;

/// What becomes of the files into which a ceiling writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Emptied at the program's own default size, and used again.
    Reused,
    /// They only grow, as a log does.
    Growing,
}

impl CeilingRun {
    /// As many frames as the settings have batches in flight.
    pub fn throughput(settings: &Settings, replication_factor: u16, files: Files, window_s: f64) -> CeilingRun {
        let in_flight = settings.partitions * settings.max_in_flight;
        let mut run = CeilingRun::new(settings, "throughput", replication_factor, window_s);
        run = run.with("--batch-bytes", settings.batch_bytes).with("--in-flight", in_flight);
        run = run.with("--streams", settings.streams);
        if files == Files::Growing {
            run = run.with("--file-mib", GROWING_FILE_MIB);
            run.title.push_str(", growing files");
        }
        run
    }

    /// One record at a time: the next when the last has come back, or at a rate.
    pub fn round_trip(settings: &Settings, replication_factor: u16, rate: Option<f64>, window_s: f64) -> CeilingRun {
        let mut run = CeilingRun::new(settings, "ping-pong", replication_factor, window_s);
        run = run.with("--batch-bytes", settings.record_size_bytes).with("--in-flight", 1).with("--streams", 1);
        if let Some(rate) = rate {
            run = run.with("--rate", rate);
            run.title.push_str(&format!(" at {rate}/s"));
        }
        run
    }

    /// One hop, the server sends from memory.
    pub fn receive(settings: &Settings, window_s: f64) -> CeilingRun {
        let run = CeilingRun::new(settings, "receive", 1, window_s);
        run.with("--batch-bytes", settings.batch_bytes).with("--streams", settings.streams)
    }

    fn new(settings: &Settings, mode: &str, replication_factor: u16, window_s: f64) -> CeilingRun {
        let throughput = mode == "throughput";
        let title = format!("{} {mode} RF {replication_factor}", settings.transport);
        let run = CeilingRun { title, again: throughput, throughput, arguments: vec!["--json".to_owned()] };
        run.with("--transport", settings.transport)
            .with("--mode", mode)
            .with("--replication-factor", replication_factor)
            .with("--duration", window_s)
            .with("--warmup", WARMUP_S)
    }

    fn with(mut self, flag: &str, value: impl ToString) -> CeilingRun {
        self.arguments.extend([flag.to_owned(), value.to_string()]);
        self
    }
}

/// For each replication factor of the sweep a run with the same bytes in flight, streams and batch size, one with a single
/// record at a time, and one with a single record at a time at the constant rate. Those of throughput come first, so that
/// one warming of the memory serves them all. With files that only grow `just reach` measures.
pub fn plan(settings: &Settings) -> Vec<CeilingRun> {
    let mut factors: Vec<u16> = settings.cells.iter().map(|cell| cell.replication_factor.min(3)).collect();
    factors.sort_unstable();
    factors.dedup();
    let mut runs = Vec::new();
    for &replication_factor in &factors {
        runs.push(CeilingRun::throughput(settings, replication_factor, Files::Reused, WINDOW_S));
    }
    for &replication_factor in &factors {
        runs.push(CeilingRun::round_trip(settings, replication_factor, None, WINDOW_S));
        // The runtime's timer, by which the ceiling is paced, has a resolution of a millisecond.
        if settings.rate_records_s <= 1_000.0 {
            runs.push(CeilingRun::round_trip(settings, replication_factor, Some(settings.rate_records_s), WINDOW_S));
        }
    }
    runs
}

/// The program: named by `MINISR_CEILING`, or beside this one.
pub fn find_program() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("MINISR_CEILING") {
        let path = PathBuf::from(named);
        if !path.is_file() {
            bail!("MINISR_CEILING names {}, which is not a file", path.display());
        }
        return Ok(path);
    }
    let this = std::env::current_exe()?;
    // Test programs stand in `deps/`, one level below.
    let beside = this.ancestors().skip(1).take(2).map(|directory| directory.join("minisr-ceiling"));
    beside.into_iter().find(|path| path.is_file()).context(
        "minisr-ceiling is not built, so there are no ratios: build it with `cargo build --release -p minisr-benches`, \
         or name it in MINISR_CEILING",
    )
}

/// Makes one run.
pub async fn run(program: &Path, run: &CeilingRun) -> Result<CeilingReport> {
    let mut command = tokio::process::Command::new(program);
    command.args(&run.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // The program bounds itself by what it was asked to measure; this is for one that hangs.
    let output = tokio::time::timeout(Duration::from_secs(120), command.output())
        .await
        .context("the ceiling took longer than 120 seconds")?
        .with_context(|| format!("{} cannot be started", program.display()))?;
    if !output.status.success() {
        bail!("the ceiling failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("the ceiling's answer is not understood")
}
