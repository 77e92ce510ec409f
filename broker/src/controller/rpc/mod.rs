//! Control RPC: what brokers say to one another on the CONTROLLER listener.
//!
//! TCP with mutual TLS, because the kernel closes a dead process's TCP connections at once, while QUIC is silent. The
//! first frame is a [`Hello`], which must name the same cluster and a broker id that the peer's certificate carries;
//! a peer without a certificate does not get through the TLS handshake. Then follow [`Request`]s with ids, answered
//! with [`Response`]s in any order. A connection opened with [`Purpose::Liveness`] carries nothing more: its end is
//! the message.
//!
//! A frame is a `u32` length (big-endian) and that many bytes of postcard. The length is checked before memory is
//! taken for it.

pub mod client;
pub mod frame;
pub mod server;

use minisr_logic::metadata::Command;
use minisr_logic::{BrokerEpoch, BrokerId};
use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::types::{LogId, NodeId, Outcome, TypeConfig};

/// Raised with every incompatible change of the messages below.
pub const PROTOCOL_VERSION: u32 = 1;

/// First frame of the dialing side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`].
    pub version: u32,
    /// `cluster.id`.
    pub cluster_id: String,
    /// Who dials; the certificate must be that broker's.
    pub broker: BrokerId,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Requests and responses.
    Rpc,
    /// Nothing but the notice of its end.
    Liveness,
}

/// Answer to [`Hello`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Welcome {
    /// Go on.
    Accepted {
        /// The process that answers.
        incarnation: u128,
    },
    /// The connection is closed after this.
    Refused(String),
}

/// A question, with the id that its answer repeats.
#[derive(Debug, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// Chosen by who asks, unique on the connection.
    pub id: u64,
    /// Question or answer.
    pub body: T,
}

/// What one broker asks of another.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Which Raft directory is there, and does it know a cluster?
    Describe,
    /// To the Raft leader: this directory is not in the membership and wants to follow.
    Join {
        /// The directory's id.
        node: NodeId,
        /// The CONTROLLER address of the broker that asks.
        address: String,
    },
    /// Raft's own traffic.
    Raft {
        /// The directory meant. A vote or an entry must never reach the successor of a wiped directory.
        to: NodeId,
        /// The message.
        message: RaftRequest,
    },
    /// To the Raft leader: append and apply this command.
    Propose(Command),
    /// To the active controller: this process lives.
    Heartbeat(Heartbeat),
    /// To the active controller: the liveness connection to this process broke and cannot be made again.
    Suspect {
        /// Who.
        broker: BrokerId,
        /// Which of its processes.
        incarnation: u128,
    },
    /// Before a candidacy: would you vote for a log that ends there? Binds nobody.
    WouldVote {
        /// The directory meant.
        to: NodeId,
        /// Where the candidate's log ends.
        last: Option<LogId>,
    },
    /// Are you there, and which process are you?
    Probe,
}

/// Raft's own questions.
#[derive(Debug, Serialize, Deserialize)]
pub enum RaftRequest {
    /// Entries, or a heartbeat.
    Append(AppendEntriesRequest<TypeConfig>),
    /// A candidate asks for a vote.
    Vote(VoteRequest<NodeId>),
    /// A piece of a snapshot.
    Snapshot(InstallSnapshotRequest<TypeConfig>),
}

/// A broker's heartbeat.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Its broker epoch.
    pub epoch: BrokerEpoch,
    /// The last metadata log index it has applied.
    pub applied_index: u64,
    /// Whether it wishes to be unfenced. Not before its epoch is on its disk, nor when it is stopping.
    pub wants_unfence: bool,
}

/// What one broker answers another.
#[derive(Debug, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Describe`].
    Description(Description),
    /// To [`Request::Join`]: it will be taken in. `false`: not here, ask the leader.
    Joining(bool),
    /// To [`Request::Raft`].
    Raft(RaftResponse),
    /// To [`Request::Propose`].
    Proposed(Proposed),
    /// To [`Request::Heartbeat`].
    Heartbeat(HeartbeatReply),
    /// To [`Request::Suspect`]: it is being looked into. `false`: not here, ask the leader.
    Noted(bool),
    /// To [`Request::WouldVote`].
    WouldVote(bool),
    /// To [`Request::Probe`].
    Alive {
        /// The process that answers.
        incarnation: u128,
    },
}

/// What a broker says of its Raft directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The directory's id.
    pub node: NodeId,
    /// Whether it holds a log or a vote.
    pub is_initialized: bool,
    /// Its `controller.quorum.voters`, as text; who forms a quorum must agree with it.
    pub voters: String,
}

/// Raft's own answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum RaftResponse {
    /// To [`RaftRequest::Append`].
    Append(Result<AppendEntriesResponse<NodeId>, RaftError<NodeId>>),
    /// To [`RaftRequest::Vote`].
    Vote(Result<VoteResponse<NodeId>, RaftError<NodeId>>),
    /// To [`RaftRequest::Snapshot`].
    Snapshot(Result<InstallSnapshotResponse<NodeId>, RaftError<NodeId, InstallSnapshotError>>),
    /// Another directory is here now.
    WrongNode {
        /// Its id.
        node: NodeId,
    },
}

/// What became of a proposal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Proposed {
    /// It was applied at this index.
    Applied {
        /// The index.
        index: u64,
        /// What applying gave.
        outcome: Outcome,
    },
    /// This is not the Raft leader; nothing was proposed.
    NotLeader {
        /// Who is, as far as this broker knows.
        leader: Option<BrokerId>,
    },
    /// It may or may not be applied.
    Unknown,
}

/// Answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeartbeatReply {
    /// Noted.
    Accepted {
        /// Whether the controller holds the broker for fenced.
        fenced: bool,
    },
    /// This is not the active controller; nothing was noted.
    NotActive {
        /// Who is, as far as this broker knows.
        leader: Option<BrokerId>,
    },
    /// Another life of this broker is registered, or none.
    StaleEpoch,
}
