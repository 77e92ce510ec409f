//! The shard on the data thread: `minisr_replica::Shard` with sockets, timers and a flush thread around it.
//!
//! There is one shard for each broker process, and everything that touches it runs on the data thread as local tasks.
//! A connection calls [`ShardHandle`] directly: no mailbox, no thread hop. What cannot be answered in the same call
//! comes back as a future that the shard completes in a later step.
//!
//! | File | What it is for |
//! |---|---|
//! | `driver.rs` | steps the shard and carries out its outputs |
//! | `waiting.rs` | requests whose answer comes in a later step |
//! | `flusher.rs` | the blocking thread that syncs files |

mod driver;
mod flusher;
mod waiting;

pub use driver::{Peers, SendFetch, ShardHandle, wall_clock_ms};
pub use flusher::SyncCounts;
pub use waiting::{AppendResult, Appends, Fetching};
