//! Stories and properties of batches.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use proptest::prelude::*;

use super::*;
use crate::error_code::ErrorCode;

type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

#[derive(Clone, Debug)]
struct OwnedRecord {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<OwnedHeader>,
}

impl OwnedRecord {
    fn headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect()
    }
}

fn record() -> impl Strategy<Value = OwnedRecord> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..80));
    let header = ("[a-z]{1,8}".prop_map(String::into_bytes), bytes());
    (1_700_000_000_000i64..1_700_000_100_000, bytes(), bytes(), prop::collection::vec(header, 0..3))
        .prop_map(|(timestamp_ms, key, value, headers)| OwnedRecord { timestamp_ms, key, value, headers })
}

fn build(records: &[OwnedRecord], producer: Producer) -> Bytes {
    let mut builder = BatchBuilder::new(1024);
    for record in records {
        let bound = builder.len_with(record.key.as_deref(), record.value.as_deref(), &record.headers());
        builder.append(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), &record.headers());
        assert!(builder.len() <= bound, "the promised bound must hold");
    }
    builder.finish(producer)
}

fn assert_reads_back(bytes: &[u8], base_offset: i64, expected: &[OwnedRecord]) {
    let view = BatchView::parse(bytes).unwrap();
    view.check_crc().unwrap();
    let read: Vec<_> = records(&view).unwrap().map(Result::unwrap).collect();
    assert_eq!(read.len(), expected.len());
    for (index, (read, expected)) in read.iter().zip(expected).enumerate() {
        assert_eq!(read.offset, base_offset + index as i64);
        assert_eq!(read.timestamp_ms, expected.timestamp_ms);
        assert_eq!(read.key, expected.key.as_deref());
        assert_eq!(read.value, expected.value.as_deref());
        assert_eq!(read.headers().collect::<Vec<_>>(), expected.headers());
    }
}

fn one() -> Vec<u8> {
    let record = OwnedRecord { timestamp_ms: 5, key: None, value: Some(b"value".to_vec()), headers: vec![] };
    build(&[record.clone(), record], Producer { id: 7, epoch: 1, base_sequence: 3, transactional: false }).to_vec()
}

/// Changes bytes under the CRC as a peer would: with a CRC that is right again.
fn edited(edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = one();
    edit(&mut bytes);
    stamp::write_crc(&mut bytes);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn batch_built_stamped_and_read_gives_the_same_records(
        expected in prop::collection::vec(record(), 1..12),
        base_offset in 0i64..1 << 40,
        sequence in 0i32..i32::MAX,
    ) {
        let producer = Producer { id: 42, epoch: 3, base_sequence: sequence, transactional: false };
        let mut bytes = build(&expected, producer).to_vec();
        let view = check_produce(&bytes, 9, usize::MAX).unwrap();
        prop_assert_eq!((view.producer_id(), view.producer_epoch(), view.base_sequence()), (42, 3, sequence));
        prop_assert_eq!(view.max_timestamp(), expected.iter().map(|record| record.timestamp_ms).max().unwrap());
        stamp(&mut bytes, base_offset, 17);
        let view = BatchView::parse(&bytes).unwrap();
        prop_assert_eq!((view.base_offset(), view.leader_epoch()), (base_offset, 17));
        prop_assert_eq!(view.next_offset(), base_offset + expected.len() as i64);
        assert_reads_back(&bytes, base_offset, &expected);
    }

    #[test]
    fn batch_with_any_bit_under_the_crc_flipped_is_found(bit in 0usize..8, seed: prop::sample::Index) {
        let mut bytes = one();
        let at = 17 + seed.index(bytes.len() - 17);
        bytes[at] ^= 1 << bit;
        let view = BatchView::parse(&bytes).unwrap();
        let found = matches!(view.check_crc(), Err(BatchError::Crc { .. }));
        prop_assert!(found, "byte {} bit {}", at, bit);
    }

    #[test]
    fn batch_from_arbitrary_bytes_never_panics(mut bytes: Vec<u8>, valid_magic: bool, length in 0i32..200) {
        if valid_magic && bytes.len() > 17 {
            bytes[16] = 2;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
        }
        let _ = check_produce(&bytes, 9, 1000);
        for batch in iter(&bytes).flatten() {
            let _ = batch.check_crc();
            if let Ok(records) = records(&batch) {
                for record in records.take(100).flatten() {
                    let _ = record.headers().count();
                }
            }
        }
    }

    #[test]
    fn batch_with_arbitrary_records_section_never_panics(section in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = one();
        bytes.truncate(HEADER_BYTES);
        bytes.extend(&section);
        let length = (bytes.len() - LENGTH_OVERHEAD_BYTES) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let view = BatchView::parse(&bytes).unwrap();
        for record in records(&view).unwrap().flatten() {
            let _ = record.headers().count();
        }
    }

    #[test]
    fn batch_of_ours_is_read_by_the_other_implementation(expected in prop::collection::vec(record(), 1..8)) {
        let producer = Producer { id: 9, epoch: 2, base_sequence: 100, transactional: true };
        let mut bytes = build(&expected, producer);
        let set = RecordBatchDecoder::decode(&mut bytes).unwrap();
        prop_assert_eq!(set.records.len(), expected.len());
        for (index, (theirs, ours)) in set.records.iter().zip(&expected).enumerate() {
            prop_assert_eq!(theirs.offset, index as i64);
            prop_assert_eq!(theirs.sequence, 100 + index as i32);
            prop_assert_eq!(theirs.timestamp, ours.timestamp_ms);
            prop_assert!(theirs.transactional);
            prop_assert_eq!(theirs.key.as_deref(), ours.key.as_deref());
            prop_assert_eq!(theirs.value.as_deref(), ours.value.as_deref());
        }
    }

    #[test]
    fn batch_of_the_other_implementation_is_read_by_ours(expected in prop::collection::vec(record(), 1..8)) {
        let theirs: Vec<_> = expected.iter().enumerate().map(|(index, record)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: 5,
            producer_epoch: 0,
            timestamp_type: TimestampType::Creation,
            offset: index as i64,
            sequence: index as i32,
            timestamp: record.timestamp_ms,
            key: record.key.clone().map(Bytes::from),
            value: record.value.clone().map(Bytes::from),
            headers: Default::default(),
        }).collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut bytes, &theirs, &options).unwrap();
        check_produce(&bytes, 9, usize::MAX).unwrap();
        let expected: Vec<_> =
            expected.into_iter().map(|record| OwnedRecord { headers: vec![], ..record }).collect();
        assert_reads_back(&bytes, 0, &expected);
    }
}

#[test]
fn produce_checks_each_violation_gets_kafkas_code() {
    let refused = |bytes: &[u8], version: i16| check_produce(bytes, version, 10_000).unwrap_err();
    let code = |bytes: &[u8]| refused(bytes, 9).code();

    assert!(check_produce(&one(), 3, 10_000).is_ok());
    assert_eq!(code(&[]), ErrorCode::CORRUPT_MESSAGE);
    assert_eq!(code(&one()[..70]), ErrorCode::CORRUPT_MESSAGE);
    assert_eq!(code(&[one(), one()].concat()), ErrorCode::INVALID_RECORD);
    assert_eq!(code(&edited(|bytes| bytes[16] = 1)), ErrorCode::INVALID_RECORD);
    assert_eq!(code(&edited(|bytes| bytes[7] = 1)), ErrorCode::INVALID_RECORD);
    assert_eq!(code(&edited(|bytes| bytes[60] = 3)), ErrorCode::INVALID_RECORD);
    assert_eq!(code(&edited(|bytes| bytes[26] = 0)), ErrorCode::INVALID_RECORD);
    // Count and last delta agree, on more than there is room for.
    let boastful = edited(|bytes| {
        bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    });
    assert!(matches!(refused(&boastful, 9), BatchError::TooManyRecords { record_count: i32::MAX, .. }));
    assert_eq!(code(&edited(|bytes| bytes[22] |= 1 << 5)), ErrorCode::INVALID_RECORD);
    assert_eq!(code(&edited(|bytes| bytes[53..57].fill(0xff))), ErrorCode::INVALID_RECORD);
    assert_eq!(code(&edited(|bytes| bytes[51..53].fill(0xff))), ErrorCode::INVALID_RECORD);
    assert_eq!(code(&edited(|bytes| bytes[22] |= 1 << 3)), ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(code(&edited(|bytes| bytes[22] |= 7)), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(refused(&edited(|bytes| bytes[22] |= 4), 6).code(), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    assert!(check_produce(&edited(|bytes| bytes[22] |= 4), 7, 10_000).is_ok());
    assert_eq!(check_produce(&one(), 9, 70).unwrap_err().code(), ErrorCode::MESSAGE_TOO_LARGE);
    let mut flipped = one();
    flipped[70] ^= 1;
    assert_eq!(code(&flipped), ErrorCode::CORRUPT_MESSAGE);
    let empty = edited(|bytes| {
        bytes[23..27].copy_from_slice(&(-1i32).to_be_bytes());
        bytes[57..61].fill(0);
    });
    assert_eq!(code(&empty), ErrorCode::INVALID_RECORD);
    let nobody = edited(|bytes| bytes[43..57].fill(0xff));
    assert!(check_produce(&nobody, 9, 10_000).is_ok(), "without a producer id there is no sequence");
}

#[test]
fn batches_cut_off_at_the_end_are_told_from_whole_ones() {
    let bytes = [one(), one(), one()[..65].to_vec()].concat();
    let parsed: Vec<_> = iter(&bytes).collect();
    assert_eq!(parsed.iter().filter(|batch| batch.is_ok()).count(), 2);
    assert!(matches!(parsed.last(), Some(Err(BatchError::Truncated { available: 65, .. }))));
    assert_eq!(whole_batches_bytes(&bytes), 2 * one().len());
}

#[test]
fn batch_reassigned_to_a_new_producer_epoch_passes_the_checks_again() {
    let mut bytes = one();
    reassign_producer(&mut bytes, 8, 2, 0);
    let view = check_produce(&bytes, 9, 10_000).unwrap();
    assert_eq!((view.producer_id(), view.producer_epoch(), view.base_sequence()), (8, 2, 0));
}

#[test]
fn batch_with_the_leaders_time_shows_it_in_every_record() {
    let mut bytes = one();
    stamp_log_append_time(&mut bytes, 999);
    let view = BatchView::parse(&bytes).unwrap();
    view.check_crc().unwrap();
    assert!(records(&view).unwrap().all(|record| record.unwrap().timestamp_ms == 999));
}

#[test]
fn sequences_wrap_from_the_largest_to_zero() {
    assert_eq!(sequence_after(i32::MAX, 1), 0);
    assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
    assert_eq!(sequence_after(0, 5), 5);
}
