//! The readers that follow the logs while faults are injected: one is the client's own consumer, with its caches,
//! retries and long polls; the other is plain request and answer.

use std::sync::Arc;
use std::time::Duration;

use minisr_client::consumer::{Consumer, ConsumerConfig, ConsumerError, Fetched};
use minisr_client::{Client, ClientConfig};
use tokio::sync::watch;

use crate::history::{Read, Slot};
use crate::leaders::{Leaders, decode_value};
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

/// Follows every slot from offset 0 with the client's consumer until `stop` turns true.
pub async fn consume(
    name: &'static str,
    slots: Vec<(String, i32)>,
    client: ClientConfig,
    recorder: Arc<Recorder>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let reader = recorder.reader(name);
    let mut consumer = Consumer::new(Client::new(client)?, ConsumerConfig::default());
    for (topic, index) in &slots {
        consumer.assign(topic, *index, 0);
    }
    let slot_of = |topic: &str, partition: i32| {
        slots.iter().position(|(name, index)| name == topic && *index == partition).map(|slot| slot as Slot)
    };
    loop {
        let polled = tokio::select! {
            polled = consumer.poll() => polled,
            _ = stop.changed() => return Ok(()),
        };
        match polled {
            Ok(fetched) => {
                if let Some(slot) = slot_of(&fetched.topic, fetched.partition) {
                    note(&recorder, reader, slot, &fetched)?;
                }
            }
            Err(ConsumerError::OutOfRange { topic, partition, offset }) => {
                if let Some(slot) = slot_of(&topic, partition) {
                    recorder.out_of_range(slot, offset);
                }
                // Once is enough; the last reader tells what is left.
                consumer.unassign(&topic, partition);
            }
            Err(error) => {
                tracing::debug!(name, %error, "poll failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn note(recorder: &Recorder, reader: usize, slot: Slot, fetched: &Fetched) -> anyhow::Result<()> {
    let mut reads = Vec::new();
    fetched.records(|_, record| {
        reads.push(Read { slot, offset: record.offset, value: decode_value(record.value) });
    })?;
    recorder.read(reader, &reads);
    recorder.mark(slot, fetched.leader_epoch, fetched.high_watermark);
    Ok(())
}
