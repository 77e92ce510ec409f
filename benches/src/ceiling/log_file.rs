//! A file that grows as a log does, but not for ever: when it is full it is emptied and grows again.
//!
//! Growing matters: a log's every byte goes into a page that the kernel has to allocate and clear first. Overwriting
//! pages that are cached already is a good deal cheaper, and a ceiling measured that way would promise what no log can
//! reach.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

/// Appends frames; emptied before the frame that would not fit.
pub(crate) struct LogFile {
    file: File,
    capacity_bytes: u64,
    /// Where the next frame goes.
    end: Mutex<u64>,
}

impl LogFile {
    pub(crate) fn create(path: &Path, capacity_bytes: u64, frame_bytes: usize) -> io::Result<LogFile> {
        assert!(frame_bytes > 0 && capacity_bytes >= frame_bytes as u64, "the file holds at least one frame");
        Ok(LogFile { file: File::create(path)?, capacity_bytes, end: Mutex::new(0) })
    }

    /// Hands the frame to the kernel; returns when it is in the page cache.
    pub(crate) fn append(&self, frame: &[u8]) -> io::Result<()> {
        // Held over the write: an append in another thread must not be cut away by the emptying.
        let mut end = self.end.lock().expect("no append panics");
        if *end + frame.len() as u64 > self.capacity_bytes {
            self.file.set_len(0)?;
            *end = 0;
        }
        self.file.write_all_at(frame, *end)?;
        *end += frame.len() as u64;
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
