//! Following: the fetches to send, and what is done with each answer.
//!
//! An answer counts for a partition only if the replica still stands where it stood when it asked, in the same leader
//! epoch (trap 17). A diverging epoch leads to a cut and nothing else (trap 5). The leader's high watermark is taken
//! over after its records were appended.

use minisr_logic::partition::{OutOfRange, Position};
use minisr_logic::zoo::{self, Bug};
use minisr_logic::{Millis, Offset, TopicPartition};
use minisr_storage::{BatchHeader, Disk};

use crate::catch_up::{self, Haul};
use crate::config::FlushPolicy;
use crate::error::FetchError;
use crate::event::{FetchPartition, FetchReply, FetchRequest, Fetched, FetcherId, Reader};
use crate::fetcher::InFlight;
use crate::output::{Notice, Output};
use crate::partition::PartitionError;
use crate::shard::Shard;

impl<D: Disk> Shard<D> {
    /// Sends what fetch loops want to ask now.
    pub(crate) fn send_fetches(&mut self, now: Millis, outputs: &mut Vec<Output>) {
        let Self { fetchers, partitions, config, broker_epoch, throttles, .. } = self;
        let is_throttled = |partition: &crate::partition::Partition<D>| {
            !partition.is_in_sync && partition.settings.throttled.as_follower(partition.key, config.broker)
        };
        let is_open = throttles.follower.is_open();
        let mut position = |key: TopicPartition| {
            let partition = partitions.get_mut(&key)?;
            if !is_open && is_throttled(partition) {
                return None;
            }
            // What it got would have to wait for the disk, and every other partition with it. A sync is under way.
            if partition.log.has_unsettled_cut() {
                return None;
            }
            partition.position()
        };
        while let Some(next) = fetchers.next_fetch(now, config, &mut position) {
            let catches_up = next.fetcher.index == catch_up::index(config);
            let share = if catches_up { throttles.follower.share_bytes() } else { usize::MAX };
            let reader = Reader::Replica { id: config.broker, broker_epoch: *broker_epoch };
            let request = FetchRequest {
                reader,
                client_rack: None,
                max_wait_ms: config.replica_fetch_wait_max_ms,
                min_bytes: config.replica_fetch_min_bytes,
                max_bytes: if catches_up {
                    catch_up::bytes_max(config)
                } else {
                    config.replica_fetch_response_max_bytes
                },
                partitions: next
                    .asked
                    .iter()
                    .map(|(partition, position)| FetchPartition {
                        partition: *partition,
                        current_leader_epoch: Some(position.epoch),
                        fetch_offset: position.fetch_offset,
                        last_fetched_epoch: position.last_fetched_epoch,
                        log_start: Some(position.log_start),
                        high_watermark: Some(position.high_watermark),
                        flushed: (config.flush == FlushPolicy::Commit).then_some(position.flushed),
                        max_bytes: config.replica_fetch_max_bytes.min(share),
                    })
                    .collect(),
            };
            outputs.push(Output::SendFetch { fetcher: next.fetcher, correlation: next.correlation, request });
        }
    }

    pub(crate) fn on_fetch_response(
        &mut self,
        now: Millis,
        fetcher: FetcherId,
        correlation: u64,
        reply: &FetchReply,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        let Some(in_flight) = self.fetchers.answered(fetcher, correlation) else {
            if zoo::planted(Bug::StaleAppendTruncates) {
                self.cut_and_append(now, fetcher, reply, disk, outputs);
            }
            return;
        };
        // Answers come in the order asked, without those that would say nothing.
        let mut questions = in_flight.asked.iter();
        for answer in &reply.partitions {
            let key = answer.partition;
            let Some((_, asked)) = questions.find(|(asked, _)| *asked == key) else { break };
            if !self.is_current(key, fetcher, asked) {
                continue;
            }
            match &answer.result {
                Ok(fetched) => self.on_fetched(now, key, fetched, disk, outputs),
                Err(error) => self.on_fetch_error(now, key, *error, disk, outputs),
            }
        }
        let haul = self.haul(&in_flight, reply);
        self.fetchers.took_in(now, fetcher, in_flight.sent_at, haul, &self.config);
    }

    /// What an answer brought, now that it has been taken in.
    fn haul(&self, in_flight: &InFlight, reply: &FetchReply) -> Haul {
        let mut haul = Haul::default();
        let mut questions = in_flight.asked.iter();
        let answers = reply.partitions.iter().filter_map(|it| Some((it.partition, it.result.as_ref().ok()?)));
        for (key, fetched) in answers {
            let Some(partition) = self.partitions.get(&key) else { continue };
            let end = partition.replica.log().cursors.written();
            let asked = questions.find(|(asked, _)| *asked == key).map(|(_, at)| at.fetch_offset);
            haul.bytes += fetched.records.iter().map(bytes::Bytes::len).sum::<usize>();
            haul.records += asked.map_or(0, |asked| end.0.saturating_sub(asked.0).max(0));
            haul.lacks += fetched.high_watermark.0.saturating_sub(end.0).max(0);
        }
        haul
    }

    /// Planted bug 22: whatever an answer holds replaces what stands there.
    fn cut_and_append(
        &mut self,
        now: Millis,
        fetcher: FetcherId,
        reply: &FetchReply,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        for answer in &reply.partitions {
            let Ok(fetched) = &answer.result else { continue };
            let first = fetched.records.first().and_then(|piece| BatchHeader::parse(piece));
            let Some(base) = first.map(|header| Offset(header.base_offset)) else { continue };
            let Some(partition) = self.partitions.get_mut(&answer.partition) else { continue };
            let Some((follower, log)) = partition.replica.as_follower() else { continue };
            let fits = log.cursors.log_start() <= base && base < log.cursors.written();
            if fits && follower.leader() == Some(fetcher.leader) {
                self.truncate(now, answer.partition, base, disk, outputs);
                self.on_fetched(now, answer.partition, fetched, disk, outputs);
            }
        }
    }

    fn is_current(&mut self, key: TopicPartition, fetcher: FetcherId, asked: &Position) -> bool {
        let Some(partition) = self.partitions.get_mut(&key) else { return false };
        let Some((follower, log)) = partition.replica.as_follower() else { return false };
        follower.leader() == Some(fetcher.leader) && follower.is_current(log, asked)
    }

    fn on_fetched(
        &mut self,
        now: Millis,
        key: TopicPartition,
        fetched: &Fetched,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        self.touched.insert(key);
        if let Some(leader_end) = fetched.diverging {
            let Some((follower, log)) = partition.replica.as_follower() else { return };
            let to = follower.truncation_point(log, leader_end);
            if zoo::planted(Bug::HighWatermarkBeforeTruncation) {
                follower.adopt(log, fetched.high_watermark, log.cursors.log_start());
            }
            self.truncate(now, key, to, disk, outputs);
            return;
        }
        let size: usize = fetched.records.iter().map(bytes::Bytes::len).sum();
        match partition.apply_fetched(now, disk, fetched) {
            Ok(applied) => {
                if self.is_throttled_as_follower(key) {
                    self.throttles.follower.spend(size);
                }
                if let Some(what) = applied.unfit {
                    outputs.push(Output::Notice(Notice::Warning { partition: key, what }));
                    self.fetchers.partition_failed(now, key, &self.config);
                } else {
                    self.fetchers.partition_served(key);
                }
                if applied.new_log_start.is_some() {
                    self.drop_below_start(key, disk, outputs);
                }
            }
            Err(error) => self.fail_partition(key, &error.to_string(), outputs),
        }
    }

    fn on_fetch_error(
        &mut self,
        now: Millis,
        key: TopicPartition,
        error: FetchError,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        match error {
            FetchError::FencedLeaderEpoch { .. } => self.fetchers.partition_fenced(key),
            FetchError::OffsetOutOfRange { log_start, log_end } => {
                let Some(partition) = self.partitions.get_mut(&key) else { return };
                let Some((follower, log)) = partition.replica.as_follower() else { return };
                match follower.out_of_range(log, log_start, log_end) {
                    OutOfRange::TruncateTo(to) => self.truncate(now, key, to, disk, outputs),
                    OutOfRange::RestartAt(at) => {
                        let from = log.cursors.written();
                        let high_watermark = log.cursors.high_watermark();
                        let restarted = partition.restart_at(disk, at);
                        self.note_cut(key, from, at, high_watermark, restarted, outputs);
                    }
                    OutOfRange::Retry => self.fetchers.partition_failed(now, key, &self.config),
                }
            }
            _ => self.fetchers.partition_failed(now, key, &self.config),
        }
    }

    pub(crate) fn truncate(
        &mut self,
        now: Millis,
        key: TopicPartition,
        to: Offset,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        self.lower_recovery_point(key, to, disk, outputs);
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        let before = partition.position();
        let (from, high_watermark) = {
            let cursors = &partition.replica.log().cursors;
            (cursors.written(), cursors.high_watermark())
        };
        let cut = partition.truncate(now, disk, to);
        if cut.is_ok() && partition.position() == before {
            // Nothing went, so the same question would get the same answer.
            let what = format!("the leader says this log diverges, but there is nothing to cut at {to}");
            outputs.push(Output::Notice(Notice::Warning { partition: key, what }));
            self.fetchers.partition_failed(now, key, &self.config);
            return;
        }
        self.note_cut(key, from, to, high_watermark, cut, outputs);
    }

    fn note_cut(
        &mut self,
        key: TopicPartition,
        from: Offset,
        to: Offset,
        high_watermark: Offset,
        cut: Result<(), PartitionError>,
        outputs: &mut Vec<Output>,
    ) {
        self.touched.insert(key);
        match cut {
            Ok(()) => outputs.push(Output::Notice(Notice::Truncated { partition: key, from, to, high_watermark })),
            Err(error) => self.fail_partition(key, &error.to_string(), outputs),
        }
    }
}
