//! One replica of one partition: every decision of Kafka's replication, without bytes, files, network or clock.
//!
//! ```text
//!                   metadata: leader = me, higher leader epoch
//!        ┌──────────────────────────────────────────────────────────┐
//!        │                                                          ▼
//!   ┌─────────┐  metadata: leader ≠ me   ┌──────────┐  leader = me  ┌────────┐
//!   │ Offline │ ───────────────────────► │ Follower │ ────────────► │ Leader │ ─┐ leader = me, higher epoch:
//!   └─────────┘                          └──────────┘ ◄──────────── └────────┘ ◄┘ a new Leader, followers forgotten
//!        ▲        log failed              │  ▲   │    leader ≠ me     │
//!        └────────────────────────────────┴──┼───┴────────────────────┘
//!                                            └ every higher leader epoch, even of the same leader
//! ```
//!
//! | Event | Leader | Follower |
//! |---|---|---|
//! | producer's batch | [`Leader::admit`], write, [`Leader::written`]; a rule by messages, where it is on, is applied there | refused: not leader |
//! | sync finished | [`Leader::flushed`] | cursor moves; the next fetch tells it |
//! | follower's fetch | [`Replica::check_position`], then [`Leader::follower_fetched`] | refused: not leader |
//! | leader's answer | dropped | truncate, or append and [`Follower::adopt`] |
//! | metadata | [`Replica::apply`] | [`Replica::apply`] |
//! | AlterPartition answered | [`Leader::alter_partition_reply`] | dropped |
//! | time | [`Leader::tick`]: tickets expire, laggards are proposed for removal | – |
//!
//! Invariants, by the names used everywhere (numbers of the semantics reference, §7):
//!
//! | Name | What holds | Where |
//! |---|---|---|
//! | `CursorsOrdered` (3) | log start ≤ last stable ≤ high watermark ≤ local acked ≤ written | [`Cursors`] |
//! | `HighWatermarkMonotonic` (4) | a leader's high watermark never falls within its epoch | [`Cursors::raise_high_watermark`] |
//! | `HighWatermarkReported` (15) | it rises only to what every member of the maximal ISR reported in this epoch | [`Leader`] |
//! | `HighWatermarkNeedsMinIsr` (16) | it does not rise while the committed ISR is below min.insync.replicas | [`Leader`] |
//! | `EpochsAscend` (20) | leader epochs and their starts rise strictly, within the log | [`EpochCache`] |
//! | `SequencesContiguous` (22) | sequences of a producer follow one another | [`Producers`] |
//! | `BatchEpochsOrdered` (18) | batch epochs never fall along the log nor pass the replica's leader epoch | [`Follower::check_batch`] |
//! | `EpochsNeverDecrease` (2) | leader and partition epochs never decrease in a replica's view | [`Replica::apply`] |

mod acks;
mod cursors;
mod epochs;
mod follower;
mod isr;
mod lag;
mod leader;
mod producers;
mod read_replica;
mod replica;

pub use acks::{Acks, AppendError, PendingAcks, Ticket, Waiting};
pub use cursors::{AckPolicy, Cursors};
pub use epochs::{EpochCache, EpochEnd};
pub use follower::{Follower, OutOfRange, Position, UnfitBatch};
pub use isr::{AlterPartitionError, Isr, IsrCommitted, Proposal};
pub use lag::{IsrReason, LagComparison, LagKind, LagMaxMessages};
pub use leader::{Admitted, Committed, FollowerProgress, FollowerRefusal, Leader, OwedHighWatermark, ProposedIsr};
pub use producers::{
    BATCHES_KEPT, BatchSummary, KnownProducer, ProducerBatch, Producers, SeenBatch, SequenceCheck, sequence_plus,
};
pub use read_replica::preferred_read_replica;
pub use replica::{Applied, EpochRefusal, LogState, Members, PositionCheck, Replica, Role, Settings, View};
