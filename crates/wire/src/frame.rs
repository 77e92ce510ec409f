//! Cuts a byte stream into frames: a signed 32-bit big-endian length, then that many bytes.
//!
//! The splitter does no I/O: the owner of the stream reads into [`FrameSplitter::space`] and takes frames out with
//! [`FrameSplitter::next_frame`]. A frame shares the read buffer, so taking it copies nothing.
//!
//! Invariant: a length is compared with the cap before it is used for anything, and even a permitted length
//! reserves at most [`RESERVE_BYTES_MAX`] at a time, so that a peer pays in bytes for the memory it makes us hold.

use bytes::{Buf, Bytes, BytesMut};

/// Size of the length prefix.
pub const LENGTH_BYTES: usize = 4;

/// Kafka's default cap on a request frame, `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// The most that is reserved ahead for a frame that has been announced but not yet received.
pub const RESERVE_BYTES_MAX: usize = 1024 * 1024;

/// The space offered to a read when no frame is under way.
const READ_BYTES_MIN: usize = 16 * 1024;

/// What a first read is given; large enough for several batches of the usual 64 KiB.
const READ_BYTES: usize = 256 * 1024;

/// Why a byte stream cannot be cut into frames any further. The connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length prefix is negative.
    #[error("frame length {length} is negative")]
    Negative {
        /// The length as received.
        length: i32,
    },
    /// The length prefix is above the cap.
    #[error("frame of {length} bytes exceeds the limit of {frame_bytes_max}")]
    Oversized {
        /// The length as received.
        length: usize,
        /// The cap in force.
        frame_bytes_max: usize,
    },
}

/// Collects bytes and yields complete frames, without their length prefix.
#[derive(Debug)]
pub struct FrameSplitter {
    buffer: BytesMut,
    frame_bytes_max: usize,
    read_bytes: usize,
}

impl FrameSplitter {
    /// A splitter that accepts frames of up to `frame_bytes_max` bytes, the length prefix not counted.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        // A buffer for the first read is allocated only when there is one: idle connections cost nothing.
        Self { buffer: BytesMut::new(), frame_bytes_max, read_bytes: READ_BYTES_MIN }
    }

    /// The buffer to read into, with room at its end. Read at most its spare capacity, append, and call
    /// [`Self::next_frame`] until it yields nothing.
    pub fn space(&mut self) -> &mut BytesMut {
        let missing = match self.peek_length() {
            // An error is reported by `next_frame`; until then it reserves nothing.
            Some(Ok(length)) => (LENGTH_BYTES + length).saturating_sub(self.buffer.len()),
            _ => 0,
        };
        let wanted = missing.clamp(1, RESERVE_BYTES_MAX);
        if self.buffer.capacity() - self.buffer.len() < wanted {
            self.buffer.reserve(wanted.max(self.read_bytes));
            // A stream that filled its first, small buffer is a busy one.
            self.read_bytes = READ_BYTES;
        }
        &mut self.buffer
    }

    /// Takes the next complete frame, if there is one.
    ///
    /// # Errors
    /// The stream cannot be cut further; the same error is returned from then on.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.peek_length().transpose()? else {
            return Ok(None);
        };
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Appends bytes that were received elsewhere, such as a QUIC chunk.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes received of a frame that is not complete yet. At the end of a stream anything but 0 is a truncation.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    fn peek_length(&self) -> Option<Result<usize, FrameError>> {
        let prefix: [u8; LENGTH_BYTES] = self.buffer.get(..LENGTH_BYTES)?.try_into().ok()?;
        let length = i32::from_be_bytes(prefix);
        let Ok(length) = usize::try_from(length) else {
            return Some(Err(FrameError::Negative { length }));
        };
        if length > self.frame_bytes_max {
            return Some(Err(FrameError::Oversized { length, frame_bytes_max: self.frame_bytes_max }));
        }
        Some(Ok(length))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as i32).to_be_bytes().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn frames_arriving_byte_by_byte_come_out_whole_and_in_order() {
        let mut stream = framed(b"first");
        stream.extend(framed(b""));
        stream.extend(framed(b"third"));
        let mut splitter = FrameSplitter::new(100);
        let mut frames = Vec::new();
        for byte in stream {
            splitter.space().put_u8(byte);
            while let Some(frame) = splitter.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames, [&b"first"[..], b"", b"third"]);
        assert_eq!(splitter.pending_bytes(), 0);
    }

    #[test]
    fn frame_above_the_cap_is_refused_before_it_is_buffered() {
        let mut splitter = FrameSplitter::new(1000);
        splitter.space().put_i32(1001);
        assert_eq!(splitter.next_frame(), Err(FrameError::Oversized { length: 1001, frame_bytes_max: 1000 }));
        assert!(splitter.space().capacity() < 2 * READ_BYTES);
        assert!(splitter.next_frame().is_err(), "the error must stay");
    }

    #[test]
    fn frame_with_a_negative_length_is_refused() {
        let mut splitter = FrameSplitter::new(1000);
        splitter.space().put_i32(-1);
        assert_eq!(splitter.next_frame(), Err(FrameError::Negative { length: -1 }));
    }

    #[test]
    fn frame_announced_but_not_sent_reserves_little() {
        let mut splitter = FrameSplitter::new(FRAME_BYTES_MAX);
        splitter.space().put_i32(FRAME_BYTES_MAX as i32);
        assert_eq!(splitter.next_frame(), Ok(None));
        assert!(splitter.space().capacity() <= 2 * RESERVE_BYTES_MAX);
    }
}
