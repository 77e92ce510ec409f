//! The Raft log and vote, in one journal written by one thread, so that all writes are serialised.
//!
//! Invariants:
//! * a write is reported complete only after its sync;
//! * entries are readable from memory as soon as `append` returns;
//! * a failed write or sync is final: the thread answers nothing but errors from then on, and openraft stops.
//!
//! The journal holds operations (vote, entry, truncation, purge). It is rewritten when purging has made most of it
//! useless; until then a purge costs one small record.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::journal::{Journal, OpenError};
use super::types::{Entry, LogId, NodeId, StorageError, TypeConfig, Vote};

const JOURNAL_FILE: &str = "log";
/// A journal smaller than this is not worth rewriting.
const REWRITE_BYTES_MIN: u64 = 4 << 20;

/// One record of the journal.
#[derive(Debug, Serialize, Deserialize)]
enum Operation {
    Vote(Vote),
    Append(Entry),
    /// Entries from this index on are gone.
    Truncate(u64),
    /// Entries up to this one are gone.
    Purge(LogId),
}

/// The log as openraft uses it. Clones share the log.
#[derive(Clone)]
pub struct LogStore {
    state: Arc<Mutex<State>>,
    writer: mpsc::Sender<Job>,
}

#[derive(Default)]
struct State {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

/// Why the log cannot be opened. Each reads as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum LogOpenError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// A record makes no sense to this version.
    #[error("the Raft log holds a record that cannot be decoded: {0}")]
    Undecodable(#[from] postcard::Error),
    /// The writing thread cannot be started.
    #[error("cannot start the Raft log's thread: {0}")]
    Thread(io::Error),
}

struct Job {
    work: Work,
    done: Done,
}

enum Work {
    Write(Vec<Vec<u8>>),
    /// Replace everything by this.
    Rewrite(Vec<Vec<u8>>),
}

enum Done {
    Entries(LogFlushed<TypeConfig>),
    Other(oneshot::Sender<io::Result<u64>>),
}

impl LogStore {
    /// Opens the log in `directory`.
    ///
    /// # Errors
    /// See [`LogOpenError`].
    pub fn open(directory: &Path) -> Result<Self, LogOpenError> {
        let (journal, records) = Journal::open(&directory.join(JOURNAL_FILE))?;
        let mut state = State::default();
        for record in records {
            state.replay(postcard::from_bytes(&record)?);
        }
        let (writer, jobs) = mpsc::channel();
        thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || write_jobs(journal, &jobs))
            .map_err(LogOpenError::Thread)?;
        Ok(Self { state: Arc::new(Mutex::new(state)), writer })
    }

    /// Whether there is anything in the log: a vote, or an entry that is or was there.
    #[must_use]
    pub fn is_initialized(&self) -> bool {
        let state = self.state();
        state.vote.is_some() || state.purged.is_some() || !state.entries.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }

    /// Hands operations to the writing thread and waits until they are durable.
    async fn write(&self, work: Work) -> io::Result<u64> {
        let (done, durable) = oneshot::channel();
        self.send(Job { work, done: Done::Other(done) })?;
        durable.await.unwrap_or_else(|_| Err(gone()))
    }

    fn send(&self, job: Job) -> io::Result<()> {
        self.writer.send(job).map_err(|_| gone())
    }
}

impl State {
    fn replay(&mut self, operation: Operation) {
        match operation {
            Operation::Vote(vote) => self.vote = Some(vote),
            Operation::Append(entry) => {
                self.entries.insert(entry.log_id.index, entry);
            }
            Operation::Truncate(from) => self.truncate(from),
            Operation::Purge(up_to) => self.purge(up_to),
        }
    }

    fn truncate(&mut self, from: u64) {
        self.entries.split_off(&from);
    }

    fn purge(&mut self, up_to: LogId) {
        self.entries = self.entries.split_off(&(up_to.index + 1));
        self.purged = Some(up_to);
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id).or(self.purged)
    }

    /// Everything that a rewritten journal must hold.
    fn operations(&self) -> Vec<Vec<u8>> {
        let vote = self.vote.map(Operation::Vote);
        let purge = self.purged.map(Operation::Purge);
        let entries = self.entries.values().cloned().map(Operation::Append);
        vote.into_iter().chain(purge).chain(entries).map(|operation| encode(&operation)).collect()
    }
}

fn encode(operation: &Operation) -> Vec<u8> {
    postcard::to_allocvec(operation).expect("every operation can be encoded into memory")
}

fn gone() -> io::Error {
    io::Error::other("the Raft log's thread has ended")
}

/// The writing thread: takes everything that waits, writes it, syncs once, reports.
fn write_jobs(mut journal: Journal, jobs: &mpsc::Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut done = Vec::new();
        let mut result = Ok(());
        for job in std::iter::once(first).chain(jobs.try_iter()) {
            result = result.and_then(|()| match job.work {
                Work::Write(records) => journal.append(&records),
                Work::Rewrite(records) => journal.rewrite(&records),
            });
            done.push(job.done);
        }
        let result = result.and_then(|()| journal.sync());
        let bytes = journal.len_bytes();
        for done in done {
            // io::Error cannot be cloned; each gets its text.
            let copy = result.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()));
            match done {
                Done::Entries(callback) => callback.log_io_completed(copy.copied()),
                Done::Other(reply) => {
                    let _ = reply.send(copy.map(|()| bytes));
                }
            }
        }
        if let Err(error) = result {
            // Nothing is known about what reached the disk. Every later job finds the channel closed.
            tracing::error!(%error, "the Raft log cannot be written");
            return;
        }
    }
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
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let record = encode(&Operation::Vote(*vote));
        self.write(Work::Write(vec![record]))
            .await
            .map_err(|e| StorageError::from(StorageIOError::write_vote(AnyError::new(&e))))?;
        self.state().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.state().vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut state = self.state();
            for entry in entries {
                assert!(
                    state.last().is_none_or(|last| last.index + 1 == entry.log_id.index),
                    "the Raft log would get a hole before entry {}",
                    entry.log_id.index
                );
                state.entries.insert(entry.log_id.index, entry.clone());
                records.push(encode(&Operation::Append(entry)));
            }
        }
        self.send(Job { work: Work::Write(records), done: Done::Entries(callback) }).map_err(|e| write_failed(&e))
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.state().truncate(log_id.index);
        let record = encode(&Operation::Truncate(log_id.index));
        self.write(Work::Write(vec![record])).await.map(|_| ()).map_err(|e| write_failed(&e))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.state().purge(log_id);
        let record = encode(&Operation::Purge(log_id));
        let bytes = self.write(Work::Write(vec![record])).await.map_err(|e| write_failed(&e))?;
        let needed = self.state().operations();
        if bytes > REWRITE_BYTES_MIN && bytes > 2 * needed.iter().map(|it| it.len() as u64).sum::<u64>() {
            self.write(Work::Rewrite(needed)).await.map_err(|e| write_failed(&e))?;
        }
        Ok(())
    }
}

/// The id of the Raft directory: drawn when the directory is made, gone when it is wiped.
///
/// # Errors
/// What the system says.
pub fn open_directory(directory: &Path) -> io::Result<NodeId> {
    const ID_FILE: &str = "directory-id";
    std::fs::create_dir_all(directory)?;
    crate::durable::sync_directory_of(directory)?;
    let path = directory.join(ID_FILE);
    if let Some(text) = crate::durable::read(&path)? {
        let text = String::from_utf8_lossy(&text);
        return u64::from_str_radix(text.trim(), 16).map_err(|e| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no directory id: {e}", path.display()))
        });
    }
    let (id, _) = uuid::Uuid::new_v4().as_u64_pair();
    crate::durable::replace(&path, format!("{id:016x}\n").as_bytes())?;
    Ok(id)
}
