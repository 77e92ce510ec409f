//! The readers that follow the logs while faults are injected.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::history::Slot;
use crate::leaders::Leaders;
use crate::observer::View;
use crate::recorder::Recorder;

/// Between rounds over all partitions.
const PAUSE: Duration = Duration::from_millis(50);

/// Follows every slot from offset 0 until `stop` turns true. The view tells who leads, and in which epoch; a broker
/// that does not lead in that epoch gives nothing.
pub async fn follow(
    name: &'static str,
    slots: usize,
    mut leaders: Leaders,
    recorder: Arc<Recorder>,
    view: watch::Receiver<Arc<View>>,
    mut stop: watch::Receiver<bool>,
) {
    let reader = recorder.reader(name);
    let mut positions = vec![0_i64; slots];
    while !*stop.borrow() {
        for (slot, position) in positions.iter_mut().enumerate() {
            let partition = view.borrow().partitions.get(slot).cloned().unwrap_or_default();
            let Some(leader) = partition.leader else { continue };
            match leaders.fetch(leader, slot as Slot, partition.leader_epoch, *position).await {
                Ok(reads) => {
                    if let Some(last) = reads.last() {
                        *position = last.offset + 1;
                        recorder.read(reader, &reads);
                    }
                }
                Err(error) => tracing::debug!(name, slot, %error, "fetch failed"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stop.changed() => {}
        }
    }
}
