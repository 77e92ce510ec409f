//! A file that grows as a log does, but not for ever: when it is full it is emptied and grows again.
//!
//! Growing matters: a log's every byte goes into a page that the kernel has to allocate and clear first. Overwriting
//! pages that are cached already is a good deal cheaper, and a ceiling measured that way would promise what no log can
//! reach. Reserving room ahead of the end, as the broker's log does, is granted to the ceiling too.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Mutex;

use minisr_storage::RealDisk;
use minisr_storage::disk::real::RealFile;
use minisr_storage::disk::{Disk, OpenMode};

/// The longest step in which a log reserves room.
const RESERVED_BYTES: u64 = 16 << 20;

/// Appends frames; emptied before the frame that would not fit.
pub(crate) struct LogFile {
    file: RealFile,
    capacity_bytes: u64,
    place: Mutex<Place>,
}

#[derive(Default)]
struct Place {
    /// Where the next frame goes.
    end: u64,
    /// Up to where there is room.
    reserved: u64,
}

impl LogFile {
    pub(crate) fn create(path: &Path, capacity_bytes: u64, frame_bytes: usize) -> io::Result<LogFile> {
        assert!(frame_bytes > 0 && capacity_bytes >= frame_bytes as u64, "the file holds at least one frame");
        Ok(LogFile { file: RealDisk.open(path, OpenMode::Create)?, capacity_bytes, place: Mutex::default() })
    }

    /// Hands the frame to the kernel; returns when it is in the page cache.
    pub(crate) fn append(&self, frame: &[u8]) -> io::Result<()> {
        // Held over the write: an append in another thread must not be cut away by the emptying.
        let mut place = self.place.lock().expect("no append panics");
        let bytes = frame.len() as u64;
        if place.end + bytes > self.capacity_bytes {
            RealDisk.truncate(&self.file, 0)?;
            *place = Place::default();
        }
        if place.end + bytes > place.reserved {
            let from = place.reserved.max(place.end);
            // Only a hint: where it is refused, writing is slower.
            let _ = RealDisk.reserve(&self.file, from, RESERVED_BYTES.max(bytes));
            place.reserved = from + RESERVED_BYTES.max(bytes);
        }
        RealDisk.write_at(&self.file, place.end, &[IoSlice::new(frame)])?;
        place.end += bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_file_is_emptied_and_grows_again_when_full() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = LogFile::create(&path, 25, 10).unwrap();
        log.append(&[0; 10]).unwrap();
        log.append(&[1; 10]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 20, "two frames fit into 25 bytes");
        log.append(&[2; 10]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [2; 10], "the third found the file full");
    }
}
