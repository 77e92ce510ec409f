//! Consecutive batches in one buffer: a fetched record set, or a stretch of a segment file.

use crate::batch::{BatchError, BatchView};

/// Iterates over the batches in `bytes`. A batch that is cut off at the end is yielded as an error, after which the
/// iterator ends; so does any other error, since nothing tells where the next batch would start.
#[must_use]
pub const fn iter(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes }
}

/// See [`iter`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = BatchView::parse(self.rest);
        self.rest = match parsed {
            Ok(batch) => &self.rest[batch.len()..],
            Err(_) => &[],
        };
        Some(parsed)
    }
}

/// How many bytes at the front of `bytes` are whole batches.
#[must_use]
pub fn whole_batches_bytes(bytes: &[u8]) -> usize {
    iter(bytes).map_while(Result::ok).map(|batch| batch.len()).sum()
}
