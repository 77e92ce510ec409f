//! The follower side: which partitions are fetched from whom, and when.
//!
//! One [`Fetcher`] for each leader broker and fetch loop, with one fetch in flight that carries all its partitions.
//! A fetch is sent anew before its answer has come only when the question is out of date: a partition was assigned
//! (a new leader epoch, even of the same leader), one that had to be left out may be asked for again, or, under
//! `flush=commit`, more is on stable storage than the fetch said. The older question is void then; its answer is dropped
//! by its correlation.
//!
//! Replicas that catch up have a loop of their own, which rests between its answers ([`crate::catch_up`]).
//!
//! Failures back off: each partition alone when the leader answered with an error for it, the whole fetcher when the
//! fetch failed; from 20 ms, doubling, up to `replica.fetch.backoff.ms`, so that a leader that is a moment behind in
//! its metadata costs a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use minisr_logic::partition::Position;
use minisr_logic::zoo::{self, Bug};
use minisr_logic::{BrokerId, Millis, TopicPartition};

use crate::catch_up::{self, Haul, Pace};
use crate::config::Config;
use crate::event::FetcherId;

const BACKOFF_MIN_MS: u64 = 20;

/// All fetch loops of this broker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetchers {
    loops: BTreeMap<FetcherId, Fetcher>,
    assigned: BTreeMap<TopicPartition, FetcherId>,
    correlations: u64,
    /// Fetchers that may have something to send.
    due: BTreeSet<FetcherId>,
}

#[derive(Clone, Debug, Default)]
struct Fetcher {
    partitions: BTreeMap<TopicPartition, Backoff>,
    in_flight: Option<InFlight>,
    backoff: Backoff,
    /// The question in flight, if any, is out of date.
    stale: bool,
    /// No partition's backoff ends before this.
    partition_retry_at: Option<Millis>,
    /// The data of the partition asked first comes first, so each fetch begins with another one.
    rotation: usize,
    pace: Pace,
}

#[derive(Clone, Copy, Debug, Default, Hash)]
struct Backoff {
    failures: u32,
    until: Option<Millis>,
    /// Refused as too old: wait for metadata instead.
    until_metadata: bool,
}

/// A fetch that is under way.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    correlation: u64,
    /// When it was asked.
    pub(crate) sent_at: Millis,
    deadline: Millis,
    /// Where each partition stood when asked.
    pub(crate) asked: Vec<(TopicPartition, Position)>,
}

/// A fetch to send.
#[derive(Debug)]
pub(crate) struct NextFetch {
    pub(crate) fetcher: FetcherId,
    pub(crate) correlation: u64,
    pub(crate) asked: Vec<(TopicPartition, Position)>,
}

impl Backoff {
    fn fail(&mut self, now: Millis, max_ms: u64) -> Millis {
        let pause = BACKOFF_MIN_MS.saturating_mul(1 << self.failures.min(16)).min(max_ms.max(1));
        self.failures += 1;
        let until = now.plus(pause);
        self.until = Some(until);
        until
    }

    fn is_over(&self, now: Millis) -> bool {
        !self.until_metadata && self.until.is_none_or(|until| until <= now)
    }
}

impl Fetchers {
    /// For [`crate::Shard::fingerprint`]: correlations are left out, since they only tell answers apart.
    pub(crate) fn fingerprint(&self, state: &mut impl Hasher) {
        for (id, it) in &self.loops {
            (id, &it.partitions, it.backoff, it.stale, it.partition_retry_at, it.pace).hash(state);
            it.in_flight.as_ref().map(|in_flight| (in_flight.deadline, &in_flight.asked)).hash(state);
            (it.rotation % it.partitions.len().max(1)).hash(state);
        }
        (self.loops.len(), &self.assigned, &self.due).hash(state);
    }

    /// Whether an answer with this correlation would be taken.
    pub(crate) fn awaits(&self, id: FetcherId, correlation: u64) -> bool {
        let in_flight = self.loops.get(&id).and_then(|fetcher| fetcher.in_flight.as_ref());
        in_flight.is_some_and(|in_flight| in_flight.correlation == correlation)
    }

    /// Fetch this partition from `leader` from now on. Called for every new leader epoch.
    pub(crate) fn assign(&mut self, partition: TopicPartition, leader: BrokerId, is_in_sync: bool, config: &Config) {
        let loops = config.num_replica_fetchers.max(1);
        let index = if is_in_sync { partition.partition.unsigned_abs() % loops } else { catch_up::index(config) };
        let id = FetcherId { leader, index };
        if zoo::planted(Bug::OldResponseAppended) && self.assigned.get(&partition) == Some(&id) {
            return;
        }
        self.unassign(partition);
        let fetcher = self.loops.entry(id).or_default();
        fetcher.partitions.insert(partition, Backoff::default());
        fetcher.stale = true;
        self.assigned.insert(partition, id);
        self.due.insert(id);
    }

    /// Do not fetch this partition any more.
    pub(crate) fn unassign(&mut self, partition: TopicPartition) {
        let Some(id) = self.assigned.remove(&partition) else { return };
        let Some(fetcher) = self.loops.get_mut(&id) else { return };
        fetcher.partitions.remove(&partition);
        if fetcher.partitions.is_empty() {
            self.loops.remove(&id);
        }
    }

    /// The fetch in flight does not say what it should of this partition any more: more of it is on stable storage, or
    /// it had to be left out and need not be now.
    pub(crate) fn question_changed(&mut self, partition: TopicPartition) {
        let Some(&id) = self.assigned.get(&partition) else { return };
        let Some(fetcher) = self.loops.get_mut(&id) else { return };
        fetcher.stale = true;
        self.due.insert(id);
    }

    /// The leader answered. `None` when that was not the newest question.
    pub(crate) fn answered(&mut self, id: FetcherId, correlation: u64) -> Option<InFlight> {
        let fetcher = self.loops.get_mut(&id)?;
        let in_flight = fetcher.in_flight.take_if(|in_flight| in_flight.correlation == correlation)?;
        fetcher.backoff = Backoff::default();
        self.due.insert(id);
        Some(in_flight)
    }

    /// What an answer, which was asked for at `sent_at`, brought: the loop of those who catch up may rest after it.
    pub(crate) fn took_in(&mut self, now: Millis, id: FetcherId, sent_at: Millis, haul: Haul, config: &Config) {
        let Some(fetcher) = self.loops.get_mut(&id).filter(|_| id.index == catch_up::index(config)) else { return };
        let rest_ms = fetcher.pace.rest_ms(now.since(sent_at), haul);
        fetcher.backoff.until = rest_ms.map(|rest_ms| now.plus(rest_ms));
    }

    /// The newest question of this fetcher will not be answered.
    pub(crate) fn failed(&mut self, now: Millis, id: FetcherId, correlation: u64, config: &Config) {
        let Some(fetcher) = self.loops.get_mut(&id) else { return };
        if fetcher.in_flight.take_if(|in_flight| in_flight.correlation == correlation).is_some() {
            fetcher.backoff.fail(now, config.replica_fetch_backoff_ms);
        }
    }

    /// The leader served this partition.
    pub(crate) fn partition_served(&mut self, partition: TopicPartition) {
        self.with_backoff(partition, |backoff, _| *backoff = Backoff::default());
    }

    /// The leader had an error for this partition: ask again later.
    pub(crate) fn partition_failed(&mut self, now: Millis, partition: TopicPartition, config: &Config) {
        self.with_backoff(partition, |backoff, retry_at| {
            let until = backoff.fail(now, config.replica_fetch_backoff_ms);
            *retry_at = Some(retry_at.map_or(until, |at| at.min(until)));
        });
    }

    /// The leader is in a later epoch: ask again only when metadata has told of it.
    pub(crate) fn partition_fenced(&mut self, partition: TopicPartition) {
        self.with_backoff(partition, |backoff, _| backoff.until_metadata = true);
    }

    fn with_backoff(&mut self, partition: TopicPartition, change: impl FnOnce(&mut Backoff, &mut Option<Millis>)) {
        let Some(id) = self.assigned.get(&partition) else { return };
        let Some(fetcher) = self.loops.get_mut(id) else { return };
        if let Some(backoff) = fetcher.partitions.get_mut(&partition) {
            change(backoff, &mut fetcher.partition_retry_at);
        }
    }

    /// Time has passed: fetchers whose pause is over become due, fetches without an answer count as failed.
    pub(crate) fn tick(&mut self, now: Millis, config: &Config) {
        for (&id, fetcher) in &mut self.loops {
            if fetcher.in_flight.take_if(|in_flight| in_flight.deadline <= now).is_some() {
                fetcher.backoff.fail(now, config.replica_fetch_backoff_ms);
            }
            if fetcher.partition_retry_at.is_some_and(|at| at <= now) {
                fetcher.partition_retry_at =
                    fetcher.partitions.values().filter_map(|backoff| backoff.until).filter(|&until| until > now).min();
                fetcher.stale = true;
                self.due.insert(id);
            }
            if fetcher.in_flight.is_none() && fetcher.backoff.until.is_some_and(|until| until <= now) {
                fetcher.backoff.until = None;
                self.due.insert(id);
            }
        }
    }

    /// When [`Self::tick`] has something to do. A few fetchers are looked at, not their partitions.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        let of = |fetcher: &Fetcher| {
            let answer_by = fetcher.in_flight.as_ref().map(|in_flight| in_flight.deadline);
            let pause = if fetcher.in_flight.is_none() { fetcher.backoff.until } else { None };
            [answer_by, pause, fetcher.partition_retry_at].into_iter().flatten().min()
        };
        self.loops.values().filter_map(of).min()
    }

    /// The next fetch to send, if any fetcher has a question that is not in flight already. `position` tells where a
    /// partition stands; `None` leaves it out.
    pub(crate) fn next_fetch(
        &mut self,
        now: Millis,
        config: &Config,
        mut position: impl FnMut(TopicPartition) -> Option<Position>,
    ) -> Option<NextFetch> {
        while let Some(id) = self.due.pop_first() {
            let Some(fetcher) = self.loops.get_mut(&id) else { continue };
            if !fetcher.backoff.is_over(now) || (fetcher.in_flight.is_some() && !fetcher.stale) {
                continue;
            }
            fetcher.stale = false;
            let mut asked: Vec<_> = fetcher
                .partitions
                .iter()
                .filter(|(_, backoff)| backoff.is_over(now))
                .filter_map(|(&partition, _)| Some((partition, position(partition)?)))
                .collect();
            if asked.is_empty() {
                fetcher.in_flight = None;
                continue;
            }
            fetcher.rotation = fetcher.rotation.wrapping_add(1);
            let first = fetcher.rotation % asked.len();
            asked.rotate_left(first);
            self.correlations += 1;
            let correlation = self.correlations;
            let deadline = now.plus(config.replica_socket_timeout_ms.max(config.replica_fetch_wait_max_ms * 2));
            fetcher.in_flight = Some(InFlight { correlation, sent_at: now, deadline, asked: asked.clone() });
            return Some(NextFetch { fetcher: id, correlation, asked });
        }
        None
    }
}
