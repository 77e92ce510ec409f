//! The blocking thread that carries out sync rounds.
//!
//! `minisr_replica` decides which files a round holds and keeps one round outstanding at a time, so everything that is
//! written while a round runs shares the next one (group commit). This thread only calls `fdatasync`; the data thread
//! waits for none of them.

use std::cell::Cell;
use std::io;
use std::sync::mpsc;
use std::thread;

use minisr_storage::disk::real::RealSync;
use tokio::sync::mpsc as async_mpsc;

/// One round to do.
struct Round {
    round: u64,
    files: Vec<RealSync>,
}

/// One round done: a result for each file, in order.
#[derive(Debug)]
pub(super) struct Synced {
    pub(super) round: u64,
    pub(super) results: Vec<Result<(), io::ErrorKind>>,
}

/// Where rounds are handed in. Dropping it ends the thread after the rounds handed in before.
#[derive(Debug)]
pub(super) struct Flusher {
    rounds: mpsc::Sender<Round>,
    counts: Cell<SyncCounts>,
}

/// What was handed to the flusher so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct SyncCounts {
    /// Rounds.
    pub rounds: u64,
    /// Files and directories in them: calls of `fdatasync` or `fsync`.
    pub files: u64,
}

impl Flusher {
    /// Starts the thread. Results come out of the returned receiver.
    pub(super) fn start() -> io::Result<(Self, async_mpsc::UnboundedReceiver<Synced>)> {
        let (rounds, inbox) = mpsc::channel::<Round>();
        // At most one round is outstanding, so the channel holds at most one result.
        let (outbox, results) = async_mpsc::unbounded_channel();
        thread::Builder::new().name("flusher".to_owned()).spawn(move || {
            for Round { round, files } in inbox {
                let results = files.iter().map(sync).collect();
                if outbox.send(Synced { round, results }).is_err() {
                    break;
                }
            }
        })?;
        Ok((Self { rounds, counts: Cell::default() }, results))
    }

    pub(super) fn sync(&self, round: u64, files: Vec<RealSync>) {
        let SyncCounts { rounds, files: synced } = self.counts.get();
        self.counts.set(SyncCounts { rounds: rounds + 1, files: synced + files.len() as u64 });
        assert!(self.rounds.send(Round { round, files }).is_ok(), "the flusher thread ended, so nothing can be stored");
    }

    pub(super) fn counts(&self) -> SyncCounts {
        self.counts.get()
    }
}

fn sync(file: &RealSync) -> Result<(), io::ErrorKind> {
    file.sync().map_err(|error| {
        tracing::error!(%error, "sync failed");
        error.kind()
    })
}
