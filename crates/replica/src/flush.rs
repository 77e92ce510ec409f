//! Group commit: which logs are synced, together and in what order.
//!
//! At most one round is outstanding. Whatever was written while it ran waits for the next one, so under load each
//! sync covers all that arrived during the sync before it. A round's result says something about exactly the bytes
//! that were written when it began; a log that was cut meanwhile ignores it ([`minisr_storage::SyncTarget`]).

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use minisr_logic::TopicPartition;
use minisr_storage::SyncTarget;

/// How much of a log to sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Extent {
    /// The segments that take no more writes.
    Rolled,
    /// Everything.
    All,
}

/// One log's share of a round.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Share {
    pub(crate) partition: TopicPartition,
    pub(crate) target: SyncTarget,
    /// How many of the round's files are its own.
    pub(crate) files: usize,
    /// The log is gone or failed since: the result is about nobody.
    pub(crate) void: bool,
}

/// What waits, and what runs.
#[derive(Clone, Debug)]
pub(crate) struct Flusher<H> {
    waiting: BTreeMap<TopicPartition, Extent>,
    rounds: u64,
    running: Option<Round<H>>,
}

#[derive(Clone, Debug)]
struct Round<H> {
    number: u64,
    shares: Vec<Share>,
    files: Vec<H>,
}

impl<H> Default for Flusher<H> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), rounds: 0, running: None }
    }
}

impl<H> Flusher<H> {
    /// For [`crate::Shard::fingerprint`]: the number of rounds is left out, since it only tells answers apart.
    pub(crate) fn fingerprint(&self, state: &mut impl Hasher) {
        self.waiting.hash(state);
        if let Some(round) = &self.running {
            (&round.shares, round.files.len()).hash(state);
        }
    }

    /// This log has something to sync.
    pub(crate) fn request(&mut self, partition: TopicPartition, extent: Extent) {
        let wanted = self.waiting.entry(partition).or_insert(extent);
        *wanted = (*wanted).max(extent);
    }

    /// This log is gone or failed. Should one of the same name come, a running round says nothing about it.
    pub(crate) fn forget(&mut self, partition: TopicPartition) {
        self.waiting.remove(&partition);
        for share in self.running.iter_mut().flat_map(|round| &mut round.shares) {
            share.void |= share.partition == partition;
        }
    }

    /// The logs of the next round, if one may begin now.
    pub(crate) fn take_waiting(&mut self) -> Option<BTreeMap<TopicPartition, Extent>> {
        let idle = self.running.is_none() && !self.waiting.is_empty();
        idle.then(|| std::mem::take(&mut self.waiting))
    }

    /// Begins a round; returns its number. Nothing to sync is no round.
    pub(crate) fn begin(&mut self, shares: Vec<Share>, files: Vec<H>) -> Option<u64> {
        assert!(self.running.is_none(), "one sync round at a time");
        assert_eq!(files.len(), shares.iter().map(|share| share.files).sum::<usize>(), "each file is someone's");
        if shares.is_empty() {
            return None;
        }
        self.rounds += 1;
        self.running = Some(Round { number: self.rounds, shares, files });
        Some(self.rounds)
    }

    /// The files of the running round, once.
    pub(crate) fn take_files(&mut self, round: u64) -> Vec<H> {
        match &mut self.running {
            Some(running) if running.number == round => std::mem::take(&mut running.files),
            _ => Vec::new(),
        }
    }

    /// The round is over: its shares, unless it is not the one that runs.
    pub(crate) fn end(&mut self, round: u64) -> Option<Vec<Share>> {
        self.running.take_if(|running| running.number == round).map(|running| running.shares)
    }
}
