//! Where and with what a run was made: `manifest.json`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Machine, system and build.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// A digest of the machine's id: tells machines apart without naming them.
    pub host_id: Option<String>,
    /// Kernel release.
    pub kernel: Option<String>,
    /// CPU model.
    pub cpu_model: Option<String>,
    /// CPUs this process may use.
    pub cpu_count: usize,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// File system of the directory in which an embedded cluster keeps its data.
    pub data_file_system: Option<String>,
    /// CPU frequency governor.
    pub governor: Option<String>,
    /// Container's CPU limit (cgroup v2 `cpu.max`).
    pub cgroup_cpu_max: Option<String>,
    /// Container's memory limit (cgroup v2 `memory.max`).
    pub cgroup_memory_max: Option<String>,
    /// Default TCP congestion control.
    pub tcp_congestion_default: Option<String>,
    /// One byte there and back over loopback TCP, blocking, median.
    pub loopback_round_trip_us: Option<f64>,
    /// Load average of the last minute when the run began: other work on the machine.
    pub load_average: Option<f64>,
    /// Version of this program.
    pub version: &'static str,
    /// Commit, when the run was started within a clone.
    pub git_sha: Option<String>,
    /// Whether files of the clone differed from that commit.
    pub git_dirty: Option<bool>,
    /// Whether the program was built with optimisation.
    pub optimised_build: bool,
}

impl Environment {
    /// Looks around.
    pub fn read() -> Environment {
        let trimmed = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let (git_sha, git_dirty) = git();
        Environment {
            host_id: trimmed("/etc/machine-id").filter(|id| !id.is_empty()).map(|id| fingerprint(&id)),
            kernel: trimmed("/proc/sys/kernel/osrelease"),
            cpu_model: value_after(&cpu_info, "model name"),
            cpu_count: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: value_after(&memory, "MemTotal")
                .and_then(|text| Some(text.split_whitespace().next()?.parse::<u64>().ok()? * 1024)),
            data_file_system: file_system_of(&std::env::temp_dir()),
            governor: trimmed("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            cgroup_cpu_max: trimmed("/sys/fs/cgroup/cpu.max"),
            cgroup_memory_max: trimmed("/sys/fs/cgroup/memory.max"),
            tcp_congestion_default: trimmed("/proc/sys/net/ipv4/tcp_congestion_control"),
            loopback_round_trip_us: loopback_round_trip_us(),
            load_average: trimmed("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            version: env!("CARGO_PKG_VERSION"),
            git_sha,
            git_dirty,
            optimised_build: !cfg!(debug_assertions),
        }
    }
}

fn value_after(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// FNV-1a in hexadecimal: an identity, not a secret.
fn fingerprint(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

fn git() -> (Option<String>, Option<bool>) {
    let run = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // Only a clone of this project says anything about the program that runs.
    let ours = run(&["ls-files", "--error-unmatch", ":/loadgen/Cargo.toml"]).is_some();
    if !ours {
        return (None, None);
    }
    let dirty = run(&["status", "--porcelain", "--untracked-files=no"]).map(|text| !text.is_empty());
    (run(&["rev-parse", "HEAD"]), dirty)
}

/// The type of the mount with the longest path that contains the directory.
fn file_system_of(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (place, kind) = (words.next()?, words.next()?);
            directory.starts_with(place).then(|| (place.len(), kind.to_owned()))
        })
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind)
}

fn loopback_round_trip_us() -> Option<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").ok()?;
    let address = listener.local_addr().ok()?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_nodelay(true).ok()?;
    let mut times_us = Vec::new();
    for _ in 0..300 {
        let begin = Instant::now();
        stream.write_all(&[1]).ok()?;
        stream.read_exact(&mut [0]).ok()?;
        times_us.push(begin.elapsed().as_nanos() as f64 / 1_000.0);
    }
    drop(stream);
    echo.join().ok()?.ok()?;
    times_us.sort_by(f64::total_cmp);
    Some(times_us[times_us.len() / 2])
}

/// A moment as `2026-01-31T12:00:00.000Z`.
pub fn utc(moment: SystemTime) -> String {
    let (date, time) = utc_parts(moment);
    format!("{date}T{time}Z")
}

/// A moment as `20260131-120000`: sorts, and is a directory name.
pub fn utc_compact(moment: SystemTime) -> String {
    let (date, time) = utc_parts(moment);
    format!("{}-{}", date.replace('-', ""), time[..8].replace(':', ""))
}

fn utc_parts(moment: SystemTime) -> (String, String) {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days as i64);
    let time = format!("{:02}:{:02}:{:02}.{:03}", second / 3_600, second / 60 % 60, second % 60, since.subsec_millis());
    (format!("{year:04}-{month:02}-{day:02}"), time)
}

/// Days since 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn environment_dates_are_those_of_the_calendar() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56.000Z");
        assert_eq!(at(4_102_444_799), "2099-12-31T23:59:59.000Z");
        assert_eq!(utc_compact(UNIX_EPOCH + Duration::from_secs(951_827_696)), "20000229-123456");
    }

    #[test]
    fn environment_names_kernel_and_file_system() {
        let environment = Environment::read();
        assert!(environment.kernel.is_some());
        assert!(environment.data_file_system.is_some());
        assert!(environment.loopback_round_trip_us.unwrap() > 0.0);
    }
}
