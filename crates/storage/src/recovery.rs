//! Opening a log: what a crash left behind becomes a log again.
//!
//! After a clean shutdown the segments are trusted, apart from cheap checks of the seams between them. Otherwise
//! every segment that reaches past the recovery point, and every one without a sound index, is read from its first
//! byte: lengths, CRCs, contiguous offsets, leader epochs that never fall. At the first bad batch the log is cut, and
//! **every later segment is deleted**: what stands behind a hole is not part of the log. Zeros at the end of a file,
//! less than a step of padding, are no bad batch (`reservation.rs`): they go, and later segments stay if they follow without a
//! gap. After a power loss they may also be batches that were never synced; those below the recovery point are missed.
//!
//! Recovery is idempotent: it only removes, and what it leaves passes the same checks again. Whatever may have been
//! cut without a sync, now or by a process that was killed, is synced with the next sync round.

use crate::disk::{Disk, OpenMode};
use crate::header::BatchHeader;
use crate::index::{Index, MaxTimestamp};
use crate::log::{Log, LogConfig};
use crate::reservation::is_padding;
use crate::segment::{BadBatch, Found, Scanner, Segment, base_offset_of, log_name};
use crate::zoo::{self, Flaw};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What is known from outside about a log that is about to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Whether the log was closed properly: [`Log::close`] and a clean shutdown marker.
    pub clean: bool,
    /// The checkpointed recovery point: everything below was synced. 0 when unknown.
    pub recovery_point: i64,
    /// The checkpointed log start offset. 0 when unknown. A new log starts here.
    pub start_offset: i64,
}

/// What opening a log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes that were read and verified.
    pub verified_bytes: u64,
    /// Whether something had to be cut off.
    pub cut: Option<Cut>,
    /// (leader epoch, its first offset) for each change of epoch within what was verified, to be entered into the
    /// leader epochs where they are newer than the checkpointed ones.
    pub epochs: Vec<(i32, i64)>,
}

/// What recovery removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The log ends here now.
    pub offset: i64,
    /// Bytes removed, whole segments included.
    pub bytes: u64,
    /// Segments removed because they lay behind the bad batch.
    pub segments: usize,
    /// What was wrong.
    pub reason: BadBatch,
    /// Whether data was lost that had been synced before: rot, not a torn tail. A replica with rot is not clean for
    /// data.
    pub below_recovery_point: bool,
}

/// Why a log could not be opened.
#[derive(Debug, Error)]
#[error("cannot open the log in {directory}: {source}")]
pub struct OpenError {
    /// The log's directory.
    pub directory: PathBuf,
    /// What the disk said.
    pub source: io::Error,
}

impl<D: Disk> Log<D> {
    /// Opens the log in `directory`, which is created when missing, and makes it consistent.
    pub fn open(
        disk: &mut D,
        directory: &Path,
        config: LogConfig,
        options: OpenOptions,
    ) -> Result<(Self, Recovered), OpenError> {
        Opening { disk, directory, config, options, recovered: Recovered::default() }
            .open()
            .map_err(|source| OpenError { directory: directory.to_owned(), source })
    }
}

struct Opening<'a, D> {
    disk: &'a mut D,
    directory: &'a Path,
    config: LogConfig,
    options: OpenOptions,
    recovered: Recovered,
}

/// What is known about a segment after looking at it.
struct Examined<D: Disk> {
    segment: Segment<D>,
    end: i64,
    last_epoch: Option<i32>,
    bad: Option<BadBatch>,
}

impl<D: Disk> Opening<'_, D> {
    fn open(mut self) -> io::Result<(Log<D>, Recovered)> {
        if !self.disk.exists(self.directory)? {
            self.disk.create_dir_all(self.directory)?;
        }
        let bases = self.tidy()?;
        let mut segments = VecDeque::new();
        let (mut end, mut last_epoch) = (bases.first().copied().unwrap_or(self.options.start_offset), None);
        for (at, &base) in bases.iter().enumerate() {
            let next_base = bases.get(at + 1).copied();
            assert_eq!(base, end, "a segment that does not meet the next one was reported as bad");
            let examined = self.examine(base, next_base, last_epoch)?;
            segments.push_back(examined.segment);
            (end, last_epoch) = (examined.end, examined.last_epoch.or(last_epoch));
            if let (true, true, Some(next)) = (examined.bad.is_some(), zoo::planted(Flaw::TornMiddleSegment), next_base)
            {
                end = next;
                continue;
            }
            if let Some(reason) = examined.bad {
                self.cut(end, &bases[at + 1..], reason)?;
                break;
            }
        }
        let found_any = !segments.is_empty();
        if !found_any {
            segments.push_back(Segment::create(self.disk, self.directory, end)?);
        }
        self.activate(&mut segments, found_any)?;
        self.finish(segments, end, last_epoch)
    }

    /// Removes leftovers and orphaned indexes; returns the base offsets of all segments in order.
    fn tidy(&mut self) -> io::Result<Vec<i64>> {
        let entries = self.disk.list(self.directory)?;
        let mut bases: Vec<i64> = entries.iter().filter_map(|entry| base_offset_of(&entry.name, ".log")).collect();
        bases.sort_unstable();
        for entry in &entries {
            let leftover = [".deleted", ".cleaned"].iter().any(|suffix| entry.name.ends_with(suffix));
            let index_of = base_offset_of(&entry.name, ".index").or_else(|| base_offset_of(&entry.name, ".timeindex"));
            if leftover || index_of.is_some_and(|base| bases.binary_search(&base).is_err()) {
                self.disk.remove(&self.directory.join(&entry.name))?;
            }
        }
        Ok(bases)
    }

    /// Looks at one segment, which starts where the log ends so far, as closely as it deserves.
    fn examine(&mut self, base: i64, next_base: Option<i64>, last_epoch: Option<i32>) -> io::Result<Examined<D>> {
        let file = self.disk.open(&self.directory.join(log_name(base)), OpenMode::Write)?;
        let len = self.disk.len(&file)?;
        let mut segment = Segment::found(base, len, Some(file));
        let synced = next_base.is_some_and(|next| next <= self.options.recovery_point);
        if (self.options.clean || synced) && segment.load_index(self.disk, self.directory)? {
            segment.index_on_disk = true;
            if let Some(examined) = self.trust(&mut segment, next_base)? {
                let (end, last_epoch) = examined;
                return Ok(self.settled(Examined { segment, end, last_epoch, bad: None }, next_base));
            }
        }
        self.verify(segment, next_base, last_epoch)
    }

    /// Checks only the end of a segment. `None` when that is not as the index and the next segment promise.
    fn trust(&mut self, segment: &mut Segment<D>, next_base: Option<i64>) -> io::Result<Option<(i64, Option<i32>)>> {
        let index = segment.index.as_ref().expect("loaded by the caller");
        let file = segment.file.as_ref().expect("opened by the caller");
        let mut max = index.max_timestamp();
        let (mut end, mut last_epoch) = (segment.base_offset, None);
        let mut valid = index.last_position();
        let mut scanner = Scanner::new(valid, segment.len, false);
        loop {
            match scanner.next(self.disk, file)? {
                Found::Batch(_, header) if header.base_offset < end => return Ok(None),
                Found::Batch(position, header) => {
                    max.observe(&header);
                    (end, last_epoch) = (header.end_offset(), Some(header.leader_epoch));
                    valid = position + header.size as u64;
                }
                Found::End => break,
                // Zeros where the index promises a batch are none.
                Found::Bad(_) if valid > 0 && last_epoch.is_none() => return Ok(None),
                Found::Bad(_) if is_padding(self.disk, file, valid, segment.len)? => {
                    self.disk.truncate(file, valid)?;
                    segment.len = valid;
                    break;
                }
                Found::Bad(_) => return Ok(None),
            }
        }
        segment.max = max;
        Ok(next_base.is_none_or(|next| next == end).then_some((end, last_epoch)))
    }

    /// Reads the whole segment, builds its index, and cuts it at the first bad batch.
    fn verify(
        &mut self,
        mut segment: Segment<D>,
        next_base: Option<i64>,
        mut last_epoch: Option<i32>,
    ) -> io::Result<Examined<D>> {
        let file = segment.file.take().expect("opened by the caller");
        (segment.index, segment.max) = (Some(Index::new(segment.base_offset)), MaxTimestamp::NONE);
        segment.index_loaded = false;
        let mut end = segment.base_offset;
        let mut scanner = Scanner::new(0, segment.len, true);
        let mut valid = 0;
        let bad = loop {
            match scanner.next(self.disk, &file)? {
                Found::Batch(_, header) if header.base_offset != end => break Some(BadBatch::Gap),
                Found::Batch(_, header) if last_epoch > Some(header.leader_epoch) => break Some(BadBatch::Epoch),
                Found::Batch(position, header) => {
                    segment.observe(&header, position, self.config.index_interval_bytes);
                    self.note_epoch(&header, last_epoch);
                    valid = position + header.size as u64;
                    (end, last_epoch) = (header.end_offset(), Some(header.leader_epoch));
                }
                Found::End => break None,
                Found::Bad(_) if is_padding(self.disk, &file, valid, segment.len)? => {
                    self.disk.truncate(&file, valid)?;
                    segment.len = valid;
                    break None;
                }
                Found::Bad(reason) => break Some(reason),
            }
        };
        self.recovered.verified_bytes += valid;
        if bad.is_some() {
            self.disk.truncate(&file, valid)?;
            self.recovered.cut = Some(Cut {
                offset: end,
                bytes: segment.len - valid,
                segments: 0,
                reason: BadBatch::Short,
                below_recovery_point: false,
            });
            segment.len = valid;
        }
        segment.file = Some(file);
        segment.remove_index(self.disk, self.directory)?;
        segment.index_on_disk = false;
        let bad = bad.or_else(|| next_base.filter(|next| *next != end).map(|_| BadBatch::Gap));
        Ok(self.settled(Examined { segment, end, last_epoch, bad }, next_base))
    }

    fn note_epoch(&mut self, header: &BatchHeader, last_epoch: Option<i32>) {
        let known = self.recovered.epochs.last().map(|entry| entry.0).max(last_epoch);
        if self.recovered.epochs.is_empty() || known < Some(header.leader_epoch) {
            self.recovered.epochs.push((header.leader_epoch, header.base_offset));
        }
    }

    /// Lets go of a sealed segment's file, and of its index unless that still has to be written.
    fn settled(&mut self, mut examined: Examined<D>, next_base: Option<i64>) -> Examined<D> {
        if next_base.is_some() && examined.bad.is_none() {
            let segment = &mut examined.segment;
            segment.cut_unsynced = !segment.index_on_disk;
            segment.close();
        }
        examined
    }

    /// Deletes the segments that lie behind the end of the log and notes what was lost.
    fn cut(&mut self, end: i64, gone: &[i64], reason: BadBatch) -> io::Result<()> {
        let mut bytes = self.recovered.cut.map_or(0, |cut| cut.bytes);
        // From the end, so that a kill in the middle leaves no new hole.
        for &base in gone.iter().rev() {
            let path = self.directory.join(log_name(base));
            let file = self.disk.open(&path, OpenMode::Read)?;
            bytes += self.disk.len(&file)?;
            Segment::found(base, 0, None).remove(self.disk, self.directory)?;
        }
        if !gone.is_empty() {
            self.disk.sync_dir(self.directory)?;
        }
        let below_recovery_point = end < self.options.recovery_point;
        self.recovered.cut = Some(Cut { offset: end, bytes, segments: gone.len(), reason, below_recovery_point });
        Ok(())
    }

    /// Makes the last segment the active one: open, index in memory and none on disk, since it will grow.
    /// Whoever wrote it last may have cut it; a new one has nothing to bring back.
    fn activate(&mut self, segments: &mut VecDeque<Segment<D>>, was_found: bool) -> io::Result<()> {
        let active = segments.back_mut().expect("there is one");
        active.open_file(self.disk, self.directory)?;
        if active.index.is_none() && !active.load_index(self.disk, self.directory)? {
            active.rebuild_index(self.disk, self.directory, self.config.index_interval_bytes)?;
        }
        active.remove_index(self.disk, self.directory)?;
        active.index_on_disk = false;
        active.cut_unsynced = was_found && (!self.options.clean || self.recovered.cut.is_some());
        if active.first_timestamp.is_none() {
            active.first_timestamp = active.find(self.disk, 0, |_| true)?.map(|(_, header)| header.max_timestamp);
        }
        Ok(())
    }

    fn finish(
        self,
        segments: VecDeque<Segment<D>>,
        end: i64,
        last_epoch: Option<i32>,
    ) -> io::Result<(Log<D>, Recovered)> {
        let Self { disk, directory, config, options, mut recovered } = self;
        if end < options.recovery_point && recovered.cut.is_none() {
            // The files end early but cleanly: whole batches, or whole files, that were synced are gone.
            let reason = BadBatch::Short;
            recovered.cut = Some(Cut { offset: end, bytes: 0, segments: 0, reason, below_recovery_point: true });
        }
        let flushed = if options.clean { end } else { options.recovery_point.min(end) };
        let mut log = Log::assemble(directory.to_owned(), config, segments, end, flushed, last_epoch);
        if options.start_offset > end {
            log.truncate_fully_and_start_at(disk, options.start_offset).map_err(io::Error::other)?;
        } else {
            log.advance_start(disk, options.start_offset).map_err(io::Error::other)?;
        }
        Ok((log, recovered))
    }
}
