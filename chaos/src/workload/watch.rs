//! Notes every change of a leader, an in-sync set or the controller, tells the readers, and drives the questions about the ends of logs.

use std::sync::Arc;

use minisr_cluster::Cluster;
use tokio::sync::watch;

use super::latest::{self, INTERVAL};
use crate::leaders::Leaders;
use crate::observer::{Observer, View};
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
            recorder.event("isr", None, None, Some(name.clone()), format!("{:?}", partition.isr));
        }
    }
}
