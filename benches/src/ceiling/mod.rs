//! The ceiling: producer → leader → followers with raw transport, and nothing of a broker.
//!
//! ```text
//! producer process ──frames──▶ leader process ──frames──▶ follower process (0, 1 or 2 of them)
//!                  ◀─16 B ack─                ◀─16 B ack─
//! ```
//!
//! Every process is separate, as brokers are, and runs one runtime. A frame is `batch_bytes` long and has no header.
//! The leader and each follower write every frame to a file, in the page cache, without fsync. The leader acknowledges
//! a frame after all followers have acknowledged it (acks=all); streams are independent of each other and ordered.
//!
//! What a result of minisr shares with the ceiling it is divided by: bytes in flight, streams, batch size, runtime,
//! crypto provider and congestion control. All six are in [`Report`].
//!
//! *Files grow as a log does*: each process appends to one file, and empties it when it has reached `file_mib` MiB, so that
//! a run of any length holds three small files, which are removed at the end, and yet every byte goes into a new page.
//!
//! Processes: the program starts copies of itself for leader and followers. They die with it (`PR_SET_PDEATHSIG`), end
//! by themselves after a bounded time, and are killed by their process id when the run is over.

mod link;
mod log_file;
mod node;
mod options;
mod producer;
mod report;
mod supervise;
mod tuning;

pub use node::{NodeOptions, run_node};
pub use options::{Congestion, Crypto, Mode, Options, OptionsError, Runtime, Transport};
pub use report::{CpuReport, LatencyReport, Report};
pub use supervise::run;
