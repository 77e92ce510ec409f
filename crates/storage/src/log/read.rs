//! Reading: by offset, by timestamp, and header by header.

use super::Log;
use crate::disk::Disk;
use crate::header::BatchHeader;
use crate::index::MaxTimestamp;
use crate::read_buffers;
use crate::segment::{Found, Scanner};
use crate::tail::whole_batches;
use bytes::{Bytes, BytesMut};
use minisr_wire::batch::{BatchView, records};
use std::io;
use std::ops::ControlFlow;
use thiserror::Error;

/// Room in front of the wanted batch that a read allows for: the index leads to at most about this far before it.
const APPROACH_BYTES: usize = 8 << 10;

/// Why nothing could be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("offset {offset} lies outside the log, which holds {start} to {end}")]
    OutOfRange {
        /// What was asked for.
        offset: i64,
        /// First offset of the log.
        start: i64,
        /// The log's end offset.
        end: i64,
    },
    /// What is on disk at this place is not a batch.
    #[error("the segment at {base_offset} holds no readable batch for offset {offset}")]
    Corrupt {
        /// Segment.
        base_offset: i64,
        /// What was asked for.
        offset: i64,
    },
    /// The disk failed.
    #[error("reading the log failed: {0}")]
    Io(#[from] io::Error),
}

/// The first record at or after a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Offset of the record; for a compressed batch, of its first record.
    pub offset: i64,
    /// The record's timestamp; for a compressed batch, the batch's largest.
    pub timestamp: i64,
    /// Leader epoch of its batch.
    pub leader_epoch: i32,
}

impl<D: Disk> Log<D> {
    /// Whole batches from the one that contains `from` on, ending below `upper` (a high watermark, or the log's end
    /// offset), of at most `bytes_max` together. With `at_least_one`, the first batch is returned whatever its size.
    /// Empty when `from` has reached `upper`. May end early at the end of a segment.
    pub fn read(
        &mut self,
        disk: &mut D,
        from: i64,
        upper: i64,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Bytes, ReadError> {
        let mut chunks = self.read_chunks(disk, from, upper, bytes_max, at_least_one)?;
        if chunks.len() <= 1 {
            return Ok(chunks.pop().unwrap_or_default());
        }
        let mut joined = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
        for chunk in chunks {
            joined.extend_from_slice(&chunk);
        }
        Ok(joined.freeze())
    }

    /// Like [`Log::read`], without joining what lies in several buffers: batches that are still in the tail are
    /// handed out as they were appended.
    pub fn read_chunks(
        &mut self,
        disk: &mut D,
        from: i64,
        upper: i64,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Vec<Bytes>, ReadError> {
        let upper = upper.min(self.end);
        if from < self.start || from > self.end {
            return Err(ReadError::OutOfRange { offset: from, start: self.start, end: self.end });
        }
        if from >= upper {
            return Ok(Vec::new());
        }
        if let Some(chunks) = self.tail.read(from, upper, bytes_max, at_least_one) {
            return Ok(chunks);
        }
        let bytes = self.read_segment(disk, from, upper, bytes_max, at_least_one)?;
        Ok(if bytes.is_empty() { Vec::new() } else { vec![bytes] })
    }

    fn read_segment(
        &mut self,
        disk: &mut D,
        from: i64,
        upper: i64,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Bytes, ReadError> {
        let at = self.segment_at(from);
        let position = self.approach(disk, at, from)?;
        let segment = &self.segments[at];
        let file = segment.file.as_ref().expect("just opened");
        let corrupt = ReadError::Corrupt { base_offset: segment.base_offset, offset: from };
        let left = usize::try_from(segment.len - position).expect("a segment is below 2 GiB");
        let mut wanted = bytes_max.saturating_add(APPROACH_BYTES).min(left);
        loop {
            let bytes = read_buffers::read(wanted, |buffer| disk.read_at(file, position, buffer))?;
            let range = whole_batches(&bytes, from, upper, bytes_max, at_least_one);
            if !range.is_empty() {
                return Ok(bytes.slice(range));
            }
            // Nothing fitted: the batch is too far behind the indexed position, larger than what was read, past
            // `upper`, past `bytes_max`, or not there.
            let found = segment.find(disk, position, |header| header.end_offset() > from);
            let (start, header) = match found {
                Ok(Some(found)) => found,
                Ok(None) => return Err(corrupt),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(corrupt),
                Err(error) => return Err(error.into()),
            };
            if header.end_offset() > upper || (header.size > bytes_max && !at_least_one) {
                return Ok(Bytes::new());
            }
            let needed = usize::try_from(start - position).expect("a segment is below 2 GiB") + header.size;
            if bytes.len() < wanted || needed <= wanted {
                return Err(corrupt);
            }
            wanted = needed;
        }
    }

    /// Visits the header of every batch from the one that contains `from` on, until the visitor breaks: for
    /// rebuilding leader epochs and producer state.
    pub fn scan<B>(
        &mut self,
        disk: &mut D,
        from: i64,
        mut visit: impl FnMut(&BatchHeader) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        for at in self.segment_at(from)..self.segments.len() {
            let position = self.approach(disk, at, from)?;
            let segment = &self.segments[at];
            let file = segment.file.as_ref().expect("just opened");
            let mut scanner = Scanner::new(position, segment.len, false);
            loop {
                match scanner.next(disk, file)? {
                    Found::Batch(_, header) if header.end_offset() <= from => {}
                    Found::Batch(_, header) => {
                        if let ControlFlow::Break(value) = visit(&header) {
                            return Ok(Some(value));
                        }
                    }
                    Found::End => break,
                    Found::Bad(_) => {
                        return Err(ReadError::Corrupt { base_offset: segment.base_offset, offset: from });
                    }
                }
            }
        }
        Ok(None)
    }

    /// The first record below `upper` whose timestamp is at least `timestamp`.
    pub fn offset_for_timestamp(
        &mut self,
        disk: &mut D,
        timestamp: i64,
        upper: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let candidate = (0..self.segments.len())
            .find(|&at| self.segments[at].max.timestamp >= timestamp && self.segment_end(at) > self.start);
        let Some(at) = candidate else { return Ok(None) };
        self.open_segment(disk, at)?;
        let from = self.segments[at].index.as_ref().expect("just loaded").offset_before(timestamp).max(self.start);
        let found = self.scan(disk, from, |header| {
            if header.max_timestamp >= timestamp { ControlFlow::Break(*header) } else { ControlFlow::Continue(()) }
        })?;
        let Some(header) = found.filter(|header| header.base_offset < upper) else { return Ok(None) };
        let batch = self.read(disk, header.base_offset.max(self.start), i64::MAX, header.size, true)?;
        Ok(first_record_at(&header, &batch, timestamp, self.start).filter(|found| found.offset < upper))
    }

    /// The largest timestamp in the log and the last offset of the first batch that carries it.
    #[must_use]
    pub fn max_timestamp(&self) -> Option<MaxTimestamp> {
        let mut max = MaxTimestamp::NONE;
        for segment in &self.segments {
            if segment.max.timestamp > max.timestamp {
                max = segment.max;
            }
        }
        (max != MaxTimestamp::NONE).then_some(max)
    }
}

/// The first record of an uncompressed batch at or after `timestamp`. A compressed batch is not taken apart: it is
/// answered by its first offset, so that a consumer starts at most one batch early.
fn first_record_at(header: &BatchHeader, batch: &[u8], timestamp: i64, start: i64) -> Option<TimestampOffset> {
    let leader_epoch = header.leader_epoch;
    let view = BatchView::parse(batch).ok()?;
    let mut records = records(&view).into_iter().flatten().map_while(Result::ok);
    let found = records.find(|record| record.timestamp_ms >= timestamp && record.offset >= start);
    Some(match found {
        Some(record) => TimestampOffset { offset: record.offset, timestamp: record.timestamp_ms, leader_epoch },
        None => {
            TimestampOffset { offset: header.base_offset.max(start), timestamp: header.max_timestamp, leader_epoch }
        }
    })
}
