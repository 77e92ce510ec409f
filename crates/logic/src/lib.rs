//! Every decision minisr makes, and nothing else.
//!
//! This crate has no dependencies, no clock, no randomness, no files and no threads: time comes in as an
//! argument, everything that must happen goes out as a return value. Maps are ordered (`BTreeMap`), so a run
//! with the same inputs takes the same steps. A reviewer checks the manifest to know that this is so.
//!
//! * [`partition`]: one replica of one partition: leader, follower or offline.
//! * [`metadata`]: the cluster's metadata, changed only by commands applied in order.
//! * [`zoo`]: historical bugs that simulator builds can plant, and no other build contains.

pub mod metadata;
pub mod partition;
pub mod zoo;

mod ids;

pub use ids::{BrokerEpoch, BrokerId, Epoch, Millis, Offset, PartitionEpoch, TopicId, TopicPartition};
