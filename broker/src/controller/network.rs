//! Raft's RPC over control RPC.
//!
//! Every message names the Raft directory it is meant for, and only that directory takes it: a vote must never be
//! given by the successor of a directory that was wiped.

use std::time::Duration;

use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};

use super::peers::Peers;
use super::rpc::client::RpcError;
use super::rpc::{RaftRequest, RaftResponse, Request, Response};
use super::types::{Node, NodeId, TypeConfig};
use crate::config::HostPort;

/// How soon an unreachable node is tried again. A restarted broker waits this long for its first entry.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Makes clients to nodes.
pub struct Network {
    peers: Peers,
}

/// A client to one node.
pub struct NodeClient {
    peers: Peers,
    target: NodeId,
    node: Node,
}

/// Why a message did not get through.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error("node {wanted} is gone: {found} is in its place")]
    WrongNode { wanted: NodeId, found: NodeId },
    #[error("the answer is of the wrong kind")]
    WrongAnswer,
}

type Failure<E> = RPCError<NodeId, Node, RaftError<NodeId, E>>;

impl Network {
    /// Clients over `peers`.
    #[must_use]
    pub fn new(peers: Peers) -> Self {
        Self { peers }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = NodeClient;

    async fn new_client(&mut self, target: NodeId, node: &Node) -> NodeClient {
        NodeClient { peers: self.peers.clone(), target, node: node.clone() }
    }
}

impl NodeClient {
    async fn ask(&self, message: RaftRequest) -> Result<RaftResponse, Undelivered> {
        let request = Request::Raft { to: self.target, message };
        let broker = self.node.broker_id();
        let response = match self.peers.address(broker).or_else(|| HostPort::parse(&self.node.address)) {
            Some(address) => self.peers.ask_at(broker, &address, request).await?,
            None => self.peers.ask(broker, request).await?,
        };
        match response {
            Response::Raft(RaftResponse::WrongNode { node }) => {
                Err(Undelivered::WrongNode { wanted: self.target, found: node })
            }
            Response::Raft(response) => Ok(response),
            _ => Err(Undelivered::WrongAnswer),
        }
    }

    fn remote<E: std::error::Error>(&self, error: RaftError<NodeId, E>) -> Failure<E> {
        RPCError::RemoteError(RemoteError::new_with_node(self.target, self.node.clone(), error))
    }
}

/// A broken connection is tried again at once; everything else waits a moment.
fn undelivered<E: std::error::Error>(error: &Undelivered) -> Failure<E> {
    match error {
        Undelivered::Rpc(RpcError::Broken { .. }) => RPCError::Network(NetworkError::new(error)),
        _ => RPCError::Unreachable(Unreachable::new(error)),
    }
}

impl RaftNetwork<TypeConfig> for NodeClient {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Failure<openraft::error::Infallible>> {
        match self.ask(RaftRequest::Append(rpc)).await {
            Ok(RaftResponse::Append(answer)) => answer.map_err(|e| self.remote(e)),
            Ok(_) => Err(undelivered(&Undelivered::WrongAnswer)),
            Err(error) => Err(undelivered(&error)),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, Failure<InstallSnapshotError>> {
        match self.ask(RaftRequest::Snapshot(rpc)).await {
            Ok(RaftResponse::Snapshot(answer)) => answer.map_err(|e| self.remote(e)),
            Ok(_) => Err(undelivered(&Undelivered::WrongAnswer)),
            Err(error) => Err(undelivered(&error)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, Failure<openraft::error::Infallible>> {
        match self.ask(RaftRequest::Vote(rpc)).await {
            Ok(RaftResponse::Vote(answer)) => answer.map_err(|e| self.remote(e)),
            Ok(_) => Err(undelivered(&Undelivered::WrongAnswer)),
            Err(error) => Err(undelivered(&error)),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY_INTERVAL))
    }
}
