//! Serving readers: fetches of followers and consumers, and the two questions about offsets.
//!
//! A fetch is looked at twice. On arrival each partition is checked and, for a follower, **credited**: only after its
//! leader epoch, its registration and the divergence check are right (traps 4 and 10), so a refused or diverging
//! fetch moves nothing. Then, at once or when something it waits for has happened, the answer is read, with every
//! check but the credit made again, and each cursor read once (bugs 17 and 18 of the zoo).

use std::collections::BTreeSet;

use minisr_logic::partition::{EpochEnd, EpochRefusal, FollowerRefusal, OwedHighWatermark, PositionCheck, Replica};
use minisr_logic::zoo::{self, Bug};
use minisr_logic::{BrokerId, Epoch, Millis, Offset, TopicPartition};
use minisr_storage::Disk;

use crate::error::{FetchError, ListOffsetsError};
use crate::event::{FetchPartition, FetchReply, FetchRequest, Fetched, FetchedPartition, Isolation, Reader, Ticket};
use crate::output::{Notice, Output};
use crate::partition::Partition;
use crate::read_replica::Asker;
use crate::shard::Shard;

/// Which offset ListOffsets wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// −2: the log start.
    Earliest,
    /// −1: the high watermark, last stable offset or log end, by the kind of reader.
    Latest,
    /// −3: the record with the largest timestamp.
    MaxTimestamp,
    /// The first record at or after this time (milliseconds since 1970).
    Timestamp(i64),
}

/// The answer to ListOffsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; `None` when no record is that new (−1 on the wire).
    pub offset: Option<Offset>,
    /// Its record's timestamp; `None` where none was looked up (−1 on the wire).
    pub timestamp_ms: Option<i64>,
    /// Its record's leader epoch, if known.
    pub leader_epoch: Option<Epoch>,
}

/// What a partition has for a reader.
enum Readable {
    /// Records up to `limit`, if that is past the reader's offset, and perhaps a high watermark to tell.
    Prefix { limit: Offset, owed: OwedHighWatermark },
    /// The reader's log is not a prefix of this one.
    Diverging(EpochEnd),
}

/// Whether a fetch is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// Nothing is there for it: when its own wait is over.
    Later,
    /// A newer high watermark only: soon, with the next records if they come before that.
    Soon,
    /// At once.
    Now,
}

impl Answer {
    /// Because of a high watermark. `delay_ms` is what a newer one may be held back.
    fn because_of(owed: OwedHighWatermark, delay_ms: u64) -> Self {
        match owed {
            OwedHighWatermark::Nothing => Self::Later,
            OwedHighWatermark::Newer if delay_ms > 0 => Self::Soon,
            OwedHighWatermark::Newer | OwedHighWatermark::First => Self::Now,
        }
    }
}

impl<D: Disk> Shard<D> {
    pub(crate) fn on_fetch(
        &mut self,
        now: Millis,
        ticket: Ticket,
        request: FetchRequest,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        for older in self.waiting.superseded_by(&request) {
            self.answer_waiting(older, disk, outputs);
        }
        if let Reader::Replica { id, broker_epoch } = request.reader {
            for entry in &request.partitions {
                self.credit(now, id, broker_epoch, entry);
            }
        }
        let wait_ms = match self.may_answer(&request, disk) {
            Answer::Now => {
                let reply = self.read_all(&request, disk, outputs);
                outputs.push(Output::Fetched { ticket, reply });
                return;
            }
            Answer::Soon => request.max_wait_ms.min(self.config.replica_high_watermark_delay_max_ms),
            Answer::Later => request.max_wait_ms,
        };
        self.waiting.park(now.plus(wait_ms), ticket, request);
    }

    /// A follower's fetch acknowledges everything below its offset, if nothing speaks against it.
    fn credit(
        &mut self,
        now: Millis,
        id: BrokerId,
        broker_epoch: Option<minisr_logic::BrokerEpoch>,
        entry: &FetchPartition,
    ) {
        let reader = Reader::Replica { id, broker_epoch };
        let asker = Asker { reader, may_read_follower: false };
        let fetch_offset = match self.readable(asker, entry) {
            Ok(Readable::Prefix { .. }) => entry.fetch_offset,
            Ok(Readable::Diverging(_)) if zoo::planted(Bug::LogEndFromDivergingFetch) => entry.fetch_offset,
            _ => return,
        };
        let Some(partition) = self.partitions.get_mut(&entry.partition) else { return };
        let Some((leader, log)) = partition.replica.as_leader() else { return };
        let is_news = leader.follower_fetched(now, log, id, fetch_offset.min(log.cursors.written()), entry.flushed);
        if let Some(log_start) = entry.log_start {
            leader.follower_begins_at(id, log_start);
        }
        if is_news {
            self.touched.insert(entry.partition);
        }
    }

    /// What this partition has for this reader, or why nothing. Changes nothing.
    fn readable(&self, asker: Asker, entry: &FetchPartition) -> Result<Readable, FetchError> {
        let reader = asker.reader;
        let partition = self.hosted(entry.partition)?;
        let replica = &partition.replica;
        let log = replica.log();
        check_epoch(replica, entry.current_leader_epoch)?;
        if replica.leader().is_none() && !asker.may_read_follower {
            return Err(FetchError::NotLeader);
        }
        let log_end = log.cursors.written();
        let (mut limit, owed) = match reader {
            Reader::Replica { id, broker_epoch } => {
                let leader = replica.leader().ok_or(FetchError::NotLeader)?;
                leader.check_follower(id, broker_epoch).map_err(|refusal| match refusal {
                    FollowerRefusal::NotReplica => FetchError::NotReplica,
                    FollowerRefusal::StaleBrokerEpoch => FetchError::StaleBrokerEpoch,
                })?;
                (log_end, leader.owed_high_watermark(id, log, entry.fetch_offset, entry.high_watermark))
            }
            Reader::Consumer { isolation: Isolation::ReadUncommitted } => {
                (log.cursors.high_watermark(), OwedHighWatermark::Nothing)
            }
            Reader::Consumer { isolation: Isolation::ReadCommitted } => {
                (log.cursors.last_stable(), OwedHighWatermark::Nothing)
            }
        };
        match replica.check_position(entry.fetch_offset, entry.last_fetched_epoch, log_end) {
            PositionCheck::Prefix => {
                if self.is_put_off(reader, entry.partition) {
                    limit = entry.fetch_offset;
                }
                Ok(Readable::Prefix { limit, owed })
            }
            PositionCheck::Diverging(end) => Ok(Readable::Diverging(end)),
            PositionCheck::OutOfRange => {
                // A consumer learns no more than what it may read.
                let log_end = if matches!(reader, Reader::Consumer { .. }) { limit } else { log_end };
                Err(FetchError::OffsetOutOfRange { log_start: log.cursors.log_start(), log_end })
            }
        }
    }

    /// Whether this reader catches up under a rate that is used up for now.
    fn is_put_off(&self, reader: Reader, key: TopicPartition) -> bool {
        let Reader::Replica { id, .. } = reader else { return false };
        !self.throttles.leader.is_open() && self.is_throttled_as_leader(key, id)
    }

    fn hosted(&self, key: TopicPartition) -> Result<&Partition<D>, FetchError> {
        match self.partitions.get(&key) {
            Some(partition) if partition.replica.has_failed() => Err(FetchError::LogOffline),
            Some(partition) => Ok(partition),
            None if self.offline.contains_key(&key) => Err(FetchError::LogOffline),
            None => Err(FetchError::UnknownPartition),
        }
    }

    /// Whether there is a reason to wait. There is none when nobody wants to, enough data is there, or there is news
    /// other than data.
    fn may_answer(&mut self, request: &FetchRequest, disk: &mut D) -> Answer {
        if request.max_wait_ms == 0 || request.partitions.is_empty() {
            return Answer::Now;
        }
        let delay_ms = self.config.replica_high_watermark_delay_max_ms;
        let mut any_data = request.min_bytes == 0;
        let mut answer = Answer::Later;
        for entry in &request.partitions {
            if self.read_elsewhere(request, entry).is_some() {
                return Answer::Now;
            }
            match self.readable(Asker::from(request), entry) {
                Err(_) | Ok(Readable::Diverging(_)) => return Answer::Now,
                Ok(Readable::Prefix { limit, owed }) => {
                    any_data |= limit > entry.fetch_offset;
                    answer = answer.max(Answer::because_of(owed, delay_ms));
                }
            }
        }
        if any_data && self.has_enough(request, disk) { Answer::Now } else { answer }
    }

    /// Whether an answer would carry as much as its reader waits for, which for most is any byte at all. Nobody can wait
    /// for more than the answer may hold, nor is more than that read to find out.
    fn has_enough(&mut self, request: &FetchRequest, disk: &mut D) -> bool {
        let wanted = request.min_bytes.min(request.max_bytes);
        if wanted <= 1 {
            return true;
        }
        let mut sum = 0;
        for entry in &request.partitions {
            let Ok(Readable::Prefix { limit, .. }) = self.readable(Asker::from(request), entry) else { continue };
            let Some(partition) = self.partitions.get_mut(&entry.partition) else { continue };
            let max_bytes = entry.max_bytes.min(request.max_bytes - sum);
            let chunks = partition.log.read_chunks(disk, entry.fetch_offset.0, limit.0, max_bytes, sum == 0);
            sum += chunks.map_or(0, |chunks| chunks.iter().map(bytes::Bytes::len).sum());
            if sum >= wanted {
                return true;
            }
        }
        false
    }

    /// Reads the answer: whole batches in the order asked, within the limits, but the first batch in any case.
    fn read_all(&mut self, request: &FetchRequest, disk: &mut D, outputs: &mut Vec<Output>) -> FetchReply {
        let mut left = request.max_bytes;
        let mut empty = true;
        let mut partitions = Vec::with_capacity(request.partitions.len());
        for entry in &request.partitions {
            let Some(result) = self.read_one(request, entry, left, empty, disk, outputs).transpose() else { continue };
            if let Ok(fetched) = &result {
                let size = fetched.records.iter().map(bytes::Bytes::len).sum::<usize>();
                empty &= size == 0;
                left = left.saturating_sub(size);
            }
            partitions.push(FetchedPartition { partition: entry.partition, result });
        }
        FetchReply { partitions }
    }

    /// `None` when a replica would learn nothing from it.
    fn read_one(
        &mut self,
        request: &FetchRequest,
        entry: &FetchPartition,
        left: usize,
        at_least_one: bool,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) -> Result<Option<Fetched>, FetchError> {
        let reader = request.reader;
        let readable = self.readable(Asker::from(request), entry)?;
        let preferred_read_replica = self.read_elsewhere(request, entry);
        let is_throttled = match reader {
            Reader::Replica { id, .. } => self.is_throttled_as_leader(entry.partition, id),
            Reader::Consumer { .. } => false,
        };
        let Some(partition) = self.partitions.get_mut(&entry.partition) else {
            return Err(FetchError::UnknownPartition);
        };
        let cursors = partition.replica.log().cursors;
        let mut fetched = Fetched {
            records: Vec::new(),
            high_watermark: cursors.high_watermark(),
            last_stable: cursors.last_stable(),
            log_start: cursors.log_start(),
            diverging: None,
            preferred_read_replica,
        };
        match readable {
            // Whatever the reader may read here, it reads there.
            Readable::Prefix { .. } if preferred_read_replica.is_some() => {}
            Readable::Diverging(end) => fetched.diverging = Some(end),
            Readable::Prefix { limit, owed } => {
                let limit = if zoo::planted(Bug::TornRead) { cursors.written() } else { limit };
                let share = if is_throttled { self.throttles.leader.share_bytes() } else { usize::MAX };
                let max_bytes = left.min(entry.max_bytes).min(share);
                if limit > entry.fetch_offset && (max_bytes > 0 || at_least_one) {
                    let chunks =
                        partition.log.read_chunks(disk, entry.fetch_offset.0, limit.0, max_bytes, at_least_one);
                    fetched.records = chunks.map_err(|error| {
                        let what = format!("reading at {} failed: {error}", entry.fetch_offset);
                        outputs.push(Output::Notice(Notice::Warning { partition: entry.partition, what }));
                        FetchError::LogOffline
                    })?;
                    if is_throttled {
                        self.throttles.leader.spend(fetched.records.iter().map(bytes::Bytes::len).sum());
                    }
                }
                if let (Reader::Replica { id, .. }, Some((leader, _))) = (reader, partition.replica.as_leader()) {
                    leader.high_watermark_told(id);
                    let knows_all = entry.high_watermark.is_some() && entry.log_start >= Some(fetched.log_start);
                    if knows_all && owed == OwedHighWatermark::Nothing && fetched.records.is_empty() {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(fetched))
    }

    // ---- waiting fetches -----------------------------------------------------------------------------------------

    /// Answers the waiting fetches for which something in `touched` is news.
    pub(crate) fn wake_fetches(
        &mut self,
        now: Millis,
        touched: &BTreeSet<TopicPartition>,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        let soon = now.plus(self.config.replica_high_watermark_delay_max_ms);
        let mut woken = BTreeSet::new();
        for &key in touched {
            let waiting: Vec<Ticket> = self.waiting.at(key).filter(|ticket| !woken.contains(ticket)).collect();
            for ticket in waiting {
                match self.is_news(ticket, key, disk) {
                    Answer::Now => drop(woken.insert(ticket)),
                    Answer::Soon => self.waiting.hasten(ticket, soon),
                    Answer::Later => {}
                }
            }
        }
        for ticket in woken {
            self.answer_waiting(ticket, disk, outputs);
        }
    }

    /// Whether this waiting fetch may be answered because of what this partition has now.
    fn is_news(&mut self, ticket: Ticket, key: TopicPartition, disk: &mut D) -> Answer {
        let Some(request) = self.waiting.get(ticket) else { return Answer::Later };
        let delay_ms = self.config.replica_high_watermark_delay_max_ms;
        let asker = Asker::from(request);
        let entries = request.partitions.iter().filter(|entry| entry.partition == key);
        let (mut any_data, mut answer) = (false, Answer::Later);
        for entry in entries {
            match self.readable(asker, entry) {
                Err(_) | Ok(Readable::Diverging(_)) => return Answer::Now,
                Ok(Readable::Prefix { limit, owed }) => {
                    any_data |= limit > entry.fetch_offset;
                    answer = answer.max(Answer::because_of(owed, delay_ms));
                }
            }
        }
        if !any_data || answer == Answer::Now {
            return answer;
        }
        if request.min_bytes <= 1 {
            return Answer::Now;
        }
        let request = request.clone();
        if self.has_enough(&request, disk) { Answer::Now } else { answer }
    }

    /// Answers a waiting fetch with what there is.
    pub(crate) fn answer_waiting(&mut self, ticket: Ticket, disk: &mut D, outputs: &mut Vec<Output>) {
        let Some(request) = self.waiting.take(ticket) else { return };
        let mut reply = self.read_all(&request, disk, outputs);
        if zoo::planted(Bug::TwoHighWatermarkReads) {
            state_high_watermark_of_arrival(&request, &mut reply);
        }
        outputs.push(Output::Fetched { ticket, reply });
    }

    // ---- questions about offsets ---------------------------------------------------------------------------------

    /// Looks up an offset. Answered at once.
    pub fn list_offset(
        &mut self,
        key: TopicPartition,
        spec: OffsetSpec,
        reader: Reader,
        current_leader_epoch: Option<Epoch>,
        disk: &mut D,
    ) -> Result<ListedOffset, ListOffsetsError> {
        let replica = &self.hosted(key)?.replica;
        check_epoch(replica, current_leader_epoch)?;
        replica.leader().ok_or(FetchError::NotLeader)?;
        let (log, knows_high_watermark) = (replica.log(), replica.knows_high_watermark());
        let upper = match reader {
            Reader::Replica { .. } => log.cursors.written(),
            Reader::Consumer { isolation: Isolation::ReadUncommitted } => log.cursors.high_watermark(),
            Reader::Consumer { isolation: Isolation::ReadCommitted } => log.cursors.last_stable(),
        };
        // A new leader may not know yet what is committed; its answer could be lower than its predecessor's.
        let is_consumer = matches!(reader, Reader::Consumer { .. });
        let past_end = |listed: ListedOffset| {
            if is_consumer && !knows_high_watermark && !zoo::planted(Bug::ServeStaleHighWatermark) {
                Err(ListOffsetsError::OffsetNotAvailable)
            } else {
                Ok(listed)
            }
        };
        match spec {
            OffsetSpec::Earliest => Ok(ListedOffset {
                offset: Some(log.cursors.log_start()),
                timestamp_ms: None,
                leader_epoch: log.epochs.entries().next().map(|(epoch, _)| epoch),
            }),
            OffsetSpec::Latest => past_end(ListedOffset {
                offset: Some(upper),
                timestamp_ms: None,
                leader_epoch: log.epochs.latest().map(|(epoch, _)| epoch),
            }),
            OffsetSpec::MaxTimestamp | OffsetSpec::Timestamp(_) => {
                let partition = self.partitions.get_mut(&key).ok_or(FetchError::UnknownPartition)?;
                let timestamp = match spec {
                    OffsetSpec::Timestamp(timestamp) => Some(timestamp),
                    _ => partition.log.max_timestamp().map(|max| max.timestamp),
                };
                let found = timestamp
                    .map(|timestamp| partition.log.offset_for_timestamp(disk, timestamp, upper.0))
                    .transpose()
                    .map_err(|_| FetchError::LogOffline)?
                    .flatten();
                match found {
                    Some(found) => Ok(ListedOffset {
                        offset: Some(Offset(found.offset)),
                        timestamp_ms: Some(found.timestamp),
                        leader_epoch: Some(Epoch(found.leader_epoch)),
                    }),
                    None => past_end(ListedOffset { offset: None, timestamp_ms: None, leader_epoch: None }),
                }
            }
        }
    }

    /// OffsetForLeaderEpoch: where `epoch` ends in this leader's log. `None` is (−1, −1) on the wire.
    pub fn epoch_end(
        &self,
        key: TopicPartition,
        current_leader_epoch: Option<Epoch>,
        epoch: Epoch,
    ) -> Result<Option<EpochEnd>, FetchError> {
        let replica = &self.hosted(key)?.replica;
        check_epoch(replica, current_leader_epoch)?;
        replica.leader().ok_or(FetchError::NotLeader)?;
        let log = replica.log();
        Ok(log.epochs.end_offset_for(epoch, log.cursors.written()))
    }
}

fn check_epoch(replica: &Replica, requested: Option<Epoch>) -> Result<(), FetchError> {
    replica.check_epoch(requested).map_err(|refusal| match refusal {
        EpochRefusal::Fenced { current } => FetchError::FencedLeaderEpoch { current },
        EpochRefusal::Unknown { current } => FetchError::UnknownLeaderEpoch { current },
    })
}

/// Planted bug 18: a read that had to wait found the high watermark at its offset when it arrived.
fn state_high_watermark_of_arrival(request: &FetchRequest, reply: &mut FetchReply) {
    if matches!(request.reader, Reader::Replica { .. }) {
        return;
    }
    for (asked, answer) in request.partitions.iter().zip(&mut reply.partitions) {
        if let Ok(fetched) = &mut answer.result {
            fetched.high_watermark = fetched.high_watermark.min(asked.fetch_offset);
        }
    }
}
