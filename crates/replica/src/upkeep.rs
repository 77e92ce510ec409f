//! What happens by the clock: tickets and waits that expire, laggards, checkpoints, retention, the flush interval.
//!
//! Leader-epoch checkpoints, of which each partition has one, are written a few at a time.

use std::collections::BTreeMap;

use minisr_logic::{Millis, Offset, TopicPartition};
use minisr_storage::Disk;
use minisr_storage::checkpoint::{self, CheckpointError, Durability};

use crate::config::{Config, FlushPolicy};
use crate::flush::Extent;
use crate::output::{Notice, Output};
use crate::shard::Shard;

/// Leader-epoch checkpoints written at once, and the pause before the next ones: a millisecond's work every ten.
const EPOCHS_AT_ONCE: usize = 16;
const EPOCHS_PAUSE_MS: u64 = 10;

/// When each kind of periodic work is due.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Upkeep {
    high_watermarks_at: Millis,
    recovery_points_at: Millis,
    retention_at: Millis,
    flush_at: Option<Millis>,
    /// While leader-epoch checkpoints are written: the next ones.
    epochs_at: Option<Millis>,
}

impl Upkeep {
    pub(crate) fn new(now: Millis, config: &Config) -> Self {
        let flush_at = match config.flush {
            FlushPolicy::Interval { interval_ms } => Some(now.plus(interval_ms)),
            FlushPolicy::Never | FlushPolicy::Commit => None,
        };
        Self {
            high_watermarks_at: now.plus(config.high_watermark_checkpoint_interval_ms),
            recovery_points_at: now.plus(config.recovery_point_checkpoint_interval_ms),
            retention_at: now.plus(config.retention_check_interval_ms),
            flush_at,
            epochs_at: None,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        let always = [self.high_watermarks_at, self.recovery_points_at, self.retention_at];
        always.into_iter().chain(self.flush_at).chain(self.epochs_at).min()
    }
}

/// Which offset of a partition a checkpoint file holds.
#[derive(Clone, Copy)]
pub(crate) enum Checkpointed {
    HighWatermark,
    RecoveryPoint,
    LogStart,
}

impl<D: Disk> Shard<D> {
    pub(crate) fn on_tick(&mut self, now: Millis, wall_clock_ms: i64, disk: &mut D, outputs: &mut Vec<Output>) {
        while let Some(key) = self.deadlines.pop(now) {
            if let Some((leader, log)) = self.partitions.get_mut(&key).and_then(|it| it.replica.as_leader()) {
                leader.tick(now, log);
                self.touched.insert(key);
            }
        }
        while let Some(ticket) = self.waiting.expired(now) {
            self.answer_waiting(ticket, disk, outputs);
        }
        self.fetchers.tick(now, &self.config);
        self.periodic(now, wall_clock_ms, disk, outputs);
    }

    fn periodic(&mut self, now: Millis, wall_clock_ms: i64, disk: &mut D, outputs: &mut Vec<Output>) {
        if let (Some(at), FlushPolicy::Interval { interval_ms }) = (self.upkeep.flush_at, self.config.flush)
            && at <= now
        {
            self.upkeep.flush_at = Some(now.plus(interval_ms));
            for partition in self.partitions.values().filter(|it| it.log.end_offset() > it.log.flushed_offset()) {
                self.flusher.request(partition.key, Extent::All);
            }
        }
        if self.upkeep.high_watermarks_at <= now {
            self.upkeep.high_watermarks_at = now.plus(self.config.high_watermark_checkpoint_interval_ms);
            self.write_checkpoint(Checkpointed::HighWatermark, Durability::Written, disk, outputs);
            self.release_idle_tails();
            self.upkeep.epochs_at = Some(now);
        }
        if self.upkeep.epochs_at.is_some_and(|at| at <= now) {
            let more = self.write_some_epochs(disk, outputs);
            self.upkeep.epochs_at = more.then(|| now.plus(EPOCHS_PAUSE_MS));
        }
        if self.upkeep.recovery_points_at <= now {
            self.upkeep.recovery_points_at = now.plus(self.config.recovery_point_checkpoint_interval_ms);
            self.write_checkpoint(Checkpointed::RecoveryPoint, Durability::Written, disk, outputs);
        }
        if self.upkeep.retention_at <= now {
            self.upkeep.retention_at = now.plus(self.config.retention_check_interval_ms);
            self.apply_retention(now, wall_clock_ms, disk, outputs);
        }
    }

    /// Writes some of the leader-epoch checkpoints that are behind; returns whether to go on soon.
    fn write_some_epochs(&mut self, disk: &mut D, outputs: &mut Vec<Output>) -> bool {
        let mut behind = self.partitions.values_mut().filter(|it| !it.epochs_written && !it.replica.has_failed());
        for partition in behind.by_ref().take(EPOCHS_AT_ONCE) {
            if let Err(error) = partition.write_epochs(disk) {
                outputs.push(Output::Notice(Notice::Warning { partition: partition.key, what: error.to_string() }));
                return false;
            }
        }
        behind.next().is_some()
    }

    /// A log that nobody appends to keeps no recent batches in memory.
    fn release_idle_tails(&mut self) {
        for partition in self.partitions.values_mut() {
            if !std::mem::take(&mut partition.appended_lately) {
                partition.log.release_tail(partition.log.end_offset());
            }
        }
    }

    /// Removes the oldest segments that retention no longer wants, up to the high watermark, and forgets idle
    /// producers.
    fn apply_retention(&mut self, now: Millis, wall_clock_ms: i64, disk: &mut D, outputs: &mut Vec<Output>) {
        let mut risen = Vec::new();
        for partition in self.partitions.values_mut().filter(|it| !it.replica.has_failed()) {
            let log = partition.replica.log_mut();
            log.producers.expire(now, self.config.producer_id_expiration_ms);
            let high_watermark = log.cursors.high_watermark();
            let start = partition.log.retention_start(wall_clock_ms, partition.settings.retention, high_watermark.0);
            if Offset(start) > log.cursors.log_start() {
                log.raise_log_start(Offset(start));
                risen.push(partition.key);
            }
        }
        for key in risen {
            self.drop_below_start(key, disk, outputs);
        }
    }

    /// The log start of this partition has risen: checkpoint it, then remove the segments below.
    pub(crate) fn drop_below_start(&mut self, key: TopicPartition, disk: &mut D, outputs: &mut Vec<Output>) {
        if !self.write_checkpoint(Checkpointed::LogStart, Durability::Written, disk, outputs) {
            return;
        }
        self.touched.insert(key);
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        if let Err(error) = partition.drop_below_start(disk) {
            self.fail_partition(key, &error.to_string(), outputs);
        }
    }

    /// A log is about to be cut: recovery must not miss what was flushed and then cut on purpose.
    pub(crate) fn lower_recovery_point(
        &mut self,
        key: TopicPartition,
        to: Offset,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        if self.partitions.get_mut(&key).is_some_and(|partition| partition.announce_cut(to)) {
            let durability = self.checkpoint_durability();
            self.write_checkpoint(Checkpointed::RecoveryPoint, durability, disk, outputs);
        }
    }

    /// Where a power loss is no excuse, checkpoints that must not be missed are synced.
    fn checkpoint_durability(&self) -> Durability {
        match self.config.flush {
            FlushPolicy::Commit => Durability::Synced,
            FlushPolicy::Never | FlushPolicy::Interval { .. } => Durability::Written,
        }
    }

    /// All three checkpoint files, in the order that recovery tolerates best.
    pub(crate) fn write_checkpoints(&mut self, disk: &mut D, outputs: &mut Vec<Output>) {
        let durability = self.checkpoint_durability();
        for which in [Checkpointed::HighWatermark, Checkpointed::RecoveryPoint, Checkpointed::LogStart] {
            self.write_checkpoint(which, durability, disk, outputs);
        }
    }

    fn write_checkpoint(
        &mut self,
        which: Checkpointed,
        durability: Durability,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let written = self.try_write_checkpoint(which, durability, disk);
        if let Err(error) = &written {
            // The old content stays true enough: every checkpoint is a lower bound, and is written again soon.
            self.warn_all(&error.to_string(), outputs);
        } else if matches!(which, Checkpointed::RecoveryPoint) {
            for partition in self.partitions.values_mut() {
                partition.recovery_point_written = partition.recovery_point();
            }
        }
        written.is_ok()
    }

    pub(crate) fn try_write_checkpoint(
        &self,
        which: Checkpointed,
        durability: Durability,
        disk: &mut D,
    ) -> Result<(), CheckpointError> {
        let mut offsets = BTreeMap::new();
        for partition in self.partitions.values() {
            let cursors = &partition.replica.log().cursors;
            let offset = match which {
                // Under flush=commit nothing above the flushed offset is promised to come back.
                Checkpointed::HighWatermark if self.config.flush == FlushPolicy::Commit => {
                    cursors.high_watermark().0.min(partition.log.flushed_offset())
                }
                Checkpointed::HighWatermark => cursors.high_watermark().0,
                Checkpointed::RecoveryPoint => partition.recovery_point().0,
                Checkpointed::LogStart => cursors.log_start().0,
            };
            offsets.insert((partition.topic.clone(), partition.key.partition), offset);
        }
        let name = match which {
            Checkpointed::HighWatermark => checkpoint::HIGH_WATERMARKS,
            Checkpointed::RecoveryPoint => checkpoint::RECOVERY_POINTS,
            Checkpointed::LogStart => checkpoint::LOG_STARTS,
        };
        checkpoint::write(disk, &self.root, name, checkpoint::encode_offsets(&offsets).as_bytes(), durability)
    }

    /// News that concern the data directory as a whole are told once.
    pub(crate) fn warn_all(&self, what: &str, outputs: &mut Vec<Output>) {
        outputs.push(Output::Notice(Notice::DirectoryWarning { what: what.to_owned() }));
    }
}
