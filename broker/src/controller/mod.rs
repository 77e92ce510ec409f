//! The controller quorum inside the brokers.

pub mod rpc;
pub mod types;
