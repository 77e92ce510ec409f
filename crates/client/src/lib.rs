//! The async client of minisr, over QUIC and TCP: for the load generator, the chaos runner, and brokers' peers.
//!
//! * [`transport`]: byte streams, and every transport setting in one place.
//! * [`connection`]: one ordered, pipelined Kafka connection on a byte stream.
//! * [`sasl`]: who we are, where a broker wants to know.
//! * [`client`]: the way to brokers and what is known of the cluster ([`metadata`]), shared by what follows.
//! * [`admin`]: topics and offsets.
//! * [`producer`]: batches, windows, idempotence, retries, and outcomes that can be trusted.
//! * [`consumer`]: partitions assigned at offsets, raw batches out; the final reads of a verification.
//! * [`history`]: the event format that checkers read.
//!
//! All futures are `Send`.

pub mod admin;
pub mod backoff;
pub mod client;
pub mod connection;
pub mod consumer;
pub mod history;
pub mod metadata;
pub mod producer;
pub mod sasl;
pub mod transport;

pub use admin::{
    Admin, ConfigResource, Elected, Election, NewTopic, OffsetSpec, OngoingReassignment, QuorumInfo, Reassignment,
};
pub use client::{Client, ClientConfig, ClientError};
pub use connection::{Connection, ConnectionConfig, ConnectionError};
pub use consumer::{Consumer, ConsumerConfig, Fetched, OffsetReset, read_all};
pub use metadata::ClusterView;
pub use producer::{Producer, ProducerConfig};
pub use sasl::{Password, SaslCredentials, SaslError, SaslMechanism};
pub use transport::{Address, Dialer, TlsFiles, Transport};
