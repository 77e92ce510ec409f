//! One clock for everything that is measured, and the schedule of planned instants.
//!
//! Producer and consumer stand in one process and share it, so an end-to-end time never compares two clocks.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

/// Nanoseconds since a fixed instant, monotonic.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    epoch: Instant,
    /// What the system's clock said then.
    epoch_wall: Duration,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Clock {
        let epoch_wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { epoch: Instant::now(), epoch_wall }
    }

    /// Now.
    pub fn now_ns(&self) -> u64 {
        self.at_ns(Instant::now())
    }

    /// What the system's clock said at a moment of this one, were it not set meanwhile; milliseconds since 1970.
    pub fn wall_ms(&self, at_ns: u64) -> i64 {
        let wall = self.epoch_wall + Duration::from_nanos(at_ns);
        i64::try_from(wall.as_millis()).expect("the system's clock is below year 292,000,000")
    }

    /// An instant that something else has taken.
    pub fn at_ns(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.epoch).as_nanos()).expect("a run ends within 500 years")
    }
}

/// Planned instants: start + i × interval. They depend on nothing that happens during the run.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start_ns: u64,
    rate_records_s: f64,
}

impl Schedule {
    /// Records from `start_ns` on at `rate_records_s`.
    pub fn new(start_ns: u64, rate_records_s: f64) -> Schedule {
        assert!(rate_records_s > 0.0, "a schedule has a rate");
        Schedule { start_ns, rate_records_s }
    }

    /// When record `index` is to be sent. Computed from the index each time, so that rounding never adds up.
    pub fn planned_ns(&self, index: u64) -> u64 {
        self.start_ns + (index as f64 * 1e9 / self.rate_records_s).round() as u64
    }

    /// Time between two records.
    pub fn interval_ns(&self) -> u64 {
        (1e9 / self.rate_records_s) as u64
    }

    /// How many records are planned before an instant.
    pub fn planned_before(&self, instant_ns: u64) -> u64 {
        let elapsed_s = instant_ns.saturating_sub(self.start_ns) as f64 / 1e9;
        let mut records = (elapsed_s * self.rate_records_s) as u64;
        // The division may be off by a record; the planned instants decide.
        while records > 0 && self.planned_ns(records - 1) >= instant_ns {
            records -= 1;
        }
        while self.planned_ns(records) < instant_ns {
            records += 1;
        }
        records
    }

    /// How many records are planned within `seconds`.
    pub fn records_within(&self, seconds: f64) -> u64 {
        (seconds * self.rate_records_s).round() as u64
    }
}

/// Wakes at an instant, to some microseconds. The runtime's own timer has a resolution of a millisecond, which is many
/// times the latencies that are measured here; a kernel timer read through the runtime's poll has not. Waking a core
/// that sleeps still takes some thirty microseconds, which a response time would show as the system's; so where there
/// is time between two instants the timer is set early and the rest is spent awake, letting others run.
pub struct Pacer {
    timer: AsyncFd<Timer>,
    clock: Clock,
    early_ns: u64,
}

/// Longest time spent awake for one instant.
const EARLY_NS_MAX: u64 = 60_000;
/// Share of the time between two instants that may be spent awake: one part of this.
const AWAKE_PART: u64 = 15;

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Pacer {
    /// A pacer on the current runtime, for instants `interval_ns` apart. At high rates it is not early at all: there
    /// the core does not sleep, and its time belongs to what is measured.
    pub fn new(clock: Clock, interval_ns: u64) -> io::Result<Pacer> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        #[expect(deprecated, reason = "its successor is unsafe; the timer is owned and stays open as long as this")]
        let timer = AsyncFd::new(Timer(timer))?;
        let early_ns = (interval_ns / AWAKE_PART).min(EARLY_NS_MAX);
        Ok(Pacer { timer, clock, early_ns })
    }

    /// Returns at once when the instant has passed: a late generator catches up, it never skips.
    pub async fn wait_until(&self, instant_ns: u64) -> io::Result<()> {
        loop {
            let now_ns = self.clock.now_ns();
            if now_ns >= instant_ns {
                return Ok(());
            }
            let sleep_ns = (instant_ns - now_ns).saturating_sub(self.early_ns);
            if sleep_ns == 0 {
                tokio::task::yield_now().await;
                continue;
            }
            let remaining = TimeSpec::from_duration(Duration::from_nanos(sleep_ns));
            self.timer.get_ref().0.set(Expiration::OneShot(remaining), TimerSetTimeFlags::empty())?;
            let mut ready = self.timer.readable().await?;
            // Reading takes the expiry off the timer; what it returns does not matter, the clock decides.
            let _ = ready.try_io(|timer| timer.get_ref().0.wait().map_err(io::Error::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_planned_instants_do_not_drift() {
        let schedule = Schedule::new(1_000, 3_000.0);
        assert_eq!(schedule.planned_ns(0), 1_000);
        assert_eq!(schedule.planned_ns(1), 1_000 + 333_333);
        assert_eq!(schedule.planned_ns(3), 1_000 + 1_000_000);
        assert_eq!(schedule.planned_ns(3_000_000_000), 1_000 + 1_000_000 * 1_000_000_000);
        assert_eq!(schedule.records_within(2.5), 7_500);
    }

    #[test]
    fn schedule_counts_what_is_planned_before_an_instant() {
        let schedule = Schedule::new(1_000, 3_000.0);
        for index in [0, 1, 2, 2_999, 3_000, 123_457] {
            assert_eq!(schedule.planned_before(schedule.planned_ns(index)), index);
            assert_eq!(schedule.planned_before(schedule.planned_ns(index) + 1), index + 1);
        }
        assert_eq!(schedule.planned_before(0), 0);
    }

    #[test]
    fn pacer_does_not_wake_early_and_does_not_wait_for_the_past() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = Clock::start();
            let pacer = Pacer::new(clock, 500_000).unwrap();
            for step in 1..=20 {
                let planned_ns = step * 500_000;
                pacer.wait_until(planned_ns).await.unwrap();
                assert!(clock.now_ns() >= planned_ns);
            }
            pacer.wait_until(1).await.unwrap();
        });
    }
}
