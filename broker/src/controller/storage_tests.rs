//! openraft's own test suite over our log and state machine, and what it does not ask.

use std::sync::Arc;

use minisr_logic::metadata::Image;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{CommittedLeaderId, EntryPayload};
use tempfile::TempDir;
use tokio::sync::watch;

use super::log_store::{LogStore, open_directory};
use super::state_machine::StateMachine;
use super::types::{Entry, LogId, StorageError, TypeConfig, Vote};

struct InTemporaryDirectory;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for InTemporaryDirectory {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let directory = tempfile::tempdir().expect("a directory");
        let log = LogStore::open(directory.path()).expect("a new log");
        let (published, _) = watch::channel(Arc::new(Image::new()));
        let machine = StateMachine::open(directory.path(), published).expect("a new state machine");
        Ok((directory, log, machine))
    }
}

type OurSuite = Suite<TypeConfig, LogStore, StateMachine, InTemporaryDirectory, TempDir>;

macro_rules! suite {
    ($($name:ident)*) => { $(
        #[tokio::test]
        async fn $name() {
            let (_directory, log, machine) = InTemporaryDirectory.build().await.expect("built");
            OurSuite::$name(log, machine).await.expect("the suite passes");
        }
    )* };
}

/// The suite, without the one part that breaks its own rule and appends entry 3 after entry 1.
mod suite {
    use super::*;

    suite! {
        last_membership_in_log_initial
        get_membership_initial
        get_initial_state_without_init
        get_initial_state_log_ids
        get_initial_state_with_state
        get_initial_state_last_log_gt_sm
        get_initial_state_last_log_lt_sm
        get_initial_state_re_apply_committed
        last_membership_in_log
        last_membership_in_log_multi_step
        get_membership_from_log_and_empty_sm
        get_membership_from_empty_log_and_sm
        get_membership_from_log_le_sm_last_applied
        get_membership_from_log_gt_sm_last_applied_1
        get_membership_from_log_gt_sm_last_applied_2
        save_vote
        get_log_entries
        limited_get_log_entries
        try_get_log_entry
        initial_logs
        get_log_state
        get_log_id
        last_id_in_log
        last_applied_state
        purge_logs_upto_0
        purge_logs_upto_5
        purge_logs_upto_20
        delete_logs_since_11
        delete_logs_since_0
        append_to_log
        snapshot_meta
        apply_single
        apply_multiple
    }

    #[tokio::test]
    async fn transfer_snapshot() {
        OurSuite::transfer_snapshot(&InTemporaryDirectory).await.expect("the suite passes");
    }
}

fn entry(index: u64) -> Entry {
    Entry { log_id: LogId::new(CommittedLeaderId::new(1, 7), index), payload: EntryPayload::Blank }
}

#[tokio::test]
async fn storage_reopened_holds_vote_entries_and_purge() {
    let directory = tempfile::tempdir().expect("a directory");
    let vote = Vote::new_committed(3, 7);
    let mut log = LogStore::open(directory.path()).expect("a new log");
    assert!(!log.is_initialized());
    log.save_vote(&vote).await.expect("saved");
    log.blocking_append((0..=9).map(entry)).await.expect("appended");
    log.truncate(entry(8).log_id).await.expect("truncated");
    log.purge(entry(3).log_id).await.expect("purged");
    drop(log);
    let mut log = LogStore::open(directory.path()).expect("reopened");
    assert!(log.is_initialized());
    assert_eq!(log.read_vote().await.expect("read"), Some(vote));
    let state = log.get_log_state().await.expect("read");
    assert_eq!(state.last_purged_log_id, Some(entry(3).log_id));
    assert_eq!(state.last_log_id, Some(entry(7).log_id));
    // A snapshot that lies far ahead empties the log; the next entry follows the snapshot.
    log.purge(entry(100).log_id).await.expect("purged");
    log.blocking_append([entry(101)]).await.expect("appended");
    drop(log);
    let mut log = LogStore::open(directory.path()).expect("reopened");
    assert_eq!(log.get_log_state().await.expect("read").last_log_id, Some(entry(101).log_id));
}

#[test]
fn directory_keeps_its_id_until_it_is_wiped() {
    let directory = tempfile::tempdir().expect("a directory");
    let raft = directory.path().join("raft");
    let id = open_directory(&raft).expect("made");
    assert_eq!(open_directory(&raft).expect("opened"), id);
    std::fs::remove_dir_all(&raft).expect("wiped");
    assert_ne!(open_directory(&raft).expect("made anew"), id);
}
