//! Asks every partition's leader, again and again, where the log ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::history::Slot;
use crate::leaders::{End, Leaders};
use crate::observer::View;
use crate::recorder::Recorder;

/// How often to ask.
pub const INTERVAL: Duration = Duration::from_millis(250);

/// One round over all leaders of the view, one after the other. A leader that is silent, or that says that it is none
/// in the epoch that we believe in, says nothing about the end of the log.
pub async fn round(leaders: &mut Leaders, view: &View, recorder: &Arc<Recorder>) {
    let mut led: BTreeMap<i32, Vec<(Slot, i32)>> = BTreeMap::new();
    for (slot, partition) in view.partitions.iter().enumerate() {
        if let Some(leader) = partition.leader {
            led.entry(leader).or_default().push((slot as Slot, partition.leader_epoch));
        }
    }
    for (leader, slots) in led {
        match leaders.list_offsets(leader, &slots, End::Latest).await {
            Ok(offsets) => {
                for (slot, offset) in offsets {
                    let epoch = slots.iter().find(|(asked, _)| *asked == slot).map_or(-1, |(_, epoch)| *epoch);
                    recorder.latest(slot, epoch, offset);
                }
            }
            Err(error) => tracing::debug!(leader, %error, "ListOffsets failed"),
        }
    }
}
