//! What the two disks promise, told for both where both can tell it, and how the memory disk forgets.

use minisr_storage::disk::memory::{Fault, Operation, Survives};
use minisr_storage::disk::{Entry, OpenMode};
use minisr_storage::{Disk, MemoryDisk, RealDisk};
use std::io::{ErrorKind, IoSlice};
use std::path::Path;

fn put<D: Disk>(disk: &mut D, path: &Path, position: u64, bytes: &[u8]) -> D::File {
    let mode = if disk.exists(path).unwrap() { OpenMode::Write } else { OpenMode::Create };
    let file = disk.open(path, mode).unwrap();
    disk.write_at(&file, position, &[IoSlice::new(bytes)]).unwrap();
    file
}

fn common_behaviour<D: Disk>(disk: &mut D, root: &Path) {
    let inner = root.join("a/b");
    disk.create_dir_all(&inner).unwrap();
    let path = inner.join("file");
    assert_eq!(disk.open(&path, OpenMode::Read).unwrap_err().kind(), ErrorKind::NotFound);
    let file = disk.open(&path, OpenMode::Create).unwrap();
    let many: Vec<Vec<u8>> = (0..3000_u32).map(|at| at.to_be_bytes().to_vec()).collect();
    let slices: Vec<IoSlice<'_>> = many.iter().map(|bytes| IoSlice::new(bytes)).collect();
    disk.write_at(&file, 2, &slices).unwrap();
    assert_eq!(disk.len(&file).unwrap(), 12_002);
    assert_eq!(disk.read_file(&path).unwrap().unwrap()[2..], many.concat());
    let mut buffer = [7; 10];
    assert_eq!(disk.read_at(&file, 11_998, &mut buffer).unwrap(), 4);
    assert_eq!(buffer[..5], [0, 0, 11, 183, 7]);
    assert_eq!(disk.read_at(&file, 20_000, &mut buffer).unwrap(), 0);
    disk.truncate(&file, 3).unwrap();
    disk.truncate(&file, 5).unwrap();
    assert_eq!(disk.read_file(&path).unwrap().unwrap(), [0; 5]);
    let sync = disk.sync_handle(&file);
    std::thread::spawn(move || sync).join().map(|sync| disk.sync(&sync).unwrap()).unwrap();
    disk.sync_dir(&inner).unwrap();
    let other = inner.join("other");
    put(disk, &other, 0, b"x");
    disk.rename(&path, &other).unwrap();
    assert_eq!(disk.read_file(&other).unwrap().unwrap(), [0; 5]);
    disk.create_dir_all(&inner.join("z")).unwrap();
    let names = disk.list(&inner).unwrap();
    let entry = |name: &str, is_directory| Entry { name: name.to_owned(), is_directory };
    assert_eq!(names, [entry("other", false), entry("z", true)]);
    disk.remove(&other).unwrap();
    assert!(!disk.exists(&other).unwrap());
    assert_eq!(disk.remove(&other).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.len(&file).unwrap(), 5, "an open file outlives its name");
    disk.remove_dir_all(&root.join("a")).unwrap();
    assert!(disk.list(root).unwrap().is_empty());
}

#[test]
fn disk_real_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    common_behaviour(&mut RealDisk, directory.path());
    assert_eq!(RealDisk.boot_id().unwrap(), RealDisk.boot_id().unwrap());
}

#[test]
fn disk_memory_keeps_the_contract() {
    let mut disk = MemoryDisk::new();
    disk.create_dir_all(Path::new("/root")).unwrap();
    common_behaviour(&mut disk, Path::new("/root"));
    disk.sync_dir(Path::new("/root")).unwrap();
    assert_eq!(disk.bytes_stored(), 0);
}

#[test]
fn memory_disk_forgets_a_synced_file_whose_name_was_not_synced() {
    let mut disk = MemoryDisk::new();
    let file = put(&mut disk, Path::new("/f"), 0, b"data");
    disk.sync_file(&file).unwrap();
    assert!(disk.crash(&mut |_| Survives::Nothing));
    assert!(!disk.exists(Path::new("/f")).unwrap());
}

#[test]
fn memory_disk_forgets_unsynced_bytes_of_a_synced_name() {
    let mut disk = MemoryDisk::new();
    let file = put(&mut disk, Path::new("/f"), 0, b"durable");
    disk.sync_file(&file).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    put(&mut disk, Path::new("/f"), 3, b"LOST AND LONGER");
    disk.truncate(&file, 2).unwrap();
    put(&mut disk, Path::new("/f"), 2, b"!");
    assert!(disk.crash(&mut |_| Survives::Nothing));
    assert_eq!(disk.read_file(Path::new("/f")).unwrap().unwrap(), b"durable");
    assert!(!disk.crash(&mut |_| unreachable!("there is nothing to ask about")));
}

#[test]
fn memory_disk_keeps_the_prefix_that_was_asked_for() {
    let mut expected = vec![b"durable".to_vec(), b"durXYle".to_vec(), b"durXY".to_vec(), b"durXY123".to_vec()];
    for (operations, expected) in expected.drain(..).enumerate() {
        let mut disk = MemoryDisk::new();
        let file = put(&mut disk, Path::new("/f"), 0, b"durable");
        disk.sync_file(&file).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        put(&mut disk, Path::new("/f"), 3, b"XY");
        disk.truncate(&file, 5).unwrap();
        put(&mut disk, Path::new("/f"), 5, b"123");
        disk.crash(&mut |_| Survives::Prefix { operations, bytes: 0 });
        assert_eq!(disk.read_file(Path::new("/f")).unwrap().unwrap(), expected);
        // And one that tears the third.
        let file = put(&mut disk, Path::new("/f"), 0, b"");
        disk.truncate(&file, 0).unwrap();
        disk.sync_file(&file).unwrap();
        put(&mut disk, Path::new("/f"), 0, b"torn");
        disk.crash(&mut |_| Survives::Prefix { operations: 0, bytes: 3 });
        assert_eq!(disk.read_file(Path::new("/f")).unwrap().unwrap(), b"tor");
    }
}

#[test]
fn memory_disk_names_come_back_and_go_with_their_directory() {
    let mut disk = MemoryDisk::new();
    let directory = Path::new("/d");
    disk.create_dir_all(directory).unwrap();
    for name in ["a", "b"] {
        let file = put(&mut disk, &directory.join(name), 0, name.as_bytes());
        disk.sync_file(&file).unwrap();
    }
    disk.sync_dir(directory).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.remove(&directory.join("a")).unwrap();
    disk.rename(&directory.join("b"), &directory.join("a")).unwrap();
    let mut one = disk.clone();
    one.crash(&mut |_| Survives::Prefix { operations: 1, bytes: 0 });
    assert!(!one.exists(&directory.join("a")).unwrap());
    assert_eq!(one.read_file(&directory.join("b")).unwrap().unwrap(), b"b");
    disk.remove_dir_all(directory).unwrap();
    disk.crash(&mut |_| Survives::Nothing);
    assert_eq!(disk.read_file(&directory.join("a")).unwrap().unwrap(), b"a");
    assert_eq!(disk.read_file(&directory.join("b")).unwrap().unwrap(), b"b");
}

#[test]
fn memory_disk_handles_do_not_outlive_a_power_loss() {
    let mut disk = MemoryDisk::new();
    let file = put(&mut disk, Path::new("/f"), 0, b"x");
    let sync = disk.sync_handle(&file);
    disk.crash(&mut |_| Survives::Everything);
    assert!(disk.len(&file).is_err());
    assert!(disk.sync(&sync).is_err());
    assert!(disk.exists(Path::new("/f")).unwrap());
}

#[test]
fn memory_disk_full_writes_what_fits() {
    let mut disk = MemoryDisk::new();
    let file = put(&mut disk, Path::new("/f"), 0, b"1234");
    disk.set_capacity(Some(6));
    let error = disk.write_at(&file, 4, &[IoSlice::new(b"5678")]).unwrap_err();
    assert_eq!((error.kind(), disk.bytes_stored()), (ErrorKind::StorageFull, 6));
    disk.write_at(&file, 0, &[IoSlice::new(b"overwriting needs no room"[..6].as_ref())]).unwrap();
    disk.truncate(&file, 1).unwrap();
    assert_eq!(disk.bytes_stored(), 1);
    disk.write_at(&file, 1, &[IoSlice::new(b"abc")]).unwrap();
}

#[test]
fn memory_disk_faults_hit_what_they_name_and_no_more() {
    let mut disk = MemoryDisk::new();
    let fault = Fault::always(Operation::Read, ErrorKind::Other);
    disk.inject(Fault { path_contains: "bad".to_owned(), after: 1, times: 1, ..fault });
    let good = put(&mut disk, Path::new("/good"), 0, b"x");
    let bad = put(&mut disk, Path::new("/bad"), 0, b"x");
    let mut buffer = [0];
    let mut read = |file| disk.read_at(file, 0, &mut buffer).is_ok();
    assert!(read(&good) && read(&bad) && !read(&bad) && read(&bad) && read(&good));
}
