//! Notes every change of a leader, an in-sync set or the controller, tells the readers, and drives the questions about the ends of logs.

use std::sync::Arc;

use minisr_cluster::Cluster;
use minisr_wire::isr_report::Lagging;
use tokio::sync::watch;

use super::latest::{self, INTERVAL};
use crate::leaders::Leaders;
use crate::observer::{Observer, Partition, View};
use crate::recorder::Recorder;

/// Runs until `stop` turns true.
pub async fn watch(
    cluster: Arc<Cluster>,
    observer: Arc<Observer>,
    recorder: Arc<Recorder>,
    mut leaders: Leaders,
    names: Vec<String>,
    views: watch::Sender<Arc<View>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut before = View::default();
    while !*stop.borrow() {
        if let Ok(view) = observer.view(&cluster).await {
            note(&recorder, &names, &before, &view);
            views.send_replace(Arc::new(view.clone()));
            latest::round(&mut leaders, &view, &recorder).await;
            before = view;
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = stop.changed() => {}
        }
    }
}

fn note(recorder: &Recorder, names: &[String], before: &View, now: &View) {
    if before.controller != now.controller {
        recorder.event("controller", None, now.controller, None, "is the active controller");
    }
    for (slot, (name, partition)) in names.iter().zip(&now.partitions).enumerate() {
        let known = before.partitions.get(slot);
        if known.is_none_or(|known| known.leader_epoch != partition.leader_epoch || known.leader != partition.leader) {
            let detail = format!("leads in epoch {}", partition.leader_epoch);
            recorder.event("leader", None, partition.leader, Some(name.clone()), detail);
        }
        if known.is_none_or(|known| known.isr != partition.isr) {
            let reasons = known.map(|known| reasons(known, partition)).unwrap_or_default();
            let detail = if reasons.is_empty() { String::new() } else { format!(": {reasons}") };
            recorder.event("isr", None, None, Some(name.clone()), format!("{:?}{detail}", partition.isr));
        }
        for lagging in lag_begun(known, partition) {
            recorder.event("lag", None, Some(lagging.broker), Some(name.clone()), lagging.to_string());
        }
    }
}

/// Why the in-sync set changed, as far as its leader tells.
fn reasons(before: &Partition, now: &Partition) -> String {
    let without = |one: &[i32], other: &[i32]| one.iter().copied().filter(|id| !other.contains(id)).collect::<Vec<_>>();
    let (left, joined) = (without(&before.isr, &now.isr), without(&now.isr, &before.isr));
    now.report.as_ref().map(|report| report.explain(&left, &joined)).unwrap_or_default()
}

/// Followers that lag now and did not, or in another way, at the last look.
fn lag_begun<'a>(before: Option<&'a Partition>, now: &'a Partition) -> impl Iterator<Item = &'a Lagging> {
    let lagging = |partition: &'a Partition| partition.report.iter().flat_map(|report| &report.lagging);
    let known = move |it: &Lagging| {
        before.is_some_and(|before| lagging(before).any(|known| (known.broker, known.kind) == (it.broker, it.kind)))
    };
    lagging(now).filter(move |it| !known(it))
}

#[cfg(test)]
mod tests {
    use minisr_wire::isr_report::{IsrChange, IsrReason, IsrReport, LagKind};

    use super::*;

    #[test]
    fn watch_tells_why_an_in_sync_set_changed_and_who_lags_once() {
        let (number, ago_ms, leader_epoch, isr_size) = (1, 0, 1, 2);
        let (broker, joined, reason, lacked_records) = (3, false, IsrReason::Stuck, Some(7));
        let change = IsrChange { number, ago_ms, leader_epoch, broker, joined, reason, lacked_records, isr_size };
        let lagging = Lagging { broker: 3, kind: LagKind::Stuck, lacks_records: Some(9) };
        let report = IsrReport { shrinks: 1, changes: vec![change], lagging: vec![lagging], ..IsrReport::default() };
        let before = Partition { leader: Some(1), isr: vec![1, 2, 3], ..Partition::default() };
        let now = Partition { isr: vec![1, 2], report: Some(report), ..before.clone() };
        assert_eq!(reasons(&before, &now), "3 stuck, lacked 7 records");
        assert_eq!(reasons(&before, &Partition { report: None, ..now.clone() }), "");
        assert_eq!(lag_begun(Some(&before), &now).count(), 1);
        assert_eq!(lag_begun(Some(&now), &now).count(), 0);
    }
}
