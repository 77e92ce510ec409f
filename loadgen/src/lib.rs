//! The load generator of minisr: measures what acks, replication factor and min.insync.replicas cost.
//!
//! In reading order:
//!
//! * [`cli`], [`settings`], [`security`] and [`target`]: what is asked for, and of whom; [`plan`]: the cells, and what makes a combination impossible.
//! * [`sweep`]: the whole run, from the thread that watches; [`load`]: one phase of one cell, in a thread of its own.
//! * [`clock`], [`record`], [`producer`], [`consumer`]: the planned instants, and what is done at them, behind the
//!   seam of [`driver`].
//! * [`tally`]: counts and histograms; [`verify`]: whether what was acknowledged can be read;
//!   [`watch`], [`offsets`] and [`usage`]: what the cluster did meanwhile.
//! * [`outcome`]: all of it for one phase, whether it is valid, and the row it becomes; [`report`]: the files.
//! * [`ceiling`], [`environment`]: the yardstick and the circumstances; [`ballast`]: memory that the machine has at
//!   hand; [`compare`]: two runs; [`peers`]: minisr beside Apache Kafka in one run; [`reach`]: the measures that have to
//!   be met, row by row.
//!
//! What holds: a record's time starts at its planned instant, whatever happens; a histogram merges and a percentile
//! never does; what was not measured is blank; a result that cannot be trusted says so itself.

pub mod ballast;
pub mod ceiling;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod consumer;
pub mod driver;
pub mod environment;
pub mod experiment;
pub mod free_space;
pub mod load;
pub mod offsets;
pub mod outcome;
pub mod peers;
pub mod plan;
pub mod producer;
pub mod progress;
pub mod reach;
pub mod record;
pub mod report;
pub mod security;
pub mod settings;
pub mod sweep;
pub mod tally;
pub mod target;
pub mod usage;
pub mod verify;
pub mod watch;
