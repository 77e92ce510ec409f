//! The journal under the Raft log.

use crate::vocabulary::*;
use bytes::Bytes;
use minisr_storage::disk::OpenMode;
use minisr_storage::disk::memory::{Fault, Operation, Survives};
use minisr_storage::journal::{JournalError, JournalRecovered};
use minisr_storage::{Disk, Journal, MemoryDisk, RealDisk};
use std::io::ErrorKind;
use std::path::Path;

const RAFT: &str = "/raft";

fn entry(index: u64, size: usize) -> Bytes {
    vec![index as u8; size].into()
}

fn open<D: Disk>(disk: &mut D) -> (Journal<D>, JournalRecovered) {
    Journal::open(disk, Path::new(RAFT)).expect("the journal opens")
}

fn journal_of(count: u64) -> (MemoryDisk, Journal<MemoryDisk>) {
    let mut disk = MemoryDisk::new();
    let (mut journal, _) = open(&mut disk);
    for index in 1..=count {
        journal.append(&mut disk, index, &[entry(index, 50)]).unwrap();
    }
    (disk, journal)
}

fn indexes(disk: &mut MemoryDisk, journal: &Journal<MemoryDisk>) -> Vec<u64> {
    let entries = journal.read(disk, ..).unwrap();
    assert!(entries.iter().all(|(index, bytes)| *bytes == entry(*index, bytes.len())));
    entries.into_iter().map(|(index, _)| index).collect()
}

fn file(disk: &mut MemoryDisk) -> std::path::PathBuf {
    let name = disk.list(Path::new(RAFT)).unwrap().pop().unwrap().name;
    Path::new(RAFT).join(name)
}

#[test]
fn journal_append_survives_power_loss_at_once() {
    let (mut disk, _journal) = journal_of(10);
    assert!(!disk.has_unsynced());
    power_loss(&mut disk);
    let (journal, recovered) = open(&mut disk);
    assert_eq!((journal.first(), journal.end(), recovered.torn_bytes), (1, 11, 0));
    assert_eq!(indexes(&mut disk, &journal), (1..=10).collect::<Vec<_>>());
    assert_eq!(journal.read(&mut disk, 3..=4).unwrap().len(), 2);
}

#[test]
fn journal_torn_append_is_cut_wherever_it_tore() {
    for survives in [
        Survives::Prefix { operations: 0, bytes: 3 },
        Survives::Prefix { operations: 0, bytes: 75 },
        Survives::Hole { from: 30 + 70 * 3, to: 60 + 70 * 3 },
        Survives::Hole { from: 70 * 4, to: 70 * 4 + 8 },
    ] {
        let (mut disk, mut journal) = journal_of(3);
        disk.inject(Fault::always(Operation::Sync, ErrorKind::Other));
        let entries: Vec<_> = (4..8).map(|index| entry(index, 50)).collect();
        journal.append(&mut disk, 4, &entries).unwrap_err();
        assert!(matches!(journal.append(&mut disk, 4, &entries), Err(JournalError::Poisoned(_))), "no retry");
        disk.heal();
        disk.crash(&mut |_| survives);
        let (mut journal, recovered) = open(&mut disk);
        assert!(recovered.torn_bytes > 0, "{survives:?}");
        assert!(journal.end() >= 4 && journal.end() < 8);
        let end = journal.end();
        journal.append(&mut disk, end, &[entry(end, 20)]).unwrap();
        assert_eq!(indexes(&mut disk, &journal), (1..=end).collect::<Vec<_>>());
    }
}

#[test]
fn journal_rot_before_the_end_is_an_error() {
    let (mut disk, _journal) = journal_of(10);
    let path = file(&mut disk);
    for position in [70 * 4 + 1, 70 * 4 + 12, 70 * 4 + 40] {
        disk.rot(&path, position, 1).unwrap();
        assert!(matches!(Journal::open(&mut disk, Path::new(RAFT)), Err(JournalError::Corrupt { index: 5 })));
        disk.rot(&path, position, 1).unwrap();
    }
    let (journal, _) = open(&mut disk);
    disk.rot(&path, 70 * 2 + 30, 1).unwrap();
    assert!(matches!(journal.read(&mut disk, ..), Err(JournalError::Corrupt { index: 3 })));
    assert_eq!(journal.read(&mut disk, 5..).unwrap().len(), 6);
}

#[test]
fn journal_truncate_and_purge_are_durable() {
    let (mut disk, mut journal) = journal_of(10);
    journal.truncate(&mut disk, 8).unwrap();
    journal.append(&mut disk, 8, &[entry(8, 10)]).unwrap();
    journal.purge(&mut disk, 4).unwrap();
    assert_eq!(indexes(&mut disk, &journal), [4, 5, 6, 7, 8]);
    power_loss(&mut disk);
    let (mut journal, _) = open(&mut disk);
    assert_eq!(journal.end(), 9);
    journal.purge(&mut disk, 4).unwrap();
    assert_eq!((journal.first(), indexes(&mut disk, &journal)), (4, vec![4, 5, 6, 7, 8]));
    journal.truncate(&mut disk, 1).unwrap();
    assert!(journal.is_empty());
    power_loss(&mut disk);
    let (mut journal, _) = open(&mut disk);
    assert!(journal.is_empty());
    journal.append(&mut disk, 100, &[entry(100, 5)]).unwrap();
    assert_eq!((journal.first(), journal.end()), (100, 101));
}

#[test]
fn journal_purge_past_the_end_continues_after_a_snapshot() {
    let (mut disk, mut journal) = journal_of(5);
    journal.purge(&mut disk, 50).unwrap();
    assert_eq!((journal.first(), journal.end(), journal.is_empty()), (50, 50, true));
    journal.append(&mut disk, 50, &[entry(50, 5)]).unwrap();
    power_loss(&mut disk);
    assert_eq!(indexes(&mut disk, &open(&mut MemoryDisk::new()).0), Vec::<u64>::new());
    let (journal, _) = open(&mut disk);
    assert_eq!(indexes(&mut disk, &journal), [50]);
}

#[test]
fn journal_files_roll_and_are_purged_whole() {
    let (mut disk, mut journal) = journal_of(0);
    for index in 1..=10 {
        journal.append(&mut disk, index, &[entry(index, 3 << 20)]).unwrap();
    }
    assert_eq!(disk.list(Path::new(RAFT)).unwrap().len(), 4);
    assert_eq!(indexes(&mut disk, &journal).len(), 10);
    journal.purge(&mut disk, 8).unwrap();
    assert_eq!(disk.list(Path::new(RAFT)).unwrap().len(), 2);
    journal.truncate(&mut disk, 9).unwrap();
    let (mut journal, _) = open(&mut disk);
    journal.purge(&mut disk, 8).unwrap();
    assert_eq!(indexes(&mut disk, &journal), [8]);
}

#[test]
fn journal_missing_middle_file_is_an_error() {
    let (mut disk, mut journal) = journal_of(0);
    for index in 1..=10 {
        journal.append(&mut disk, index, &[entry(index, 3 << 20)]).unwrap();
    }
    let second = disk.list(Path::new(RAFT)).unwrap().remove(1).name;
    disk.remove(&Path::new(RAFT).join(second)).unwrap();
    assert!(matches!(Journal::open(&mut disk, Path::new(RAFT)), Err(JournalError::Corrupt { index: 4 })));
}

#[test]
fn journal_works_on_the_real_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("raft");
    let mut disk = RealDisk;
    let (mut journal, _) = Journal::open(&mut disk, &path).unwrap();
    let entries: Vec<_> = (1..=100).map(|index| entry(index, 30)).collect();
    journal.append(&mut disk, 1, &entries).unwrap();
    journal.truncate(&mut disk, 51).unwrap();
    drop(journal);
    let file = disk.open(&path.join(format!("{:020}.journal", 1)), OpenMode::Write).unwrap();
    let len = disk.len(&file).unwrap();
    disk.write_at(&file, len, &[std::io::IoSlice::new(b"torn")]).unwrap();
    let (journal, recovered) = Journal::open(&mut disk, &path).unwrap();
    assert_eq!((journal.end(), recovered.torn_bytes), (51, 4));
    assert_eq!(journal.read(&mut disk, 50..).unwrap(), [(50, entry(50, 30))]);
}
