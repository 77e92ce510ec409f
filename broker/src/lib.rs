//! The broker: sockets, threads and wiring around the crates that decide.
//!
//! Two threads matter. The *data thread* runs one current_thread runtime that owns the shard (`minisr_replica`) and every
//! client connection; the *control thread* runs another with the controller quorum, heartbeats and liveness. They
//! share nothing that can block: they talk over channels, and metadata comes to the data thread as an `Arc` of an
//! immutable image. So a saturated data plane never looks like a death, and full load causes no election.
//!
//! | Module | What it is for |
//! |---|---|
//! | [`api`] | from a request frame to a reply, one file for each family of requests |
//! | [`broker`] | start order and stop order of everything below |
//! | [`config`] | settings |
//! | [`controller`] | controller quorum: Raft, metadata, registrations, sessions, fencing |
//! | [`control_handle`] | what the data thread may ask of the control thread, and the other way round |
//! | [`data_plane`] | the data thread, seen from outside |
//! | [`limits`], [`open_files`], [`metrics`] | bounds that are no settings; what is counted |
//! | [`peer`] | links between brokers: fetchers, ISR proposals, liveness |
//! | [`shard`] | the shard on the data thread: steps, timers, the flush thread |
//! | [`transport`] | listeners and connections over QUIC, TCP and TLS |

pub mod api;
pub mod broker;
pub mod config;
pub mod control_handle;
pub mod controller;
pub mod data_directory;
pub mod data_plane;
pub mod durable;
pub mod durable_cell;
pub mod limits;
pub mod metrics;
pub mod open_files;
pub mod peer;
pub mod shard;
pub mod tls;
pub mod transport;
