//! Buffers for large reads, used again and again.
//!
//! A consumer that reads an old log asks for a mebibyte at a time. A new buffer for each would be cleared first and then
//! filled, and the allocator gives so much back to the kernel at once, which clears it a second time, page by page. So a
//! thread keeps a few of them, with whatever was last read into them.
//!
//! What holds: a buffer is lent to one reader at a time; nobody sees bytes of it that were not read for them
//! ([`Lent::filled`] hands out no others); no more than [`IDLE_MAX`] buffers of at most [`BUFFER_BYTES_MAX`] are kept.

use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::io;

/// Reads below this have a buffer of their own: clearing it costs little, and an answer that waits to be sent would hold
/// a large one for it.
const LARGE_BYTES: usize = 256 << 10;
/// Larger buffers are not kept.
const BUFFER_BYTES_MAX: usize = 2 << 20;
/// As many are kept: one is filled while the ones before it are being sent.
const IDLE_MAX: usize = 4;

thread_local! {
    static IDLE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Lets `read` fill a buffer of `wanted` bytes and tell how many it filled; those are returned.
pub(crate) fn read(wanted: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Bytes> {
    if !(LARGE_BYTES..=BUFFER_BYTES_MAX).contains(&wanted) {
        let mut buffer = BytesMut::zeroed(wanted);
        let filled = read(&mut buffer)?;
        buffer.truncate(filled);
        return Ok(buffer.freeze());
    }
    let mut lent = Lent { buffer: take(wanted), filled: 0 };
    lent.filled = read(&mut lent.buffer[..wanted])?;
    assert!(lent.filled <= wanted, "no more was read than asked for");
    Ok(Bytes::from_owner(lent))
}

/// An idle buffer that is large enough, or a new one, for which one that is too small makes room.
fn take(wanted: usize) -> Vec<u8> {
    let idle = IDLE.with_borrow_mut(|idle| match idle.iter().position(|buffer| buffer.len() >= wanted) {
        Some(at) => Some(idle.swap_remove(at)),
        None => {
            idle.pop();
            None
        }
    });
    idle.unwrap_or_else(|| vec![0; wanted])
}

/// A buffer while somebody reads what is in it. It goes back when they are done.
struct Lent {
    buffer: Vec<u8>,
    filled: usize,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        // A thread that ends has no place for it any more, and needs none.
        let _ = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() < IDLE_MAX {
                idle.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> usize {
        IDLE.with_borrow(Vec::len)
    }

    fn read_of(byte: u8, wanted: usize, filled: usize) -> Bytes {
        read(wanted, |buffer| {
            assert_eq!(buffer.len(), wanted);
            buffer[..filled].fill(byte);
            Ok(filled)
        })
        .unwrap()
    }

    #[test]
    fn read_buffers_are_lent_to_one_at_a_time_and_used_again() {
        let first = read_of(1, LARGE_BYTES, LARGE_BYTES);
        let second = read_of(2, LARGE_BYTES, LARGE_BYTES);
        assert_ne!(first.as_ptr(), second.as_ptr());
        assert!(first.iter().all(|byte| *byte == 1), "what is still held was not read over");
        let place = first.as_ptr();
        let part = first.slice(10..20);
        drop(first);
        assert_eq!(idle(), 0, "a part of it is still held");
        drop(part);
        let third = read_of(3, LARGE_BYTES, LARGE_BYTES);
        assert_eq!((third.as_ptr(), idle()), (place, 0));
    }

    #[test]
    fn read_buffers_show_nothing_of_an_earlier_read() {
        drop(read_of(1, LARGE_BYTES, LARGE_BYTES));
        assert_eq!(read_of(2, LARGE_BYTES, 3), [2, 2, 2].as_slice());
        read(LARGE_BYTES, |_| Err(io::ErrorKind::Other.into())).unwrap_err();
        assert_eq!(idle(), 1, "a read that fails keeps no buffer");
    }

    #[test]
    fn read_buffers_are_kept_up_to_a_bound() {
        let many: Vec<Bytes> = (0..10).map(|byte| read_of(byte, BUFFER_BYTES_MAX, 1)).collect();
        drop(many);
        assert_eq!(idle(), IDLE_MAX);
        for wanted in [LARGE_BYTES - 1, BUFFER_BYTES_MAX + 1] {
            let own = read_of(7, wanted, wanted);
            assert_eq!((own.len(), idle()), (wanted, IDLE_MAX));
            drop(own);
            assert_eq!(idle(), IDLE_MAX);
        }
        // What is too small for a read is not taken for it, and makes room for what is not.
        IDLE.with_borrow_mut(|idle| idle.iter_mut().for_each(|buffer| buffer.truncate(LARGE_BYTES)));
        for _ in 0..2 * IDLE_MAX {
            assert_eq!(read_of(8, LARGE_BYTES + 1, 5).len(), 5);
        }
        assert_eq!(idle(), IDLE_MAX);
        assert!(IDLE.with_borrow(|idle| idle.iter().any(|buffer| buffer.len() > LARGE_BYTES)));
    }
}
