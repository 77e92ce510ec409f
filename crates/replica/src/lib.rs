//! The loop that runs the decisions: one [`Shard`] owns every replica of a broker, appends, replicates, flushes and
//! acknowledges, and cannot do anything else: it has no runtime, no clock and no thread.
//!
//! A driver (the broker with sockets and timers, the simulator with a seed) calls [`Shard::step`] for everything
//! that happens and carries out the [`Output`]s:
//!
//! ```text
//!  connections ── Append, Fetch ──►┌───────┐── Appended, Fetched ─────► connections
//!  controller ─── Image ──────────►│       │── AlterPartition ────────► controller ── AlterPartitionReply ─┐
//!  peers ──────── FetchResponse ──►│ Shard │── SendFetch ─────────────► peers                              │
//!  flusher ────── Synced ─────────►│       │── Sync ──────────────────► flusher                            │
//!  timer ──────── Tick ───────────►│       │◄──────────────────────────────────────────────────────────────┘
//!                                  └───┬───┘
//!                                      ▼ Disk (append, read, truncate: synchronous)
//! ```
//!
//! Order within a step: appends are written first, then high watermarks advance, then producers and waiting fetches
//! are answered; so appends that arrive together ([`Shard::step_batch`]) wake each follower once and lead to one flush.
//!
//! Invariants kept here (numbers of the semantics reference, §7): a replica takes no role before its registration is in the
//! image (1, 14); leader epochs are what the log's records say, also after a power loss (20); a failed write or sync takes
//! the log offline and acknowledges nothing (13).

mod catch_up;
mod config;
mod deadlines;
mod describe;
mod doubt;
mod error;
mod event;
mod fetcher;
mod fingerprint;
mod flush;
mod follow;
mod isr;
mod isr_report;
mod open;
mod output;
mod partition;
mod read_replica;
mod roles;
mod serve;
mod settings;
mod shard;
mod throttle;
mod upkeep;
mod waiting;

pub use config::{Config, FlushPolicy, ReplicaSelector, TopicDefaults};
pub use describe::{Bookkeeping, PartitionDescription, RoleName};
pub use error::{AlterPartitionError, AppendError, FetchError, ListOffsetsError, OpenError};
pub use event::{
    Acks, Append, BatchSummary, EpochEnd, Event, FetchPartition, FetchReply, FetchRequest, Fetched, FetchedPartition,
    FetcherId, Isolation, IsrCommitted, ProducerBatch, Reader, Ticket,
};
pub use isr_report::{CHANGES_KEPT, IsrChange, IsrReport};
pub use minisr_logic::partition::{IsrReason, LagComparison, LagKind, LagMaxMessages};
pub use open::RecoveryReport;
pub use output::{AlterPartition, Appended, Notice, Output};
pub use partition::batch_summary;
pub use serve::{ListedOffset, OffsetSpec};
pub use shard::Shard;
