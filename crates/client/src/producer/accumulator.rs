//! Where appended records gather in batches until the sender takes them.
//!
//! Appending is synchronous and cheap: a lock, once for as many records as the caller has, one copy into the batch under
//! construction, no allocation per record, and a wake-up of the sender only when a batch begins or is full.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::Instant;

use minisr_wire::batch::{HEADER_BYTES, RecordSize};

use super::batch::{Batch, Record, Waiter};
use super::config::ProducerConfig;

/// Why a record is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The buffer is full: wait, or count it as back-pressure.
    #[error("the producer's buffer is full")]
    Full,
    /// The record alone exceeds the largest request.
    #[error("record of {bytes} bytes exceeds the largest request of {bytes_max}")]
    TooLarge {
        /// Its size in a batch.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The producer was closed.
    #[error("the producer is closed")]
    Closed,
}

/// A partition that a producer writes to; see [`super::Producer::partition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionHandle(pub(super) usize);

struct Slot {
    topic: Arc<str>,
    index: i32,
    open: Option<Batch>,
    full: VecDeque<Batch>,
    /// Whether the sender has yet to look at it.
    dirty: bool,
    /// Size and record count of the last batch: the next is expected to be like it.
    last_bytes: usize,
    last_records: usize,
}

struct State {
    slots: Vec<Slot>,
    by_name: BTreeMap<(Arc<str>, i32), usize>,
    dirty: Vec<usize>,
    buffered_bytes: usize,
    unfinished_batches: usize,
    flushing: usize,
    closed: bool,
}

/// What the sender may do with a partition's gathering batch.
#[derive(Debug)]
pub(super) enum Take {
    /// Here it is.
    Batch(Box<Batch>),
    /// It lingers until then.
    Lingers(Instant),
    /// There is none.
    Nothing,
}

/// See the module.
pub(super) struct Accumulator {
    state: Mutex<State>,
    config: ProducerConfig,
    /// Wakes the sender.
    pub(super) work: Notify,
    /// Wakes those who wait for space.
    pub(super) space: Notify,
    /// Wakes those who wait for everything to be completed.
    pub(super) idle: Notify,
}

impl Accumulator {
    pub(super) fn new(config: ProducerConfig) -> Self {
        let state = State {
            slots: Vec::new(),
            by_name: BTreeMap::new(),
            dirty: Vec::new(),
            buffered_bytes: 0,
            unfinished_batches: 0,
            flushing: 0,
            closed: false,
        };
        Self { state: Mutex::new(state), config, work: Notify::new(), space: Notify::new(), idle: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// The handle of a partition; the same every time.
    pub(super) fn partition(&self, topic: &str, index: i32) -> PartitionHandle {
        let mut state = self.state();
        let topic: Arc<str> = topic.into();
        if let Some(&slot) = state.by_name.get(&(topic.clone(), index)) {
            return PartitionHandle(slot);
        }
        let slot = state.slots.len();
        state.by_name.insert((topic.clone(), index), slot);
        state.slots.push(Slot {
            topic,
            index,
            open: None,
            full: VecDeque::new(),
            dirty: false,
            last_bytes: 1024,
            last_records: 8,
        });
        PartitionHandle(slot)
    }

    pub(super) fn name(&self, slot: usize) -> (Arc<str>, i32) {
        let state = self.state();
        (state.slots[slot].topic.clone(), state.slots[slot].index)
    }

    /// Takes the lock for records of one partition.
    pub(super) fn appender(&self, partition: PartitionHandle) -> Appender<'_> {
        Appender { accumulator: self, state: self.state(), partition, changed: false }
    }

    /// The partitions that changed since the last call.
    pub(super) fn take_dirty(&self, into: &mut impl Extend<usize>) {
        let mut state = self.state();
        let state = &mut *state;
        for &slot in &state.dirty {
            state.slots[slot].dirty = false;
        }
        into.extend(state.dirty.drain(..));
    }

    /// The next batch of a partition, if one is due.
    pub(super) fn take(&self, slot: usize, now: Instant) -> Take {
        let mut state = self.state();
        let flushing = state.flushing > 0 || state.closed;
        let slot = &mut state.slots[slot];
        if let Some(batch) = slot.full.pop_front() {
            return Take::Batch(Box::new(batch));
        }
        let Some(open) = &slot.open else {
            return Take::Nothing;
        };
        let is_full = open.len() >= self.config.batch_bytes_max || open.record_count() >= self.config.batch_records_max;
        let due = open.opened_at + self.config.linger;
        if due > now && !flushing && !is_full {
            return Take::Lingers(due);
        }
        (slot.last_bytes, slot.last_records) = (open.len(), open.tags.len());
        slot.open.take().map_or(Take::Nothing, |batch| Take::Batch(Box::new(batch)))
    }

    /// Takes every batch of a partition that was opened before `limit`, or all of them.
    pub(super) fn take_older(&self, slot: usize, limit: Option<Instant>) -> Vec<Batch> {
        let mut state = self.state();
        let slot = &mut state.slots[slot];
        let is_old = |batch: &Batch| limit.is_none_or(|limit| batch.opened_at <= limit);
        let mut old = Vec::new();
        while let Some(batch) = slot.full.pop_front_if(|batch| is_old(batch)) {
            old.push(batch);
        }
        if slot.full.is_empty() {
            old.extend(slot.open.take_if(|batch| is_old(batch)));
        }
        old
    }

    /// When the oldest gathering batch of a partition was opened.
    pub(super) fn oldest(&self, slot: usize) -> Option<Instant> {
        let state = self.state();
        let slot = &state.slots[slot];
        slot.full.front().or(slot.open.as_ref()).map(|batch| batch.opened_at)
    }

    /// A batch is completed: its bytes are free again.
    pub(super) fn release(&self, reserved_bytes: usize) {
        let idle = {
            let mut state = self.state();
            state.buffered_bytes -= reserved_bytes;
            state.unfinished_batches -= 1;
            state.unfinished_batches == 0
        };
        self.space.notify_waiters();
        if idle {
            self.idle.notify_waiters();
        }
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.state().buffered_bytes
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state().unfinished_batches == 0
    }

    /// While anybody flushes, nothing lingers.
    pub(super) fn set_flushing(&self, flushing: bool) {
        let mut state = self.state();
        if flushing {
            state.flushing += 1;
            let state = &mut *state;
            for (index, slot) in state.slots.iter_mut().enumerate() {
                if slot.open.is_some() && !slot.dirty {
                    slot.dirty = true;
                    state.dirty.push(index);
                }
            }
            self.work.notify_one();
        } else {
            state.flushing -= 1;
        }
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.work.notify_one();
        self.space.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    pub(super) fn slot_count(&self) -> usize {
        self.state().slots.len()
    }
}

/// Appends records to one partition, the producer's lock taken once for all of them: with small records taking it for each
/// costs more than the copy. The sender learns of them, and others can append, when this is dropped: do not wait
/// while you have it.
pub struct Appender<'a> {
    accumulator: &'a Accumulator,
    state: MutexGuard<'a, State>,
    partition: PartitionHandle,
    /// Whether there is something for the sender to look at.
    changed: bool,
}

impl Appender<'_> {
    /// Appends a record to the batch under construction. `tag` comes back in the report.
    ///
    /// # Errors
    /// The record is not accepted; nothing will be reported for it.
    pub fn append(&mut self, record: &Record<'_>, tag: u64) -> Result<(), AppendError> {
        self.append_for(record, tag, None)
    }

    pub(super) fn append_for(
        &mut self,
        record: &Record<'_>,
        tag: u64,
        waiter: Option<Waiter>,
    ) -> Result<(), AppendError> {
        let config = &self.accumulator.config;
        let size = RecordSize::of(record.key, record.value, record.headers);
        let bytes = size.bytes_max();
        if HEADER_BYTES + bytes > config.request_bytes_max {
            return Err(AppendError::TooLarge { bytes, bytes_max: config.request_bytes_max });
        }
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(now_ms);
        let state = &mut *self.state;
        if state.closed {
            return Err(AppendError::Closed);
        }
        // One record is always let in, however small the buffer.
        if state.buffered_bytes > 0 && state.buffered_bytes + bytes > config.buffer_bytes_max {
            return Err(AppendError::Full);
        }
        let slot = &mut state.slots[self.partition.0];
        let is_full =
            |open: &Batch| open.len() >= config.batch_bytes_max || open.record_count() >= config.batch_records_max;
        if let Some(open) = slot.open.take_if(|open| open.len() + bytes > config.batch_bytes_max || is_full(open)) {
            (slot.last_bytes, slot.last_records) = (open.len(), open.tags.len());
            slot.full.push_back(open);
            self.changed = true;
        }
        let open = slot.open.get_or_insert_with(|| {
            self.changed = true;
            state.unfinished_batches += 1;
            let expected = (slot.last_bytes + slot.last_bytes / 8).clamp(1024, config.batch_bytes_max.max(1024));
            Batch::open(
                expected.max(HEADER_BYTES + bytes),
                slot.last_records + slot.last_records / 8 + 1,
                Instant::now(),
            )
        });
        open.append(size, timestamp_ms, record, tag, waiter);
        open.reserved_bytes += bytes;
        state.buffered_bytes += bytes;
        // A batch that lingers leaves as soon as it is full, not when the next record comes.
        self.changed |= is_full(open);
        Ok(())
    }
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        if !self.changed {
            return;
        }
        let state = &mut *self.state;
        let slot = &mut state.slots[self.partition.0];
        if !slot.dirty {
            slot.dirty = true;
            state.dirty.push(self.partition.0);
            self.accumulator.work.notify_one();
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
