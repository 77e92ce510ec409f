//! CPU, memory and disk writes of processes, from /proc.

use std::fs;
use std::time::Instant;

/// What processes have used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    at: Instant,
    cpu_s: f64,
    /// Memory now resident, of all together.
    pub rss_bytes: u64,
    disk_write_bytes: u64,
}

/// What processes used between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Used {
    /// 100 is one core.
    pub cpu_pct: f64,
    /// Resident at the end.
    pub rss_bytes: u64,
    /// Bytes for which the kernel was asked to write to disk, now or later.
    pub disk_write_bytes: u64,
}

impl Usage {
    /// Reads several processes together; nothing when one of them is gone.
    pub fn read(pids: &[u32]) -> Option<Usage> {
        if pids.is_empty() {
            return None;
        }
        let mut usage = Usage { at: Instant::now(), cpu_s: 0.0, rss_bytes: 0, disk_write_bytes: 0 };
        for pid in pids {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name in parentheses may contain anything; fields are counted behind it.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
            // The unit of /proc is a hundredth of a second on every architecture.
            usage.cpu_s += ticks / 100.0;
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            usage.rss_bytes += field(&status, "VmRSS:")? * 1024;
            let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
            usage.disk_write_bytes += field(&io, "write_bytes:").unwrap_or(0);
        }
        Some(usage)
    }

    /// What was used between `begin` and this reading.
    pub fn since(&self, begin: &Usage) -> Used {
        let elapsed_s = (self.at - begin.at).as_secs_f64().max(1e-6);
        Used {
            cpu_pct: (self.cpu_s - begin.cpu_s).max(0.0) / elapsed_s * 100.0,
            rss_bytes: self.rss_bytes,
            disk_write_bytes: self.disk_write_bytes.saturating_sub(begin.disk_write_bytes),
        }
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_a_busy_process_is_seen() {
        let pids = [std::process::id()];
        let begin = Usage::read(&pids).unwrap();
        let busy_until = Instant::now() + std::time::Duration::from_millis(100);
        while Instant::now() < busy_until {
            std::hint::spin_loop();
        }
        let used = Usage::read(&pids).unwrap().since(&begin);
        assert!(used.cpu_pct > 10.0, "{used:?}");
        assert!(used.rss_bytes > 100_000);
    }

    #[test]
    fn usage_of_a_process_that_is_gone_is_not_measured() {
        assert!(Usage::read(&[u32::MAX]).is_none());
        assert!(Usage::read(&[]).is_none());
    }
}
