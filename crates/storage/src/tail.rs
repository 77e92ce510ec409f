//! The most recently appended batches, kept in memory by reference count.
//!
//! A follower that keeps up, and a consumer at the end, fetch what was appended a moment ago. The tail hands out the
//! very buffers that were appended, so that such a fetch needs neither a read nor a copy.
//!
//! The bound counts the bytes of the batches. A buffer that is a slice of a larger receive buffer keeps the whole of
//! that larger one alive, so real memory can be larger by the ratio of the two; whoever appends small slices of
//! large buffers should copy them first. [`Tail::release`] gives memory back before the bound forces it.

use crate::header::BatchHeader;
use bytes::Bytes;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
struct Piece {
    base_offset: i64,
    end_offset: i64,
    bytes: Bytes,
}

/// A bounded queue of appended pieces, contiguous in offsets and ending at the log's end.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pieces: VecDeque<Piece>,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { pieces: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Bytes held now.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds whole batches that were just written.
    pub(crate) fn push(&mut self, base_offset: i64, end_offset: i64, bytes: Bytes) {
        debug_assert!(self.pieces.back().is_none_or(|last| last.end_offset == base_offset));
        self.bytes += bytes.len();
        self.pieces.push_back(Piece { base_offset, end_offset, bytes });
        while self.bytes > self.bytes_max {
            self.pop();
        }
    }

    /// Lets go of everything that lies wholly below `offset`.
    pub(crate) fn release(&mut self, offset: i64) {
        while self.pieces.front().is_some_and(|piece| piece.end_offset <= offset) {
            self.pop();
        }
    }

    /// Forgets everything; for truncation.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
    }

    fn pop(&mut self) {
        if let Some(piece) = self.pieces.pop_front() {
            self.bytes -= piece.bytes.len();
        }
    }

    /// Whole batches from the one that contains `from` on, below `upper` and within `bytes_max`; the first batch is
    /// taken whatever its size when `at_least_one`. `None` when the tail does not reach back to `from`.
    pub(crate) fn read(&self, from: i64, upper: i64, bytes_max: usize, at_least_one: bool) -> Option<Vec<Bytes>> {
        if self.pieces.front().is_none_or(|first| from < first.base_offset) {
            return None;
        }
        let first = self.pieces.partition_point(|piece| piece.end_offset <= from);
        let mut taken = Vec::new();
        let mut left = bytes_max;
        for piece in self.pieces.range(first..) {
            if from <= piece.base_offset && piece.end_offset <= upper && piece.bytes.len() <= left {
                left -= piece.bytes.len();
                taken.push(piece.bytes.clone());
                continue;
            }
            let range = whole_batches(&piece.bytes, from, upper, left, at_least_one && taken.is_empty());
            if !range.is_empty() {
                taken.push(piece.bytes.slice(range));
            }
            if piece.end_offset > upper || piece.bytes.len() > left {
                break;
            }
            left = left.saturating_sub(taken.last().map_or(0, Bytes::len));
        }
        Some(taken)
    }
}

/// The range of `bytes` (consecutive batches, the last of which may be cut short) that holds the batches from the one
/// that contains `from` on, below `upper`, within `bytes_max` or the first one when `at_least_one`.
pub(crate) fn whole_batches(
    bytes: &[u8],
    from: i64,
    upper: i64,
    bytes_max: usize,
    at_least_one: bool,
) -> std::ops::Range<usize> {
    let (mut start, mut end, mut started) = (0, 0, false);
    let mut position = 0;
    while let Some(header) = BatchHeader::parse(&bytes[position..]) {
        let next = position + header.size;
        if next > bytes.len() {
            break;
        }
        if header.end_offset() > from {
            if !started {
                (start, end, started) = (position, position, true);
            }
            let fits = next - start <= bytes_max || (at_least_one && end == start);
            if header.end_offset() > upper || !fits {
                break;
            }
            end = next;
        }
        position = next;
    }
    start..end
}
