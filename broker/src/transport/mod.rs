//! Listeners and connections.
pub mod connection;
