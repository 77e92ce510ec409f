//! The Raft log and vote on disk, written by one thread, so that all writes are serialised.
//!
//! Invariants:
//! * a write is reported complete only after its sync;
//! * entries are readable from memory as soon as `append` returns;
//! * a failed write or sync is final: the thread ends, every later write fails, and openraft stops.
//!
//! Entries are in a [`Journal`]; the vote and what was purged are in one small file that is replaced in place
//! ([`DurableCell`]), because a candidate waits for the votes of others for a limited time only.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;

use bytes::Bytes;
use minisr_storage::disk::real::RealDisk;
use minisr_storage::journal::{Journal, JournalError};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::types::{Entry, LogId, NodeId, StorageError, TypeConfig, Vote};
use crate::durable;
use crate::durable_cell::DurableCell;

const LOG_DIRECTORY: &str = "log";
const HARD_STATE_FILE: &str = "hard-state";
const HARD_STATE_MAGIC: [u8; 4] = *b"mih2";

/// The log as openraft uses it. Clones share the log.
#[derive(Clone)]
pub struct LogStore {
    state: Arc<Mutex<State>>,
    writer: mpsc::Sender<Job>,
}

#[derive(Default)]
struct State {
    hard: HardState,
    /// Votes on their way to the disk.
    votes_under_way: usize,
    entries: BTreeMap<u64, Entry>,
}

/// What the small file holds.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct HardState {
    vote: Option<Vote>,
    purged: Option<LogId>,
}

/// Why the log cannot be opened. Each reads as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum LogOpenError {
    /// The journal cannot be opened.
    #[error("cannot open the Raft log in {path}: {source}", path = path.display())]
    Journal {
        /// The Raft directory.
        path: PathBuf,
        /// Why.
        source: JournalError,
    },
    /// The vote cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    HardState {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record makes no sense to this version.
    #[error("the Raft log holds a record that cannot be decoded: {0}")]
    Undecodable(#[from] postcard::Error),
    /// The writing thread cannot be started.
    #[error("cannot start the Raft log's thread: {0}")]
    Thread(io::Error),
}

enum Job {
    Append { first: u64, records: Vec<Bytes>, done: LogFlushed<TypeConfig> },
    Truncate { from: u64, done: oneshot::Sender<io::Result<()>> },
    HardState { hard: HardState, done: oneshot::Sender<io::Result<()>> },
}

impl LogStore {
    /// Opens the log in `directory`.
    ///
    /// # Errors
    /// See [`LogOpenError`].
    pub fn open(directory: &Path) -> Result<Self, LogOpenError> {
        let (writer, state) = Writer::open(directory)?;
        let (jobs, waiting) = mpsc::channel();
        thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(LogOpenError::Thread)?;
        Ok(Self { state: Arc::new(Mutex::new(state)), writer: jobs })
    }

    /// Whether there is anything in the log: a vote, or an entry that is or was there.
    #[must_use]
    pub fn is_initialized(&self) -> bool {
        let state = self.state();
        state.hard.vote.is_some() || state.hard.purged.is_some() || !state.entries.is_empty()
    }

    /// Where the log ends.
    #[must_use]
    pub fn last_log_id(&self) -> Option<LogId> {
        self.state().last()
    }

    /// Whether a vote is on its way to the disk: this node's own as a candidate, or one for another.
    #[must_use]
    pub fn is_storing_vote(&self) -> bool {
        self.state().votes_under_way > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }

    /// Hands a job to the writing thread and waits until it is durable.
    async fn write(&self, job: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Job) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        self.send(job(done))?;
        durable.await.unwrap_or_else(|_| Err(gone()))
    }

    fn send(&self, job: Job) -> io::Result<()> {
        self.writer.send(job).map_err(|_| gone())
    }
}

impl State {
    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id).or(self.hard.purged)
    }
}

fn gone() -> io::Error {
    io::Error::other("the Raft log's thread has ended")
}

/// The writing thread's belongings.
struct Writer {
    disk: RealDisk,
    journal: Journal<RealDisk>,
    hard_state: DurableCell,
    purged: Option<LogId>,
}

impl Writer {
    fn open(directory: &Path) -> Result<(Self, State), LogOpenError> {
        let hard_state_path = directory.join(HARD_STATE_FILE);
        let unreadable = |source| LogOpenError::HardState { path: hard_state_path.clone(), source };
        let initial = postcard::to_allocvec(&HardState::default())?;
        let opened = DurableCell::open(&hard_state_path, HARD_STATE_MAGIC, &initial);
        let (hard_state, bytes) = opened.map_err(unreadable)?;
        let hard: HardState = postcard::from_bytes(&bytes)?;
        let unopened = |source| LogOpenError::Journal { path: directory.to_path_buf(), source };
        let mut disk = RealDisk;
        let (mut journal, recovered) = Journal::open(&mut disk, &directory.join(LOG_DIRECTORY)).map_err(unopened)?;
        if recovered.torn_bytes > 0 {
            tracing::info!(bytes = recovered.torn_bytes, "cut a torn tail off the Raft log");
        }
        if let Some(purged) = hard.purged {
            journal.purge(&mut disk, purged.index + 1).map_err(unopened)?;
        }
        let mut entries = BTreeMap::new();
        for (index, record) in journal.read(&mut disk, ..).map_err(unopened)? {
            entries.insert(index, postcard::from_bytes(&record)?);
        }
        let writer = Self { disk, journal, hard_state, purged: hard.purged };
        Ok((writer, State { hard, votes_under_way: 0, entries }))
    }

    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let goes_on = match job {
                Job::Append { first, records, done } => {
                    let result = self.journal.append(&mut self.disk, first, &records).map_err(io::Error::other);
                    report(result, |result| done.log_io_completed(result))
                }
                Job::Truncate { from, done } => {
                    let result = self.journal.truncate(&mut self.disk, from).map_err(io::Error::other);
                    report(result, |result| drop(done.send(result)))
                }
                Job::HardState { hard, done } => report(self.store_hard_state(hard), |result| drop(done.send(result))),
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Stores the vote, and what was purged before purging it, so that a crash in between purges again at opening.
    fn store_hard_state(&mut self, hard: HardState) -> io::Result<()> {
        let bytes = postcard::to_allocvec(&hard).map_err(io::Error::other)?;
        self.hard_state.replace(&bytes)?;
        match hard.purged {
            Some(purged) if hard.purged != self.purged => {
                self.purged = hard.purged;
                self.journal.purge(&mut self.disk, purged.index + 1).map_err(io::Error::other)
            }
            _ => Ok(()),
        }
    }
}

/// Reports a write. After a failed one nothing is known about what reached the disk, so the thread must end; every
/// later job then finds the channel closed.
fn report(result: io::Result<()>, report: impl FnOnce(io::Result<()>)) -> bool {
    let failure = result.as_ref().err().map(ToString::to_string);
    report(result);
    if let Some(error) = &failure {
        tracing::error!(%error, "the Raft log cannot be written");
    }
    failure.is_none()
}

fn write_failed(error: &io::Error) -> StorageError {
    StorageIOError::write_logs(AnyError::new(error)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(self.state().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let state = self.state();
        Ok(LogState { last_purged_log_id: state.hard.purged, last_log_id: state.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let hard = {
            let mut state = self.state();
            state.votes_under_way += 1;
            HardState { vote: Some(*vote), ..state.hard }
        };
        let written = self.write(|done| Job::HardState { hard, done }).await;
        let mut state = self.state();
        state.votes_under_way -= 1;
        written.map_err(|e| StorageError::from(StorageIOError::write_vote(AnyError::new(&e))))?;
        state.hard = hard;
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.state().hard.vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut first = None;
        {
            let mut state = self.state();
            for entry in entries {
                let index = entry.log_id.index;
                assert!(
                    state.last().is_none_or(|last| last.index + 1 == index),
                    "the Raft log would get a hole before entry {index}"
                );
                first.get_or_insert(index);
                let record = postcard::to_allocvec(&entry)
                    .map_err(|e| StorageError::from(StorageIOError::write_logs(AnyError::new(&e))))?;
                records.push(Bytes::from(record));
                state.entries.insert(index, entry);
            }
        }
        let Some(first) = first else {
            callback.log_io_completed(Ok(()));
            return Ok(());
        };
        self.send(Job::Append { first, records, done: callback }).map_err(|e| write_failed(&e))
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.state().entries.split_off(&log_id.index);
        self.write(|done| Job::Truncate { from: log_id.index, done }).await.map_err(|e| write_failed(&e))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let hard = {
            let mut state = self.state();
            state.entries = state.entries.split_off(&(log_id.index + 1));
            state.hard.purged = Some(log_id);
            state.hard
        };
        self.write(|done| Job::HardState { hard, done }).await.map_err(|e| write_failed(&e))
    }
}

/// The id of the Raft directory: drawn when the directory is made, gone when it is wiped.
///
/// # Errors
/// What the system says.
pub fn open_directory(directory: &Path) -> io::Result<NodeId> {
    const ID_FILE: &str = "directory-id";
    std::fs::create_dir_all(directory)?;
    durable::sync_directory_of(directory)?;
    let path = directory.join(ID_FILE);
    if let Some(text) = durable::read(&path)? {
        let text = String::from_utf8_lossy(&text);
        return u64::from_str_radix(text.trim(), 16).map_err(|e| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no directory id: {e}", path.display()))
        });
    }
    let (id, _) = uuid::Uuid::new_v4().as_u64_pair();
    durable::replace(&path, format!("{id:016x}\n").as_bytes())?;
    Ok(id)
}
