//! Stories and properties of the log, its recovery, the checkpoints, the journal and the memory disk.

mod append;
mod checkpoints;
mod disks;
mod journal;
mod model;
// Looks into /proc.
#[cfg(target_os = "linux")]
mod reclaim;
mod recovery;
mod reservation;
mod truncate;
mod vocabulary;
