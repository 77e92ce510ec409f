//! Elections and ISR changes, seen by asking for metadata again and again, and why, as the leaders tell it.
//!
//! Metadata says *that* an in-sync set changed. Why, only the leader knows: minisr's leaders report it on request
//! ([`minisr_wire::isr_report`]); from other brokers the reason stays blank. A reason that comes later than the change
//! is added to the event when it comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use minisr_client::{Admin, Client, ClusterView};
use minisr_wire::isr_report::{IsrReport, LagKind};

use crate::offsets;

/// How often metadata is asked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// The lag of followers is looked at less often: it takes two rounds of questions.
const LAG_EVERY_LOOKS: u32 = 5;

/// The leaders are asked about lag as often while nothing is amiss, and at every look otherwise.
const REPORT_EVERY_LOOKS: u32 = 5;
/// How many reports a reason may come late.
const EXPLAINED_WITHIN_LOOKS: u32 = 10;

/// What metadata says about one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// Its leader, if it has one.
    pub leader: Option<i32>,
    /// Its leader epoch.
    pub leader_epoch: i32,
    /// Its in-sync replicas, ascending.
    pub isr: Vec<i32>,
}

/// How many partitions each broker leads; those without a leader under none.
pub type Leaders = BTreeMap<Option<i32>, usize>;

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it was seen: up to one polling interval after it happened.
    pub at: SystemTime,
    /// `leader_change`, `leader_none`, `isr_shrink`, `isr_expand`, or how a replica lags: `replica_stuck`,
    /// `replica_slow`, `replica_bootstrapping`, `replica_caught_up`.
    pub kind: &'static str,
    /// The partition.
    pub partition: i32,
    /// Before and after.
    pub detail: String,
    /// New size of the ISR, when that is what changed.
    pub isr_size: Option<usize>,
}

/// An event whose reason is not known yet.
#[derive(Debug)]
struct Unexplained {
    event: usize,
    partition: i32,
    left: Vec<i32>,
    joined: Vec<i32>,
    looks_left: u32,
}

/// Turns views and reports into events.
#[derive(Debug, Default)]
pub struct Watcher {
    last: BTreeMap<i32, PartitionView>,
    lagging: BTreeMap<(i32, i32), LagKind>,
    unexplained: Vec<Unexplained>,
    /// Everything that changed so far.
    pub events: Vec<Event>,
    /// Who leads how many partitions, from when on.
    pub leaders: Vec<(SystemTime, Leaders)>,
    /// Records in the leaders' logs and not committed, whenever they were looked at.
    pub high_watermark_lags: Vec<(SystemTime, u64)>,
    /// Smallest ISR of any partition so far.
    pub isr_min: Option<usize>,
    /// Largest ISR of each partition so far: below that, somebody is missing.
    isr_full: BTreeMap<i32, usize>,
}

impl Watcher {
    /// Compares a view with the one before.
    pub fn look(&mut self, at: SystemTime, view: BTreeMap<i32, PartitionView>) {
        let mut leaders = Leaders::new();
        view.values().for_each(|partition| *leaders.entry(partition.leader).or_default() += 1);
        if self.leaders.last().is_none_or(|(_, last)| *last != leaders) {
            self.leaders.push((at, leaders));
        }
        for (&partition, now) in &view {
            self.isr_min = Some(self.isr_min.map_or(now.isr.len(), |min| min.min(now.isr.len())));
            let full = self.isr_full.entry(partition).or_default();
            *full = now.isr.len().max(*full);
            let Some(before) = self.last.get(&partition) else { continue };
            let mut push = |kind, detail, isr_size| self.events.push(Event { at, kind, partition, detail, isr_size });
            if (before.leader, before.leader_epoch) != (now.leader, now.leader_epoch) {
                let name = |leader: Option<i32>| leader.map_or("none".to_owned(), |id| id.to_string());
                let kind = if now.leader.is_none() { "leader_none" } else { "leader_change" };
                let epochs = format!("epoch {} to {}", before.leader_epoch, now.leader_epoch);
                push(kind, format!("leader {} to {}, {epochs}", name(before.leader), name(now.leader)), None);
            }
            if before.isr != now.isr {
                let kind = if now.isr.len() < before.isr.len() { "isr_shrink" } else { "isr_expand" };
                push(kind, format!("isr {:?} to {:?}", before.isr, now.isr), Some(now.isr.len()));
                let without =
                    |one: &[i32], other: &[i32]| one.iter().copied().filter(|id| !other.contains(id)).collect();
                let (left, joined) = (without(&before.isr, &now.isr), without(&now.isr, &before.isr));
                let event = self.events.len() - 1;
                let looks_left = EXPLAINED_WITHIN_LOOKS;
                self.unexplained.push(Unexplained { event, partition, left, joined, looks_left });
            }
        }
        self.last = view;
    }

    /// Whether the leaders have something to tell: an ISR changed, is not whole, or somebody lags.
    fn has_questions(&self) -> bool {
        let whole = |(partition, view): (&i32, &PartitionView)| self.isr_full.get(partition) == Some(&view.isr.len());
        !self.unexplained.is_empty() || !self.lagging.is_empty() || !self.last.iter().all(whole)
    }

    /// Takes in what the leaders tell, by partition.
    pub fn hear(&mut self, at: SystemTime, reports: &BTreeMap<i32, (i32, IsrReport)>) {
        for (&partition, (_, report)) in reports {
            self.note_lag(at, partition, report);
        }
        self.unexplained.retain_mut(|one| {
            let report = reports.get(&one.partition).map(|(_, report)| report);
            let known = |broker: &i32, joined| report.is_some_and(|report| report.newest(*broker, joined).is_some());
            let all_known = one.left.iter().all(|it| known(it, false)) && one.joined.iter().all(|it| known(it, true));
            one.looks_left -= 1;
            if !all_known && one.looks_left > 0 {
                return true;
            }
            let reasons = report.map(|report| report.explain(&one.left, &one.joined)).unwrap_or_default();
            if !reasons.is_empty() {
                let detail = &mut self.events[one.event].detail;
                *detail = format!("{detail}: {reasons}");
            }
            false
        });
    }

    fn note_lag(&mut self, at: SystemTime, partition: i32, report: &IsrReport) {
        let mut event = |kind, detail| self.events.push(Event { at, kind, partition, detail, isr_size: None });
        for lagging in &report.lagging {
            if self.lagging.insert((partition, lagging.broker), lagging.kind) != Some(lagging.kind) {
                let kind = match lagging.kind {
                    LagKind::Stuck => "replica_stuck",
                    LagKind::Slow => "replica_slow",
                    LagKind::Bootstrapping => "replica_bootstrapping",
                };
                event(kind, lagging.to_string());
            }
        }
        let still = |broker: i32| report.lagging.iter().any(|lagging| lagging.broker == broker);
        let over: Vec<(i32, i32)> =
            self.lagging.keys().copied().filter(|&(of, broker)| of == partition && !still(broker)).collect();
        for (partition, broker) in over {
            self.lagging.remove(&(partition, broker));
            event("replica_caught_up", format!("{broker} caught up"));
        }
    }
}

/// Looks again and again until the load is over: what changed, and how far the high watermark lags.
pub async fn look_until(
    mut load_over: tokio::sync::watch::Receiver<bool>,
    client: Client,
    topic: Arc<str>,
    partitions: Arc<[i32]>,
) -> Watcher {
    let admin = Admin::new(client.clone());
    let mut watcher = Watcher::default();
    let looking = async {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for look in 1u32.. {
            interval.tick().await;
            let Ok(view) = admin.topic(&topic).await else { continue };
            watcher.look(SystemTime::now(), partition_views(&view, &topic));
            if (watcher.has_questions() || look.is_multiple_of(REPORT_EVERY_LOOKS))
                && let Ok(reports) = admin.isr_reports(&topic).await
            {
                watcher.hear(SystemTime::now(), &reports);
            }
            if look.is_multiple_of(LAG_EVERY_LOOKS)
                && let Some(lag) = offsets::high_watermark_lag(&client, &topic, &partitions).await
            {
                watcher.high_watermark_lags.push((SystemTime::now(), lag));
            }
        }
    };
    tokio::select! {
        () = looking => {}
        // Also when whoever asked is gone.
        _ = load_over.wait_for(|over| *over) => {}
    }
    watcher
}

/// What a view says about the partitions of a topic.
pub fn partition_views(view: &ClusterView, topic: &str) -> BTreeMap<i32, PartitionView> {
    let Some(topic) = view.topics.get(topic) else { return BTreeMap::new() };
    let views = topic.partitions.iter().map(|(&partition, info)| {
        let mut isr = info.isr.clone();
        isr.sort_unstable();
        (partition, PartitionView { leader: info.leader, leader_epoch: info.leader_epoch, isr })
    });
    views.collect()
}

#[cfg(test)]
mod tests {
    use minisr_wire::isr_report::{IsrChange, IsrReason, Lagging};

    use super::*;

    fn view(leader: Option<i32>, leader_epoch: i32, isr: &[i32]) -> BTreeMap<i32, PartitionView> {
        BTreeMap::from([(0, PartitionView { leader, leader_epoch, isr: isr.to_vec() })])
    }

    #[test]
    fn watch_election_and_isr_change_become_events() {
        let mut watcher = Watcher::default();
        watcher.look(SystemTime::UNIX_EPOCH, view(Some(1), 0, &[1, 2, 3]));
        watcher.look(SystemTime::UNIX_EPOCH, view(Some(1), 0, &[1, 2, 3]));
        assert!(watcher.events.is_empty());
        watcher.look(SystemTime::UNIX_EPOCH, view(Some(2), 1, &[2, 3]));
        watcher.look(SystemTime::UNIX_EPOCH, view(None, 2, &[2, 3]));
        let kinds: Vec<&str> = watcher.events.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, ["leader_change", "isr_shrink", "leader_none"]);
        assert_eq!(watcher.events[0].detail, "leader 1 to 2, epoch 0 to 1");
        assert_eq!(watcher.isr_min, Some(2));
        let leaders: Vec<Leaders> = watcher.leaders.into_iter().map(|(_, leaders)| leaders).collect();
        assert_eq!(leaders, [Some(1), Some(2), None].map(|leader| Leaders::from([(leader, 1)])));
    }

    fn change(broker: i32, joined: bool, reason: IsrReason) -> IsrChange {
        let lacked_records = (!joined).then_some(7);
        let (number, ago_ms, leader_epoch, isr_size) = (1, 0, 0, 2);
        IsrChange { number, ago_ms, leader_epoch, broker, joined, reason, lacked_records, isr_size }
    }

    #[test]
    fn watch_reasons_and_lag_come_from_the_leaders_report() {
        let mut watcher = Watcher::default();
        let at = SystemTime::UNIX_EPOCH;
        let hear = |watcher: &mut Watcher, report: IsrReport| watcher.hear(at, &BTreeMap::from([(0, (1, report))]));
        watcher.look(at, view(Some(1), 0, &[1, 2, 3]));
        assert!(!watcher.has_questions());
        watcher.look(at, view(Some(1), 0, &[1, 2]));
        assert!(watcher.has_questions());
        // The leader is asked a moment too early, then again.
        hear(&mut watcher, IsrReport::default());
        let stuck = Lagging { broker: 3, kind: LagKind::Stuck, lacks_records: Some(9) };
        let left = change(3, false, IsrReason::Stuck);
        hear(&mut watcher, IsrReport { shrinks: 1, lagging: vec![stuck], changes: vec![left], ..IsrReport::default() });
        let back = Lagging { kind: LagKind::Bootstrapping, ..stuck };
        hear(&mut watcher, IsrReport { shrinks: 1, lagging: vec![back], changes: vec![left], ..IsrReport::default() });
        watcher.look(at, view(Some(1), 0, &[1, 2, 3]));
        let changes = vec![left, change(3, true, IsrReason::CaughtUp)];
        hear(&mut watcher, IsrReport { shrinks: 1, expansions: 1, changes, ..IsrReport::default() });
        let told: Vec<(&str, &str)> = watcher.events.iter().map(|it| (it.kind, it.detail.as_str())).collect();
        assert_eq!(
            told,
            [
                ("isr_shrink", "isr [1, 2, 3] to [1, 2]: 3 stuck, lacked 7 records"),
                ("replica_stuck", "3 stuck, lacks 9 records"),
                ("replica_bootstrapping", "3 bootstrapping, lacks 9 records"),
                ("isr_expand", "isr [1, 2] to [1, 2, 3]: 3 caught-up"),
                ("replica_caught_up", "3 caught up"),
            ]
        );
        assert!(!watcher.has_questions());
    }

    #[test]
    fn watch_brokers_that_tell_no_reasons_are_not_asked_for_ever() {
        let mut watcher = Watcher::default();
        watcher.look(SystemTime::UNIX_EPOCH, view(Some(1), 0, &[1, 2, 3]));
        watcher.look(SystemTime::UNIX_EPOCH, view(Some(1), 0, &[1, 2]));
        for _ in 0..EXPLAINED_WITHIN_LOOKS {
            assert_eq!(watcher.unexplained.len(), 1);
            watcher.hear(SystemTime::UNIX_EPOCH, &BTreeMap::new());
        }
        assert!(watcher.unexplained.is_empty());
        assert_eq!(watcher.events[0].detail, "isr [1, 2, 3] to [1, 2]");
    }
}
