//! The segment log: what a broker keeps on disk, and how it comes back after a crash.
//!
//! ```text
//! <log.dirs>/
//!   meta.properties                    whose directory this is
//!   clean-shutdown                     present only after a clean stop; holds the last broker epoch
//!   boot-id                            the machine's boot in which the directory was last used
//!   replication-offset-checkpoint      high watermark of each partition
//!   recovery-point-offset-checkpoint   flushed offset of each partition
//!   log-start-offset-checkpoint        log start offset of each partition
//!   <topic>-<partition>/
//!     partition.metadata               topic id
//!     leader-epoch-checkpoint          leader epoch → first offset
//!     <20-digit base offset>.log       record batches, one after the other
//!     <20-digit base offset>.index     sparse: offset → position        (only beside whole, durable segments)
//!     <20-digit base offset>.timeindex sparse: timestamp → offset       (likewise)
//! ```
//!
//! **What a crash may leave.** The kill of a process leaves all that was written, and perhaps half of the last write.
//! A power loss takes any part of what was not synced: a suffix, a piece in the middle, whole files whose name was
//! not synced. Small files are written aside and renamed ([`checkpoint`]), so they are old or new, never half.
//!
//! **What recovery promises** ([`recovery`]). The log is a prefix of what was written, made of whole batches that
//! pass their CRC, without gap, with leader epochs that never fall; it contains everything below the flushed offset
//! unless the disk itself lost it, and then it says so; recovering twice gives the same.
//!
//! **Open files.** A log keeps one file open, its active segment; a second while somebody reads an older segment; and
//! those sealed but not yet synced. Indexes are read and written whole. So a thousand partitions need some two thousand
//! descriptors, and the process has to raise its soft limit, which is often 1,024.
//!
//! Nothing here knows about time or the network, nor about threads, but for buffers that each keeps for large reads. All
//! input and output goes through [`disk::Disk`].

pub mod checkpoint;
pub mod disk;
pub mod header;
pub mod journal;
pub mod poison;
pub mod recovery;
mod reservation;
pub mod zoo;

mod fingerprint;
mod index;
mod log;
mod read_buffers;
mod segment;
mod tail;

pub use disk::Disk;
pub use disk::memory::MemoryDisk;
pub use disk::real::RealDisk;
pub use header::BatchHeader;
pub use index::MaxTimestamp;
pub use journal::Journal;
pub use log::{Appended, Log, LogConfig, ReadError, Retention, SyncRound, SyncTarget, TimestampOffset};
pub use poison::Poisoned;
pub use recovery::{Cut, OpenError, OpenOptions, Recovered};
pub use segment::BadBatch;
