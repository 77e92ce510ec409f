//! The state machine behind Raft: [`minisr_logic::metadata::apply`], command after command.
//!
//! Invariants:
//! * the image's version is the index of the last applied entry, Raft's own entries included;
//! * after each batch the new image is published, so whoever waits for an index waits on the image;
//! * the state is rebuilt from the newest snapshot and the log; only the snapshot is on disk.

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use minisr_logic::metadata::{Image, apply};
use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{debug, info};

use super::types::{Applied, Entry, LogId, SnapshotMeta, StorageError, StoredMembership, TypeConfig};
use crate::durable;

const SNAPSHOT_FILE: &str = "snapshot";
const SNAPSHOT_MAGIC: [u8; 4] = *b"mis2";

/// The metadata at the end of the applied log, and where it is published.
pub struct StateMachine {
    applied: Option<LogId>,
    membership: StoredMembership,
    image: Image,
    published: watch::Sender<Arc<Image>>,
    snapshots: Snapshots,
}

/// The newest snapshot, on disk and in memory (an image is small).
#[derive(Clone)]
struct Snapshots {
    path: PathBuf,
    newest: Arc<Mutex<Option<StoredSnapshot>>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredSnapshot {
    meta: SnapshotMeta,
    /// A postcard [`Image`].
    image: Arc<[u8]>,
}

/// Builds a snapshot of the image at the moment of its making.
pub struct SnapshotBuilder {
    applied: Option<LogId>,
    membership: StoredMembership,
    image: Image,
    snapshots: Snapshots,
}

impl StateMachine {
    /// Restores the newest snapshot in `directory` and publishes its image.
    ///
    /// # Errors
    /// When the snapshot cannot be read or is damaged.
    pub fn open(directory: &Path, published: watch::Sender<Arc<Image>>) -> io::Result<Self> {
        let snapshots = Snapshots { path: directory.join(SNAPSHOT_FILE), newest: Arc::default() };
        let mut machine =
            Self { applied: None, membership: StoredMembership::default(), image: Image::new(), published, snapshots };
        if let Some(stored) = machine.snapshots.read()? {
            machine.restore(&stored)?;
            machine.snapshots.set(stored);
        }
        Ok(machine)
    }

    fn restore(&mut self, stored: &StoredSnapshot) -> io::Result<()> {
        self.image = postcard::from_bytes(&stored.image).map_err(invalid_data)?;
        self.applied = stored.meta.last_log_id;
        self.membership = stored.meta.last_membership.clone();
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.published.send_replace(Arc::new(self.image.clone()));
    }

    fn apply_entry(&mut self, entry: Entry) -> Applied {
        let index = entry.log_id.index;
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Normal(command) => {
                debug!(index, ?command, "applying");
                let outcome = apply(&mut self.image, index, command);
                if let Err(refusal) = &outcome {
                    debug!(index, ?refusal, "a command was refused");
                }
                return Applied(Some(outcome));
            }
            EntryPayload::Membership(membership) => {
                info!(index, %membership, "controller quorum");
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            EntryPayload::Blank => {}
        }
        // The very first entry of a log stands at index 0, which is also the version of the empty image.
        if index > self.image.version() {
            self.image.skip(index);
        }
        Applied(None)
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let applied = entries.into_iter().map(|entry| self.apply_entry(entry)).collect();
        self.publish();
        Ok(applied)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            applied: self.applied,
            membership: self.membership.clone(),
            image: self.image.clone(),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let stored = StoredSnapshot { meta: meta.clone(), image: Arc::from(snapshot.into_inner()) };
        let failed = |error: &io::Error| {
            StorageError::from(StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(error)))
        };
        self.snapshots.save(stored.clone()).await.map_err(|e| failed(&e))?;
        self.restore(&stored).map_err(|e| failed(&e))?;
        info!(index = meta.last_log_id.map(|id| id.index), "installed a metadata snapshot");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        Ok(self.snapshots.newest())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let index = self.applied.map_or(0, |id| id.index);
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{index}"),
        };
        let failed = |error: &dyn std::error::Error| {
            StorageError::from(StorageIOError::write_snapshot(Some(meta.signature()), AnyError::error(error)))
        };
        let image = postcard::to_allocvec(&self.image).map_err(|e| failed(&e))?;
        let stored = StoredSnapshot { meta: meta.clone(), image: Arc::from(image) };
        self.snapshots.save(stored).await.map_err(|e| failed(&e))?;
        debug!(index, "built a metadata snapshot");
        Ok(self.snapshots.newest().expect("it was saved just now"))
    }
}

impl Snapshots {
    fn read(&self) -> io::Result<Option<StoredSnapshot>> {
        let Some(sealed) = durable::read(&self.path)? else {
            return Ok(None);
        };
        postcard::from_bytes(durable::unseal(SNAPSHOT_MAGIC, &sealed)?).map(Some).map_err(invalid_data)
    }

    /// Puts the snapshot on disk, on a blocking thread, and then into memory. An older one changes nothing.
    async fn save(&self, stored: StoredSnapshot) -> io::Result<()> {
        let (path, sealed) =
            (self.path.clone(), durable::seal(SNAPSHOT_MAGIC, &postcard::to_allocvec(&stored).map_err(invalid_data)?));
        if self.newest().is_some_and(|newest| newest.meta.last_log_id > stored.meta.last_log_id) {
            return Ok(());
        }
        tokio::task::spawn_blocking(move || durable::replace(&path, &sealed)).await.expect("no panic in a write")?;
        self.set(stored);
        Ok(())
    }

    fn set(&self, stored: StoredSnapshot) {
        *self.newest.lock().expect("no panic while it is held") = Some(stored);
    }

    fn newest(&self) -> Option<Snapshot<TypeConfig>> {
        let newest = self.newest.lock().expect("no panic while it is held");
        newest.as_ref().map(|stored| Snapshot {
            meta: stored.meta.clone(),
            snapshot: Box::new(Cursor::new(stored.image.to_vec())),
        })
    }
}

fn invalid_data(error: postcard::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the snapshot cannot be decoded: {error}"))
}
