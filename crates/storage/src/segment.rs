//! One data file, `<20-digit base offset>.log`, with its two sparse indexes.
//!
//! The data file is nothing but record batches, one after the other, and while it grows some zeros behind them
//! ([`crate::reservation`]). The active segment has
//! its file open and its index in memory. A sealed segment keeps the file open only until it is synced, and its
//! index is loaded when somebody reads there.

use crate::disk::{Disk, OpenMode};
use crate::header::{BatchHeader, HEADER_BYTES};
use crate::index::{Index, MaxTimestamp};
use crate::log::LogConfig;
use crate::reservation::Reservation;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

/// How much is read at once when only headers are wanted: a few small batches, or one header of a large one.
const HEADER_CHUNK_BYTES: usize = 16 << 10;
/// How much is read at once when every byte is verified.
const VERIFY_CHUNK_BYTES: usize = 512 << 10;

/// The data file's name.
pub(crate) fn log_name(base_offset: i64) -> String {
    format!("{base_offset:020}.log")
}

/// The names of offset and time index.
pub(crate) fn index_names(base_offset: i64) -> [String; 2] {
    [format!("{base_offset:020}.index"), format!("{base_offset:020}.timeindex")]
}

/// The base offset in a segment file's name, whatever its kind.
pub(crate) fn base_offset_of(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// Why a scan stopped before the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBatch {
    /// Fewer bytes are left than the batch says it has, or than a header needs.
    Short,
    /// These bytes are not a batch header.
    Header,
    /// The CRC does not match.
    Crc,
    /// The batch does not start where the previous one ended.
    Gap,
    /// The leader epoch is lower than that of an earlier batch.
    Epoch,
}

/// What a [`Scanner`] found at its position.
pub(crate) enum Found {
    Batch(u64, BatchHeader),
    End,
    Bad(BadBatch),
}

/// Walks over the batches of a file, reading each byte at most once.
pub(crate) struct Scanner {
    position: u64,
    end: u64,
    verify: bool,
    buffer: Vec<u8>,
    buffer_start: u64,
    buffer_len: usize,
}

impl Scanner {
    /// A walk from `position`, which is the start of a batch, to `end`; with `verify`, CRCs are checked.
    pub(crate) const fn new(position: u64, end: u64, verify: bool) -> Self {
        Self { position, end, verify, buffer: Vec::new(), buffer_start: position, buffer_len: 0 }
    }

    /// The next batch.
    pub(crate) fn next<D: Disk>(&mut self, disk: &mut D, file: &D::File) -> io::Result<Found> {
        let left = self.end - self.position;
        if left == 0 {
            return Ok(Found::End);
        }
        if left < HEADER_BYTES as u64 {
            return Ok(Found::Bad(BadBatch::Short));
        }
        let Some(header) = BatchHeader::parse(self.bytes(disk, file, HEADER_BYTES)?) else {
            return Ok(Found::Bad(BadBatch::Header));
        };
        if header.size as u64 > left {
            return Ok(Found::Bad(BadBatch::Short));
        }
        if self.verify {
            let batch = self.bytes(disk, file, header.size)?;
            if !header.crc_matches(batch) {
                return Ok(Found::Bad(BadBatch::Crc));
            }
        }
        let position = self.position;
        self.position += header.size as u64;
        Ok(Found::Batch(position, header))
    }

    /// `count` bytes from the current position, all of which lie before the end.
    fn bytes<D: Disk>(&mut self, disk: &mut D, file: &D::File, count: usize) -> io::Result<&[u8]> {
        let have = (self.buffer_start + self.buffer_len as u64).saturating_sub(self.position);
        if have < count as u64 {
            let chunk = if self.verify { VERIFY_CHUNK_BYTES } else { HEADER_CHUNK_BYTES };
            let left = usize::try_from(self.end - self.position).expect("a segment is below 2 GiB");
            let wanted = chunk.max(count).min(left);
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
            let read = disk.read_at(file, self.position, &mut self.buffer[..wanted])?;
            if read < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (self.buffer_start, self.buffer_len) = (self.position, read);
        }
        let start = usize::try_from(self.position - self.buffer_start).expect("inside the buffer");
        Ok(&self.buffer[start..start + count])
    }
}

/// One segment of a log.
#[derive(Clone, Debug)]
pub(crate) struct Segment<D: Disk> {
    pub(crate) base_offset: i64,
    /// Length of the data file, without padding.
    pub(crate) len: u64,
    /// Open while the segment is active, not yet synced, or the one sealed segment being read.
    pub(crate) file: Option<D::File>,
    /// Room on the disk ahead of the end.
    pub(crate) reservation: Reservation,
    /// In memory while active or not yet synced, or while the one sealed segment being read.
    pub(crate) index: Option<Index>,
    /// Whether the index files on disk are those of the whole, durable segment.
    pub(crate) index_on_disk: bool,
    /// Whether the index in memory was read from its files. They are never synced, so a power loss may have put anything
    /// into them that looks like an index: what it says is checked where it is used.
    pub(crate) index_loaded: bool,
    /// Whether the file was, or may have been, cut since it was last synced: until then a power loss could bring back
    /// what was cut off, behind which a later segment would look like one that does not belong here, or, worse, like
    /// one that does.
    pub(crate) cut_unsynced: bool,
    pub(crate) max: MaxTimestamp,
    /// Largest timestamp of the first batch, from which `segment.ms` counts.
    pub(crate) first_timestamp: Option<i64>,
}

impl<D: Disk> Segment<D> {
    /// Creates an empty segment.
    pub(crate) fn create(disk: &mut D, directory: &Path, base_offset: i64) -> io::Result<Self> {
        let file = disk.open(&directory.join(log_name(base_offset)), OpenMode::Create)?;
        let (index, reservation) = (Some(Index::new(base_offset)), Reservation::NONE);
        Ok(Self { index, reservation, ..Self::found(base_offset, 0, Some(file)) })
    }

    /// A segment whose data file has `len` bytes, of which nothing else is known yet.
    pub(crate) const fn found(base_offset: i64, len: u64, file: Option<D::File>) -> Self {
        Self {
            base_offset,
            len,
            file,
            reservation: Reservation::UNKNOWN,
            index: None,
            index_on_disk: false,
            index_loaded: false,
            cut_unsynced: false,
            max: MaxTimestamp::NONE,
            first_timestamp: None,
        }
    }

    /// Appends whole batches, whose headers and positions within the write are `batches`.
    pub(crate) fn append(
        &mut self,
        disk: &mut D,
        buffers: &mut Vec<IoSlice<'_>>,
        batches: &[(u64, BatchHeader)],
        config: &LogConfig,
    ) -> io::Result<()> {
        let file = self.file.as_ref().expect("the active segment is open");
        if config.preallocate {
            let bytes = buffers.iter().map(|buffer| buffer.len() as u64).sum();
            self.reservation.before_write(disk, file, self.len, bytes, u64::from(config.segment_bytes));
            let padding = self.reservation.padding(self.len + bytes);
            if !padding.is_empty() {
                buffers.push(IoSlice::new(padding));
            }
        }
        disk.write_at(file, self.len, buffers)?;
        let start = self.len;
        for (position, header) in batches {
            self.observe(header, start + position, config.index_interval_bytes);
            self.len += header.size as u64;
        }
        Ok(())
    }

    /// Takes a batch at `position` into index and timestamps.
    pub(crate) fn observe(&mut self, header: &BatchHeader, position: u64, index_interval_bytes: u32) {
        self.first_timestamp.get_or_insert(header.max_timestamp);
        self.max.observe(header);
        let index = self.index.as_mut().expect("an appended segment has its index in memory");
        index.observe(header, position, self.max, index_interval_bytes);
    }

    /// The path of the data file.
    pub(crate) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(log_name(self.base_offset))
    }

    /// Opens the data file unless it is open.
    pub(crate) fn open_file(&mut self, disk: &mut D, directory: &Path) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(disk.open(&self.path(directory), OpenMode::Write)?);
        }
        Ok(())
    }

    /// Gives back room on the disk that it will not use, and cuts off padding; for a segment that is whole.
    pub(crate) fn give_back(&mut self, disk: &mut D) {
        if let Some(file) = &self.file {
            self.reservation.give_back(disk, file, self.len);
        }
    }

    /// Lets go of the file, and of the index if it can be loaded again.
    pub(crate) fn close(&mut self) {
        self.file = None;
        if self.index_on_disk {
            self.index = None;
        }
    }

    /// Loads the index from its files; returns whether it was there and sound.
    pub(crate) fn load_index(&mut self, disk: &mut D, directory: &Path) -> io::Result<bool> {
        if self.index.is_some() {
            return Ok(true);
        }
        let [offsets, times] = index_names(self.base_offset);
        let (Some(offsets), Some(times)) =
            (disk.read_file(&directory.join(offsets))?, disk.read_file(&directory.join(times))?)
        else {
            return Ok(false);
        };
        self.index = Index::decode(self.base_offset, self.len, &offsets, &times);
        self.index_loaded = self.index.is_some();
        Ok(self.index_loaded)
    }

    /// Builds the index anew from the headers in the file, which are known to be sound.
    pub(crate) fn rebuild_index(
        &mut self,
        disk: &mut D,
        directory: &Path,
        index_interval_bytes: u32,
    ) -> io::Result<()> {
        self.open_file(disk, directory)?;
        let file = self.file.take().expect("just opened");
        let (mut index, mut max) = (Index::new(self.base_offset), MaxTimestamp::NONE);
        let mut scanner = Scanner::new(0, self.len, false);
        while let Found::Batch(position, header) = scanner.next(disk, &file)? {
            max.observe(&header);
            index.observe(&header, position, max, index_interval_bytes);
        }
        (self.file, self.index, self.max) = (Some(file), Some(index), max);
        (self.index_on_disk, self.index_loaded) = (false, false);
        Ok(())
    }

    /// Writes the index files of a whole, synced segment. They are a convenience: an error leaves none.
    pub(crate) fn write_index(&mut self, disk: &mut D, directory: &Path) {
        let Some(index) = self.index.as_mut() else { return };
        index.seal(self.max);
        self.index_on_disk = true;
        let (offsets, times) = index.encode();
        for (name, bytes) in index_names(self.base_offset).into_iter().zip([offsets, times]) {
            let path = directory.join(name);
            let written =
                disk.open(&path, OpenMode::Create).and_then(|file| disk.write_at(&file, 0, &[IoSlice::new(&bytes)]));
            if written.is_err() {
                // What cannot be removed either is found unsound by its length or its entries when it is read.
                let _ = disk.remove(&path);
                self.index_on_disk = false;
            }
        }
    }

    /// Removes the index files, if there are any.
    pub(crate) fn remove_index(&self, disk: &mut D, directory: &Path) -> io::Result<()> {
        for name in index_names(self.base_offset) {
            match disk.remove(&directory.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes all of the segment's files.
    pub(crate) fn remove(&self, disk: &mut D, directory: &Path) -> io::Result<()> {
        self.remove_index(disk, directory)?;
        disk.remove(&self.path(directory))
    }

    /// The position of the first batch for which `found` answers true, at or after `start`; the segment's length
    /// when there is none. File open.
    pub(crate) fn find(
        &self,
        disk: &mut D,
        start: u64,
        mut found: impl FnMut(&BatchHeader) -> bool,
    ) -> io::Result<Option<(u64, BatchHeader)>> {
        let file = self.file.as_ref().expect("opened by the caller");
        let mut scanner = Scanner::new(start, self.len, false);
        loop {
            match scanner.next(disk, file)? {
                Found::Batch(position, header) if found(&header) => return Ok(Some((position, header))),
                Found::Batch(..) => {}
                Found::End => return Ok(None),
                Found::Bad(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}
