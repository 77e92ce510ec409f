//! Idempotent producers: what each has written last, so that a retry is recognised and a gap refused (KIP-98).
//!
//! For each producer id the epoch and the last five batches are kept. The state is a function of the batches in the
//! log: followers build it from what they append, without validating, and a recovered or cut log rebuilds it, so a
//! new leader recognises retries of what its predecessor wrote.
//!
//! Invariant `SequencesContiguous` (22): per producer id and epoch, sequences in the log follow one another without gap or
//! repeat while the state lives.

use std::collections::{BTreeMap, VecDeque};

use super::acks::AppendError;
use crate::{Millis, Offset};

/// How many batches of each producer a retry is compared with; clients keep at most as many in flight.
pub const BATCHES_KEPT: usize = 5;

/// What the leader and the followers must know of a batch, read from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchSummary {
    /// Number of offsets the batch takes: last offset delta + 1, at least 1.
    pub records: i32,
    /// The largest timestamp, milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// Who wrote it, for an idempotent producer.
    pub producer: Option<ProducerBatch>,
}

/// An idempotent producer's marks on a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerBatch {
    /// Producer id, ≥ 0.
    pub id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub base_sequence: i32,
}

/// A batch as remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeenBatch {
    /// Sequence of the first record.
    pub first_sequence: i32,
    /// Sequence of the last record.
    pub last_sequence: i32,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
}

/// What is remembered of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownProducer {
    /// Producer id.
    pub id: i64,
    /// Its newest epoch.
    pub epoch: i16,
    /// Its last batches in that epoch, at most [`BATCHES_KEPT`], oldest first.
    pub last_batches: Vec<SeenBatch>,
}

/// What the sequence check says about a batch that may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// Not seen before, and next in line.
    Fresh,
    /// Already in the log, here.
    Duplicate(SeenBatch),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Producer {
    epoch: i16,
    last_batches: VecDeque<SeenBatch>,
    last_write: Millis,
}

/// All idempotent producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Producers {
    by_id: BTreeMap<i64, Producer>,
}

impl Producers {
    /// Whether a batch from a client may be written now. Changes nothing.
    pub fn check(&self, batch: &BatchSummary) -> Result<SequenceCheck, AppendError> {
        let Some(marks) = batch.producer else { return Ok(SequenceCheck::Fresh) };
        // A producer that is not (or no longer) known may begin at any sequence.
        let Some(known) = self.by_id.get(&marks.id) else { return Ok(SequenceCheck::Fresh) };

        let last_sequence = sequence_plus(marks.base_sequence, batch.records - 1);
        if marks.epoch == known.epoch
            && let Some(seen) = known
                .last_batches
                .iter()
                .find(|seen| seen.first_sequence == marks.base_sequence && seen.last_sequence == last_sequence)
        {
            return Ok(SequenceCheck::Duplicate(*seen));
        }
        if marks.epoch < known.epoch {
            return Err(AppendError::InvalidProducerEpoch { current: known.epoch, actual: marks.epoch });
        }
        let expected = match known.last_batches.back() {
            Some(last) if marks.epoch == known.epoch => sequence_plus(last.last_sequence, 1),
            _ => 0,
        };
        if marks.base_sequence != expected {
            return Err(AppendError::OutOfOrderSequence { expected, actual: marks.base_sequence });
        }
        Ok(SequenceCheck::Fresh)
    }

    /// Notes a batch that is in the log at `base_offset`: appended as a leader, fetched as a follower, or read back.
    pub fn record(&mut self, now: Millis, batch: &BatchSummary, base_offset: Offset) {
        let Some(marks) = batch.producer else { return };
        let producer = self.by_id.entry(marks.id).or_insert_with(|| Producer {
            epoch: marks.epoch,
            last_batches: VecDeque::with_capacity(BATCHES_KEPT),
            last_write: now,
        });
        if producer.epoch != marks.epoch {
            producer.epoch = marks.epoch;
            producer.last_batches.clear();
        }
        if producer.last_batches.len() == BATCHES_KEPT {
            producer.last_batches.pop_front();
        }
        producer.last_batches.push_back(SeenBatch {
            first_sequence: marks.base_sequence,
            last_sequence: sequence_plus(marks.base_sequence, batch.records - 1),
            base_offset,
            last_offset: base_offset.plus(i64::from(batch.records) - 1),
        });
        producer.last_write = now;
    }

    /// Whether some batch at or past `to` is remembered, so that cutting the log there needs a rebuild: the five
    /// batches before the cut may have been forgotten already.
    #[must_use]
    pub fn reaches(&self, to: Offset) -> bool {
        self.by_id.values().any(|producer| producer.last_batches.back().is_some_and(|last| last.last_offset >= to))
    }

    /// Forgets producers that have not written for `expiration_ms`.
    pub fn expire(&mut self, now: Millis, expiration_ms: u64) {
        self.by_id.retain(|_, producer| now.since(producer.last_write) < expiration_ms);
    }

    /// Forgets all, before a rebuild.
    pub fn clear(&mut self) {
        self.by_id.clear();
    }

    /// Everything that is known, in order of producer id.
    pub fn known(&self) -> impl Iterator<Item = KnownProducer> + '_ {
        self.by_id.iter().map(|(&id, it)| KnownProducer {
            id,
            epoch: it.epoch,
            last_batches: it.last_batches.iter().copied().collect(),
        })
    }

    /// How many producers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no producer is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

/// The sequence `records` after `sequence`; 2^31 − 1 is followed by 0.
#[must_use]
pub fn sequence_plus(sequence: i32, records: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(records);
    let wrapped = if sum > i64::from(i32::MAX) { sum - i64::from(i32::MAX) - 1 } else { sum };
    i32::try_from(wrapped).expect("both are non-negative, so one wrap is enough")
}
