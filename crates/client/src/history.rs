//! Histories of operations, as the checks of chaos and of the load generator read them: one JSON object per line.
//!
//! Every operation is *invoked* once and ends at most once, as *ok*, *failed* (certainly without effect) or
//! *unknown*. One that never ends is unknown.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Which operation.
    pub op: u64,
    /// Who performs it: an operation of one process ends before its next is invoked, unless it pipelines.
    pub process: u32,
    /// Nanoseconds since the start of the run, on a monotonic clock.
    pub at_ns: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened to an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// A record is handed to the producer.
    SendInvoked {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The record's value, unique in the run.
        value: u64,
    },
    /// The record was acknowledged.
    SendOk {
        /// Where it is; `None` with acks=0, which does not tell.
        offset: Option<i64>,
    },
    /// The record is certainly in no log.
    SendFailed {
        /// Why.
        reason: String,
    },
    /// The record may be in the log or not.
    SendUnknown {
        /// Why.
        reason: String,
    },
    /// A consumer read a record.
    Polled {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Its value.
        value: u64,
        /// The high watermark in the response that carried it.
        high_watermark: i64,
        /// The leader epoch in its batch.
        leader_epoch: i32,
    },
    /// A fault or another step of the run.
    Mark {
        /// What was done.
        what: String,
    },
}

/// Writes events as JSON lines.
#[derive(Debug)]
pub struct HistoryWriter<W> {
    out: W,
}

impl<W: Write> HistoryWriter<W> {
    /// A writer; give it a buffered one.
    pub const fn new(out: W) -> Self {
        Self { out }
    }

    /// Appends an event.
    ///
    /// # Errors
    /// Writing fails.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, event)?;
        self.out.write_all(b"\n")
    }

    /// Flushes what is buffered.
    ///
    /// # Errors
    /// Writing fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads a history. A line that is cut off at the end, as a killed process leaves it, is an error like any other.
///
/// # Errors
/// Reading fails, or a line is not an event; the error names it.
pub fn read(input: impl BufRead) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    for (number, line) in input.lines().enumerate() {
        let line = line?;
        let event = serde_json::from_str(&line).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("line {} of the history: {error}", number + 1))
        })?;
        events.push(event);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_written_is_read_back() {
        let kinds = [
            EventKind::SendInvoked { topic: "t".into(), partition: 1, value: 9 },
            EventKind::SendOk { offset: Some(4) },
            EventKind::SendFailed { reason: "NOT_ENOUGH_REPLICAS (19)".into() },
            EventKind::SendUnknown { reason: "closed".into() },
            EventKind::Polled {
                topic: "t".into(),
                partition: 1,
                offset: 4,
                value: 9,
                high_watermark: 5,
                leader_epoch: 2,
            },
            EventKind::Mark { what: "kill 1".into() },
        ];
        let events: Vec<_> = kinds
            .into_iter()
            .enumerate()
            .map(|(op, kind)| Event { op: op as u64, process: 3, at_ns: 7, kind })
            .collect();
        let mut writer = HistoryWriter::new(Vec::new());
        for event in &events {
            writer.write(event).unwrap();
        }
        assert_eq!(read(&writer.out[..]).unwrap(), events);
        assert!(read(&b"{\"op\":1"[..]).unwrap_err().to_string().contains("line 1"));
    }
}
