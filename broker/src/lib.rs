//! The broker: sockets, threads and wiring around the crates that decide.
//!
//! Two threads matter. The *data thread* runs one current_thread runtime that owns the shard (`minisr_replica`) and every
//! client connection; the *control thread* runs another with the controller quorum, heartbeats and liveness. They
//! share nothing that can block: they talk over channels, and metadata comes to the data thread as an `Arc` of an
//! immutable image. So a saturated data plane never looks like a death, and full load causes no election.
//!
//! | Module | What it is for |
//! |---|---|
//! | [`broker`] | start order and stop order of everything below |
//! | [`config`] | settings |
//! | [`controller`] | controller quorum: Raft, metadata, registrations, sessions, fencing |
//! | [`control_handle`] | what the data thread may ask of the control thread, and the other way round |
//! | [`peer`] | links between brokers: fetchers, ISR proposals, liveness |

pub mod broker;
pub mod config;
pub mod control_handle;
pub mod controller;
pub mod data_directory;
pub mod durable;
pub mod limits;
pub mod peer;
pub mod tls;
pub mod transport;
