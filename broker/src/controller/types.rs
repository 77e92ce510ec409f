//! The types openraft is instantiated with.

use std::fmt;
use std::io::Cursor;

use minisr_logic::BrokerId;
use minisr_logic::metadata::{Command, CommandError, Reply};
use serde::{Deserialize, Serialize};

/// A Raft node's id: the id of its Raft *directory*, drawn when the directory was made. A broker that lost its
/// directory comes back as another node, because it has forgotten its vote.
pub type NodeId = u64;

/// What applying a command gave.
pub type Outcome = Result<Reply, CommandError>;

/// What applying one log entry gave: `None` for the entries that are Raft's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Applied(pub Option<Outcome>);

/// The broker behind a Raft node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its broker id.
    pub broker: i32,
    /// Its CONTROLLER address when it joined, `host:port`.
    pub address: String,
}

impl Node {
    /// The broker behind this node.
    #[must_use]
    pub fn broker_id(&self) -> BrokerId {
        BrokerId(self.broker)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {} at {}", self.broker, self.address)
    }
}

openraft::declare_raft_types!(
    /// openraft, with metadata commands in its log.
    pub TypeConfig:
        D = Command,
        R = Applied,
        NodeId = NodeId,
        Node = Node,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

/// The Raft node of this process.
pub type Raft = openraft::Raft<TypeConfig>;
/// One entry of the metadata log.
pub type Entry = openraft::Entry<TypeConfig>;
/// A position in the metadata log.
pub type LogId = openraft::LogId<NodeId>;
/// A vote.
pub type Vote = openraft::Vote<NodeId>;
/// The quorum and the learners, with the position of the entry that set them.
pub type StoredMembership = openraft::StoredMembership<NodeId, Node>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::SnapshotMeta<NodeId, Node>;
/// A failure of the log or the state machine; fatal to the Raft node.
pub type StorageError = openraft::StorageError<NodeId>;
