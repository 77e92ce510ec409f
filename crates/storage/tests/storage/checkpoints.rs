//! Small durable files.

use crate::vocabulary::*;
use minisr_storage::checkpoint::{self, Durability, MetaProperties, PartitionMetadata};
use minisr_storage::disk::memory::{Fault, Operation, Survives};
use minisr_storage::{Disk, MemoryDisk};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

fn root() -> (MemoryDisk, &'static Path) {
    let (mut disk, root) = (MemoryDisk::new(), Path::new("/data"));
    disk.create_dir_all(root).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, root)
}

#[test]
fn checkpoint_power_loss_at_any_point_leaves_old_or_new() {
    // Every operation of the write is made to fail in turn, and then the power goes, with every kind of survival.
    for operation in [Operation::Open, Operation::Write, Operation::Sync, Operation::Rename, Operation::SyncDir] {
        for survives in [
            Survives::Nothing,
            Survives::Everything,
            Survives::Prefix { operations: 1, bytes: 3 },
            Survives::Prefix { operations: 0, bytes: 5 },
        ] {
            let (mut disk, root) = root();
            checkpoint::write(&mut disk, root, "x", b"old content", Durability::Synced).unwrap();
            disk.inject(Fault { bytes_written: 4, ..Fault::always(operation, ErrorKind::Other) });
            checkpoint::write(&mut disk, root, "x", b"new content", Durability::Synced).unwrap_err();
            disk.heal();
            disk.crash(&mut |_| survives);
            let found = checkpoint::read(&mut disk, root, "x").unwrap().expect("one of both is there");
            assert!(found == b"old content" || found == b"new content", "{operation:?} {survives:?}: {found:?}");
        }
    }
}

#[test]
fn checkpoint_synced_write_survives_power_loss() {
    let (mut disk, root) = root();
    checkpoint::write(&mut disk, root, "x", b"1", Durability::Synced).unwrap();
    assert!(!disk.has_unsynced());
    checkpoint::write(&mut disk, root, "x", b"2", Durability::Written).unwrap();
    assert_eq!(checkpoint::read(&mut disk, root, "x").unwrap().unwrap(), b"2");
    power_loss(&mut disk);
    assert_eq!(checkpoint::read(&mut disk, root, "x").unwrap().unwrap(), b"1");
}

/// Leader epochs are written for Kafka's tools alone, so often that another file for each time would cost too much.
#[test]
fn checkpoint_that_is_written_over_is_made_when_missing_and_ends_where_the_new_content_ends() {
    let mut disk = MemoryDisk::new();
    let directory = Path::new("/data");
    disk.create_dir_all(directory).unwrap();
    for epochs in [&[(1, 0), (2, 3), (3, 1_000)][..], &[(1, 0)], &[(1, 0), (4, 2)]] {
        let text = checkpoint::encode_leader_epochs(epochs);
        checkpoint::write_over(&mut disk, directory, checkpoint::LEADER_EPOCHS, text.as_bytes()).unwrap();
        let text = checkpoint::read_text(&mut disk, directory, checkpoint::LEADER_EPOCHS).unwrap().unwrap();
        assert_eq!(checkpoint::decode_leader_epochs(checkpoint::LEADER_EPOCHS, &text).unwrap(), epochs);
    }
    assert_eq!(disk.list(directory).unwrap().len(), 1);
}

#[test]
fn checkpoint_texts_are_kafkas() {
    let offsets = BTreeMap::from([(("orders".to_owned(), 0), 17), (("a.b_c-d".to_owned(), 12), 0)]);
    let text = checkpoint::encode_offsets(&offsets);
    assert_eq!(text, "0\n2\na.b_c-d 12 0\norders 0 17\n");
    assert_eq!(checkpoint::decode_offsets("x", &text).unwrap(), offsets);
    let text = checkpoint::encode_leader_epochs(&[(0, 0), (3, 90)]);
    assert_eq!(text, "0\n2\n0 0\n3 90\n");
    assert_eq!(checkpoint::decode_leader_epochs("x", &text).unwrap(), [(0, 0), (3, 90)]);
    // Kafka's `Uuid.fromString("Iq1PHJdiQuqIgWlRA0MeeQ")`.
    let metadata = PartitionMetadata { topic_id: 0x22ad_4f1c_9762_42ea_8881_6951_0343_1e79 };
    assert_eq!(metadata.encode(), "version: 0\ntopic_id: Iq1PHJdiQuqIgWlRA0MeeQ\n");
    assert_eq!(PartitionMetadata::decode(&metadata.encode()).unwrap(), metadata);
}

#[test]
fn checkpoint_malformed_text_is_refused_with_a_reason() {
    let decode = |text| checkpoint::decode_offsets("recovery-point-offset-checkpoint", text);
    for text in
        ["", "1\n0\n", "0\n", "0\nx\n", "0\n2\na 0 1\n", "0\n1\na 0\n", "0\n1\na 0 1 2\n", "0\n2\na 0 1\na 0 2\n"]
    {
        let error = decode(text).unwrap_err().to_string();
        assert!(error.starts_with("recovery-point-offset-checkpoint is malformed: "), "{error}");
    }
    for text in ["0\n2\n1 5\n1 6\n", "0\n2\n1 5\n2 5\n", "0\n1\n1\n"] {
        assert!(checkpoint::decode_leader_epochs("x", text).is_err(), "{text:?}");
    }
    for text in ["version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA\n", "version: 0\ntopic_id: short\n", "version: 0\n"] {
        assert!(PartitionMetadata::decode(text).is_err(), "{text:?}");
    }
}

#[test]
fn meta_properties_round_trip_and_ignore_comments() {
    let properties = MetaProperties { node_id: 3, cluster_id: "c-1".to_owned(), directory_id: u128::MAX - 5 };
    let text = format!("#\n# Sat Nov 21 2026\n{}", properties.encode());
    assert_eq!(MetaProperties::decode(&text).unwrap(), properties);
    assert!(MetaProperties::decode("version=1\nnode.id=x\n").is_err());
}

#[test]
fn clean_shutdown_marker_counts_once_and_goes_durably() {
    let (mut disk, root) = root();
    assert_eq!(checkpoint::take_clean_shutdown(&mut disk, root).unwrap(), None);
    checkpoint::mark_clean_shutdown(&mut disk, root, 42).unwrap();
    power_loss(&mut disk);
    assert_eq!(checkpoint::take_clean_shutdown(&mut disk, root).unwrap(), Some(42));
    power_loss(&mut disk);
    assert_eq!(checkpoint::take_clean_shutdown(&mut disk, root).unwrap(), None);
    checkpoint::write(&mut disk, root, checkpoint::CLEAN_SHUTDOWN, b"\xff", Durability::Synced).unwrap();
    assert_eq!(checkpoint::take_clean_shutdown(&mut disk, root).unwrap(), None);
}

#[test]
fn boot_id_tells_a_killed_process_from_a_power_loss() {
    let (mut disk, root) = root();
    assert!(!checkpoint::exchange_boot_id(&mut disk, root).unwrap(), "never used before");
    assert!(checkpoint::exchange_boot_id(&mut disk, root).unwrap());
    power_loss(&mut disk);
    assert!(!checkpoint::exchange_boot_id(&mut disk, root).unwrap());
    assert!(checkpoint::exchange_boot_id(&mut disk, root).unwrap());
}
