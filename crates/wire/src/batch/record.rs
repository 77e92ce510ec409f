//! Reads the records of an uncompressed batch, for consumers and checkers. The broker never does.

use crate::batch::{BatchView, Codec};
use crate::varint::{take_int, take_long};

/// Why the records of a batch cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// They are compressed.
    #[error("records are compressed with {codec:?}")]
    Compressed {
        /// With what.
        codec: Codec,
    },
    /// A record does not follow the format, or there are fewer or more than the header says.
    #[error("record {index} of the batch at offset {base_offset} is malformed")]
    Malformed {
        /// Which one, from 0.
        index: i32,
        /// The batch.
        base_offset: i64,
    },
}

/// One record where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its offset in the log.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key; `None` is null, which is not empty.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is null, a tombstone on compacted topics.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> RecordView<'a> {
    /// Its headers, in order; names may repeat.
    #[must_use]
    pub const fn headers(&self) -> Headers<'a> {
        self.headers
    }
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name, UTF-8 by convention.
    pub key: &'a [u8],
    /// Its value.
    pub value: Option<&'a [u8]>,
}

/// Iterates over the headers of a record; they were checked when the record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    rest: &'a [u8],
    count: i32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1).filter(|&count| count >= 0)?;
        take_header(&mut self.rest)
    }
}

/// Iterates over the records of a batch. After an error the iterator ends.
///
/// # Errors
/// The batch is compressed.
pub fn records<'a>(batch: &BatchView<'a>) -> Result<Records<'a>, RecordError> {
    match batch.codec() {
        Codec::None => Ok(Records { batch: *batch, rest: batch.record_section(), index: 0, ended: false }),
        codec => Err(RecordError::Compressed { codec }),
    }
}

/// See [`records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    batch: BatchView<'a>,
    rest: &'a [u8],
    index: i32,
    ended: bool,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.index >= self.batch.record_count() {
            self.ended = true;
            return if self.rest.is_empty() { None } else { Some(Err(self.malformed())) };
        }
        let record = take_record(&mut self.rest, &self.batch);
        let Some(record) = record else {
            self.ended = true;
            return Some(Err(self.malformed()));
        };
        self.index += 1;
        Some(Ok(record))
    }
}

impl Records<'_> {
    fn malformed(&self) -> RecordError {
        RecordError::Malformed { index: self.index, base_offset: self.batch.base_offset() }
    }
}

fn take_record<'a>(rest: &mut &'a [u8], batch: &BatchView<'a>) -> Option<RecordView<'a>> {
    let length = usize::try_from(take_int(rest)?).ok()?;
    let mut body = rest.get(..length)?;
    *rest = &rest[length..];
    let input = &mut body;
    // The attributes of a record are unused so far.
    *input = input.get(1..)?;
    let timestamp_delta = take_long(input)?;
    let offset_delta = take_int(input)?;
    let key = take_nullable(input)?;
    let value = take_nullable(input)?;
    let count = take_int(input)?;
    let headers = Headers { rest: input, count };
    if count < 0 {
        return None;
    }
    for _ in 0..count {
        take_header(input)?;
    }
    if !input.is_empty() {
        return None;
    }
    let timestamp_ms = if batch.is_log_append_time() {
        batch.max_timestamp()
    } else {
        batch.base_timestamp().wrapping_add(timestamp_delta)
    };
    let offset = batch.base_offset().wrapping_add(i64::from(offset_delta));
    Some(RecordView { offset, timestamp_ms, key, value, headers })
}

fn take_header<'a>(input: &mut &'a [u8]) -> Option<Header<'a>> {
    let key = take_nullable(input)??;
    let value = take_nullable(input)?;
    Some(Header { key, value })
}

/// The outer `None` is malformed, the inner one null.
fn take_nullable<'a>(input: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = take_int(input)?;
    if length == -1 {
        return Some(None);
    }
    let bytes = input.get(..usize::try_from(length).ok()?)?;
    *input = &input[bytes.len()..];
    Some(Some(bytes))
}
