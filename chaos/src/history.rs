//! What happened, as the checks see it: every write with its outcome, every read in the order it was polled, every
//! answer about the end of a log.
//!
//! Values are unique numbers: the writer in the upper bits, that writer's own count in the lower ones, so that the
//! order in which a writer sent its records can be told from the values alone. Partitions of all topics are numbered
//! through as *slots*. A write costs 48 bytes and a read 24, so a run of some hundred thousand records fits in memory.

use std::collections::BTreeMap;

/// Partitions of all topics of a run, numbered through.
pub type Slot = u16;

/// A record's unique value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value(pub u64);

const COUNT_BITS: u32 = 40;

impl Value {
    /// The `count`-th value of a writer.
    pub fn new(writer: u16, count: u64) -> Self {
        assert!(count < 1 << COUNT_BITS, "a writer sends fewer than 2^40 records");
        Self(u64::from(writer) << COUNT_BITS | count)
    }

    /// Who sent it.
    pub fn writer(self) -> u16 {
        (self.0 >> COUNT_BITS) as u16
    }

    /// Its place in the order in which the writer sent.
    pub fn count(self) -> u64 {
        self.0 & ((1 << COUNT_BITS) - 1)
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.writer(), self.count())
    }
}

/// What a topic of the run promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Written with acks=all by idempotent producers: nothing acknowledged may be lost or doubled.
    Durable,
    /// Written with acks=1: losses are expected and counted, not judged.
    LeaderOnly,
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Not yet.
    Pending,
    /// Acknowledged at this offset.
    Ok {
        /// Where it was written; −1 when the broker recognised a duplicate and has forgotten where.
        offset: i64,
    },
    /// Definitely not written.
    Failed,
    /// It may or may not have been written.
    Unknown,
}

/// One write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    /// The record's value.
    pub value: Value,
    /// Its partition.
    pub slot: Slot,
    /// When it was handed to the producer, in microseconds since the run began.
    pub sent_us: u64,
    /// When its outcome was known; 0 while pending.
    pub done_us: u64,
    /// Its outcome.
    pub outcome: Outcome,
}

/// One record as a reader saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The partition.
    pub slot: Slot,
    /// The offset that the broker gave it.
    pub offset: i64,
    /// The value.
    pub value: Value,
}

/// All that one consumer read, in the order of its polls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reader {
    /// Its name in reports.
    pub name: String,
    /// The records.
    pub reads: Vec<Read>,
}

/// One answer to "where does this partition end": ListOffsets(latest), or the high watermark of a fetch answered by
/// the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latest {
    /// The partition.
    pub slot: Slot,
    /// When the answer came.
    pub at_us: u64,
    /// The leader epoch in which the answer was given.
    pub leader_epoch: i32,
    /// The end offset.
    pub offset: i64,
}

/// Everything that was recorded.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What each slot promises, and its name.
    pub slots: Vec<(String, Promise)>,
    /// All writes in the order in which they were handed over.
    pub sends: Vec<Send>,
    /// Consumers that followed the logs while faults were injected.
    pub live: Vec<Reader>,
    /// The fresh client that read every partition from its start to its end after the cluster had healed.
    pub last: Reader,
    /// Answers to ListOffsets(latest), each asked after the one before had been answered.
    pub latest: Vec<Latest>,
    /// High watermarks in the answers to one consumer's fetches, in order.
    pub marks: Vec<Latest>,
    /// What a consumer was told does not exist, although it had read up to there: partition and offset.
    pub out_of_range: Vec<(Slot, i64)>,
}

impl History {
    /// Whether the slot's records were written with acks=all.
    pub fn durable(&self, slot: Slot) -> bool {
        self.slots[usize::from(slot)].1 == Promise::Durable
    }

    /// The slot's name for a report.
    pub fn name(&self, slot: Slot) -> &str {
        &self.slots[usize::from(slot)].0
    }

    /// All readers, the last one last.
    pub fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.live.iter().chain(std::iter::once(&self.last))
    }

    /// All reads of all readers.
    pub fn reads(&self) -> impl Iterator<Item = &Read> {
        self.readers().flat_map(|reader| &reader.reads)
    }

    /// Acknowledged writes to durable slots, with their offsets where these are known.
    pub fn acked(&self) -> impl Iterator<Item = (&Send, i64)> {
        self.sends.iter().filter_map(|send| match send.outcome {
            Outcome::Ok { offset } if offset >= 0 && self.durable(send.slot) => Some((send, offset)),
            _ => None,
        })
    }

    /// The position of each value in `sends`.
    pub fn index(&self) -> BTreeMap<Value, usize> {
        self.sends.iter().enumerate().map(|(index, send)| (send.value, index)).collect()
    }

    /// Counts of the outcomes of the writes that the predicate chooses.
    pub fn outcomes(&self, chosen: impl Fn(&Send) -> bool) -> Outcomes {
        let mut counts = Outcomes::default();
        for send in self.sends.iter().filter(|send| chosen(send)) {
            counts.sent += 1;
            match send.outcome {
                Outcome::Ok { .. } => counts.acked += 1,
                Outcome::Failed => counts.failed += 1,
                Outcome::Unknown | Outcome::Pending => counts.unknown += 1,
            }
        }
        counts
    }
}

/// How many writes ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outcomes {
    /// Handed to a producer.
    pub sent: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Definitely not written.
    pub failed: u64,
    /// May or may not be written.
    pub unknown: u64,
}
