//! The shard: takes events, steps partitions, gives outputs.
//!
//! A step has two halves. Each event is handled in its own file ([`crate::serve`], [`crate::follow`],
//! [`crate::roles`], [`crate::upkeep`], [`crate::isr`]) and notes the partitions it touched; then [`Shard::settle`]
//! looks once at each of those: answers producers, sends proposals, wakes fetches, asks for a sync, sends the next
//! fetches. So the work of a step grows with what it touched, not with what is hosted. The second half may also be that of
//! a later step ([`Shard::take_in`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use minisr_logic::metadata::Image;
use minisr_logic::partition::{AppendError, Committed};
use minisr_logic::zoo::{self, Bug};
use minisr_logic::{BrokerEpoch, BrokerId, Millis, Offset, TopicPartition};
use minisr_storage::Disk;

use crate::config::{Config, FlushPolicy};
use crate::deadlines::Deadlines;
use crate::describe::PartitionDescription;
use crate::event::{Append, Event, Ticket};
use crate::fetcher::Fetchers;
use crate::flush::{Extent, Flusher, Share};
use crate::output::{Appended, Notice, Output};
use crate::partition::Partition;
use crate::throttle::Throttles;
use crate::upkeep::Upkeep;
use crate::waiting::WaitingFetches;

/// Every replica of one broker. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Shard<D: Disk> {
    pub(crate) config: Config,
    pub(crate) root: PathBuf,
    /// This process's registration.
    pub(crate) broker_epoch: Option<BrokerEpoch>,
    /// The registration of the life before, for the clean-shutdown marker of a life that never registered.
    pub(crate) previous_broker_epoch: Option<BrokerEpoch>,
    /// Whether this life began without everything that was ever acknowledged, and the controller does not know yet.
    pub(crate) unclean_start: bool,
    /// A sync failed in this life: neither a registration nor a stop may make the next start a clean one.
    pub(crate) sync_failed: bool,
    /// The newest image.
    pub(crate) image: Option<Arc<Image>>,
    /// The image that the roles reflect.
    pub(crate) applied: Option<Arc<Image>>,
    pub(crate) partitions: BTreeMap<TopicPartition, Partition<D>>,
    /// Partitions whose log could not be opened or created, and why.
    pub(crate) offline: BTreeMap<TopicPartition, String>,
    pub(crate) waiting: WaitingFetches,
    pub(crate) fetchers: Fetchers,
    pub(crate) flusher: Flusher<D::SyncHandle>,
    pub(crate) deadlines: Deadlines,
    pub(crate) upkeep: Upkeep,
    pub(crate) throttles: Throttles,
    /// Partitions that were changed since the last step settled.
    pub(crate) touched: BTreeSet<TopicPartition>,
}

impl<D: Disk> Shard<D> {
    /// Handles one event.
    pub fn step(&mut self, now: Millis, event: Event, disk: &mut D, outputs: &mut Vec<Output>) {
        self.step_batch(now, [event], disk, outputs);
    }

    /// Handles events that arrived together, in order. Prefer it to repeated [`Self::step`]: a produce request over
    /// several partitions then wakes each follower once.
    pub fn step_batch(
        &mut self,
        now: Millis,
        events: impl IntoIterator<Item = Event>,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        self.take_in(now, events, disk, outputs);
        self.settle(now, disk, outputs);
    }

    /// The first half of a step: handles events, in order, and leaves what follows from them to the next step, which must
    /// come soon. Whoever handles several requests in a row wakes each follower once, for all of them.
    pub fn take_in(
        &mut self,
        now: Millis,
        events: impl IntoIterator<Item = Event>,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        self.refill_throttles(now);
        for event in events {
            self.handle(now, event, disk, outputs);
        }
    }

    fn handle(&mut self, now: Millis, event: Event, disk: &mut D, outputs: &mut Vec<Output>) {
        match event {
            Event::Append(append) => self.on_append(now, append, disk, outputs),
            Event::Fetch { ticket, request } => self.on_fetch(now, ticket, request, disk, outputs),
            Event::CancelFetch { ticket } => drop(self.waiting.take(ticket)),
            Event::FetchResponse { fetcher, correlation, reply } => {
                self.on_fetch_response(now, fetcher, correlation, &reply, disk, outputs);
            }
            Event::FetchFailed { fetcher, correlation } => {
                self.fetchers.failed(now, fetcher, correlation, &self.config);
            }
            Event::Image(image) => self.on_image(now, image, disk, outputs),
            Event::Registered { broker_epoch } => self.on_registered(now, broker_epoch, disk, outputs),
            Event::AlterPartitionReply { partition, correlation, result } => {
                self.on_alter_partition_reply(now, partition, correlation, result, outputs);
            }
            Event::Synced { round, results } => self.on_synced(now, round, &results, disk, outputs),
            Event::Tick { wall_clock_ms } => self.on_tick(now, wall_clock_ms, disk, outputs),
        }
    }

    // ---- appends -------------------------------------------------------------------------------------------------

    fn on_append(&mut self, now: Millis, append: Append, disk: &mut D, outputs: &mut Vec<Output>) {
        let Append { ticket, partition: key, acks, .. } = append;
        let Some(partition) = self.partitions.get_mut(&key) else {
            let error = if self.offline.contains_key(&key) {
                AppendError::StorageFailed
            } else {
                AppendError::UnknownPartition
            };
            outputs.push(Output::Appended { ticket, result: Err(error) });
            return;
        };
        self.touched.insert(key);
        let had_failed = partition.replica.has_failed();
        match partition.append(now, disk, append) {
            // Answered when the high watermark has passed.
            Ok(_) if acks == crate::Acks::All => {}
            Ok(committed) => {
                let log_start = partition.replica.log().cursors.log_start();
                outputs.push(Output::Appended { ticket, result: Ok(appended(committed, log_start)) });
            }
            // The write failed just now. An acks=all ticket is queued already and fails with the others.
            Err(AppendError::StorageFailed) if !had_failed => {
                if acks != crate::Acks::All {
                    outputs.push(Output::Appended { ticket, result: Err(AppendError::StorageFailed) });
                }
                self.fail_partition(key, "the write failed", outputs);
            }
            Err(error) => outputs.push(Output::Appended { ticket, result: Err(error) }),
        }
    }

    // ---- after the events of a step ------------------------------------------------------------------------------

    /// Looks once at everything the step touched, and again at what this changed (a sync that cannot even begin).
    fn settle(&mut self, now: Millis, disk: &mut D, outputs: &mut Vec<Output>) {
        loop {
            let touched = std::mem::take(&mut self.touched);
            for &key in &touched {
                self.settle_partition(key, outputs);
            }
            self.wake_fetches(now, &touched, disk, outputs);
            self.send_fetches(now, outputs);
            self.start_sync_round(disk, outputs);
            if self.touched.is_empty() {
                break;
            }
        }
    }

    fn settle_partition(&mut self, key: TopicPartition, outputs: &mut Vec<Output>) {
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        partition.replica.check();
        let log_start = partition.replica.log().cursors.log_start();
        if let Some((leader, _)) = partition.replica.as_leader() {
            while let Some((ticket, result)) = leader.pop_decided() {
                let result = result.map(|committed| appended(committed, log_start));
                outputs.push(Output::Appended { ticket, result });
            }
            self.deadlines.at_latest(key, leader.next_deadline());
        }
        if let Some(extent) = wanted_sync(&self.config, partition) {
            self.flusher.request(key, extent);
        }
        self.send_proposal(key, outputs);
    }

    // ---- sync rounds ---------------------------------------------------------------------------------------------

    /// The files of a sync round, once. Each handle's sync may run on any thread.
    pub fn take_sync(&mut self, round: u64) -> Vec<D::SyncHandle> {
        self.flusher.take_files(round)
    }

    fn start_sync_round(&mut self, disk: &mut D, outputs: &mut Vec<Output>) {
        let Some(waiting) = self.flusher.take_waiting() else { return };
        let (mut shares, mut files) = (Vec::new(), Vec::new());
        for (key, extent) in waiting {
            let Some(partition) = self.partitions.get_mut(&key).filter(|it| !it.replica.has_failed()) else { continue };
            let round = match extent {
                Extent::All => partition.log.sync_round(disk),
                Extent::Rolled => partition.log.sync_rolled(disk),
            };
            match round {
                Ok(None) => {}
                Ok(Some(round)) => {
                    let (target, files_own) = (round.target, round.handles.len());
                    shares.push(Share { partition: key, target, files: files_own, void: false });
                    files.extend(round.handles);
                }
                Err(reason) => self.fail_partition(key, &reason.to_string(), outputs),
            }
        }
        if let Some(round) = self.flusher.begin(shares, files) {
            outputs.push(Output::Sync { round });
        }
    }

    fn on_synced(
        &mut self,
        now: Millis,
        round: u64,
        results: &[Result<(), std::io::ErrorKind>],
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        let Some(shares) = self.flusher.end(round) else { return };
        let mut results = results.iter();
        for share in shares {
            let own: Vec<_> = results.by_ref().take(share.files).collect();
            assert_eq!(own.len(), share.files, "one result for each file of the round");
            let failed = own.into_iter().find_map(|result| result.err());
            let Some(partition) = self.partitions.get_mut(&share.partition).filter(|_| !share.void) else { continue };
            if failed.is_some() && zoo::planted(Bug::AppendAfterError) {
                self.touched.insert(share.partition);
                continue;
            }
            if let Some(kind) = failed {
                let reason = partition.log.sync_failed(&kind.into()).to_string();
                self.doubt_next_start(&reason, disk, outputs);
                self.fail_partition(share.partition, &reason, outputs);
                continue;
            }
            let was_left_out = partition.log.has_unsettled_cut();
            let flushed = Offset(partition.log.synced(disk, share.target));
            let may_be_fetched = was_left_out && !partition.log.has_unsettled_cut();
            self.touched.insert(share.partition);
            if let Some((leader, log)) = partition.replica.as_leader() {
                leader.flushed(now, log, flushed);
            } else {
                let log = partition.replica.log_mut();
                let before = log.cursors.flushed();
                log.cursors.advance_flushed(flushed);
                let acknowledges_more = self.config.flush == FlushPolicy::Commit && log.cursors.flushed() > before;
                if acknowledges_more || may_be_fetched {
                    self.fetchers.question_changed(share.partition);
                }
            }
        }
    }

    // ---- failure -------------------------------------------------------------------------------------------------

    /// A log failed: it goes offline, whoever waits for it is told, and nothing is acknowledged any more.
    pub(crate) fn fail_partition(&mut self, key: TopicPartition, reason: &str, outputs: &mut Vec<Output>) {
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        if partition.replica.has_failed() {
            return;
        }
        let reason = partition.log.poisoned().map_or_else(|| reason.to_owned(), ToString::to_string);
        for (ticket, result) in partition.fail() {
            let log_start = partition.replica.log().cursors.log_start();
            outputs.push(Output::Appended { ticket, result: result.map(|committed| appended(committed, log_start)) });
        }
        self.fetchers.unassign(key);
        self.flusher.forget(key);
        self.touched.insert(key);
        outputs.push(Output::Notice(Notice::LogFailed { partition: key, reason }));
    }

    // ---- for those who watch -------------------------------------------------------------------------------------

    /// When [`Event::Tick`] is due next, if nothing else happens. Changes with every step.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        [
            self.deadlines.next(),
            self.waiting.next_deadline(),
            self.fetchers.next_deadline(),
            self.upkeep.next_deadline(),
            self.throttles.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What every hosted partition looks like at `now`.
    #[must_use]
    pub fn describe(&self, now: Millis) -> Vec<PartitionDescription> {
        self.partitions.values().map(|partition| crate::describe::describe(now, partition)).collect()
    }

    /// What a hosted partition keeps in memory about its log; for checks from outside.
    #[must_use]
    pub fn bookkeeping(&self, partition: TopicPartition) -> Option<crate::Bookkeeping> {
        self.partitions.get(&partition).map(|it| crate::describe::bookkeeping(it.replica.log()))
    }

    /// This broker.
    #[must_use]
    pub fn broker(&self) -> BrokerId {
        self.config.broker
    }

    /// The settings it was opened with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// Which part of a log to sync after a step touched it.
fn wanted_sync<D: Disk>(config: &Config, partition: &mut Partition<D>) -> Option<Extent> {
    if partition.replica.has_failed() {
        return None;
    }
    let rolled = partition.take_rolled();
    let unflushed = partition.log.end_offset() > partition.log.flushed_offset();
    if partition.log.has_unsettled_cut() {
        return Some(Extent::All);
    }
    match config.flush {
        FlushPolicy::Commit => unflushed.then_some(Extent::All),
        FlushPolicy::Never | FlushPolicy::Interval { .. } => rolled.then_some(Extent::Rolled),
    }
}

pub(crate) fn appended(committed: Committed, log_start: Offset) -> Appended {
    Appended { base_offset: committed.base_offset, log_start, leader_epoch: committed.epoch }
}

/// The answers for producers that a role left behind when it ended.
pub(crate) fn answer_resigned(
    resigned: impl IntoIterator<Item = (Ticket, Result<Committed, AppendError>)>,
    log_start: Offset,
    outputs: &mut Vec<Output>,
) {
    for (ticket, result) in resigned {
        outputs.push(Output::Appended { ticket, result: result.map(|committed| appended(committed, log_start)) });
    }
}
