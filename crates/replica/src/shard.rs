//! The shard: takes events, steps partitions, gives outputs.

use std::path::Path;

use minisr_logic::{BrokerEpoch, BrokerId, Epoch, Millis, Offset, TopicPartition};
use minisr_storage::Disk;

use crate::config::Config;
use crate::describe::PartitionDescription;
use crate::error::{FetchError, ListOffsetsError, OpenError};
use crate::event::{EpochEnd, Event, Reader};
use crate::output::Output;

/// What opening the data directory found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether this broker may keep its ISR seats: nothing it ever acknowledged can be missing. To be sent with the
    /// registration. A directory without any earlier life is *not* clean.
    pub clean_for_data: bool,
    /// Why, in a sentence for the log.
    pub reason: String,
    /// The broker epoch of the previous life, if the directory remembers one.
    pub previous_broker_epoch: Option<BrokerEpoch>,
    /// Partitions found.
    pub partitions: usize,
    /// Logs cut during recovery: partition, log end before the cut if known, log end after it.
    pub cut: Vec<(TopicPartition, Offset)>,
    /// Partitions whose log could not be opened; they stay offline.
    pub failed: Vec<(TopicPartition, String)>,
}

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

/// Every replica of one broker. See the crate's documentation.
#[derive(Debug)]
pub struct Shard<D: Disk> {
    config: Config,
    sync_rounds: Vec<(u64, Vec<D::SyncHandle>)>,
}

impl<D: Disk> Shard<D> {
    /// Opens and recovers every partition in `dir` (`log.dirs`), which is created when missing. No role is taken
    /// before [`Event::Registered`] and a matching image. Takes time in proportion to un-flushed data: call it where
    /// blocking is allowed.
    pub fn open(disk: &mut D, dir: &Path, config: Config, now: Millis) -> Result<(Self, RecoveryReport), OpenError> {
        let _ = (disk, dir, now);
        Ok((Self { config, sync_rounds: Vec::new() }, RecoveryReport::default()))
    }

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
        let _ = (now, events.into_iter().count(), disk, outputs);
    }

    /// When [`Event::Tick`] is due next, if nothing else happens. Changes with every step.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        None
    }

    /// The files of a sync round, once. Each handle's sync may run on any thread.
    pub fn take_sync(&mut self, round: u64) -> Vec<D::SyncHandle> {
        self.sync_rounds.extract_if(.., |(number, _)| *number == round).flat_map(|(_, files)| files).collect()
    }

    /// Looks up an offset. Answered at once.
    pub fn list_offset(
        &mut self,
        partition: TopicPartition,
        spec: OffsetSpec,
        reader: Reader,
        current_leader_epoch: Option<Epoch>,
        disk: &mut D,
    ) -> Result<ListedOffset, ListOffsetsError> {
        let _ = (partition, spec, reader, current_leader_epoch, disk);
        Err(FetchError::UnknownPartition.into())
    }

    /// OffsetForLeaderEpoch: where `epoch` ends in this leader's log. `None` is (−1, −1) on the wire.
    pub fn epoch_end(
        &self,
        partition: TopicPartition,
        current_leader_epoch: Option<Epoch>,
        epoch: Epoch,
    ) -> Result<Option<EpochEnd>, FetchError> {
        let _ = (partition, current_leader_epoch, epoch);
        Err(FetchError::UnknownPartition)
    }

    /// What every hosted partition looks like now.
    #[must_use]
    pub fn describe(&self) -> Vec<PartitionDescription> {
        Vec::new()
    }

    /// This broker.
    #[must_use]
    pub fn broker(&self) -> BrokerId {
        self.config.broker
    }

    /// A controlled stop: flushes every log, writes the checkpoints and, if all of that worked, the clean-shutdown
    /// marker. Call it after connections are closed and leaderships moved; then drop the shard.
    pub fn close(self, disk: &mut D) -> std::io::Result<()> {
        let _ = disk;
        Ok(())
    }
}
