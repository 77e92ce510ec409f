//! The ballast: memory that is taken from the machine before a throughput is measured and given back at that moment, so
//! that the pages which logs are written into are pages that the machine has.
//!
//! A virtual machine may hand its free memory back to its host (free page reporting, a balloon). Whoever writes into
//! such a page waits until the host has given it again, and a cluster writes every byte into the page cache as often as
//! there are replicas: what is then measured is the host. The ceiling suffers as much or as little as its files grow,
//! so not even the ratio is right. Memory that was in use a moment ago costs nothing of the kind. On a machine that
//! keeps its memory the ballast changes nothing.
//!
//! What holds:
//!
//! * It is released immediately before each maximum-throughput phase and the throughput runs of the ceiling, alike for
//!   both, and taken again when what they wrote is deleted, so that it is made of those pages.
//! * It is a process of its own (this program again): the client's memory does not contain it, releasing it is the end
//!   of that process, and the kernel takes it first should memory become scarce.
//! * It is never more than half of what is available, and no more than was to be had within the seconds that it is
//!   given: a host that gives memory slowly would otherwise take longer than the measurement.
//! * It is made of huge pages where the system has them. A host gets back large blocks only, and files are written in
//!   large blocks too, while small pages are found among what is left over between them: a ballast of small pages would
//!   leave most of what a log is going to get cold (measured: docs/PERFORMANCE.md, "Full load").
//! * The moment it is released the file system has its map of free space in memory too ([`crate::free_space`]).
//! * It ends with the program that took it, however that ends: its standard input is then closed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use memmap2::{Advice, MmapMut};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::free_space;

/// Smallest page of any machine: one byte is written into each.
const PAGE_BYTES: usize = 4096;
/// What the process says when pages are its own, before how many MiB of them.
const HELD: &str = "held ";
/// How often that is looked at.
const LOOK_BYTES: usize = 16 << 20;
/// For a measurement that takes the time it needs.
pub const PATIENT: Duration = Duration::from_secs(60);
/// When the process counts as hanging.
const TAKE_LIMIT: Duration = Duration::from_secs(120);
/// How long the process may take to end; freeing memory is the kernel's work of a second.
const RELEASE_LIMIT: Duration = Duration::from_secs(30);

/// What was done, for the manifest.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BallastReport {
    /// Asked for (`--memory-warm-mib`); 0 is none.
    pub asked_mib: u64,
    /// Smallest that was taken: half of the available memory may be less than what was asked for, and so may be what
    /// the host gave in time.
    pub taken_mib_min: Option<u64>,
    /// How much of it was in huge pages, at least.
    pub huge_mib_min: Option<u64>,
    /// How often it was released for a measurement.
    pub releases: u32,
    /// Seconds that taking it took the first time: the machine got its memory from its host, if it has one.
    pub first_take_s: Option<f64>,
    /// The longest of the later times.
    pub later_take_s_max: Option<f64>,
    /// Whether the file system had read its map of free space at the last release, or why not.
    pub free_space_map: Option<String>,
    /// Why it was not taken although it was asked for.
    pub missing: Option<String>,
}

/// Takes and releases.
pub struct Ballast {
    program: PathBuf,
    within: Duration,
    held: Option<Child>,
    report: BallastReport,
}

impl Ballast {
    /// Nothing is taken yet. `program` is `minisr-loadgen`; 0 MiB switches the ballast off. After `within` it is content
    /// with what it has.
    pub fn new(program: PathBuf, asked_mib: u64, within: Duration) -> Ballast {
        Ballast { program, within, held: None, report: BallastReport { asked_mib, ..BallastReport::default() } }
    }

    /// For loads that are not compared with anything, or write little.
    pub fn none() -> Ballast {
        Ballast::new(PathBuf::new(), 0, Duration::ZERO)
    }

    /// What was done so far.
    pub fn report(&self) -> &BallastReport {
        &self.report
    }

    /// The process that holds it.
    pub fn pid(&self) -> Option<u32> {
        self.held.as_ref().and_then(Child::id)
    }

    /// Takes it, unless it is held or off. A failure makes nothing invalid that would be valid without a ballast: it is
    /// returned as the sentence that the report has too.
    pub async fn take(&mut self) -> Option<String> {
        if self.held.is_some() || self.report.asked_mib == 0 {
            return None;
        }
        let begun = Instant::now();
        match self.start().await {
            Ok((child, mib)) => {
                let huge_mib = child.id().map_or(0, huge_mib);
                self.held = Some(child);
                let took_s = begun.elapsed().as_secs_f64();
                let report = &mut self.report;
                report.taken_mib_min = Some(report.taken_mib_min.map_or(mib, |known| known.min(mib)));
                report.huge_mib_min = Some(report.huge_mib_min.map_or(huge_mib, |known| known.min(huge_mib)));
                match report.first_take_s {
                    None => report.first_take_s = Some(took_s),
                    Some(_) => report.later_take_s_max = Some(report.later_take_s_max.unwrap_or(0.0).max(took_s)),
                }
                None
            }
            Err(error) => {
                let sentence = format!("the memory was not warmed: {error:#}");
                self.report.missing = Some(sentence.clone());
                Some(sentence)
            }
        }
    }

    /// Gives it back; returns when the kernel has it, and the file system its map.
    pub async fn release(&mut self) -> Result<()> {
        if self.report.asked_mib == 0 {
            return Ok(());
        }
        if let Some(mut child) = self.held.take() {
            drop(child.stdin.take());
            let ended = tokio::time::timeout(RELEASE_LIMIT, child.wait()).await;
            ended.context("the process that holds the memory does not end")??;
            self.report.releases += 1;
        }
        // Clusters and ceilings keep their files there.
        self.report.free_space_map = Some(match free_space::load(&std::env::temp_dir()) {
            Ok(()) => "read".to_owned(),
            Err(error) => format!("not read: {error}"),
        });
        Ok(())
    }

    async fn start(&self) -> Result<(Child, u64)> {
        let available = available_mib().context("the system does not say how much memory is available")?;
        let mib = self.report.asked_mib.min(available / 2);
        let mut command = Command::new(&self.program);
        command.args(["ballast", "--mib", &mib.to_string()]).args(["--within-s", &self.within.as_secs().to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{} cannot be started", self.program.display()))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        tokio::time::timeout(TAKE_LIMIT, BufReader::new(stdout).read_line(&mut line))
            .await
            .with_context(|| format!("{mib} MiB were not to be had within {} seconds", TAKE_LIMIT.as_secs()))??;
        match line.trim().strip_prefix(HELD).and_then(|held| held.parse().ok()) {
            Some(held_mib) => Ok((child, held_mib)),
            None => bail!("the process that takes the memory ended before it had any of {mib} MiB"),
        }
    }
}

/// The process: takes `mib` MiB, or as much as it gets in time, says how much, and holds it until its standard input
/// ends.
pub fn hold(mib: u64, within: Duration) -> Result<()> {
    let begun = Instant::now();
    // The first to go when memory is scarce: nothing depends on it. Not every system has the file.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let bytes = usize::try_from(mib << 20).context("--mib is more than an address can name")?;
    let mut memory = MmapMut::map_anon(bytes).with_context(|| format!("{mib} MiB are not to be had"))?;
    // A system without huge pages gives small ones, and the report says so.
    let _ = memory.advise(Advice::HugePage);
    let mut held_bytes = 0;
    for part in memory.chunks_mut(LOOK_BYTES).take_while(|_| begun.elapsed() < within) {
        for page in part.chunks_mut(PAGE_BYTES) {
            // Only what is written to is there, and pages of zeros may be shared.
            page[0] = 1;
        }
        held_bytes += part.len();
    }
    println!("{HELD}{}", held_bytes >> 20);
    std::io::stdout().flush()?;
    // Nobody writes: this is the end of the program that started this one, or its wish.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn available_mib() -> Option<u64> {
    mib_of(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// Memory of a process that is in huge pages; 0 where the system does not say.
fn huge_mib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    mib_of(&text, "AnonHugePages:").unwrap_or(0)
}

fn mib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}
