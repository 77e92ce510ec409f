//! Idempotent producers: what is a retry, what a gap, what is forgotten.

use minisr_logic::partition::{
    AppendError, BATCHES_KEPT, BatchSummary, ProducerBatch, Producers, SequenceCheck, sequence_plus,
};
use minisr_logic::{Millis, Offset};
use proptest::prelude::*;

fn batch(id: i64, epoch: i16, base_sequence: i32, records: i32) -> BatchSummary {
    BatchSummary { records, max_timestamp_ms: 0, producer: Some(ProducerBatch { id, epoch, base_sequence }) }
}

/// Appends as a leader does; returns the offset if it was written now.
fn append(producers: &mut Producers, end: &mut i64, summary: &BatchSummary) -> Result<SequenceCheck, AppendError> {
    let checked = producers.check(summary)?;
    if checked == SequenceCheck::Fresh {
        producers.record(Millis(0), summary, Offset(*end));
        *end += i64::from(summary.records);
    }
    Ok(checked)
}

#[test]
fn producers_retry_of_any_of_the_last_five_is_recognised_and_an_older_one_refused() {
    let (mut producers, mut end) = (Producers::default(), 0);
    for sequence in 0..7 {
        append(&mut producers, &mut end, &batch(1, 0, sequence, 1)).expect("in order");
    }
    for sequence in 2..7 {
        let Ok(SequenceCheck::Duplicate(seen)) = producers.check(&batch(1, 0, sequence, 1)) else {
            panic!("sequence {sequence} was written a moment ago")
        };
        assert_eq!(seen.base_offset, Offset(i64::from(sequence)));
    }
    let forgotten = producers.check(&batch(1, 0, 1, 1));
    assert_eq!(forgotten, Err(AppendError::OutOfOrderSequence { expected: 7, actual: 1 }));
    assert_eq!(BATCHES_KEPT, 5);
}

#[test]
fn producers_batch_that_only_overlaps_a_known_one_is_no_retry() {
    let (mut producers, mut end) = (Producers::default(), 0);
    append(&mut producers, &mut end, &batch(1, 0, 0, 3)).expect("the first");
    let error = Err(AppendError::OutOfOrderSequence { expected: 3, actual: 0 });
    assert_eq!(producers.check(&batch(1, 0, 0, 2)), error);
}

#[test]
fn producers_new_epoch_begins_at_zero_and_fences_the_old() {
    let (mut producers, mut end) = (Producers::default(), 0);
    append(&mut producers, &mut end, &batch(1, 3, 0, 1)).expect("the first");
    let error = Err(AppendError::OutOfOrderSequence { expected: 0, actual: 1 });
    assert_eq!(producers.check(&batch(1, 4, 1, 1)), error);
    append(&mut producers, &mut end, &batch(1, 4, 0, 1)).expect("from zero");
    let error = Err(AppendError::InvalidProducerEpoch { current: 4, actual: 3 });
    assert_eq!(producers.check(&batch(1, 3, 1, 1)), error);
}

#[test]
fn producers_unknown_id_may_begin_anywhere() {
    assert_eq!(Producers::default().check(&batch(1, 2, 77, 1)), Ok(SequenceCheck::Fresh));
}

#[test]
fn producers_sequences_wrap_after_the_largest() {
    let (mut producers, mut end) = (Producers::default(), 0);
    append(&mut producers, &mut end, &batch(1, 0, i32::MAX - 1, 3)).expect("anywhere");
    assert_eq!(append(&mut producers, &mut end, &batch(1, 0, 1, 1)), Ok(SequenceCheck::Fresh));
    assert!(matches!(producers.check(&batch(1, 0, i32::MAX - 1, 3)), Ok(SequenceCheck::Duplicate(_))));
    assert_eq!((sequence_plus(i32::MAX, 1), sequence_plus(i32::MAX, 0), sequence_plus(5, 2)), (0, i32::MAX, 7));
}

#[test]
fn producers_idle_ones_are_forgotten() {
    let mut producers = Producers::default();
    producers.record(Millis(100), &batch(1, 0, 0, 1), Offset(0));
    producers.record(Millis(500), &batch(2, 0, 0, 1), Offset(1));
    producers.expire(Millis(1_100), 1_000);
    assert_eq!(producers.len(), 1);
    assert_eq!(producers.check(&batch(1, 0, 9, 1)), Ok(SequenceCheck::Fresh));
}

#[derive(Clone, Debug)]
struct Attempt {
    id: i64,
    records: i32,
    /// How many of the producer's batches to go back; 0 sends the next one.
    back: usize,
}

fn any_attempt() -> impl Strategy<Value = Attempt> {
    (1..4_i64, 1..4_i32, prop_oneof![3 => Just(0_usize), 1 => 1..9_usize]).prop_map(|(id, records, back)| Attempt {
        id,
        records,
        back,
    })
}

proptest! {
    /// `SequencesContiguous`: whatever is retried, the log holds each batch once and in order, and state rebuilt from
    /// the log answers like the state that grew with it.
    #[test]
    fn producers_log_has_no_gap_and_no_repeat(attempts in proptest::collection::vec(any_attempt(), 0..80)) {
        let (mut producers, mut end) = (Producers::default(), 0);
        let mut log: Vec<(BatchSummary, Offset)> = Vec::new();
        let mut sent: std::collections::BTreeMap<i64, Vec<BatchSummary>> = std::collections::BTreeMap::new();
        for attempt in attempts {
            let known = sent.entry(attempt.id).or_default();
            let summary = if attempt.back == 0 || attempt.back > known.len() {
                let next: i32 = known.iter().map(|batch| batch.records).sum();
                let summary = batch(attempt.id, 0, next, attempt.records);
                known.push(summary);
                summary
            } else {
                known[known.len() - attempt.back]
            };
            let base = Offset(end);
            match append(&mut producers, &mut end, &summary) {
                Ok(SequenceCheck::Fresh) => log.push((summary, base)),
                Ok(SequenceCheck::Duplicate(seen)) => {
                    prop_assert!(attempt.back <= BATCHES_KEPT);
                    prop_assert!(log.contains(&(summary, seen.base_offset)));
                }
                Err(error) => {
                    prop_assert!(attempt.back > BATCHES_KEPT, "{error:?}");
                }
            }
        }
        for (id, batches) in &sent {
            let stored: Vec<_> = log.iter().map(|(batch, _)| *batch).filter(|it| it.producer.expect("set").id == *id).collect();
            prop_assert_eq!(&stored, batches);
        }
        let mut rebuilt = Producers::default();
        for (batch, base) in &log {
            rebuilt.record(Millis(0), batch, *base);
        }
        prop_assert_eq!(rebuilt, producers);
    }
}
