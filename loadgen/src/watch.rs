//! Elections and ISR changes, seen by asking for metadata again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use minisr_client::{Admin, Client, ClusterView};

use crate::offsets;

/// How often metadata is asked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// The lag of followers is looked at less often: it takes two rounds of questions.
const LAG_EVERY_LOOKS: u32 = 5;

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

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it was seen: up to one polling interval after it happened.
    pub at: SystemTime,
    /// `leader_change`, `leader_none`, `isr_shrink` or `isr_expand`.
    pub kind: &'static str,
    /// The partition.
    pub partition: i32,
    /// Before and after.
    pub detail: String,
    /// New size of the ISR, when that is what changed.
    pub isr_size: Option<usize>,
}

/// Turns views into events.
#[derive(Debug, Default)]
pub struct Watcher {
    last: BTreeMap<i32, PartitionView>,
    /// Everything that changed so far.
    pub events: Vec<Event>,
    /// Smallest ISR of any partition so far.
    pub isr_min: Option<usize>,
}

impl Watcher {
    /// Compares a view with the one before.
    pub fn look(&mut self, at: SystemTime, view: BTreeMap<i32, PartitionView>) {
        for (&partition, now) in &view {
            self.isr_min = Some(self.isr_min.map_or(now.isr.len(), |min| min.min(now.isr.len())));
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
            }
        }
        self.last = view;
    }
}

/// Looks again and again until the load is over: what changed, and the largest lag of the high watermark.
pub async fn look_until(
    mut load_over: tokio::sync::watch::Receiver<bool>,
    client: Client,
    topic: Arc<str>,
    partitions: Arc<[i32]>,
) -> (Watcher, Option<u64>) {
    let admin = Admin::new(client.clone());
    let mut watcher = Watcher::default();
    let mut lag_max = None;
    let looking = async {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for look in 1u32.. {
            interval.tick().await;
            let Ok(view) = admin.topic(&topic).await else { continue };
            watcher.look(SystemTime::now(), partition_views(&view, &topic));
            if look.is_multiple_of(LAG_EVERY_LOOKS) {
                lag_max = lag_max.max(offsets::high_watermark_lag(&client, &topic, &partitions).await);
            }
        }
    };
    tokio::select! {
        () = looking => {}
        // Also when whoever asked is gone.
        _ = load_over.wait_for(|over| *over) => {}
    }
    (watcher, lag_max)
}

fn partition_views(view: &ClusterView, topic: &str) -> BTreeMap<i32, PartitionView> {
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
    }
}
