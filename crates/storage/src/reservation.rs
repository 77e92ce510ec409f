//! Room on the disk that a growing file is promised before it needs it.
//!
//! A file system that decides late where bytes will lie decides while the kernel writes them back, with the file's
//! extents locked; whoever appends meanwhile waits (on ext4 for tens of milliseconds, and with it every partition of a
//! broker that has one data thread). Where the place is settled already, an append finds it without that lock. So a
//! segment asks for room ahead of its end, in steps. Its length and its bytes do not change by that, and recovery sees
//! no difference.
//!
//! A step is as long as the file is already, within [`STEP_BYTES_MIN`] and [`STEP_BYTES_MAX`]: small files have none, so
//! that a thousand idle partitions hold nothing, and none holds more than as much again.

use crate::disk::Disk;

/// A file shorter than this holds no room ahead.
const STEP_BYTES_MIN: u64 = 1 << 20;
/// Steps become no longer than this: with 16 MiB a busy partition asks about once a second.
const STEP_BYTES_MAX: u64 = 16 << 20;

/// How far ahead one file has room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    /// Bytes up to here have their place; nothing is known below the end of the file.
    to: u64,
    /// Whether there may be room behind the end, which a sealed file must give back.
    may_hold: bool,
    /// The disk has no such thing, or no room to promise: the write itself will tell.
    refused: bool,
}

impl Reservation {
    /// A file that was just created.
    pub(crate) const NONE: Self = Self { to: 0, may_hold: false, refused: false };
    /// A file that was found: what it was promised in an earlier life is not known.
    pub(crate) const UNKNOWN: Self = Self { to: 0, may_hold: true, refused: false };

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

    /// The file was cut to a length, and what lay behind it given back.
    pub(crate) const fn cut(&mut self) {
        *self = Self::NONE;
    }

    /// The file will not grow any more: what it does not use is given back. Failing to costs room, nothing else.
    pub(crate) fn give_back<D: Disk>(&mut self, disk: &mut D, file: &D::File) {
        if self.may_hold {
            let _ = disk.give_back(file);
        }
        self.cut();
    }
}
