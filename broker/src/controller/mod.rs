//! The controller quorum inside the brokers.

pub mod journal;
pub mod log_store;
pub mod network;
pub mod peers;
pub mod rpc;
pub mod sessions;
pub mod state_machine;
pub mod types;
