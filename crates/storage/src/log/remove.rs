//! Removing: a suffix that diverged, everything, or the oldest segments.

use super::Log;
use crate::disk::Disk;
use crate::index::MaxTimestamp;
use crate::poison::Poisoned;
use crate::segment::{Found, Scanner, Segment};
use std::io;

/// What retention asks for. Negative limits mean: without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `retention.ms`, counted from a segment's largest timestamp.
    pub retention_ms: i64,
    /// `retention.bytes`.
    pub retention_bytes: i64,
}

impl<D: Disk> Log<D> {
    /// Removes every batch that holds a record at or past `offset`; returns the new end offset, which is lower than
    /// `offset` when that lay inside a batch. Does nothing when the log ends there already (the caller's leader
    /// epochs still have to be cut). Should the cut take the batch that contains the log's start, the log is empty at
    /// its start.
    ///
    /// The removal of whole segments is made durable here, since a later segment that came back after a power loss
    /// might continue newly appended data without a visible seam. The cut inside a segment becomes durable
    /// before anything is appended again: batches of equal size would meet without a seam too.
    pub fn truncate_to(&mut self, disk: &mut D, offset: i64) -> Result<i64, Poisoned> {
        self.poison.check()?;
        if offset >= self.end {
            return Ok(self.end);
        }
        if offset <= self.start {
            self.truncate_fully_and_start_at(disk, offset)?;
            return Ok(self.end);
        }
        self.truncations += 1;
        self.flushed = self.flushed.min(offset);
        self.tail.clear();
        let cut = self.cut(disk, offset);
        self.poison.guard("a truncation", cut)?;
        self.flushed = self.flushed.min(self.end);
        if self.end < self.start {
            self.truncate_fully_and_start_at(disk, self.start)?;
        }
        Ok(self.end)
    }

    fn cut(&mut self, disk: &mut D, offset: i64) -> io::Result<()> {
        let at = self.segment_at(offset);
        if at + 1 < self.segments.len() {
            while self.segments.len() > at + 1 {
                self.segments.back().expect("more than one").remove(disk, &self.directory)?;
                self.end = self.segments.pop_back().expect("more than one").base_offset;
            }
            // This segment is going to grow again: an index on disk would claim that it is whole and durable.
            self.segments[at].remove_index(disk, &self.directory)?;
            self.segments[at].index_on_disk = false;
            self.names += 1;
            disk.sync_dir(&self.directory)?;
            self.names_synced = self.names;
        }
        let start = self.approach(disk, at, offset)?;
        self.cold = None;
        let segment = &mut self.segments[at];
        if let Some((position, header)) = segment.find(disk, start, |header| header.end_offset() > offset)? {
            disk.truncate(segment.file.as_ref().expect("just opened"), position)?;
            segment.reservation.cut();
            segment.cut_unsynced = true;
            segment.len = position;
            self.end = header.base_offset;
            segment.index.as_mut().expect("just loaded").truncate(position, self.end);
        }
        self.remeasure(disk)
    }

    /// After a cut: largest and first timestamp of the active segment, and the epoch of the last batch.
    fn remeasure(&mut self, disk: &mut D) -> io::Result<()> {
        let segment = self.segments.back_mut().expect("a log has an active segment");
        let index = segment.index.as_ref().expect("the active segment has its index in memory");
        let (mut max, mut last) = (index.max_timestamp(), None);
        let file = segment.file.as_ref().expect("the active segment is open");
        let mut scanner = Scanner::new(index.last_position(), segment.len, false);
        loop {
            match scanner.next(disk, file)? {
                Found::Batch(_, header) => {
                    max.observe(&header);
                    last = Some(header.leader_epoch);
                }
                Found::End => break,
                Found::Bad(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        let first = segment.find(disk, 0, |_| true)?.map(|(_, header)| header.max_timestamp);
        (segment.max, segment.first_timestamp) = (max, first);
        if last.is_none() && self.segments.len() > 1 {
            // The active segment became empty: the last batch is that of the segment before.
            let at = self.segments.len() - 2;
            self.open_segment(disk, at)?;
            let segment = &self.segments[at];
            let start = segment.index.as_ref().expect("just loaded").last_position();
            segment.find(disk, start, |header| {
                last = Some(header.leader_epoch);
                false
            })?;
        }
        self.last_epoch = last;
        Ok(())
    }

    /// Removes everything; the log is empty and its next offset is `offset`.
    pub fn truncate_fully_and_start_at(&mut self, disk: &mut D, offset: i64) -> Result<(), Poisoned> {
        self.poison.check()?;
        self.truncations += 1;
        self.tail.clear();
        self.cold = None;
        let replaced = self.replace_all(disk, offset);
        self.poison.guard("removing the log", replaced)?;
        (self.start, self.end, self.flushed, self.last_epoch) = (offset, offset, offset, None);
        Ok(())
    }

    fn replace_all(&mut self, disk: &mut D, offset: i64) -> io::Result<()> {
        // From the end, so that a kill in the middle leaves a log that is shorter, not one with a hole.
        while let Some(last) = self.segments.back() {
            last.remove(disk, &self.directory)?;
            if self.segments.len() == 1 {
                break;
            }
            self.segments.pop_back();
        }
        let empty = Segment::create(disk, &self.directory, offset)?;
        self.segments.clear();
        self.segments.push_back(empty);
        self.names += 1;
        disk.sync_dir(&self.directory)?;
        self.names_synced = self.names;
        Ok(())
    }

    /// Raises the first readable offset to `offset` (never past the end) and removes the segments that lie wholly
    /// below it. Returns how many were removed. The caller checkpoints the start before it answers anybody.
    pub fn advance_start(&mut self, disk: &mut D, offset: i64) -> Result<usize, Poisoned> {
        self.poison.check()?;
        self.start = self.start.max(offset.min(self.end));
        let mut removed = 0;
        while self.segments.len() > 1 && self.segments[1].base_offset <= self.start {
            let oldest = self.segments.pop_front().expect("more than one");
            if self.cold == Some(oldest.base_offset) {
                self.cold = None;
            }
            let gone = oldest.remove(disk, &self.directory);
            self.poison.guard("removing a segment", gone)?;
            removed += 1;
        }
        self.names += u64::from(removed > 0);
        Ok(removed)
    }

    /// Where retention would put the log's start now: the base offset of the oldest segment to keep, considering
    /// only segments that end at or below `high_watermark`. To be handed to [`Log::advance_start`].
    #[must_use]
    pub fn retention_start(&self, now_ms: i64, retention: Retention, high_watermark: i64) -> i64 {
        let mut size = self.size_bytes();
        let mut start = self.start;
        for at in 0..self.segments.len() - 1 {
            let (segment, end) = (&self.segments[at], self.segment_end(at));
            let too_old = retention.retention_ms >= 0
                && segment.max != MaxTimestamp::NONE
                && now_ms.saturating_sub(segment.max.timestamp) > retention.retention_ms;
            let too_large = u64::try_from(retention.retention_bytes).is_ok_and(|limit| size - segment.len >= limit);
            if end > high_watermark || !(too_old || too_large) {
                break;
            }
            size -= segment.len;
            start = end;
        }
        start
    }

    /// Removes the log's directory with everything in it.
    pub fn delete(self, disk: &mut D) -> io::Result<()> {
        disk.remove_dir_all(&self.directory)?;
        self.directory.parent().map_or(Ok(()), |parent| disk.sync_dir(parent))
    }
}
