//! One partition's log: a row of segments, the last of which grows.
//!
//! Offsets: `start ≤ end` and `flushed ≤ end`. `end` moves only after the write returned; `flushed` moves only when a
//! sync of everything below it has succeeded.
//!
//! The caller stamps base offset and leader epoch before appending and serialises all calls. The log asserts what it
//! is told: offsets are contiguous and leader epochs never fall. A failed write or sync closes the log for writes
//! ([`crate::poison`]); reading what was written before goes on.

mod read;
mod remove;

use crate::disk::Disk;
use crate::header::{BatchHeader, HEADER_BYTES, headers};
use crate::index::OFFSET_ENTRY_BYTES;
use crate::poison::{A_WRITE, CREATING_A_SEGMENT, Poison, Poisoned, SYNC};
use crate::segment::Segment;
use crate::tail::Tail;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

pub use read::{ReadError, TimestampOffset};
pub use remove::Retention;

/// The settings of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment that would grow beyond this rolls. At most 2 GiB − 1, as positions have 32 bits.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment rolls when a batch is this much younger than its first.
    pub segment_ms: i64,
    /// `index.interval.bytes`: bytes between two index entries.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: a segment rolls when an index would grow beyond this.
    pub segment_index_bytes: u32,
    /// `log.preallocate`: the growing segment reserves room on the disk ahead of its end, where the disk can do that, and
    /// its writes end at round places; without it appends wait while the kernel decides where earlier ones will lie.
    pub preallocate: bool,
    /// Bytes of the most recent batches kept in memory for reading.
    pub tail_bytes_max: usize,
}

impl Default for LogConfig {
    /// Kafka's defaults, one MiB of tail, and room ahead, which Kafka has off by default: there it is the whole segment.
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            preallocate: true,
            tail_bytes_max: 1 << 20,
        }
    }
}

/// What one append added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub first_offset: i64,
    /// The log's end offset now.
    pub end_offset: i64,
    /// Largest timestamp in the appended batches.
    pub max_timestamp: i64,
    /// Bytes written.
    pub bytes: u64,
}

/// Files to sync together, and what their sync proves. The driver syncs every handle, then reports with
/// [`Log::synced`] or [`Log::sync_failed`].
#[derive(Clone, Debug)]
pub struct SyncRound<H> {
    /// What to sync, in any order.
    pub handles: Vec<H>,
    /// To be handed back.
    pub target: SyncTarget,
}

/// What a finished sync round proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SyncTarget {
    /// Everything below this offset is durable, unless the log was truncated meanwhile.
    pub offset: i64,
    truncations: u64,
    names: u64,
}

/// A partition's log on some disk.
#[derive(Clone, Debug)]
pub struct Log<D: Disk> {
    pub(crate) directory: PathBuf,
    pub(crate) config: LogConfig,
    /// Never empty; ordered by base offset; the last one is active.
    pub(crate) segments: VecDeque<Segment<D>>,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) flushed: i64,
    /// Leader epoch of the last batch, if there is one.
    pub(crate) last_epoch: Option<i32>,
    /// How often a suffix was cut: a sync that began before the last cut proves nothing about what followed.
    truncations: u64,
    /// How often names in the directory changed, and up to which change they are durable.
    names: u64,
    names_synced: u64,
    /// Whether the name of the log's own directory is known to be durable.
    directory_synced: bool,
    /// Base offset of the sealed segment whose file and index are held for reading.
    cold: Option<i64>,
    tail: Tail,
    poison: Poison,
}

impl<D: Disk> Log<D> {
    /// What an outstanding sync round is compared with, for [`Log::fingerprint`].
    pub(crate) const fn sync_state(&self) -> (u64, u64, u64, bool) {
        (self.truncations, self.names, self.names_synced, self.directory_synced)
    }

    /// Puts together a log from opened segments; for recovery.
    pub(crate) fn assemble(
        directory: PathBuf,
        config: LogConfig,
        segments: VecDeque<Segment<D>>,
        end: i64,
        flushed: i64,
        last_epoch: Option<i32>,
    ) -> Self {
        let start = segments.front().expect("a log has an active segment").base_offset;
        let tail = Tail::new(config.tail_bytes_max);
        Self {
            directory,
            config,
            segments,
            start,
            end,
            flushed,
            last_epoch,
            truncations: 0,
            // Nobody knows whether the names found at opening are durable.
            names: 1,
            names_synced: 0,
            directory_synced: false,
            cold: None,
            tail,
            poison: Poison::default(),
        }
    }

    /// The directory that holds the log.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The first offset that may be read.
    #[must_use]
    pub const fn start_offset(&self) -> i64 {
        self.start
    }

    /// The offset of the next record: LEO.
    #[must_use]
    pub const fn end_offset(&self) -> i64 {
        self.end
    }

    /// Everything below this offset survives a power loss. This is the recovery point to be checkpointed.
    #[must_use]
    pub const fn flushed_offset(&self) -> i64 {
        self.flushed
    }

    /// The leader epoch of the last batch; `None` for an empty log.
    #[must_use]
    pub const fn last_epoch(&self) -> Option<i32> {
        self.last_epoch
    }

    /// Bytes in all data files.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// How many segments there are.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of recent batches held in memory.
    #[must_use]
    pub const fn tail_bytes(&self) -> usize {
        self.tail.bytes()
    }

    /// Whether the end of the log was, or may have been, cut since it was last synced. The next append syncs it before it
    /// writes; whoever must not wait for that begins a [`Log::sync_round`] and appends when it has ended.
    #[must_use]
    pub fn has_unsettled_cut(&self) -> bool {
        self.segments.back().is_some_and(|active| active.cut_unsynced)
    }

    /// Lets go of recent batches in memory that lie below `offset`, for instance once every replica has them.
    pub fn release_tail(&mut self, offset: i64) {
        self.tail.release(offset);
    }

    /// New settings for what is appended from now on. The bound on recent batches in memory stays.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// Why the log takes no more writes, if it does not.
    #[must_use]
    pub const fn poisoned(&self) -> Option<&Poisoned> {
        self.poison.cause()
    }

    /// Appends batches that are already checked and stamped. Each element holds one or more whole batches; together
    /// they continue the log without a gap. They go out in one vectored write (one more for each roll), and the same
    /// buffers serve readers at the tail afterwards.
    ///
    /// On error the log is poisoned: nothing of this call may be acknowledged. Batches written before a roll within
    /// this call may stand in the log; the rest is cut off again as far as the disk allows.
    ///
    /// # Panics
    /// When the bytes are not whole batches, leave a gap, or lower the leader epoch.
    pub fn append(&mut self, disk: &mut D, batches: &[Bytes]) -> Result<Appended, Poisoned> {
        self.poison.check()?;
        self.settle_cut(disk)?;
        let first_offset = self.end;
        let (mut max_timestamp, mut bytes_written) = (-1, 0);
        let mut run = Run::default();
        for bytes in batches {
            let mut piece_start = 0;
            for (position, header) in headers(bytes) {
                let (next_offset, last_epoch) = run.end.unwrap_or((self.end, self.last_epoch));
                assert_eq!(header.base_offset, next_offset, "an appended batch continues the log");
                assert!(last_epoch <= Some(header.leader_epoch), "leader epochs never fall along the log");
                debug_assert!(header.crc_matches(&bytes[position..position + header.size]), "the caller checks CRCs");
                if self.must_roll(&header, run.bytes) {
                    run.add_buffer(&bytes[piece_start..position]);
                    self.write(disk, &mut run)?;
                    self.roll(disk)?;
                    piece_start = position;
                }
                max_timestamp = max_timestamp.max(header.max_timestamp);
                bytes_written += header.size as u64;
                run.batches.push((run.bytes, header));
                run.bytes += header.size as u64;
                run.end = Some((header.end_offset(), Some(header.leader_epoch)));
            }
            run.add_buffer(&bytes[piece_start..]);
        }
        self.write(disk, &mut run)?;
        for bytes in batches.iter().filter(|bytes| !bytes.is_empty()) {
            let base_offset = BatchHeader::parse(bytes).expect("just appended").base_offset;
            let end_offset = headers(bytes).last().expect("just appended").1.end_offset();
            self.tail.push(base_offset, end_offset, bytes.clone());
        }
        Ok(Appended { first_offset, end_offset: self.end, max_timestamp, bytes: bytes_written })
    }

    /// Writes the run to the active segment; only then does the end move.
    fn write(&mut self, disk: &mut D, run: &mut Run<'_>) -> Result<(), Poisoned> {
        let Some((end, last_epoch)) = run.end.take() else { return Ok(()) };
        let active = self.segments.back_mut().expect("a log has an active segment");
        if let Err(error) = active.append(disk, &mut run.buffers, &run.batches, &self.config) {
            // Best effort: recovery cuts what stays behind, and nobody reads past the end.
            let file = active.file.as_ref().expect("the active segment is open");
            let _ = disk.truncate(file, active.len);
            active.reservation.cut();
            return Err(self.poison.set(A_WRITE, &error));
        }
        (self.end, self.last_epoch) = (end, last_epoch);
        *run = Run::default();
        Ok(())
    }

    /// Syncs the active segment here and now if it has an unsettled cut: before anything is put
    /// behind the cut, in it or in a segment of its own. A power loss could bring some of its old bytes back, whole and
    /// sound, and where they end at the very place at which newer ones begin the two would pass for one log: an older one
    /// below, a newer one above, without a gap and with epochs that rise.
    fn settle_cut(&mut self, disk: &mut D) -> Result<(), Poisoned> {
        let active = self.segments.back_mut().expect("a log has an active segment");
        if active.cut_unsynced {
            let handle = disk.sync_handle(active.file.as_ref().expect("the active segment is open"));
            let synced = disk.sync(&handle);
            self.poison.guard(SYNC, synced)?;
            active.cut_unsynced = false;
        }
        Ok(())
    }

    /// Whether the active segment, with `pending` bytes about to be written, cannot take this batch.
    fn must_roll(&self, header: &BatchHeader, pending: u64) -> bool {
        let active = self.segments.back().expect("a log has an active segment");
        let filled = active.len + pending;
        let index_bytes = active.index.as_ref().map_or(0, |index| index.bytes());
        filled > 0
            && (filled + header.size as u64 > u64::from(self.config.segment_bytes)
                || active
                    .first_timestamp
                    .is_some_and(|first| header.max_timestamp.saturating_sub(first) > self.config.segment_ms)
                || index_bytes + OFFSET_ENTRY_BYTES > self.config.segment_index_bytes as usize
                || header.last_offset() - active.base_offset > i64::from(i32::MAX))
    }

    /// Seals the active segment and starts a new one at the end offset. Does nothing when the active segment is
    /// empty. The sealed one is synced by the next [`Log::sync_round`] or [`Log::sync_rolled`].
    pub fn roll(&mut self, disk: &mut D) -> Result<(), Poisoned> {
        self.poison.check()?;
        if self.segments.back().is_some_and(|active| active.len == 0) {
            return Ok(());
        }
        self.settle_cut(disk)?;
        let created = Segment::create(disk, &self.directory, self.end);
        let created = self.poison.guard(CREATING_A_SEGMENT, created)?;
        self.segments.push_back(created);
        self.names += 1;
        Ok(())
    }

    /// Everything that has to be synced so that the whole log is durable; `None` when it is already.
    pub fn sync_round(&mut self, disk: &mut D) -> Result<Option<SyncRound<D::SyncHandle>>, Poisoned> {
        self.round(disk, self.end)
    }

    /// What has to be synced so that all sealed segments are durable: Kafka's flush at roll, for the policies that
    /// do not flush with each append.
    pub fn sync_rolled(&mut self, disk: &mut D) -> Result<Option<SyncRound<D::SyncHandle>>, Poisoned> {
        let sealed_end = self.segments.back().expect("a log has an active segment").base_offset;
        if self.segments.len() == 1 { Ok(None) } else { self.round(disk, sealed_end) }
    }

    fn round(&mut self, disk: &mut D, offset: i64) -> Result<Option<SyncRound<D::SyncHandle>>, Poisoned> {
        self.poison.check()?;
        if offset <= self.flushed && !self.segments.iter().any(|segment| segment.cut_unsynced) {
            return Ok(None);
        }
        let handles = self.handles(disk, offset);
        let handles = self.poison.guard("opening a file to sync", handles)?;
        let target = SyncTarget { offset, truncations: self.truncations, names: self.names };
        Ok(Some(SyncRound { handles, target }))
    }

    fn handles(&mut self, disk: &mut D, offset: i64) -> io::Result<Vec<D::SyncHandle>> {
        let mut handles = Vec::new();
        for at in 0..self.segments.len() {
            let segment_end = self.segment_end(at);
            let segment = &mut self.segments[at];
            let grew = segment_end > self.flushed && segment.base_offset < offset;
            if grew || segment.cut_unsynced {
                segment.open_file(disk, &self.directory)?;
                handles.push(disk.sync_handle(segment.file.as_ref().expect("just opened")));
            }
        }
        if self.names_synced < self.names {
            handles.push(disk.dir_sync_handle(&self.directory)?);
        }
        if let (false, Some(parent)) = (self.directory_synced, self.directory.parent()) {
            handles.push(disk.dir_sync_handle(parent)?);
        }
        Ok(handles)
    }

    /// Takes note that a sync round succeeded; returns the flushed offset. A round that began before a truncation
    /// proves nothing and is ignored: ask for another.
    pub fn synced(&mut self, disk: &mut D, target: SyncTarget) -> i64 {
        if target.truncations == self.truncations {
            assert!(target.offset <= self.end, "only written data is synced");
            self.names_synced = self.names_synced.max(target.names);
            self.directory_synced = true;
            self.flushed = self.flushed.max(target.offset);
            // Nothing was cut since the round began, and the round covered all cuts.
            self.segments.iter_mut().for_each(|segment| segment.cut_unsynced = false);
            self.settle_sealed(disk);
        }
        self.flushed
    }

    /// Takes note that a sync failed: nothing more is written until the log is opened again.
    pub fn sync_failed(&mut self, error: &io::Error) -> Poisoned {
        self.poison.set(SYNC, error)
    }

    /// Syncs everything here and now.
    pub fn sync(&mut self, disk: &mut D) -> Result<i64, Poisoned> {
        if let Some(round) = self.sync_round(disk)? {
            for handle in &round.handles {
                let synced = disk.sync(handle);
                self.poison.guard(SYNC, synced)?;
            }
            self.synced(disk, round.target);
        }
        Ok(self.flushed)
    }

    /// Syncs everything and writes the indexes, so that the next opening need not scan. Returns the recovery point.
    pub fn close(mut self, disk: &mut D) -> Result<i64, Poisoned> {
        self.sync(disk)?;
        self.settle_sealed(disk);
        let active = self.segments.back_mut().expect("a log has an active segment");
        active.write_index(disk, &self.directory);
        active.give_back(disk);
        Ok(self.flushed)
    }

    /// Writes the indexes of sealed segments that are durable now, and lets go of their files.
    fn settle_sealed(&mut self, disk: &mut D) {
        for at in 0..self.segments.len() - 1 {
            if self.segment_end(at) > self.flushed || self.segments[at].cut_unsynced {
                break;
            }
            let segment = &mut self.segments[at];
            if !segment.index_on_disk {
                segment.write_index(disk, &self.directory);
                segment.give_back(disk);
            }
            if self.cold != Some(segment.base_offset) {
                segment.close();
            }
        }
    }

    /// The offset after the last record of the segment at `at`.
    fn segment_end(&self, at: usize) -> i64 {
        self.segments.get(at + 1).map_or(self.end, |next| next.base_offset)
    }

    /// The place of the segment that holds `offset`.
    fn segment_at(&self, offset: i64) -> usize {
        self.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
    }

    /// Opens the segment at `at` and says from where to scan for `offset`. An index that was read from disk and leads
    /// astray is rebuilt.
    fn approach(&mut self, disk: &mut D, at: usize, offset: i64) -> io::Result<u64> {
        self.open_segment(disk, at)?;
        let segment = &mut self.segments[at];
        let index = segment.index.as_ref().expect("just loaded");
        let position = index.position(offset);
        let expected = index.offset_at(position);
        if !segment.index_loaded || expected.is_none() {
            return Ok(position);
        }
        let mut header = [0; HEADER_BYTES];
        let read = disk.read_at(segment.file.as_ref().expect("just opened"), position, &mut header)?;
        if BatchHeader::parse(&header[..read]).map(|header| header.last_offset()) == expected {
            return Ok(position);
        }
        segment.rebuild_index(disk, &self.directory, self.config.index_interval_bytes)?;
        Ok(segment.index.as_ref().expect("just rebuilt").position(offset))
    }

    /// Makes sure that a segment's file and index can be used for reading. At most one sealed and synced segment is
    /// kept open, so that a thousand logs do not use up the process's files.
    fn open_segment(&mut self, disk: &mut D, at: usize) -> io::Result<()> {
        let segment = &self.segments[at];
        if segment.file.is_some() && segment.index.is_some() {
            return Ok(());
        }
        let base_offset = segment.base_offset;
        if let Some(previous) = self.cold.take().filter(|previous| *previous != base_offset) {
            let previous_at = self.segment_at(previous);
            let sealed = previous_at + 1 < self.segments.len();
            if sealed && self.segment_end(previous_at) <= self.flushed {
                self.segments[previous_at].close();
            }
        }
        let segment = &mut self.segments[at];
        segment.open_file(disk, &self.directory)?;
        if !segment.load_index(disk, &self.directory)? {
            segment.rebuild_index(disk, &self.directory, self.config.index_interval_bytes)?;
        }
        self.cold = Some(base_offset);
        Ok(())
    }
}

/// Batches that go to the active segment in one write.
#[derive(Default)]
struct Run<'a> {
    buffers: Vec<IoSlice<'a>>,
    /// Header of each batch and its position in the run.
    batches: Vec<(u64, BatchHeader)>,
    bytes: u64,
    /// End offset and leader epoch of the last batch.
    end: Option<(i64, Option<i32>)>,
}

impl<'a> Run<'a> {
    fn add_buffer(&mut self, bytes: &'a [u8]) {
        if !bytes.is_empty() {
            self.buffers.push(IoSlice::new(bytes));
        }
    }
}
