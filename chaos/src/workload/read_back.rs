//! The fresh client that reads every partition from its start to its end after the cluster has healed, and tries
//! again until it can.

use std::time::{Duration, Instant};

use minisr_cluster::Cluster;

use crate::history::{Reader, Slot};
use crate::leaders::{End, Leaders};
use crate::observer::Observer;

const RETRY: Duration = Duration::from_millis(100);

/// Reads everything. What could not be read by the deadline is named; the records read so far are returned anyway.
pub async fn read_back(
    cluster: &Cluster,
    observer: &Observer,
    leaders: &mut Leaders,
    slots: &[(String, i32)],
    deadline: Instant,
) -> (Reader, Vec<String>) {
    let mut reader = Reader { name: "last".to_owned(), reads: Vec::new() };
    let mut unread = Vec::new();
    for (slot, (topic, index)) in slots.iter().enumerate() {
        let slot = slot as Slot;
        let mut bounds = None;
        let mut position = 0;
        let mut why = "no leader".to_owned();
        loop {
            match step(cluster, observer, leaders, slot, &mut bounds, &mut position, &mut reader).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    why = format!("{error:#}");
                    tokio::time::sleep(RETRY).await;
                }
            }
            if Instant::now() >= deadline {
                unread.push(format!("{topic}-{index} could not be read beyond offset {position}: {why}"));
                break;
            }
        }
    }
    (reader, unread)
}

/// One attempt: finds the leader and the bounds, then fetches until the end. `true` when the end is reached.
async fn step(
    cluster: &Cluster,
    observer: &Observer,
    leaders: &mut Leaders,
    slot: Slot,
    bounds: &mut Option<i64>,
    position: &mut i64,
    reader: &mut Reader,
) -> anyhow::Result<bool> {
    let view = observer.view(cluster).await?;
    let partition = &view.partitions[usize::from(slot)];
    let leader = partition.leader.ok_or_else(|| anyhow::anyhow!("no leader"))?;
    let epoch = partition.leader_epoch;
    let end = match *bounds {
        Some(end) => end,
        None => {
            *position = one(leaders.list_offsets(leader, &[(slot, epoch)], End::Earliest).await?)?;
            let end = one(leaders.list_offsets(leader, &[(slot, epoch)], End::Latest).await?)?;
            *bounds.insert(end)
        }
    };
    while *position < end {
        let reads = leaders.fetch(leader, slot, epoch, *position).await?;
        let Some(last) = reads.last() else { anyhow::bail!("the leader gives nothing at offset {position}") };
        *position = last.offset + 1;
        reader.reads.extend(reads);
    }
    Ok(true)
}

fn one(offsets: Vec<(Slot, i64)>) -> anyhow::Result<i64> {
    offsets
        .first()
        .map(|(_, offset)| *offset)
        .ok_or_else(|| anyhow::anyhow!("the leader does not say where the log ends"))
}
