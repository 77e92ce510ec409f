//! `partition.metadata` and `meta.properties`.

use super::CheckpointError;
use std::collections::BTreeMap;

/// The digits of Kafka's text form of a UUID: URL-safe Base64 without padding.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const UUID_TEXT_LENGTH: usize = 22;

/// A UUID as Kafka's tools write it.
fn uuid_text(id: u128) -> String {
    // 22 digits carry 132 bits: the last digit holds two bits and four zeros.
    let digit = |at: usize| {
        let shift = 122_i32 - 6 * i32::try_from(at).expect("22 digits");
        let bits = if shift >= 0 { id >> shift } else { id << -shift };
        DIGITS[(bits & 0x3f) as usize] as char
    };
    (0..UUID_TEXT_LENGTH).map(digit).collect()
}

fn uuid_of(text: &str) -> Option<u128> {
    if text.len() != UUID_TEXT_LENGTH {
        return None;
    }
    let mut id = 0_u128;
    for (at, byte) in text.bytes().enumerate() {
        let digit = DIGITS.iter().position(|known| *known == byte)? as u128;
        id = if at + 1 < UUID_TEXT_LENGTH { (id << 6) | digit } else { (id << 2) | (digit >> 4) };
    }
    Some(id)
}

/// What a partition's directory says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// The topic's id: tells a recreated topic from its namesake.
    pub topic_id: u128,
}

impl PartitionMetadata {
    /// The content of `partition.metadata`.
    #[must_use]
    pub fn encode(&self) -> String {
        format!("version: 0\ntopic_id: {}\n", uuid_text(self.topic_id))
    }

    /// Reads `partition.metadata`.
    pub fn decode(text: &str) -> Result<Self, CheckpointError> {
        let malformed = |reason| CheckpointError::malformed(super::PARTITION_METADATA, reason);
        let mut lines = text.lines();
        if lines.next() != Some("version: 0") {
            return Err(malformed("version is not 0"));
        }
        let id = lines.next().and_then(|line| uuid_of(line.strip_prefix("topic_id: ")?));
        id.map(|topic_id| Self { topic_id }).ok_or_else(|| malformed("no topic id"))
    }
}

/// Whose data directory this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// `node.id` of the broker.
    pub node_id: i32,
    /// The cluster's id.
    pub cluster_id: String,
    /// The directory's own id, made when it was first used.
    pub directory_id: u128,
}

impl MetaProperties {
    /// The content of `meta.properties`.
    #[must_use]
    pub fn encode(&self) -> String {
        let Self { node_id, cluster_id, directory_id } = self;
        let directory_id = uuid_text(*directory_id);
        format!("version=1\ncluster.id={cluster_id}\nnode.id={node_id}\ndirectory.id={directory_id}\n")
    }

    /// Reads `meta.properties`.
    pub fn decode(text: &str) -> Result<Self, CheckpointError> {
        let malformed = |reason| CheckpointError::malformed(super::META_PROPERTIES, reason);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values: BTreeMap<&str, &str> = lines.filter_map(|line| line.split_once('=')).collect();
        if values.get("version") != Some(&"1") {
            return Err(malformed("version is not 1"));
        }
        Ok(Self {
            node_id: values
                .get("node.id")
                .and_then(|id| id.parse().ok())
                .ok_or_else(|| malformed("node.id is not a number"))?,
            cluster_id: values.get("cluster.id").ok_or_else(|| malformed("no cluster.id"))?.to_string(),
            directory_id: values
                .get("directory.id")
                .and_then(|id| uuid_of(id))
                .ok_or_else(|| malformed("directory.id is not an id"))?,
        })
    }
}
