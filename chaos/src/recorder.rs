//! Where all parts of a run put what they see: one clock, one history, one list of events.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use crate::display::Display;
use crate::history::{History, Latest, Outcome, Promise, Read, Reader, Send, Slot, Value};

/// Something that was done to the cluster, or that it did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Event {
    /// Microseconds since the run began.
    pub at_us: u64,
    /// What: `kill`, `pause`, `stop`, `wipe`, `start`, `resume`, `ready`, `whole`, `leader`, `isr`, `controller`, `phase`.
    pub event: &'static str,
    /// Number of the fault it belongs to.
    pub fault: Option<u32>,
    /// The broker it concerns.
    pub broker: Option<i32>,
    /// The partition it concerns.
    pub partition: Option<String>,
    /// The rest in words.
    pub detail: String,
}

#[derive(Debug, Default)]
struct Recorded {
    history: History,
    events: Vec<Event>,
    acked: u64,
    ended: u64,
}

/// Shared by all parts of a run.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    started_at: SystemTime,
    recorded: Mutex<Recorded>,
    display: Display,
}

impl Recorder {
    /// An empty record over these slots, whose clock starts now. Every event is also shown as it is recorded.
    pub fn new(slots: Vec<(String, Promise)>, display: Display) -> Self {
        let history = History { slots, ..History::default() };
        let recorded = Mutex::new(Recorded { history, ..Recorded::default() });
        Self { started: Instant::now(), started_at: SystemTime::now(), recorded, display }
    }

    /// When the run began, by the clock of the brokers' logs.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// Microseconds since the run began.
    pub fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// A record is about to be handed to a producer; returns the tag under which its outcome is reported.
    pub fn begin(&self, value: Value, slot: Slot) -> u64 {
        let mut recorded = self.lock();
        let sent_us = self.now_us();
        recorded.history.sends.push(Send { value, slot, sent_us, done_us: 0, outcome: Outcome::Pending });
        recorded.history.sends.len() as u64 - 1
    }

    /// The outcome of a write is known.
    pub fn finish(&self, tag: u64, outcome: Outcome) {
        let mut recorded = self.lock();
        let done_us = self.now_us();
        let send = &mut recorded.history.sends[tag as usize];
        assert_eq!(send.outcome, Outcome::Pending, "a write ends once: {}", send.value);
        send.outcome = outcome;
        send.done_us = done_us;
        recorded.ended += 1;
        recorded.acked += u64::from(matches!(outcome, Outcome::Ok { .. }));
    }

    /// Registers a consumer; returns its number for [`read`](Self::read).
    pub fn reader(&self, name: impl Into<String>) -> usize {
        let live = &mut self.lock().history.live;
        live.push(Reader { name: name.into(), reads: Vec::new() });
        live.len() - 1
    }

    /// A live consumer polled these records.
    pub fn read(&self, reader: usize, reads: &[Read]) {
        self.lock().history.live[reader].reads.extend_from_slice(reads);
    }

    /// A leader's fetch response told this high watermark.
    pub fn mark(&self, slot: Slot, leader_epoch: i32, offset: i64) {
        let mut recorded = self.lock();
        let at_us = self.now_us();
        recorded.history.marks.push(Latest { slot, at_us, leader_epoch, offset });
    }

    /// A live consumer was told that its position does not exist.
    pub fn out_of_range(&self, slot: Slot, offset: i64) {
        self.lock().history.out_of_range.push((slot, offset));
    }

    /// The last reader has read everything.
    pub fn read_last(&self, reader: Reader) {
        self.lock().history.last = reader;
    }

    /// Somebody answered where a partition ends.
    pub fn latest(&self, slot: Slot, leader_epoch: i32, offset: i64) {
        let mut recorded = self.lock();
        let at_us = self.now_us();
        recorded.history.latest.push(Latest { slot, at_us, leader_epoch, offset });
    }

    /// Something happened now.
    pub fn event(
        &self,
        event: &'static str,
        fault: Option<u32>,
        broker: Option<i32>,
        partition: Option<String>,
        detail: impl Into<String>,
    ) -> u64 {
        let at_us = self.now_us();
        let event = Event { at_us, event, fault, broker, partition, detail: detail.into() };
        self.display.event(&event);
        self.lock().events.push(event);
        at_us
    }

    /// The display that shows the events.
    pub fn display(&self) -> &Display {
        &self.display
    }

    /// Writes begun, ended, and acknowledged so far.
    pub fn progress(&self) -> (u64, u64, u64) {
        let recorded = self.lock();
        (recorded.history.sends.len() as u64, recorded.ended, recorded.acked)
    }

    /// Takes out everything recorded. What is still pending is unknown.
    pub fn take(&self) -> (History, Vec<Event>) {
        let mut recorded = self.lock();
        let Recorded { mut history, events, .. } = std::mem::take(&mut *recorded);
        for send in &mut history.sends {
            if send.outcome == Outcome::Pending {
                send.outcome = Outcome::Unknown;
            }
        }
        (history, events)
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn recorder_write_without_an_outcome_is_unknown() {
        let recorder = Recorder::new(vec![("durable-0".into(), Promise::Durable)], Display::new(Duration::ZERO));
        let first = recorder.begin(Value::new(1, 0), 0);
        recorder.begin(Value::new(1, 1), 0);
        recorder.finish(first, Outcome::Ok { offset: 0 });
        assert_eq!(recorder.progress(), (2, 1, 1));
        let (history, _) = recorder.take();
        assert_eq!(history.sends[0].outcome, Outcome::Ok { offset: 0 });
        assert_eq!(history.sends[1].outcome, Outcome::Unknown);
    }
}
