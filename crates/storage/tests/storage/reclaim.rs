//! Large files that are removed are given back elsewhere: nobody waits for it, and nobody who has them open notices.

use minisr_storage::disk::OpenMode;
use minisr_storage::{Disk, RealDisk};
use std::fs;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LARGE_BYTES: usize = 16 << 20;

fn write_large(path: &Path) -> minisr_storage::disk::real::RealFile {
    let file = RealDisk.open(path, OpenMode::Create).unwrap();
    RealDisk.write_at(&file, 0, &[IoSlice::new(&vec![7; LARGE_BYTES])]).unwrap();
    file
}

/// The names of this process's threads.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok()).collect()
}

/// What this process has open of files that once lay in `directory`.
fn open_files(directory: &Path) -> Vec<PathBuf> {
    let handles = fs::read_dir("/proc/self/fd").unwrap();
    let targets = handles.filter_map(|handle| fs::read_link(handle.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(directory)).collect()
}

#[test]
fn removed_large_file_is_closed_soon_whoever_had_it_open() {
    let directory = tempfile::tempdir().unwrap();
    let (held, dropped) = (directory.path().join("held"), directory.path().join("dropped"));
    let file = write_large(&held);
    drop(write_large(&dropped));
    RealDisk.remove(&held).unwrap();
    RealDisk.remove(&dropped).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "the names are gone at once");
    let mut end = [0; 4];
    assert_eq!(RealDisk.read_at(&file, LARGE_BYTES as u64 - 2, &mut end).unwrap(), 2);
    assert_eq!(end, [7, 7, 0, 0], "whoever has it open reads on");
    drop(file);
    assert!(threads().iter().any(|name| name.trim() == "reclaim"), "somebody else closes them");
    let limit = Instant::now() + Duration::from_secs(20);
    while !open_files(directory.path()).is_empty() {
        assert!(Instant::now() < limit, "still open: {:?}", open_files(directory.path()));
        std::thread::yield_now();
    }
}

#[test]
fn removed_directory_of_more_large_files_than_may_wait_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    RealDisk.create_dir_all(&log.join("inner")).unwrap();
    for number in 0..100 {
        let file = RealDisk.open(&log.join(format!("{number}.log")), OpenMode::Create).unwrap();
        // Room is enough to be large, where the file system reserves any.
        let _ = RealDisk.reserve(&file, 0, LARGE_BYTES as u64);
    }
    RealDisk.remove_dir_all(&log).unwrap();
    assert!(!log.exists());
    assert_eq!(RealDisk.remove_dir_all(&log).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}
