//! The async client of minisr, over QUIC and TCP: for the load generator, the chaos runner, and brokers' peers.
//!
//! * [`transport`]: byte streams, and every transport setting in one place.
//! * [`connection`]: one ordered, pipelined Kafka connection on a byte stream.
//!
//! All futures are `Send`.

pub mod connection;
pub mod transport;

pub use connection::{Connection, ConnectionConfig, ConnectionError};
pub use transport::{Address, Dialer, TlsFiles, Transport};
