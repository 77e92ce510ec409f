//! A file of bounded size that is overwritten from the beginning when it is full.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes frames one after the other and wraps before a frame that would not fit.
pub(crate) struct RingFile {
    file: File,
    capacity_bytes: u64,
    /// Frames ever placed. All frames have one size, so the place follows from the number.
    frames: AtomicU64,
    frame_bytes: u64,
}

impl RingFile {
    pub(crate) fn create(path: &Path, capacity_bytes: u64, frame_bytes: usize) -> io::Result<RingFile> {
        let frame_bytes = frame_bytes as u64;
        assert!(frame_bytes > 0 && capacity_bytes >= frame_bytes, "the ring holds at least one frame");
        Ok(RingFile { file: File::create(path)?, capacity_bytes, frames: AtomicU64::new(0), frame_bytes })
    }

    /// Hands the frame to the kernel; returns when it is in the page cache.
    pub(crate) fn append(&self, frame: &[u8]) -> io::Result<()> {
        assert_eq!(frame.len() as u64, self.frame_bytes, "every frame of a run has the same size");
        let slots = self.capacity_bytes / self.frame_bytes;
        let slot = self.frames.fetch_add(1, Ordering::Relaxed) % slots;
        self.file.write_all_at(frame, slot * self.frame_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_file_overwrites_from_the_beginning_when_full() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ring");
        let ring = RingFile::create(&path, 25, 10).unwrap();
        for byte in 0..5u8 {
            ring.append(&[byte; 10]).unwrap();
        }
        let written = std::fs::read(&path).unwrap();
        assert_eq!(written.len(), 20, "two frames fit into 25 bytes");
        assert_eq!((written[0], written[10]), (4, 3));
    }
}
