//! Opening a data directory, and closing it.
//!
//! What the controller must learn from an opening is whether this broker may keep its ISR seats: whether everything it
//! ever acknowledged is certainly still there. It is after a clean stop; when the kernel has been up ever since (a
//! killed process keeps its page cache); and under `flush=commit`, whose acknowledgements wait for stable storage. In
//! all three cases only as long as no log ends below what was once known to be flushed or committed: that is rot. That
//! the kernel has been up counts for nothing after a failed sync ([`Shard::abandon`]).
//!
//! A start that is not clean is noted in a file until a registration has carried the news, because the evidence (a
//! changed boot, a torn tail) is gone at the next start (bug 21 of the zoo). A failed sync leaves the same note
//! ([`crate::doubt`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use minisr_logic::zoo::{self, Bug};
use minisr_logic::{BrokerEpoch, Millis, Offset, TopicId, TopicPartition};
use minisr_storage::checkpoint::{self, CheckpointError, Durability, PartitionMetadata};
use minisr_storage::{Disk, Poisoned};

use crate::config::{Config, FlushPolicy};
use crate::deadlines::Deadlines;
use crate::error::OpenError;
use crate::fetcher::Fetchers;
use crate::flush::{Extent, Flusher};
use crate::partition::{Known, Partition};
use crate::settings::TopicSettings;
use crate::shard::Shard;
use crate::throttle::Throttles;
use crate::upkeep::{Checkpointed, Upkeep};
use crate::waiting::WaitingFetches;

/// Holds the broker epoch of the last registration.
pub(crate) const BROKER_EPOCH: &str = "broker-epoch";
/// Present from a start that was not clean until a registration has said so.
pub(crate) const UNCLEAN_START: &str = "unclean-start";

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
    /// Logs that were cut during recovery, and where they end now.
    pub cut: Vec<(TopicPartition, Offset)>,
    /// Partitions whose log could not be opened; they stay offline.
    pub failed: Vec<(TopicPartition, String)>,
    /// Directories that hold no usable topic id and were set aside, renamed to end in `.stray`.
    pub strays: Vec<String>,
}

/// The offsets of one checkpoint file.
type Offsets = BTreeMap<(String, i32), i64>;

/// Creates a directory so that its name survives a power loss too: everything below would be lost with it.
fn create_durably<D: Disk>(disk: &mut D, root: &Path) -> std::io::Result<()> {
    let mut missing = Vec::new();
    for path in root.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        if disk.exists(path)? {
            break;
        }
        missing.push(path);
    }
    disk.create_dir_all(root)?;
    for path in missing {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        disk.sync_dir(parent)?;
    }
    Ok(())
}

impl<D: Disk> Shard<D> {
    /// Opens and recovers every partition in `root` (`log.dirs`), which is created when missing. No role is taken
    /// before [`crate::Event::Registered`] and a matching image. Takes time in proportion to un-flushed data: call it
    /// where blocking is allowed.
    pub fn open(disk: &mut D, root: &Path, config: Config, now: Millis) -> Result<(Self, RecoveryReport), OpenError> {
        let io = |source| OpenError::Directory { path: root.display().to_string(), source };
        create_durably(disk, root).map_err(io)?;

        let mut report = RecoveryReport::default();
        let doubts = doubts_before_opening(disk, root, &config, &mut report)?;
        let marker = checkpoint::take_clean_shutdown(disk, root)?;
        report.previous_broker_epoch = previous_broker_epoch(disk, root)?.max(marker.map(BrokerEpoch));
        let logs_closed = marker.is_some();
        if let (Some(doubt), None) = (&doubts, marker) {
            // Before anything is changed that the doubt rests on.
            checkpoint::write(disk, root, UNCLEAN_START, doubt.as_bytes(), Durability::Synced)?;
        }
        checkpoint::exchange_boot_id(disk, root)?;

        let high_watermarks = load_offsets(disk, root, checkpoint::HIGH_WATERMARKS)?;
        let recovery_points = load_offsets(disk, root, checkpoint::RECOVERY_POINTS)?;
        let log_starts = load_offsets(disk, root, checkpoint::LOG_STARTS)?;

        let mut shard = Self {
            upkeep: Upkeep::new(now, &config),
            config,
            root: root.to_owned(),
            broker_epoch: None,
            previous_broker_epoch: report.previous_broker_epoch,
            unclean_start: false,
            sync_failed: false,
            image: None,
            applied: None,
            partitions: BTreeMap::new(),
            offline: BTreeMap::new(),
            waiting: WaitingFetches::default(),
            fetchers: Fetchers::default(),
            flusher: Flusher::default(),
            deadlines: Deadlines::default(),
            throttles: Throttles::default(),
            touched: BTreeSet::new(),
        };
        let mut rot = None;
        let mut found = BTreeSet::new();
        for entry in disk.list(root).map_err(io)? {
            let Some((topic, index)) = split_directory_name(&entry.name).filter(|_| entry.is_directory) else {
                continue;
            };
            let name = (topic.to_owned(), index);
            let of = |offsets: &Offsets| offsets.get(&name).copied().unwrap_or(0);
            let known = Known {
                clean: logs_closed,
                recovery_point: of(&recovery_points),
                log_start: of(&log_starts),
                high_watermark: of(&high_watermarks),
                // After a power loss an un-synced cut may be undone, and what stands below the checkpointed high
                // watermark need not be what was committed. This replica has no seat in an ISR, so it will be told.
                high_watermark_counts: logs_closed || doubts.is_none(),
            };
            found.insert(name.clone());
            let rotten = shard.open_partition(disk, topic, index, known, now, &mut report)?;
            rot = rot.or(rotten);
        }
        report.partitions = shard.partitions.len();
        let missing = high_watermarks.iter().find(|(name, offset)| **offset > 0 && !found.contains(name));
        if let Some(((topic, partition), offset)) = missing {
            rot = rot.or(Some(format!("{topic}-{partition}, once committed up to {offset}, is gone")));
        }
        shard.conclude(disk, marker.is_some(), doubts, rot, &mut report)?;
        Ok((shard, report))
    }

    /// Opens one partition's directory. Returns a sentence if its log is known to lack what it once held.
    fn open_partition(
        &mut self,
        disk: &mut D,
        topic: &str,
        index: i32,
        known: Known,
        now: Millis,
        report: &mut RecoveryReport,
    ) -> Result<Option<String>, OpenError> {
        let name = crate::partition::directory_name(topic, index);
        let directory = self.root.join(&name);
        let metadata = match checkpoint::read_text(disk, &directory, checkpoint::PARTITION_METADATA) {
            Ok(text) => text.and_then(|text| PartitionMetadata::decode(&text).ok()),
            Err(CheckpointError::Malformed { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let Some(metadata) = metadata else {
            // Records of an unknown topic must not be taken for those of a namesake (trap 21).
            let aside = self.root.join(format!("{name}.stray"));
            let io = |source| OpenError::Directory { path: aside.display().to_string(), source };
            if disk.exists(&aside).map_err(io)? {
                disk.remove_dir_all(&aside).map_err(io)?;
            }
            disk.rename(&directory, &aside).map_err(io)?;
            report.strays.push(name.clone());
            return Ok((known.high_watermark > 0).then(|| format!("{name} has no usable topic id")));
        };
        let key = TopicPartition { topic: TopicId(metadata.topic_id), partition: index };
        let settings = TopicSettings::default_for(&self.config.topic);
        match Partition::open(disk, &self.root, topic, key, settings, &self.config, known, now) {
            Ok((partition, cut)) => {
                let end = partition.log.end_offset();
                let mut rot = None;
                if let Some(cut) = cut {
                    report.cut.push((key, Offset(cut.offset)));
                    if cut.below_recovery_point {
                        rot = Some(format!("{name} lost data that had been flushed: it ends at {end}"));
                    }
                }
                if end < known.high_watermark {
                    rot = Some(format!("{name} ends at {end}, below its high watermark {}", known.high_watermark));
                }
                let unflushed = end > partition.log.flushed_offset();
                if partition.log.has_unsettled_cut() || (self.config.flush == FlushPolicy::Commit && unflushed) {
                    self.flusher.request(key, Extent::All);
                }
                self.partitions.insert(key, partition);
                Ok(rot)
            }
            Err(error) => {
                self.offline.insert(key, error.to_string());
                report.failed.push((key, error.to_string()));
                Ok(Some(format!("{name} cannot be opened: {error}")))
            }
        }
    }

    /// Decides whether this life is clean for data, and notes it durably if not.
    fn conclude(
        &mut self,
        disk: &mut D,
        closed_cleanly: bool,
        doubts: Option<String>,
        rot: Option<String>,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let doubts = if closed_cleanly { None } else { doubts };
        report.clean_for_data = doubts.is_none() && rot.is_none();
        report.reason = match (rot, doubts) {
            (Some(rot), _) => rot,
            (None, Some(doubt)) => doubt,
            (None, None) if closed_cleanly => "the last stop was clean".to_owned(),
            (None, None) => report.reason.clone(),
        };
        self.unclean_start = !report.clean_for_data;
        if self.unclean_start {
            checkpoint::write(disk, &self.root, UNCLEAN_START, report.reason.as_bytes(), Durability::Synced)?;
        }
        Ok(())
    }

    /// A controlled stop: flushes every log, writes the checkpoints and, if all of that worked, the clean-shutdown
    /// marker. Call it after connections are closed and leaderships moved; the shard is gone afterwards.
    pub fn close(mut self, disk: &mut D) -> Result<(), OpenError> {
        let knows_all = !(self.unclean_start || self.sync_failed) || zoo::planted(Bug::FalseCleanMarker);
        let mut sound = self.offline.is_empty() && knows_all;
        let mut first_error = None;
        let mut sync_failed = false;
        for partition in self.partitions.values_mut() {
            if let Err(error) = partition.log.sync(disk) {
                sound = false;
                sync_failed |= partition.log.poisoned().is_some_and(Poisoned::is_of_sync);
                first_error.get_or_insert(format!("{}: {error}", partition.topic));
            }
        }
        if let Some(reason) = first_error.as_ref().filter(|_| sync_failed) {
            self.doubt_next_start(reason, disk, &mut Vec::new());
        }
        for which in [Checkpointed::HighWatermark, Checkpointed::RecoveryPoint, Checkpointed::LogStart] {
            self.try_write_checkpoint(which, Durability::Synced, disk)?;
        }
        for (_, mut partition) in std::mem::take(&mut self.partitions) {
            if !partition.epochs_written {
                // For people; a start does without it.
                let _ = partition.write_epochs(disk);
            }
            sound &= partition.log.close(disk).is_ok();
        }
        if let Some(reason) = first_error {
            return Err(OpenError::Unflushed { reason });
        }
        if let (true, Some(broker_epoch)) = (sound, self.broker_epoch.or(self.previous_broker_epoch)) {
            checkpoint::mark_clean_shutdown(disk, &self.root, broker_epoch.0)?;
        }
        Ok(())
    }
}

impl<D: Disk> Shard<D> {
    /// The process is about to stop because a log failed, and the machine stays up: unless there was only no room for
    /// more, the next start must not call the logs clean for that. The kernel has marked pages clean that never reached
    /// the disk; it forgets them when it likes.
    ///
    /// What would make the next start clean is taken away, since a disk that fails may still remove what it no longer
    /// takes.
    pub fn abandon(&mut self, disk: &mut D) -> Result<(), OpenError> {
        let doubt = |it: &Partition<D>| it.log.poisoned().is_some_and(|cause| !cause.spares_what_was_written());
        if !self.partitions.values().any(doubt) {
            return Ok(());
        }
        match checkpoint::remove(disk, &self.root, checkpoint::BOOT_ID) {
            Ok(()) => Ok(()),
            Err(_) => {
                let why = b"a write or sync failed";
                Ok(checkpoint::write(disk, &self.root, UNCLEAN_START, why, Durability::Synced)?)
            }
        }
    }
}

/// Why acknowledged data might be missing, as far as can be told before the logs are opened. Where there is no
/// reason, `report.reason` says why not.
fn doubts_before_opening<D: Disk>(
    disk: &mut D,
    root: &Path,
    config: &Config,
    report: &mut RecoveryReport,
) -> Result<Option<String>, OpenError> {
    if checkpoint::read(disk, root, UNCLEAN_START)?.is_some() {
        return Ok(Some("an earlier start was not clean and never registered".to_owned()));
    }
    let io = |source| OpenError::Directory { path: root.display().to_string(), source };
    let boot_before = checkpoint::read(disk, root, checkpoint::BOOT_ID)?;
    let known_before = boot_before.is_some() || checkpoint::read(disk, root, BROKER_EPOCH)?.is_some();
    if !known_before {
        return Ok(Some("the data directory is new".to_owned()));
    }
    if config.flush == FlushPolicy::Commit {
        report.reason = "every acknowledged record was flushed".to_owned();
        return Ok(None);
    }
    let boot_now = disk.boot_id().map_err(io)?.map(|id| format!("{id}\n").into_bytes());
    if boot_now.is_some() && boot_now == boot_before {
        report.reason = "the machine has been up since the last stop".to_owned();
        return Ok(None);
    }
    Ok(Some("the machine was down since the last stop, so un-flushed data may be gone".to_owned()))
}

fn previous_broker_epoch<D: Disk>(disk: &mut D, root: &Path) -> Result<Option<BrokerEpoch>, OpenError> {
    let text = checkpoint::read(disk, root, BROKER_EPOCH)?.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.and_then(|text| text.trim().parse().ok()).map(BrokerEpoch))
}

/// A checkpoint's offsets; one that cannot be read holds nothing, since each is a lower bound of what is true.
fn load_offsets<D: Disk>(disk: &mut D, root: &Path, name: &str) -> Result<Offsets, OpenError> {
    match checkpoint::read_text(disk, root, name) {
        Ok(text) => Ok(text.and_then(|text| checkpoint::decode_offsets(name, &text).ok()).unwrap_or_default()),
        Err(CheckpointError::Malformed { .. }) => Ok(Offsets::new()),
        Err(error) => Err(error.into()),
    }
}

/// `topic-7` is partition 7 of `topic`.
fn split_directory_name(name: &str) -> Option<(&str, i32)> {
    let (topic, index) = name.rsplit_once('-')?;
    let index = index.parse().ok().filter(|_| !topic.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some((topic, index))
}
