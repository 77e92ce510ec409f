//! Room on the disk that a growing file is promised before it needs it.
//!
//! A file system that decides late where bytes will lie decides while the kernel writes them back, with the file's
//! extents locked; whoever appends meanwhile waits (on ext4 for tens of milliseconds, and with it every partition of a
//! broker that has one data thread). Where the place is settled already, an append finds it without that lock. So a
//! segment asks for room ahead of its end, in steps.
//!
//! A step is as long as the file is already, within [`STEP_BYTES_MIN`] and [`STEP_BYTES_MAX`]: small files have none, so
//! that a thousand idle partitions hold nothing, and none holds more than as much again.
//!
//! Within that room a write goes on with zeros, its *padding*, to the next multiple of [`PADDING_STEP_BYTES`]. The page
//! cache takes memory for a write in blocks that begin at multiples of their size: for a batch that begins and ends
//! anywhere those are five or more, each of which is charged, listed and found again; up to the multiple it is
//! one, and what is appended next finds it. So a file may be longer than its log, by less than a step. What lies there is
//! zero until the log grows over it, and is cut off when the segment is whole, when the log is closed, or by recovery:
//! no batch begins with zeros ([`is_padding`]).

use crate::disk::Disk;
use std::io;

/// Where padding ends: multiples of this. Twice and four times as much gained nothing more.
const PADDING_STEP_BYTES: u64 = 64 << 10;

/// What padding is made of.
static ZEROS: [u8; PADDING_STEP_BYTES as usize] = [0; PADDING_STEP_BYTES as usize];

/// A file shorter than this holds no room ahead.
const STEP_BYTES_MIN: u64 = 1 << 20;
/// Steps become no longer than this: with 16 MiB a busy partition asks about once a second.
const STEP_BYTES_MAX: u64 = 16 << 20;

/// How far ahead one file has room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    /// Bytes up to here have their place; nothing is known below the end of the file.
    to: u64,
    /// The file has zeros up to here, unless its log is longer.
    padded_to: u64,
    /// Whether there may be room behind the end, which a sealed file must give back.
    may_hold: bool,
    /// The disk has no such thing, or no room to promise: the write itself will tell.
    refused: bool,
}

impl Reservation {
    /// A file that was just created.
    pub(crate) const NONE: Self = Self { to: 0, padded_to: 0, may_hold: false, refused: false };
    /// A file that was found: what it was promised in an earlier life is not known.
    pub(crate) const UNKNOWN: Self = Self { to: 0, padded_to: 0, may_hold: true, refused: false };

    /// Before `bytes` are written at the end, `len`. The file will not grow past `len_max`, but for one batch.
    pub(crate) fn before_write<D: Disk>(&mut self, disk: &mut D, file: &D::File, len: u64, bytes: u64, len_max: u64) {
        if self.refused || len < STEP_BYTES_MIN || len + bytes <= self.to {
            return;
        }
        let from = self.to.max(len);
        let step = len.clamp(STEP_BYTES_MIN, STEP_BYTES_MAX).min(len_max.saturating_sub(from)).max(len + bytes - from);
        match disk.reserve(file, from, step) {
            Ok(()) => (self.to, self.may_hold) = (from + step, true),
            Err(_) => self.refused = true,
        }
    }

    /// The zeros that a write has to go on with which makes the log `end` bytes long: none where there are some already, nor
    /// where no room was promised, since they may not be what fills a disk.
    pub(crate) fn padding(&mut self, end: u64) -> &'static [u8] {
        let padded_to = end.next_multiple_of(PADDING_STEP_BYTES);
        if end <= self.padded_to || padded_to > self.to {
            return &[];
        }
        self.padded_to = padded_to;
        &ZEROS[..usize::try_from(padded_to - end).expect("less than a step")]
    }

    /// The file was cut to a length, and what lay behind it given back.
    pub(crate) const fn cut(&mut self) {
        *self = Self::NONE;
    }

    /// The file will not grow any more beyond `len`, where its log ends: what it does not use is given back, padding
    /// included. Failing to costs room, nothing else.
    pub(crate) fn give_back<D: Disk>(&mut self, disk: &mut D, file: &D::File, len: u64) {
        if self.may_hold {
            // Cutting a file to the length that it has frees what lies behind (ext4, XFS).
            let _ = disk.truncate(file, len);
        }
        self.cut();
    }
}

/// Whether the bytes of a file from `position`, where no batch could be read, to its end, `len`, are padding.
pub(crate) fn is_padding<D: Disk>(disk: &mut D, file: &D::File, position: u64, len: u64) -> io::Result<bool> {
    if len - position >= PADDING_STEP_BYTES {
        return Ok(false);
    }
    let mut rest = vec![0; usize::try_from(len - position).expect("less than a step")];
    let read = disk.read_at(file, position, &mut rest)?;
    Ok(read == rest.len() && rest.iter().all(|byte| *byte == 0))
}
