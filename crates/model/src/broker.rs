//! One broker: its machine with a disk, and the process that may run on it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use minisr_logic::metadata::Image;
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, Millis, TopicId, TopicPartition};
use minisr_replica::{
    Config, Event, FlushPolicy, Output, PartitionDescription, RecoveryReport, RoleName, Shard, Ticket,
};
use minisr_storage::disk::Disk;
use minisr_storage::disk::memory::{MemoryDisk, Survives, Unsynced};
use minisr_wire::batch::BatchView;

use crate::bounds::Bounds;
use crate::message::{Message, Process};

/// The one topic.
pub const TOPIC: TopicId = TopicId(1);
/// Its name.
pub const TOPIC_NAME: &str = "t";
/// Its one partition.
pub const KEY: TopicPartition = TopicPartition { topic: TOPIC, partition: 0 };
/// `replica.lag.time.max.ms`.
pub const LAG_TIME_MAX_MS: u64 = 1_000;
/// Longer than anything in the model.
pub const FOREVER_MS: u64 = 1 << 40;

const DATA: &str = "/data";
const LOG_FILE: &str = "/data/t-0/00000000000000000000.log";

/// One record in a log; the offset is its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The leader epoch stamped on its batch.
    pub epoch: Epoch,
    /// Which of the produced records it is, from 1.
    pub record: u8,
}

/// What a power loss takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// All that was not flushed.
    Everything,
    /// The last write to the log.
    LastWrite,
}

/// A broker's machine, and its process if one runs.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Its disk.
    pub disk: MemoryDisk,
    /// Counts its processes.
    pub life: u8,
    /// The process.
    pub process: Option<Running>,
    /// Up to which version of the metadata its own disk has the log.
    pub kept_version: usize,
    /// What its log's file holds.
    pub log: Vec<Entry>,
    /// A power loss took from its log, and it has not been out of the ISR under its present registration since.
    pub damaged: bool,
    /// Its clock.
    pub now: Millis,
    digest: u64,
}

/// A running process.
#[derive(Clone, Debug)]
pub struct Running {
    /// The code under test.
    pub shard: Shard<MemoryDisk>,
    /// Its registration, once accepted.
    pub epoch: Option<BrokerEpoch>,
    /// The version of the metadata it has been shown.
    pub seen: usize,
    /// What it says of its data when it registers.
    pub report: RecoveryReport,
    /// The fetches that wait in the shard.
    pub asked: BTreeMap<Ticket, Arc<Message>>,
    /// How its replica stands.
    pub view: Option<PartitionDescription>,
    /// A sync round under way.
    pub syncing: Option<u64>,
}

impl Broker {
    /// A machine that was never started.
    #[must_use]
    pub fn new(id: BrokerId) -> Self {
        Self {
            id,
            disk: MemoryDisk::new(),
            life: 0,
            process: None,
            kept_version: 0,
            log: Vec::new(),
            damaged: false,
            now: Millis(0),
            digest: 0,
        }
    }

    /// The process as others address it.
    #[must_use]
    pub fn address(&self) -> Process {
        Process { broker: self.id, life: self.life }
    }

    /// Its replica, as far as a running process has one.
    #[must_use]
    pub fn view(&self) -> Option<&PartitionDescription> {
        self.process.as_ref()?.view.as_ref()
    }

    /// Its replica, if it believes that it leads.
    #[must_use]
    pub fn as_leader(&self) -> Option<&PartitionDescription> {
        self.view().filter(|view| view.role == RoleName::Leader)
    }

    /// Everything that decides its future, as of the last step.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// A process starts with the metadata that its disk has.
    pub fn start(&mut self, bounds: &Bounds, image: Arc<Image>) -> Vec<Output> {
        assert!(self.process.is_none(), "one process at a time");
        self.life += 1;
        let opened = Shard::open(&mut self.disk, Path::new(DATA), config(bounds, self.id), self.now);
        let (shard, report) = opened.unwrap_or_else(|error| panic!("broker {} cannot open: {error}", self.id));
        self.process = Some(Running {
            shard,
            epoch: None,
            seen: self.kept_version,
            report,
            asked: BTreeMap::new(),
            view: None,
            syncing: None,
        });
        self.read_log();
        self.step(bounds, Event::Image(image))
    }

    /// One step of the shard.
    pub fn step(&mut self, bounds: &Bounds, event: Event) -> Vec<Output> {
        let mut outputs = Vec::new();
        let process = self.process.as_mut().expect("only a running process is asked");
        process.shard.step(self.now, event, &mut self.disk, &mut outputs);
        if let Some(round) = outputs.iter().find_map(|output| match output {
            Output::Sync { round } => Some(*round),
            _ => None,
        }) {
            process.syncing = Some(round);
        }
        let view = process.shard.describe(self.now).pop();
        let end = view.as_ref().map_or(0, |view| view.log_end.0);
        let is_cut = outputs.iter().any(|output| matches!(output, Output::Notice(_)));
        process.view = view;
        if is_cut || end != self.log.len() as i64 {
            self.read_log();
        }
        self.note_digest(bounds);
        outputs
    }

    /// The sync round under way ends: what its files hold by now is on stable storage.
    pub fn sync(&mut self, bounds: &Bounds) -> Vec<Output> {
        let process = self.process.as_mut().expect("only a running process syncs");
        let round = process.syncing.take().expect("a round is under way");
        let handles = process.shard.take_sync(round);
        let disk = &mut self.disk;
        let results = handles.iter().map(|handle| disk.sync(handle).map_err(|error| error.kind())).collect();
        self.step(bounds, Event::Synced { round, results })
    }

    /// The process dies; the page cache survives.
    pub fn kill(&mut self, bounds: &Bounds) {
        self.process = None;
        self.note_digest(bounds);
    }

    /// The machine loses power.
    pub fn lose_power(&mut self, bounds: &Bounds, loss: Loss) {
        self.process = None;
        let before = self.log.clone();
        self.disk.crash(&mut |unsynced| match (loss, unsynced) {
            (Loss::Everything, _) => Survives::Nothing,
            (Loss::LastWrite, Unsynced::File { path, operations }) if *path == Path::new(LOG_FILE) => {
                Survives::Prefix { operations: operations.len() - 1, bytes: 0 }
            }
            (Loss::LastWrite, _) => Survives::Everything,
        });
        self.read_log();
        self.damaged |= self.log != before;
        self.note_digest(bounds);
    }

    /// Reads from the file what the log holds.
    fn read_log(&mut self) {
        self.log.clear();
        let bytes = self.disk.read_file(Path::new(LOG_FILE)).expect("the disk works").unwrap_or_default();
        let mut rest = &bytes[..];
        while let Ok(batch) = BatchView::parse(rest) {
            assert_eq!(batch.base_offset(), self.log.len() as i64, "offsets without gaps, one record a batch");
            let record = u8::try_from(batch.base_timestamp()).expect("the number of a record");
            self.log.push(Entry { epoch: Epoch(batch.leader_epoch()), record });
            rest = &rest[batch.len()..];
        }
    }

    fn note_digest(&mut self, bounds: &Bounds) {
        let mut state = DefaultHasher::new();
        (self.id, self.life, self.kept_version, &self.log, self.damaged, self.now).hash(&mut state);
        self.disk.fingerprint(bounds.power_losses > 0, &mut state);
        if let Some(process) = &self.process {
            process.shard.fingerprint(&mut state);
            (process.epoch, process.seen, process.report.clean_for_data, process.syncing.is_some()).hash(&mut state);
            process.report.previous_broker_epoch.hash(&mut state);
        }
        self.digest = state.finish();
    }

    /// Notes that something beside the shard has changed.
    pub fn touched(&mut self, bounds: &Bounds) {
        self.note_digest(bounds);
    }
}

fn config(bounds: &Bounds, id: BrokerId) -> Config {
    let mut config = Config::new(id);
    config.flush = if bounds.flush_commit { FlushPolicy::Commit } else { FlushPolicy::Never };
    config.replica_lag_time_max_ms = LAG_TIME_MAX_MS;
    config.replica_fetch_wait_max_ms = FOREVER_MS;
    // A newer high watermark is told at once; that it arrives late is the network's doing.
    config.replica_high_watermark_delay_max_ms = 0;
    config.replica_socket_timeout_ms = FOREVER_MS;
    config.high_watermark_checkpoint_interval_ms = LAG_TIME_MAX_MS;
    config.recovery_point_checkpoint_interval_ms = FOREVER_MS;
    config.retention_check_interval_ms = FOREVER_MS;
    config.topic.retention_ms = None;
    config
}
