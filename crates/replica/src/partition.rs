//! A log paired with the state that decisions see: whatever is written, cut or dropped goes through here, so that the
//! two never disagree.
//!
//! Leader epochs and producer state are functions of the log's records: they are rebuilt from them when it is opened,
//! and producer state also when a cut reaches it. A log start is checkpointed by the shard before segments go. After a
//! failed write or sync the replica has no role any more ([`Partition::fail`]).

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use minisr_logic::partition::{
    AckPolicy, Admitted, AppendError, BatchSummary, Committed, Cursors, EpochCache, LogState, Position, ProducerBatch,
    Producers, Replica, Ticket,
};
use minisr_logic::zoo::{self, Bug};
use minisr_logic::{Epoch, Millis, Offset, TopicPartition};
use minisr_storage::checkpoint::{self, CheckpointError, Durability, PartitionMetadata};
use minisr_storage::{BatchHeader, Cut, Disk, Log, OpenOptions, Poisoned, ReadError};
use minisr_wire::batch::BatchView;

use crate::config::{Config, FlushPolicy};
use crate::event::{Append, Fetched};
use crate::isr_report::IsrHistory;
use crate::settings::TopicSettings;

/// One hosted partition.
#[derive(Clone, Debug)]
pub(crate) struct Partition<D: Disk> {
    pub(crate) key: TopicPartition,
    /// The topic's name, as in the directory's name.
    pub(crate) topic: String,
    pub(crate) replica: Replica,
    pub(crate) log: Log<D>,
    pub(crate) settings: TopicSettings,
    /// Whether the newest metadata has this replica in the ISR.
    pub(crate) is_in_sync: bool,
    pub(crate) isr_history: IsrHistory,
    directory: PathBuf,
    /// What the recovery-point checkpoint may say at most: a cut is about to happen here.
    recovery_point_max: Offset,
    /// What the recovery-point checkpoint on disk says, or less.
    pub(crate) recovery_point_written: Offset,
    /// Whether anything was appended since this was last cleared: an idle log's tail is let go of.
    pub(crate) appended_lately: bool,
    /// How many segments there were when rolled ones were last asked about.
    segments_seen: usize,
    /// Whether the leader-epoch checkpoint says what the log says.
    pub(crate) epochs_written: bool,
}

/// What is known from the checkpoints about a partition that is about to be opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) clean: bool,
    pub(crate) recovery_point: i64,
    pub(crate) log_start: i64,
    pub(crate) high_watermark: i64,
    pub(crate) high_watermark_counts: bool,
}

/// What a follower did with a leader's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// How many batches were appended.
    pub(crate) batches: usize,
    /// The log start to move to, if the leader's rose.
    pub(crate) new_log_start: Option<Offset>,
    /// Why the rest was not appended, if it was not.
    pub(crate) unfit: Option<String>,
}

/// A log that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartitionError {
    #[error(transparent)]
    Open(#[from] minisr_storage::OpenError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// The name of a partition's directory.
pub(crate) fn directory_name(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

impl<D: Disk> Partition<D> {
    /// What else decides its future, for [`crate::Shard::fingerprint`].
    pub(crate) fn private_state(&self) -> (Offset, Offset, bool, usize) {
        (self.recovery_point_max, self.recovery_point_written, self.appended_lately, self.segments_seen)
    }

    /// Makes the directory of a partition that this broker has never hosted, and its empty log.
    pub(crate) fn create(
        disk: &mut D,
        root: &Path,
        topic: &str,
        key: TopicPartition,
        settings: TopicSettings,
        config: &Config,
    ) -> Result<Self, PartitionError> {
        let directory = root.join(directory_name(topic, key.partition));
        let io = |source| CheckpointError::Io { name: directory.display().to_string(), source };
        // What is left of a deleted namesake whose removal failed may not become part of this log (trap 21).
        if disk.exists(&directory).map_err(io)? {
            disk.remove_dir_all(&directory).map_err(io)?;
        }
        disk.create_dir_all(&directory).map_err(io)?;
        // Synced, since a log without a known topic id may not be used again after a power loss (trap 21).
        let metadata = PartitionMetadata { topic_id: key.topic.0 }.encode();
        checkpoint::write(disk, &directory, checkpoint::PARTITION_METADATA, metadata.as_bytes(), Durability::Synced)?;
        let (mut partition, _) = Self::open(disk, root, topic, key, settings, config, Known::default(), Millis(0))?;
        partition.write_epochs(disk)?;
        Ok(partition)
    }

    /// Opens and recovers a partition's directory.
    #[allow(clippy::too_many_arguments, reason = "each comes from elsewhere, and there is one caller")]
    pub(crate) fn open(
        disk: &mut D,
        root: &Path,
        topic: &str,
        key: TopicPartition,
        settings: TopicSettings,
        config: &Config,
        known: Known,
        now: Millis,
    ) -> Result<(Self, Option<Cut>), PartitionError> {
        let directory = root.join(directory_name(topic, key.partition));
        let options =
            OpenOptions { clean: known.clean, recovery_point: known.recovery_point, start_offset: known.log_start };
        let (mut log, recovered) = Log::open(disk, &directory, settings.log.clone(), options)?;
        let after_power_loss = zoo::planted(Bug::TruncateToHighWatermarkAfterPowerLoss) && !known.high_watermark_counts;
        let (mut epochs, producers) = scan(disk, &mut log, now)?;
        if after_power_loss {
            epochs.clear();
        }
        let policy = match config.flush {
            FlushPolicy::Commit => AckPolicy::Flushed,
            FlushPolicy::Never | FlushPolicy::Interval { .. } => AckPolicy::Written,
        };
        let cursors = Cursors::recovered(
            policy,
            Offset(log.start_offset()),
            Offset(if known.high_watermark_counts || after_power_loss { known.high_watermark } else { 0 }),
            Offset(log.flushed_offset()),
            Offset(log.end_offset()),
        );
        let replica = Replica::new(config.broker, config.logic(), LogState::new(cursors, epochs, producers));
        let partition = Self {
            key,
            topic: topic.to_owned(),
            replica,
            log,
            settings,
            is_in_sync: false,
            isr_history: IsrHistory::default(),
            directory,
            recovery_point_max: Offset(i64::MAX),
            recovery_point_written: Offset(known.recovery_point),
            appended_lately: false,
            segments_seen: 1,
            epochs_written: false,
        };
        Ok((partition, recovered.cut))
    }

    /// A producer's batch: refuse, decide, write. The ticket of an `acks=all` append is queued when this succeeds.
    /// `StorageFailed` means that the write failed just now: the caller takes the partition offline.
    pub(crate) fn append(&mut self, now: Millis, disk: &mut D, append: Append) -> Result<Committed, AppendError> {
        let Append { ticket, partition: _, batch, summary, acks, timeout_ms } = append;
        self.refuse_size(batch.len())?;
        if self.replica.has_failed() {
            return Err(AppendError::StorageFailed);
        }
        let Some((leader, log)) = self.replica.as_leader() else { return Err(AppendError::NotLeader) };
        let (base_offset, epoch) = match leader.admit(now, log, ticket, &summary, acks, timeout_ms)? {
            Admitted::Duplicate { base_offset } => return Ok(Committed { base_offset, epoch: None }),
            Admitted::Write { base_offset, epoch } => (base_offset, epoch),
        };
        let stamped = stamp(batch, base_offset, epoch);
        let appended = self.log.append(disk, &[stamped]).map_err(|_| AppendError::StorageFailed)?;
        self.appended_lately = true;
        let Some((leader, log)) = self.replica.as_leader() else { unreachable!("it led a moment ago") };
        leader.written(now, log, Offset(appended.end_offset));
        Ok(Committed { base_offset, epoch: Some(epoch) })
    }

    fn refuse_size(&self, size_bytes: usize) -> Result<(), AppendError> {
        let max_bytes = self.settings.max_message_bytes;
        if size_bytes > max_bytes {
            return Err(AppendError::MessageTooLarge { size_bytes, max_bytes });
        }
        let max_bytes = u64::from(self.settings.log.segment_bytes);
        if size_bytes as u64 > max_bytes {
            return Err(AppendError::RecordListTooLarge { size_bytes, max_bytes });
        }
        Ok(())
    }

    /// A follower appends what its leader sent in answer to a fetch that is still current.
    pub(crate) fn apply_fetched(
        &mut self,
        now: Millis,
        disk: &mut D,
        fetched: &Fetched,
    ) -> Result<Applied, PartitionError> {
        let mut applied = Applied { batches: 0, new_log_start: None, unfit: None };
        let mut pieces = Vec::with_capacity(fetched.records.len());
        let mut new_epoch = false;
        for piece in &fetched.records {
            let taken = self.admit_piece(now, piece, &mut applied, &mut new_epoch);
            if taken > 0 {
                pieces.push(piece.slice(..taken));
            }
            if applied.unfit.is_some() {
                break;
            }
        }
        self.epochs_written &= !new_epoch;
        if !pieces.is_empty() {
            let appended = self.log.append(disk, &pieces).inspect_err(|_| {
                // The log has failed for good; what was admitted is not in it.
                let log = self.replica.log_mut();
                log.epochs.truncate_suffix(log.cursors.written());
            })?;
            // Nobody reads from a follower; what was received need not stay in memory.
            self.log.release_tail(appended.end_offset);
            let (follower, log) = self.replica.as_follower().expect("checked by the caller");
            follower.appended(log, Offset(appended.end_offset));
        }
        if applied.unfit.is_none() {
            let (follower, log) = self.replica.as_follower().expect("checked by the caller");
            if follower.adopt(log, fetched.high_watermark, fetched.log_start) {
                applied.new_log_start = Some(log.cursors.log_start());
            }
        }
        Ok(applied)
    }

    /// Checks the batches of one piece and takes them into epochs and producer state. Returns how many bytes may be
    /// written; notes in `applied` why the rest may not.
    fn admit_piece(&mut self, now: Millis, piece: &Bytes, applied: &mut Applied, new_epoch: &mut bool) -> usize {
        let mut at = 0;
        while at < piece.len() {
            let Some(header) = BatchHeader::parse(&piece[at..]) else {
                applied.unfit = Some(format!("no batch header in {} bytes", piece.len() - at));
                break;
            };
            let Some(batch) = piece.get(at..at + header.size) else {
                // A leader of another make may cut the last batch short; what is whole is good.
                break;
            };
            if !header.crc_matches(batch) {
                applied.unfit = Some(format!("the batch at offset {} fails its CRC", header.base_offset));
                break;
            }
            let (follower, log) = self.replica.as_follower().expect("checked by the caller");
            let (base_offset, epoch) = (Offset(header.base_offset), Epoch(header.leader_epoch));
            if let Err(unfit) = follower.check_batch(log, base_offset, epoch) {
                applied.unfit = Some(format!("{unfit:?}"));
                break;
            }
            *new_epoch |= log.epochs.assign(epoch, base_offset);
            log.producers.record(now, &summary_of(&header), base_offset);
            log.note_admitted(Offset(header.end_offset()));
            applied.batches += 1;
            at += header.size;
        }
        at
    }

    /// A cut at `to` is about to happen. Returns whether the recovery-point checkpoint must be lowered first: a log that
    /// ends below it after a crash would be taken for rotten.
    pub(crate) fn announce_cut(&mut self, to: Offset) -> bool {
        self.recovery_point_max = to;
        self.recovery_point_written > to
    }

    /// What the recovery-point checkpoint is to say.
    pub(crate) fn recovery_point(&self) -> Offset {
        Offset(self.log.flushed_offset()).min(self.recovery_point_max)
    }

    /// Cuts the log to end at `to`, which is not past its end (a cut at the end removes conflicting epochs only).
    pub(crate) fn truncate(&mut self, now: Millis, disk: &mut D, to: Offset) -> Result<(), PartitionError> {
        let end = Offset(self.log.truncate_to(disk, to.0)?);
        self.recovery_point_max = Offset(i64::MAX);
        assert!(end <= to, "the log was to end at {to}, not {end}");
        let log = self.replica.log_mut();
        log.truncate(end);
        if log.producers.reaches(end) {
            (_, log.producers) = scan(disk, &mut self.log, now)?;
        }
        self.epochs_written = false;
        Ok(())
    }

    /// Drops everything and begins anew at `at`.
    pub(crate) fn restart_at(&mut self, disk: &mut D, at: Offset) -> Result<(), PartitionError> {
        self.log.truncate_fully_and_start_at(disk, at.0)?;
        self.replica.log_mut().restart(at);
        self.epochs_written = false;
        Ok(())
    }

    /// Removes segments below the log start, which has been raised and checkpointed.
    pub(crate) fn drop_below_start(&mut self, disk: &mut D) -> Result<(), PartitionError> {
        let start = self.replica.log().cursors.log_start();
        self.log.advance_start(disk, start.0)?;
        self.epochs_written = false;
        Ok(())
    }

    /// Writes the leader-epoch checkpoint, for Kafka's tools and for people: opening a log rebuilds the epochs from
    /// its records (see [`scan`]). So nobody waits for it: where a thousand partitions get their first record, or a new
    /// leader, a thousand files would come before it.
    pub(crate) fn write_epochs(&mut self, disk: &mut D) -> Result<(), CheckpointError> {
        let entries: Vec<_> = self.replica.log().epochs.entries().map(|(epoch, start)| (epoch.0, start.0)).collect();
        let content = checkpoint::encode_leader_epochs(&entries);
        let name = checkpoint::LEADER_EPOCHS;
        checkpoint::write_over(disk, &self.directory, name, content.as_bytes())?;
        self.epochs_written = true;
        Ok(())
    }

    /// Where a follower stands; `None` for any other role.
    pub(crate) fn position(&mut self) -> Option<Position> {
        let (follower, log) = self.replica.as_follower()?;
        Some(follower.position(log))
    }

    /// Whether the log has begun a new segment since this was last asked; what it left behind is to be synced.
    pub(crate) fn take_rolled(&mut self) -> bool {
        let segments = self.log.segment_count();
        std::mem::replace(&mut self.segments_seen, segments) < segments
    }

    /// The log failed: no role any more. Returns the producers to disappoint.
    pub(crate) fn fail(&mut self) -> Vec<(Ticket, Result<Committed, AppendError>)> {
        self.replica.fail().into()
    }
}

/// Leader epochs and producer state as the log itself has them.
///
/// The leader-epoch checkpoint is not read. After a power loss it can contradict the log: an un-synced cut may be
/// undone, so that records of an old epoch stand again where the checkpoint, synced since, has a newer epoch begin,
/// and a follower that claims the newer epoch would keep them. What a rebuild loses is at most a last epoch without
/// records, which the next epoch begins in place of in any case.
fn scan<D: Disk>(disk: &mut D, log: &mut Log<D>, now: Millis) -> Result<(EpochCache, Producers), PartitionError> {
    let (mut epochs, mut producers) = (EpochCache::default(), Producers::default());
    let start = log.start_offset();
    log.scan(disk, start, |header| {
        epochs.assign(Epoch(header.leader_epoch), Offset(header.base_offset.max(start)));
        producers.record(now, &summary_of(header), Offset(header.base_offset));
        ControlFlow::<()>::Continue(())
    })?;
    Ok((epochs, producers))
}

/// What decisions need to know of a stored batch.
fn summary_of(header: &BatchHeader) -> BatchSummary {
    let producer = (header.producer_id >= 0 && header.base_sequence >= 0).then_some(ProducerBatch {
        id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    });
    BatchSummary {
        records: header.last_offset_delta.saturating_add(1),
        max_timestamp_ms: header.max_timestamp,
        producer,
    }
}

/// What decisions need to know of a producer's batch, which is not stamped yet; for whoever makes an [`Append`].
#[must_use]
pub fn batch_summary(batch: &BatchView<'_>) -> BatchSummary {
    let producer = (batch.producer_id() >= 0 && batch.base_sequence() >= 0).then_some(ProducerBatch {
        id: batch.producer_id(),
        epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
    });
    BatchSummary {
        records: batch.last_offset_delta().saturating_add(1),
        max_timestamp_ms: batch.max_timestamp(),
        producer,
    }
}

/// Batches below this size are copied when they are stamped: the copy costs nothing, and the log's tail then does not
/// keep alive a receive buffer that may be much larger than the batch.
const STAMPED_IN_PLACE_BYTES_MIN: usize = 16 << 10;

/// Writes base offset and leader epoch into a batch's header; its CRC does not cover them.
fn stamp(mut batch: BytesMut, base_offset: Offset, epoch: Epoch) -> Bytes {
    if batch.len() < STAMPED_IN_PLACE_BYTES_MIN {
        batch = BytesMut::from(&batch[..]);
    }
    batch[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[12..16].copy_from_slice(&epoch.0.to_be_bytes());
    batch.freeze()
}
