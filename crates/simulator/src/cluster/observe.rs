//! Looking at replicas from outside: their logs are read from the disk's files, not asked from the shard, so that the
//! invariants judge what is really there.

use std::io;
use std::path::PathBuf;

use minisr_logic::{BrokerId, Epoch, Offset, TopicPartition};
use minisr_replica::{AppendError, Isolation, Notice, OffsetSpec, Output, PartitionDescription, Reader};
use minisr_storage::disk::memory::MemoryDisk;
use minisr_storage::disk::{Disk, OpenMode};
use minisr_wire::batch::BatchView;

use super::broker::DATA;
use super::{Cluster, TOPIC_NAME};
use crate::state::{Attempt, Entry, Fact, Place};
use crate::trace::{fnv, fnv_of};

/// Where each batch of a replica's log lies in its files.
#[derive(Debug, Default)]
pub struct Mirror {
    positions: Vec<Position>,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    segment: i64,
    start: u64,
    size: u64,
}

/// A batch as its bytes tell it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its first offset.
    pub base: Offset,
    /// The offset after its last.
    pub end: Offset,
    /// Hash of all its bytes.
    pub bytes_hash: u64,
    epoch: Epoch,
    attempt: Attempt,
    producer: Option<(i64, i16, i32)>,
    size: usize,
}

/// The batches in some bytes.
pub fn headers_of(bytes: &[u8]) -> impl Iterator<Item = Seen> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let seen = parse(rest)?;
        rest = &rest[seen.size..];
        Some(seen)
    })
}

/// The batches in the pieces of an answer.
pub fn batches_of(records: &[bytes::Bytes]) -> impl Iterator<Item = Seen> + '_ {
    records.iter().flat_map(|piece| headers_of(piece))
}

/// Whether an error says that the attempt's records are nowhere and never will be.
pub fn definitely_absent(error: &AppendError) -> bool {
    match error {
        AppendError::UnknownPartition
        | AppendError::NotLeader
        | AppendError::NotEnoughReplicas { .. }
        | AppendError::OutOfOrderSequence { .. }
        | AppendError::InvalidProducerEpoch { .. }
        | AppendError::MessageTooLarge { .. }
        | AppendError::RecordListTooLarge { .. } => true,
        AppendError::LeadershipLost
        | AppendError::NotEnoughReplicasAfterAppend { .. }
        | AppendError::TimedOut
        | AppendError::StorageFailed => false,
    }
}

fn parse(bytes: &[u8]) -> Option<Seen> {
    let batch = BatchView::parse(bytes).ok()?;
    let size = batch.len();
    Some(Seen {
        base: Offset(batch.base_offset()),
        end: Offset(batch.next_offset()),
        bytes_hash: fnv_of(&bytes[..size]),
        epoch: Epoch(batch.leader_epoch()),
        // The simulated producers put the number of the attempt where the time goes.
        attempt: Attempt(batch.base_timestamp() as u64),
        producer: (batch.producer_id() >= 0)
            .then(|| (batch.producer_id(), batch.producer_epoch(), batch.base_sequence())),
        size,
    })
}

impl Cluster {
    /// After a step of a shard: its views, its logs, the news among its outputs.
    pub(super) fn observe(&mut self, id: BrokerId, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Notice(Notice::Truncated { partition, to, high_watermark, .. }) => {
                    self.count("truncations", 1);
                    self.cut((*partition, id), *to, *high_watermark, false);
                }
                Output::Notice(Notice::Removed { partition })
                    if self.controller.image.topic(partition.topic).is_some() =>
                {
                    // Reassigned elsewhere, and its directory is gone: should it come back, it begins anew.
                    self.count("replicas-removed", 1);
                    let place = (*partition, id);
                    let entries = self.state.replicas.remove(&place).map(|it| it.log).unwrap_or_default();
                    // It may well have been committed: the others have it.
                    let high_watermark = Offset::ZERO;
                    self.facts.push(Fact::Cut { place, entries, high_watermark, injected: false });
                    self.brokers.get_mut(&id).expect("a broker of this cluster").mirrors.remove(partition);
                }
                Output::Notice(Notice::BecameLeader { .. }) => self.count("leaderships-taken", 1),
                Output::Notice(Notice::LogFailed { partition, .. }) if self.brokers[&id].disk_trouble.is_some() => {
                    self.count("logs-failed", 1);
                    if let Some(replica) = self.state.replicas.get_mut(&(*partition, id)) {
                        replica.failed = true;
                    }
                    let incarnation = self.running(id).incarnation;
                    self.facts.push(Fact::DiskFailed { broker: id, incarnation });
                }
                Output::Notice(Notice::LogFailed { partition, reason }) => {
                    panic!("broker {id} lost its log of {partition:?} without an injected fault: {reason}");
                }
                _ => {}
            }
        }
        let now = minisr_logic::Millis(self.now);
        let mut described = self.running(id).shard.describe(now);
        described.retain(|it| !self.brokers[&id].remains.contains(&it.partition));
        self.forget_absent(id, described.iter().map(|it| it.partition).collect());
        for view in described {
            self.observe_view(id, view);
        }
    }

    /// A replica that its broker no longer hosts: its topic was deleted, and its files with it.
    fn forget_absent(&mut self, id: BrokerId, hosted: Vec<TopicPartition>) {
        let gone = |place: &Place, it: &crate::state::Replica| {
            place.1 == id && it.view.is_some() && hosted.binary_search(&place.0).is_err()
        };
        let gone: Vec<Place> =
            self.state.replicas.iter().filter(|(place, it)| gone(place, it)).map(|(place, _)| *place).collect();
        self.forget(gone);
    }

    fn forget(&mut self, gone: Vec<Place>) {
        for place in gone {
            let Some(replica) = self.state.replicas.remove(&place) else { continue };
            if let Some(broker) = self.brokers.get_mut(&place.1) {
                broker.mirrors.remove(&place.0);
            }
            self.facts.push(Fact::Cut { place, entries: replica.log, high_watermark: Offset::ZERO, injected: true });
        }
    }

    fn observe_view(&mut self, id: BrokerId, mut view: PartitionDescription) {
        // What changes with time alone is nobody's business here.
        (view.lagging, view.size_bytes, view.waiting_acks) = (Vec::new(), 0, 0);
        let place = (view.partition, id);
        let replica = self.state.replicas.entry(place).or_default();
        let shown = self.brokers[&id].run.iter().flat_map(|run| &run.shown);
        replica.min_isr = shown.map(|image| crate::state::min_isr(image, place.0)).min().unwrap_or(0);
        // What was on stable storage once stays there until it is cut (see `cut` and `reread`), so this may not fall. A
        // broker may know of less after a start, and is not asked to remember; if it claimed *more* than is there, the
        // next power loss would show it, since the disk forgets what was not synced.
        replica.flushed = replica.flushed.min(replica.end()).max(view.flushed);
        if replica.end() > view.log_end {
            let high_watermark = replica.view.as_ref().map_or(Offset::ZERO, |it| it.high_watermark);
            self.cut(place, view.log_end, high_watermark, false);
        }
        let replica = self.state.replicas.get_mut(&place).expect("just there");
        if replica.end() < view.log_end {
            self.read_new(place, view.log_end);
        }
        let replica = self.state.replicas.get_mut(&place).expect("just there");
        if replica.view.as_ref() != Some(&view) {
            self.trace.write(
                self.now,
                format_args!(
                    "broker {id} p{} {:?} {:?}/{} hw {} flushed {} end {} isr {:?} proposed {:?}",
                    view.partition.partition,
                    view.role,
                    view.leader_epoch,
                    view.partition_epoch,
                    view.high_watermark,
                    view.flushed,
                    view.log_end,
                    view.isr,
                    view.proposed_isr
                ),
            );
            if let Some(run) = self.brokers[&id].run.as_ref() {
                replica.bookkeeping = run.shard.bookkeeping(place.0).unwrap_or_default();
            }
            let before = replica.view.replace(view);
            self.changed.push((place, before));
            self.ask_latest(place);
        }
    }

    /// What a client would hear that asks this replica, if it leads, where its log ends.
    fn ask_latest(&mut self, place: Place) {
        let leader = self.state.replicas[&place].as_leader();
        let Some(epoch) = leader.and_then(|view| view.leader_epoch) else { return };
        let broker = self.brokers.get_mut(&place.1).expect("a broker of this cluster");
        let Some(run) = &mut broker.run else { return };
        let reader = Reader::Consumer { isolation: Isolation::ReadUncommitted };
        let listed = run.shard.list_offset(place.0, OffsetSpec::Latest, reader, None, &mut broker.disk);
        if let Some(latest) = listed.ok().and_then(|it| it.offset) {
            self.facts.push(Fact::Listed { place, epoch, latest });
        }
    }

    /// Forgets what a replica cut off.
    fn cut(&mut self, place: Place, to: Offset, high_watermark: Offset, injected: bool) {
        let Some(replica) = self.state.replicas.get_mut(&place) else { return };
        let keep = replica.log.partition_point(|it| it.end <= to);
        let entries = replica.log.split_off(keep);
        replica.flushed = replica.flushed.min(replica.end());
        if let Some(mirror) = self.brokers.get_mut(&place.1).and_then(|it| it.mirrors.get_mut(&place.0)) {
            mirror.positions.truncate(keep);
        }
        if !entries.is_empty() {
            self.facts.push(Fact::Cut { place, entries, high_watermark, injected });
        }
    }

    /// Reads from the files what a replica has appended.
    fn read_new(&mut self, place: Place, end: Offset) {
        let replica = self.state.replicas.get_mut(&place).expect("an observed replica");
        let broker = self.brokers.get_mut(&place.1).expect("a broker of this cluster");
        let mirror = broker.mirrors.entry(place.0).or_default();
        let from_index = replica.log.len();
        let read = read_log(&mut broker.disk, place.0, mirror, &mut replica.log, end);
        read.unwrap_or_else(|error| panic!("the files of {place:?} cannot be read: {error}"));
        assert_eq!(replica.end(), end, "the files of {place:?} end elsewhere than the shard says");
        self.facts.push(Fact::Appended { place, from_index });
    }

    /// After a start: the logs as recovered, compared with what they were.
    pub(super) fn observe_recovery(&mut self, id: BrokerId) {
        let now = minisr_logic::Millis(self.now);
        // Of a deleted topic anything may be left, and nobody asks for it any more.
        let image = &self.controller.image;
        let deleted = |it: &TopicPartition| image.topic(it.topic).is_none();
        let mut described = self.brokers[&id].run.as_ref().map(|run| run.shard.describe(now)).unwrap_or_default();
        let remains = described.iter().map(|it| it.partition).filter(deleted).collect();
        let gone = self.state.replicas.keys().copied().filter(|place| place.1 == id && deleted(&place.0)).collect();
        described.retain(|it| !deleted(&it.partition));
        self.forget(gone);
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        let (must_keep, injected) = (std::mem::take(&mut broker.must_keep), std::mem::take(&mut broker.power_lost));
        broker.mirrors.clear();
        broker.remains = remains;
        // A log whose directory is gone altogether is not described.
        let mut ends: Vec<(TopicPartition, Offset)> = described.iter().map(|it| (it.partition, it.log_end)).collect();
        let known: Vec<Place> = self.state.replicas.keys().copied().filter(|place| place.1 == id).collect();
        let gone = known.iter().filter(|place| ends.iter().all(|it| it.0 != place.0));
        let gone: Vec<_> = gone.map(|place| (place.0, Offset::ZERO)).collect();
        ends.extend(gone);
        for (partition, end) in ends {
            let place = (partition, id);
            let kept = self.reread(place, end, injected);
            if let Some(must_keep) = must_keep.get(&partition) {
                self.facts.push(Fact::Recovered { place, kept, must_keep: *must_keep });
            }
        }
        for view in described {
            self.observe_view(id, view);
        }
        self.check();
    }

    /// Reads a recovered log from its files. A power loss may have cut it, and may also have undone a cut that was
    /// not synced, so that what had been cut off is back. Returns up to where it is what it was.
    fn reread(&mut self, place: Place, end: Offset, injected: bool) -> Offset {
        let (log, mirror) = self.read_whole(place, end);
        let replica = self.state.replicas.entry(place).or_default();
        let same = replica.log.iter().zip(&log).take_while(|(before, now)| before == now).count();
        let kept = log[..same].last().map_or(Offset::ZERO, |it| it.end);
        let gone = replica.log.split_off(same);
        let back = log.len() > same;
        replica.log = log;
        replica.failed = false;
        // What came back instead of it may never have been synced.
        replica.flushed = replica.flushed.min(kept);
        self.brokers.get_mut(&place.1).expect("a broker of this cluster").mirrors.insert(place.0, mirror);
        if !gone.is_empty() {
            self.state.replicas.get_mut(&place).expect("just there").damaged = injected;
            self.count("logs-cut-by-crash", 1);
            self.facts.push(Fact::Cut { place, entries: gone, high_watermark: Offset::ZERO, injected });
        }
        if back {
            self.count("cuts-undone-by-crash", 1);
            self.facts.push(Fact::Appended { place, from_index: same });
        }
        kept
    }

    /// Reads a replica's whole log again and compares it with what was seen of it batch by batch.
    pub(super) fn verify(&mut self, place: Place) {
        let Some(end) = self.state.replicas.get(&place).map(crate::state::Replica::end) else { return };
        let (log, _) = self.read_whole(place, end);
        assert_eq!(log, self.state.replicas[&place].log, "the files of {place:?} hold something else than was written");
    }

    fn read_whole(&mut self, place: Place, end: Offset) -> (Vec<Entry>, Mirror) {
        let broker = self.brokers.get_mut(&place.1).expect("a broker of this cluster");
        let (mut log, mut mirror) = (Vec::new(), Mirror::default());
        let read = read_log(&mut broker.disk, place.0, &mut mirror, &mut log, end);
        read.unwrap_or_else(|error| panic!("the files of {place:?} cannot be read: {error}"));
        (log, mirror)
    }
}

/// Reads batches from the files after what the mirror knows, up to `end`.
fn read_log(
    disk: &mut MemoryDisk,
    partition: TopicPartition,
    mirror: &mut Mirror,
    log: &mut Vec<Entry>,
    end: Offset,
) -> io::Result<()> {
    let directory = PathBuf::from(format!("{DATA}/{TOPIC_NAME}-{}", partition.partition));
    while log.last().map_or(Offset::ZERO, |it| it.end) < end {
        let due = log.last().map_or(0, |it| it.end.0);
        // The next batch stands behind the last one, or at the head of the next segment.
        let behind = mirror.positions.last().map(|it| (it.segment, it.start + it.size));
        let mut found = None;
        for (segment, start) in behind.into_iter().chain([(due, 0)]) {
            let path = directory.join(format!("{segment:020}.log"));
            let Ok(file) = disk.open(&path, OpenMode::Read) else { continue };
            let len = disk.len(&file)?;
            if len <= start {
                continue;
            }
            let mut bytes = vec![0; (len - start) as usize];
            let read = disk.read_at(&file, start, &mut bytes)?;
            bytes.truncate(read);
            if headers_of(&bytes).next().is_some_and(|it| it.base.0 == due) {
                found = Some((segment, start, bytes));
                break;
            }
        }
        let Some((segment, mut start, bytes)) = found else {
            return Err(io::Error::other(format!("no file holds offset {due}")));
        };
        for seen in headers_of(&bytes).take_while(|it| it.end <= end) {
            let below = log.last().map_or(0, |it| it.prefix_hash);
            let epoch = seen.epoch.0.to_be_bytes();
            log.push(Entry {
                base: seen.base,
                end: seen.end,
                epoch: seen.epoch,
                bytes_hash: seen.bytes_hash,
                prefix_hash: fnv(fnv(below, &seen.bytes_hash.to_be_bytes()), &epoch),
                attempt: seen.attempt,
                producer: seen.producer,
            });
            mirror.positions.push(Position { segment, start, size: seen.size as u64 });
            start += seen.size as u64;
        }
    }
    Ok(())
}
