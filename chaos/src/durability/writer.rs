//! The writer: one record after another, each with its own request, so that every refusal is seen. No client library
//! stands between, since that would try again by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use minisr_wire::ErrorCode;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::scene::Places;
use crate::leaders::{Leaders, Written};

/// Between two writes that went well, and after one that did not.
const PACE: Duration = Duration::from_millis(2);
const AFTER_REFUSAL: Duration = Duration::from_millis(20);

/// What has been written so far.
#[derive(Debug, Default)]
struct Record {
    acked: Vec<u64>,
    acked_before_down: Vec<u64>,
    acked_down: Vec<u64>,
    refusals: BTreeMap<String, u64>,
    down_since: Option<Instant>,
    refusals_down: BTreeMap<String, u64>,
    first_acked_down: Option<Instant>,
}

/// A running writer.
#[derive(Debug)]
pub struct Writer {
    record: Arc<Mutex<Record>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What a writer that has ended leaves.
#[derive(Debug)]
pub struct Ended {
    /// Values acknowledged, in order.
    pub acked: Vec<u64>,
    /// Those of them that were acknowledged before the losses.
    pub acked_before_down: Vec<u64>,
    /// Those that began while down.
    pub acked_down: Vec<u64>,
}

impl Writer {
    /// Starts one that writes the values from `first` on.
    pub fn start(places: Places, leaders: Leaders, acks: i16, first: u64) -> Self {
        let record: Arc<Mutex<Record>> = Arc::default();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(write(places, leaders, acks, first, Arc::clone(&record), stopped));
        Self { record, stop, task }
    }

    /// How many writes were acknowledged.
    pub fn acked(&self) -> u64 {
        lock(&self.record).acked.len() as u64
    }

    /// The victims are gone: from here on is *down*.
    pub fn mark_down(&self) {
        let mut record = lock(&self.record);
        record.down_since = Some(Instant::now());
        record.acked_before_down = record.acked.clone();
    }

    /// When the first write that began while down was acknowledged.
    pub fn first_acked_down(&self) -> Option<Instant> {
        lock(&self.record).first_acked_down
    }

    /// What was refused while down.
    pub fn refusals_down(&self) -> BTreeMap<String, u64> {
        lock(&self.record).refusals_down.clone()
    }

    /// Everything that was refused, in words.
    pub fn refusals_text(&self) -> String {
        format!("{:?}", lock(&self.record).refusals)
    }

    /// Ends it after the write under way.
    pub async fn finish(self) -> Ended {
        self.stop.send_replace(true);
        let _ = self.task.await;
        let record = std::mem::take(&mut *lock(&self.record));
        let Record { acked, acked_before_down, acked_down, .. } = record;
        Ended { acked, acked_before_down, acked_down }
    }
}

async fn write(
    places: Places,
    mut leaders: Leaders,
    acks: i16,
    first: u64,
    record: Arc<Mutex<Record>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut known = None;
    for value in first.. {
        if *stop.borrow() {
            return;
        }
        if known.is_none() {
            known = places.leader().await;
        }
        let began = Instant::now();
        let outcome = match known {
            None => Err("no leader".to_owned()),
            Some(leader) => match leaders.produce(leader, 0, acks, value).await {
                Ok(Written::Acked) => Ok(()),
                Ok(Written::Refused(code)) => Err(code.name().to_owned()),
                Err(error) => {
                    tracing::debug!(leader, %error, "no answer");
                    Err("no answer".to_owned())
                }
            },
        };
        let pause = if outcome.is_ok() { PACE } else { AFTER_REFUSAL };
        if outcome.as_ref().is_err_and(|why| why != ErrorCode::NOT_ENOUGH_REPLICAS.name()) {
            known = None;
        }
        note(&record, value, began, outcome);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => return,
        }
    }
}

fn note(record: &Mutex<Record>, value: u64, began: Instant, outcome: Result<(), String>) {
    let mut record = lock(record);
    let is_down = record.down_since.is_some_and(|since| began >= since);
    match outcome {
        Ok(()) => {
            record.acked.push(value);
            if is_down {
                record.acked_down.push(value);
                record.first_acked_down.get_or_insert_with(Instant::now);
            }
        }
        Err(why) => {
            if is_down {
                *record.refusals_down.entry(why.clone()).or_default() += 1;
            }
            *record.refusals.entry(why).or_default() += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
