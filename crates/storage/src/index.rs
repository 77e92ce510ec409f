//! The two sparse indexes of a segment, in Kafka's formats.
//!
//! `.index`: eight bytes each, (last offset of a batch − base offset, file position of that batch), one entry once
//! more than `index.interval.bytes` were appended since the previous one. `.timeindex`: twelve bytes each, (largest
//! timestamp so far, offset of it − base offset), made at the same moments when the timestamp has grown.
//!
//! While a segment is written its indexes live in memory; they go to their files when the segment is sealed *and*
//! synced. An index on disk therefore means that the segment was whole and durable, and a missing or unsound one
//! means that the segment is verified and the index rebuilt.

use crate::header::BatchHeader;

/// Bytes of one offset index entry.
pub(crate) const OFFSET_ENTRY_BYTES: usize = 8;
/// Bytes of one time index entry.
pub(crate) const TIME_ENTRY_BYTES: usize = 12;

/// The largest timestamp of a run of batches, and the last offset of the first batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxTimestamp {
    /// Milliseconds since 1970; −1 when there is no batch.
    pub timestamp: i64,
    /// Last offset of the batch that carries it.
    pub offset: i64,
}

impl MaxTimestamp {
    pub(crate) const NONE: Self = Self { timestamp: -1, offset: -1 };

    pub(crate) const fn observe(&mut self, header: &BatchHeader) {
        if header.max_timestamp > self.timestamp {
            *self = Self { timestamp: header.max_timestamp, offset: header.last_offset() };
        }
    }
}

/// Offset and time index of one segment, in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    base_offset: i64,
    /// (relative last offset, position), strictly rising in both.
    offsets: Vec<(u32, u32)>,
    /// (timestamp, relative offset), strictly rising in the timestamp.
    times: Vec<(i64, u32)>,
    bytes_since_entry: u64,
}

impl Index {
    pub(crate) const fn new(base_offset: i64) -> Self {
        Self { base_offset, offsets: Vec::new(), times: Vec::new(), bytes_since_entry: 0 }
    }

    /// Takes note of a batch at `position`; `max` is the largest timestamp up to and including it.
    pub(crate) fn observe(&mut self, header: &BatchHeader, position: u64, max: MaxTimestamp, interval_bytes: u32) {
        if self.bytes_since_entry > u64::from(interval_bytes) {
            let position = u32::try_from(position).expect("segment.bytes is below 2 GiB");
            self.offsets.push((self.relative(header.last_offset()), position));
            self.push_time(max);
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += header.size as u64;
    }

    /// Adds the last entry of a sealed segment, so that its time index ends with its largest timestamp.
    pub(crate) fn seal(&mut self, max: MaxTimestamp) {
        self.push_time(max);
    }

    fn push_time(&mut self, max: MaxTimestamp) {
        if max.timestamp > self.times.last().map_or(-1, |last| last.0) {
            self.times.push((max.timestamp, self.relative(max.offset)));
        }
    }

    fn relative(&self, offset: i64) -> u32 {
        u32::try_from(offset - self.base_offset).expect("a segment rolls before its relative offsets overflow")
    }

    /// Bytes that the larger of the two indexes takes in its file.
    pub(crate) const fn bytes(&self) -> usize {
        let offsets = self.offsets.len() * OFFSET_ENTRY_BYTES;
        let times = self.times.len() * TIME_ENTRY_BYTES;
        if offsets > times { offsets } else { times }
    }

    /// A position at or before the batch that contains `offset`: where to start scanning.
    pub(crate) fn position(&self, offset: i64) -> u64 {
        let at = self.offsets.partition_point(|entry| self.base_offset + i64::from(entry.0) <= offset);
        at.checked_sub(1).map_or(0, |at| u64::from(self.offsets[at].1))
    }

    /// The last offset of the indexed batch at `position`.
    pub(crate) fn offset_at(&self, position: u64) -> Option<i64> {
        let at = self.offsets.binary_search_by_key(&position, |entry| u64::from(entry.1)).ok()?;
        Some(self.base_offset + i64::from(self.offsets[at].0))
    }

    /// The position of the last indexed batch: everything behind it is known only by scanning.
    pub(crate) fn last_position(&self) -> u64 {
        self.offsets.last().map_or(0, |entry| u64::from(entry.1))
    }

    /// An offset before which no batch has a timestamp at or after `timestamp`.
    pub(crate) fn offset_before(&self, timestamp: i64) -> i64 {
        let at = self.times.partition_point(|entry| entry.0 < timestamp);
        at.checked_sub(1).map_or(self.base_offset, |at| self.base_offset + i64::from(self.times[at].1))
    }

    /// The largest timestamp among the entries.
    pub(crate) fn max_timestamp(&self) -> MaxTimestamp {
        self.times.last().map_or(MaxTimestamp::NONE, |&(timestamp, offset)| MaxTimestamp {
            timestamp,
            offset: self.base_offset + i64::from(offset),
        })
    }

    /// Drops the entries of batches at or past `position`, where the segment now ends with offset `end_offset`.
    pub(crate) fn truncate(&mut self, position: u64, end_offset: i64) {
        self.offsets.retain(|entry| u64::from(entry.1) < position);
        self.times.retain(|entry| self.base_offset + i64::from(entry.1) < end_offset);
        self.bytes_since_entry = position - self.last_position();
    }

    /// The content of the two files.
    pub(crate) fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let offsets = self.offsets.iter().flat_map(|&(offset, position)| {
            let entry = (u64::from(offset) << 32) | u64::from(position);
            entry.to_be_bytes()
        });
        let mut times = Vec::with_capacity(self.times.len() * TIME_ENTRY_BYTES);
        for (timestamp, offset) in &self.times {
            times.extend_from_slice(&timestamp.to_be_bytes());
            times.extend_from_slice(&offset.to_be_bytes());
        }
        (offsets.collect(), times)
    }

    /// Reads the two files of a sealed segment of `segment_bytes`. `None` when they cannot be right: partial
    /// entries, entries that do not rise, positions past the segment's end.
    pub(crate) fn decode(base_offset: i64, segment_bytes: u64, offsets: &[u8], times: &[u8]) -> Option<Self> {
        let (offset_entries, []) = offsets.as_chunks::<OFFSET_ENTRY_BYTES>() else { return None };
        let (time_entries, []) = times.as_chunks::<TIME_ENTRY_BYTES>() else { return None };
        let mut index = Self::new(base_offset);
        for entry in offset_entries {
            let entry = u64::from_be_bytes(*entry);
            let (offset, position) = ((entry >> 32) as u32, entry as u32);
            let rises = index.offsets.last().is_none_or(|last| last.0 < offset && last.1 < position);
            if !rises || position == 0 || u64::from(position) >= segment_bytes {
                return None;
            }
            index.offsets.push((offset, position));
        }
        for entry in time_entries {
            let timestamp = i64::from_be_bytes(entry[..8].try_into().expect("eight bytes"));
            let offset = u32::from_be_bytes(entry[8..].try_into().expect("four bytes"));
            if index.times.last().is_some_and(|last| timestamp <= last.0 || offset <= last.1) {
                return None;
            }
            index.times.push((timestamp, offset));
        }
        // A sealed segment that holds anything has a time entry: an empty time index is a lost one.
        if segment_bytes > 0 && index.times.is_empty() {
            return None;
        }
        index.bytes_since_entry = segment_bytes - index.last_position();
        Some(index)
    }
}
