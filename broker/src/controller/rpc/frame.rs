//! Length-prefixed postcard frames over any byte stream.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest frame, in bytes: a snapshot chunk or a batch of entries with room to spare.
pub const FRAME_BYTES_MAX: usize = 32 << 20;
/// Largest first frame, in bytes: enough for a [`super::Hello`].
pub const HELLO_BYTES_MAX: usize = 4096;

const PREFIX_BYTES: usize = 4;
/// What a reader sets aside before it knows how much is coming.
const READ_BYTES: usize = 8 << 10;

/// Why a frame could not be read or written. All of them end the connection.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The stream ended between two frames.
    #[error("the connection was closed")]
    Closed,
    /// The peer announced more than is allowed.
    #[error("a frame of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Announced length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes are no message.
    #[error("a frame holds no message: {0}")]
    Malformed(#[from] postcard::Error),
}

/// One message as a frame.
///
/// # Errors
/// When the message cannot be encoded or is larger than a frame may be.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = postcard::to_extend(message, vec![0; PREFIX_BYTES])?;
    let payload_bytes = bytes.len() - PREFIX_BYTES;
    if payload_bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes: payload_bytes, limit: FRAME_BYTES_MAX });
    }
    let prefix = u32::try_from(payload_bytes).expect("the limit fits u32").to_be_bytes();
    bytes[..PREFIX_BYTES].copy_from_slice(&prefix);
    Ok(bytes)
}

/// Writes one message.
///
/// # Errors
/// When encoding or the stream fails.
pub async fn write<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), message: &T) -> Result<(), FrameError> {
    stream.write_all(&encode(message)?).await?;
    stream.flush().await?;
    Ok(())
}

/// Cuts frames out of a byte stream. [`Reader::next`] may be dropped and called again without losing bytes.
#[derive(Debug)]
pub struct Reader {
    buffer: Vec<u8>,
    limit: usize,
}

impl Reader {
    /// A reader that accepts frames up to `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), limit }
    }

    /// Accepts frames up to `limit` bytes from here on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The next message.
    ///
    /// # Errors
    /// When the stream ends or fails, or what it brings is no message.
    pub async fn next<T: DeserializeOwned>(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<T, FrameError> {
        loop {
            if let Some(end) = self.frame_end()? {
                let message = postcard::from_bytes(&self.buffer[PREFIX_BYTES..end]);
                self.buffer.drain(..end);
                return Ok(message?);
            }
            self.buffer.reserve(READ_BYTES);
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(FrameError::Closed);
            }
        }
    }

    /// Where the first frame ends, when it is here wholly.
    fn frame_end(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_be_bytes(*prefix) as usize;
        if bytes > self.limit {
            return Err(FrameError::TooLarge { bytes, limit: self.limit });
        }
        let end = PREFIX_BYTES + bytes;
        Ok((self.buffer.len() >= end).then_some(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_arriving_in_pieces_are_put_together() {
        let bytes = [encode(&"first").expect("small"), encode(&"second").expect("small")].concat();
        let (mut near, mut far) = tokio::io::duplex(3);
        let writer = tokio::spawn(async move { near.write_all(&bytes).await });
        let mut reader = Reader::new(HELLO_BYTES_MAX);
        assert_eq!(reader.next::<String>(&mut far).await.expect("a frame"), "first");
        assert_eq!(reader.next::<String>(&mut far).await.expect("a frame"), "second");
        writer.await.expect("no panic").expect("written");
        assert!(matches!(reader.next::<String>(&mut far).await, Err(FrameError::Closed)));
    }

    #[tokio::test]
    async fn frames_larger_than_the_limit_are_refused_before_they_are_read() {
        let mut bytes: &[u8] = &[0xff, 0xff, 0xff, 0xff];
        let mut reader = Reader::new(HELLO_BYTES_MAX);
        assert!(matches!(reader.next::<String>(&mut bytes).await, Err(FrameError::TooLarge { .. })));
    }

    #[tokio::test]
    async fn frames_of_garbage_are_refused() {
        let mut bytes: &[u8] = &[0, 0, 0, 2, 0x7f, 0x7f];
        let mut reader = Reader::new(HELLO_BYTES_MAX);
        assert!(matches!(reader.next::<String>(&mut bytes).await, Err(FrameError::Malformed(_))));
    }
}
