//! Elections that the active controller makes by itself: preferred leaders, by the clock, and unclean ones where the
//! settings allow them. What is proposed here is checked again when it is applied, so an active controller that is
//! none any more does no harm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use minisr_logic::TopicPartition;
use minisr_logic::metadata::{Command, Election, Reply};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::control::Control;

/// How often the clock is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Elections of one pass, as in Kafka; the next pass goes on.
const ELECTIONS_PER_PASS_MAX: usize = 1_000;

/// Watches the image for as long as the Raft node runs.
pub async fn watch_leaders(control: Arc<Control>) {
    let mut image = control.image.clone();
    let mut clock = RebalanceClock::new(&control);
    let mut seen = None;
    loop {
        if control.raft.metrics().borrow().running_state.is_err() {
            return;
        }
        let is_active = control.is_active();
        let version = image.borrow_and_update().version();
        if is_active && seen != Some(version) {
            elect_uncleanly_if_enabled(&control).await;
        }
        if clock.is_due(is_active, Instant::now()) {
            rebalance(&control).await;
        }
        seen = is_active.then_some(version);
        let _ = timeout(LOOK_INTERVAL, image.changed()).await;
    }
}

/// When to look for leaderships that should go back: an interval after this broker became the active controller, and
/// every interval from then on.
struct RebalanceClock {
    interval: Option<Duration>,
    due: Option<Instant>,
}

impl RebalanceClock {
    fn new(control: &Control) -> Self {
        let settings = &control.settings;
        let interval = Duration::from_secs(settings.leader_imbalance_check_interval_seconds);
        Self { interval: settings.auto_leader_rebalance_enable.then_some(interval), due: None }
    }

    fn is_due(&mut self, is_active: bool, now: Instant) -> bool {
        let Some(interval) = self.interval.filter(|_| is_active) else {
            self.due = None;
            return false;
        };
        let due = *self.due.get_or_insert(now + interval);
        if now >= due {
            self.due = Some(now + interval);
        }
        now >= due
    }
}

async fn rebalance(control: &Arc<Control>) {
    let percentage_max = control.settings.leader_imbalance_per_broker_percentage;
    let moved = control.image().to_rebalance(percentage_max, ELECTIONS_PER_PASS_MAX);
    if moved.is_empty() {
        return;
    }
    let mut count = 0;
    for key in moved {
        count += u32::from(elect(control, key, Election::Preferred).await.is_some());
    }
    info!(count, "leaderships moved back to preferred leaders");
}

/// A partition that nobody can lead yet is looked at again with every change of the image.
async fn elect_uncleanly_if_enabled(control: &Arc<Control>) {
    let by_default = control.settings.unclean_leader_election_enable;
    let waiting: Vec<TopicPartition> = control.image().awaiting_unclean_election(by_default).collect();
    for key in waiting {
        if let Some(Reply::Partition { leader, leader_epoch, .. }) =
            elect(control, key, Election::UncleanIfEnabled { by_default }).await
        {
            warn!(?key, ?leader, %leader_epoch, "unclean election by setting: committed records may be lost");
        }
    }
}

async fn elect(control: &Arc<Control>, key: TopicPartition, election: Election) -> Option<Reply> {
    match control.propose(Command::ElectLeader { key, election }).await {
        Ok(reply) => Some(reply),
        Err(error) => {
            debug!(?key, ?election, %error, "not elected");
            None
        }
    }
}
