//! minisr-sim: whole clusters in virtual time, from a seed.
//!
//! The code under test is the broker's own: [`minisr_replica::Shard`] with its logs on a memory disk, and the metadata
//! state machine of [`minisr_logic`]. Around it stand models of what is not decided there: the broker's glue, the
//! metadata log, clients, a network that loses, repeats, delays and cuts, machines that stop, stall and lose power.
//!
//! * [`plan`]: what a seed decides beforehand.
//! * [`schedule`]: a run as a list of events, which can be replayed with parts taken out; [`scenario`]: the same as text.
//! * [`shrink`]: makes a failing list short.
//! * [`cluster`]: the world and its queue of events.
//! * [`state`]: what is seen of it.
//! * [`invariants`]: what must hold after each step, one file each.
//! * [`campaign`]: many seeds, each run twice with equal traces.

pub mod campaign;
pub mod cluster;
mod dice;
pub mod durability;
pub mod invariants;
mod panics;
pub mod plan;
pub mod scenario;
pub mod schedule;
pub mod shrink;
pub mod state;
pub mod trace;
#[cfg(feature = "zoo")]
pub mod zoo;
