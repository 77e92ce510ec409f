//! One broker process, identified by pid *and* start time, so that a reused pid is never mistaken for it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;

use crate::error::ClusterError;
use crate::watchdog;

/// What a process has used since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all its threads, in microseconds (in steps of 10 ms).
    pub cpu_us: u64,
    /// Memory now resident, in bytes.
    pub rss_bytes: u64,
}

/// The kernel's fixed unit of /proc/<pid>/stat on every Linux architecture that Rust runs on.
const CLOCK_TICKS_PER_SECOND: u64 = 100;

/// Which process a broker is, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub pid: i32,
    /// In clock ticks since boot, from /proc.
    pub start_time: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    Paused,
    Gone,
}

impl Identity {
    /// The identity of a process that we have just started and not yet reaped.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start_time: Stat::read(pid)?.start_time })
    }

    pub(crate) fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut words = text.split_whitespace();
        Some(Self { pid: words.next()?.parse().ok()?, start_time: words.next()?.parse().ok()? })
    }

    pub(crate) fn write(self, path: &Path) -> Result<(), ClusterError> {
        fs::write(path, format!("{} {}\n", self.pid, self.start_time)).map_err(ClusterError::file("write", path))
    }

    pub(crate) fn life(self) -> Life {
        match Stat::read(self.pid) {
            Some(stat) if stat.start_time == self.start_time => match stat.state {
                'Z' | 'X' | 'x' => Life::Gone,
                'T' => Life::Paused,
                _ => Life::Running,
            },
            _ => Life::Gone,
        }
    }

    /// Sends a signal, unless the process is gone.
    pub(crate) fn signal(self, signal: Signal) -> Result<(), nix::Error> {
        if self.life() == Life::Gone {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until no thread runs any more after SIGSTOP. The signal is taken by one thread, which stops the others once
    /// it runs; on a busy machine they go on for milliseconds after `kill` has returned, and answer what comes.
    pub(crate) async fn wait_still(self, bound: Duration) -> Result<(), nix::Error> {
        let deadline = Instant::now() + bound;
        while self.life() != Life::Gone && threads(self.pid).any(|state| !matches!(state, 'T' | 't' | 'Z' | 'X')) {
            if Instant::now() >= deadline {
                return Err(nix::Error::ETIMEDOUT);
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok(())
    }

    pub(crate) fn usage(self) -> Option<Usage> {
        let stat = Stat::read(self.pid).filter(|stat| stat.start_time == self.start_time)?;
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss_kib: u64 = rss.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        Some(Usage { cpu_us: stat.cpu_ticks * 1_000_000 / CLOCK_TICKS_PER_SECOND, rss_bytes: rss_kib * 1024 })
    }
}

/// The states of a process's threads.
fn threads(pid: i32) -> impl Iterator<Item = char> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| Some(Stat::read_file(&task.path().join("stat"))?.state))
}

struct Stat {
    state: char,
    start_time: u64,
    cpu_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::read_file(Path::new(&format!("/proc/{pid}/stat")))
    }

    fn read_file(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        // The second field is the program's name in parentheses and may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            start_time: number(22)?,
            cpu_ticks: number(14)? + number(15)?,
        })
    }
}

/// Starts a broker in a session of its own: neither the terminal's Ctrl-C nor its hang-up reaches it. Before it is a
/// broker it announces itself to the watchdog at `watched_by`.
pub(crate) fn spawn(
    program: &Path,
    arguments: &[OsString],
    environment: &[(String, String)],
    out: &Path,
    log: &Path,
    watched_by: Option<OwnedFd>,
) -> Result<Child, ClusterError> {
    let out_file = File::create(out).map_err(ClusterError::file("create", out))?;
    let log_file = OpenOptions::new().create(true).append(true).open(log).map_err(ClusterError::file("open", log))?;
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(out_file).stderr(log_file);
    #[allow(unsafe_code, reason = "the standard library has no stable way to start a child in a new session")]
    // SAFETY: setsid, getpid, signal and write are async-signal-safe, and nothing here takes memory or a lock; nothing
    // else runs between fork and exec.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            let Some(inbox) = &watched_by else { return Ok(()) };
            // A watchdog that somebody killed must not take this process along.
            signal(Signal::SIGPIPE, SigHandler::SigIgn)?;
            let announced = watchdog::announce(inbox);
            signal(Signal::SIGPIPE, SigHandler::SigDfl)?;
            announced
        });
    }
    command.spawn().map_err(ClusterError::file("start", program))
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(16 * 1024)..]).into_owned();
    let all: Vec<&str> = text.lines().collect();
    if all.is_empty() {
        return "    (the log is empty)".to_owned();
    }
    all[all.len().saturating_sub(lines)..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn process_has_announced_itself_before_it_becomes_a_broker() {
        let dir = tempfile::tempdir().unwrap();
        let (out, log) = (dir.path().join("out"), dir.path().join("log"));
        let (heard, inbox) = nix::unistd::pipe().unwrap();
        let mut child = spawn(Path::new("true"), &[], &[], &out, &log, Some(inbox)).unwrap();
        child.wait().unwrap();
        let mut said = String::new();
        File::from(heard).read_to_string(&mut said).unwrap();
        assert_eq!(said, format!("add {}\n", child.id()));
    }

    #[test]
    fn process_starts_also_where_the_watchdog_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (out, log) = (dir.path().join("out"), dir.path().join("log"));
        let (heard, inbox) = nix::unistd::pipe().unwrap();
        drop(heard);
        let mut child = spawn(Path::new("true"), &[], &[], &out, &log, Some(inbox)).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
