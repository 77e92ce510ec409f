//! Cuts a byte stream into frames: a signed 32-bit big-endian length, then that many bytes.
//!
//! The splitter does no I/O: the owner of the stream reads into [`FrameSplitter::space`] and takes frames out with
//! [`FrameSplitter::next_frame`]. A frame shares the read buffer, so taking it copies nothing.
//!
//! Invariant: a length is compared with the cap before it is used for anything, and memory is taken on the word of a
//! length prefix alone only up to `trusted_bytes`; beyond that the buffer doubles as bytes come, so that a peer pays in
//! bytes for the memory it makes us hold.
//!
//! A large frame is read into a buffer of its own, of exactly its size, and not a byte of the next frame with it. So no
//! frame is copied while it is received, and whoever takes one is the only holder of its buffer and may change it in
//! place.

use bytes::buf::{BufMut, Limit};
use bytes::{Buf, Bytes, BytesMut};

/// Size of the length prefix.
pub const LENGTH_BYTES: usize = 4;

/// Kafka's default cap on a request frame, `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// How much is read at once when the next frame's length is not known yet. Small, because what is read of a large
/// frame here is copied once more when its buffer is made.
pub const READ_AHEAD_BYTES: usize = 4 * 1024;

/// A buffer with less room than this left is not worth a read.
const READ_BYTES_MIN: usize = 512;

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
    /// Bytes received and not handed out yet; begins at a length prefix. Nothing is allocated while nothing is under
    /// way, so idle connections cost nothing.
    buffer: BytesMut,
    frame_bytes_max: usize,
    trusted_bytes: usize,
}

impl FrameSplitter {
    /// A splitter that accepts frames of up to `frame_bytes_max` bytes, the length prefix not counted, and takes up to
    /// `trusted_bytes` of memory for one that has only been announced.
    #[must_use]
    pub fn new(frame_bytes_max: usize, trusted_bytes: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max, trusted_bytes }
    }

    /// The buffer to read into, which takes no more than should be read. Append to it and call [`Self::next_frame`]
    /// until that yields nothing.
    pub fn space(&mut self) -> Limit<&mut BytesMut> {
        let received = self.buffer.len();
        // An error is reported by `next_frame`; until then it reserves nothing.
        let length = self.peek_length().and_then(Result::ok);
        let wanted = LENGTH_BYTES + length.unwrap_or(0);
        if wanted <= READ_AHEAD_BYTES {
            if self.buffer.capacity() < wanted.max(READ_BYTES_MIN) || self.buffer.capacity() == received {
                self.move_to_buffer_of(READ_AHEAD_BYTES.max(2 * received));
            }
            let room = self.buffer.capacity() - received;
            return (&mut self.buffer).limit(room);
        }
        let trusted = wanted.min(self.trusted_bytes.max(READ_AHEAD_BYTES));
        if self.buffer.capacity() < trusted {
            self.move_to_buffer_of(trusted);
        } else if self.buffer.capacity() == received {
            self.move_to_buffer_of(wanted.min(2 * received));
        }
        let room = wanted.min(self.buffer.capacity()) - received;
        (&mut self.buffer).limit(room)
    }

    /// `BytesMut::reserve` would remember how large the buffer once was; here the size is exact.
    fn move_to_buffer_of(&mut self, capacity: usize) {
        let mut fresh = BytesMut::with_capacity(capacity);
        fresh.extend_from_slice(&self.buffer);
        self.buffer = fresh;
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
        let mut frame = if self.buffer.len() == LENGTH_BYTES + length {
            // All of it, so that no empty rest shares the frame's buffer.
            std::mem::take(&mut self.buffer)
        } else {
            self.buffer.split_to(LENGTH_BYTES + length)
        };
        frame.advance(LENGTH_BYTES);
        Ok(Some(frame.freeze()))
    }

    /// Appends bytes that were received elsewhere.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The announced length of the frame under way, once its prefix is there.
    ///
    /// # Errors
    /// As [`Self::next_frame`].
    pub fn announced_bytes(&self) -> Result<Option<usize>, FrameError> {
        self.peek_length().transpose()
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
        let mut splitter = FrameSplitter::new(100, 100);
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
        let mut splitter = FrameSplitter::new(1000, 1000);
        splitter.space().put_i32(1001);
        assert_eq!(splitter.next_frame(), Err(FrameError::Oversized { length: 1001, frame_bytes_max: 1000 }));
        assert!(splitter.space().get_ref().capacity() <= READ_AHEAD_BYTES);
        assert!(splitter.next_frame().is_err(), "the error must stay");
    }

    #[test]
    fn frame_with_a_negative_length_is_refused() {
        let mut splitter = FrameSplitter::new(1000, 1000);
        splitter.space().put_i32(-1);
        assert_eq!(splitter.next_frame(), Err(FrameError::Negative { length: -1 }));
    }

    #[test]
    fn frame_announced_but_not_sent_reserves_little() {
        let trusted_bytes = 1 << 20;
        let mut splitter = FrameSplitter::new(FRAME_BYTES_MAX, trusted_bytes);
        splitter.space().put_i32(FRAME_BYTES_MAX as i32);
        assert_eq!(splitter.next_frame(), Ok(None));
        assert!(splitter.space().get_ref().capacity() <= trusted_bytes);
        // What has come is believed: the buffer doubles.
        let room = splitter.space().remaining_mut();
        splitter.space().put_bytes(0, room);
        assert!(splitter.space().get_ref().capacity() <= 2 * trusted_bytes);
    }

    #[test]
    fn frame_that_is_large_is_the_only_holder_of_its_buffer_and_brings_nothing_of_the_next() {
        let mut splitter = FrameSplitter::new(FRAME_BYTES_MAX, 1 << 20);
        let payload = vec![7; 64 << 10];
        let stream = [framed(&payload), framed(b"next")].concat();
        let mut stream = &stream[..];
        let frame = loop {
            let mut space = splitter.space();
            let read = space.remaining_mut().min(stream.len());
            space.put_slice(&stream[..read]);
            stream = &stream[read..];
            if let Some(frame) = splitter.next_frame().unwrap() {
                break frame;
            }
        };
        assert_eq!(stream.len(), framed(b"next").len());
        assert!(frame.try_into_mut().is_ok_and(|frame| frame == payload));
        assert_eq!(splitter.pending_bytes(), 0);
    }
}
