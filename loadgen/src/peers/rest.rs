//! When a cluster that stood still (SIGSTOP) is again what it was before.
//!
//! To its brokers no time has passed, and yet every session has ended: controllers fence brokers that have not been heard
//! of, hold elections, let the brokers in again; leaders shrink in-sync sets and widen them. None of it belongs to what is
//! measured. So it is at rest when all brokers are there and use no more than they did when idle, three times in a row.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::target::Target;
use crate::usage::Usage;

/// How long one look takes.
const LOOK: Duration = Duration::from_secs(1);
/// So many looks in a row must find it at rest.
const LOOKS: u32 = 3;
/// How long that may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits until the cluster is at rest; false when it is not within a minute. `idle_cpu_pct` is what it used when idle.
pub async fn wait(target: &Target, idle_cpu_pct: Option<f64>) -> Result<bool> {
    let deadline = Instant::now() + LIMIT;
    let mut quiet_looks = 0;
    while quiet_looks < LOOKS {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        let begin = Usage::read(&target.broker_pids());
        tokio::time::sleep(LOOK).await;
        let used = begin.and_then(|begin| Some(Usage::read(&target.broker_pids())?.since(&begin).cpu_pct));
        // While nobody leads the cluster, nobody answers.
        let brokers = target.admin()?.metadata().await.map_or(0, |view| view.brokers.len());
        let is_whole = u32::try_from(brokers)? == target.brokers;
        quiet_looks = if is_whole && is_quiet(used, idle_cpu_pct) { quiet_looks + 1 } else { 0 };
    }
    Ok(true)
}

/// Half as much again as when idle, and five percent of a core, are noise. What is not known does not speak against it.
fn is_quiet(used_cpu_pct: Option<f64>, idle_cpu_pct: Option<f64>) -> bool {
    used_cpu_pct.zip(idle_cpu_pct).is_none_or(|(used, idle)| used <= idle * 1.5 + 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_is_what_idle_brokers_use_and_a_little() {
        assert!(is_quiet(Some(7.9), Some(2.0)));
        assert!(!is_quiet(Some(8.1), Some(2.0)));
        assert!(is_quiet(Some(33.0), Some(19.0)));
        assert!(!is_quiet(Some(60.0), Some(19.0)), "a Java machine that compiles, or a controller that elects");
        assert!(is_quiet(None, Some(19.0)) && is_quiet(Some(90.0), None));
    }
}
