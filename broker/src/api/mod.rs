//! From a request frame to a reply: one match from API key and version to a handler.
//!
//! Each handler reads: refuse, decide, write, reply. What can be answered in the same turn is ([`Handled::Reply`]);
//! what the shard completes later is a promise; what needs the controller runs as a task of its own, so that it makes
//! progress also while an earlier reply of the same connection is waited for.

mod admin;
mod api_versions;
mod configs;
mod elections;
pub mod error_code;
mod fetch;
mod isr_report;
mod list_offsets;
mod membership;
mod metadata;
mod produce;
mod producer_ids;
mod reassignments;
mod topic_configs;
pub mod versions;

pub use fetch::FLUSHED_OFFSET_TAG;

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use minisr_logic::metadata::{Command, Image, Reply};
use minisr_logic::{BrokerEpoch, BrokerId};
use minisr_wire::header::take_request_head;
use minisr_wire::message::{decode_request, encode_response};
use minisr_wire::protocol::{Encodable, HeaderVersion, Request};
use minisr_wire::{ApiKey, RequestHead};

use crate::config::{Protocol, Settings};
use crate::control_handle::{ControlHandle, ProposeError};
use crate::limits;
use crate::metrics::Metrics;
use crate::shard::ShardHandle;
use crate::transport::connection::{Closed, Frame, Handled, Service};
use crate::transport::{PeerInfo, Services};
use producer_ids::ProducerIds;

/// What every handler may use; shared by all connections.
#[derive(Debug)]
pub struct Context {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The replicas.
    pub shard: ShardHandle,
    /// The controller, and the metadata it publishes.
    pub control: ControlHandle,
    /// The counters.
    pub metrics: Rc<Metrics>,
    /// This process's registration, once there is one.
    pub broker_epoch: Cell<Option<BrokerEpoch>>,
    producer_ids: ProducerIds,
}

impl Context {
    /// For the whole data thread.
    #[must_use]
    pub fn new(settings: Arc<Settings>, shard: ShardHandle, control: ControlHandle, metrics: Rc<Metrics>) -> Self {
        let producer_ids = ProducerIds::default();
        Self { settings, shard, control, metrics, broker_epoch: Cell::new(None), producer_ids }
    }

    /// Asks the controller, and on success lets the shard see the change too, so that whoever is told of it finds it.
    async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        let reply = self.control.propose(command).await?;
        self.shard.publish(self.control.image());
        Ok(reply)
    }

    /// The metadata as the shard sees it.
    fn image(&self) -> Arc<Image> {
        self.shard.image()
    }
}

/// Makes a [`Session`] for each connection.
#[derive(Clone, Debug)]
pub struct Sessions(pub Rc<Context>);

impl Services for Sessions {
    type Service = Session;

    fn connect(&self, peer: PeerInfo) -> Session {
        Session { context: Rc::clone(&self.0), peer, verified: Cell::new(None) }
    }
}

/// One connection's requests.
#[derive(Debug)]
pub struct Session {
    context: Rc<Context>,
    peer: PeerInfo,
    /// The broker id that the peer's certificate was last checked for, successfully.
    verified: Cell<Option<BrokerId>>,
}

impl Service for Session {
    fn handle(&self, mut request: Bytes) -> Handled {
        self.context.metrics.requests.add(1);
        self.context.metrics.request_bytes.add(request.len() as u64);
        let head = match take_request_head(&mut request) {
            // Nobody asks for the client's name, which would share the frame's buffer (see `produce.rs`).
            Ok(head) => RequestHead { client_id: None, ..head },
            Err(error) => return Handled::Close(Closed::Invalid(error.to_string())),
        };
        self.dispatch(&head, request).unwrap_or_else(Handled::Close)
    }
}

impl Session {
    fn dispatch(&self, head: &RequestHead, body: Bytes) -> Result<Handled, Closed> {
        let version = head.api_version;
        let Some(api) = head.api().filter(|api| versions::is_served(*api, version)) else {
            return self.refuse_version(head);
        };
        let kept_bytes = kept_bytes(api, &body);
        let handled = self.handle_decodable(api, head, body)?;
        Ok(match handled {
            Handled::Later { promise, bytes_max } => Handled::Later { promise, bytes_max: bytes_max + kept_bytes },
            other => other,
        })
    }

    fn handle_decodable(&self, api: ApiKey, head: &RequestHead, body: Bytes) -> Result<Handled, Closed> {
        match api {
            ApiKey::Produce => produce::handle(self, head, decode(head, body.clone())?, body),
            ApiKey::Fetch => fetch::handle(self, head, decode(head, body)?),
            ApiKey::ListOffsets => list_offsets::list_offsets(self, head, decode(head, body)?),
            ApiKey::OffsetForLeaderEpoch => list_offsets::epoch_ends(self, head, decode(head, body)?),
            ApiKey::Metadata => metadata::handle(self, head, decode(head, body)?),
            ApiKey::DescribeCluster => metadata::describe_cluster(self, head, &decode(head, body)?),
            ApiKey::ApiVersions => api_versions::handle(head, &decode(head, body)?),
            ApiKey::CreateTopics => admin::create_topics(self, head, decode(head, body)?),
            ApiKey::DeleteTopics => admin::delete_topics(self, head, decode(head, body)?),
            ApiKey::ElectLeaders => elections::handle(self, head, decode(head, body)?),
            ApiKey::InitProducerId => producer_ids::handle(self, head, &decode(head, body)?),
            ApiKey::AlterPartitionReassignments => reassignments::alter(self, head, decode(head, body)?),
            ApiKey::ListPartitionReassignments => reassignments::list(self, head, &decode(head, body)?),
            ApiKey::CreatePartitions => reassignments::create_partitions(self, head, decode(head, body)?),
            ApiKey::IncrementalAlterConfigs => configs::alter(self, head, decode(head, body)?),
            ApiKey::DescribeConfigs => configs::describe(self, head, &decode(head, body)?),
            ApiKey::DescribeQuorum => membership::describe_quorum(self, head, &decode(head, body)?),
            ApiKey::AddRaftVoter => membership::add_voter(self, head, decode(head, body)?),
            ApiKey::RemoveRaftVoter => membership::remove_voter(self, head, decode(head, body)?),
            ApiKey::UnregisterBroker => membership::unregister(self, head, &decode(head, body)?),
            _ => unreachable!("versions::is_served knows only the APIs above"),
        }
    }

    /// ApiVersions has an answer for versions from the future. No other request has: the peer ignored what it was
    /// told, and the shape of a reply it would understand is unknown.
    fn refuse_version(&self, head: &RequestHead) -> Result<Handled, Closed> {
        match head.api() {
            Some(ApiKey::ApiVersions) => api_versions::unsupported_version(head),
            _ => Err(Closed::Invalid(format!("version {} of API {} is not served", head.api_version, head.api_key))),
        }
    }

    /// Whether the peer may act as replica `id`: its certificate must say so, unless plaintext peers are believed
    /// (`--insecure-peers`).
    fn may_act_as(&self, id: BrokerId) -> bool {
        if self.verified.get() == Some(id) {
            return true;
        }
        let is_believed = self.context.settings.insecure_peers && self.peer.listener == Protocol::Plaintext;
        if is_believed || self.peer.is_broker(id) {
            self.verified.set(Some(id));
            return true;
        }
        tracing::warn!(
            peer = %self.peer.address,
            claimed = %id,
            has_certificate = self.peer.certificate.is_some(),
            "request refused: the peer is not the broker it claims to be"
        );
        false
    }
}

/// What a request may take in memory until its promised reply is written. It counts like the reply itself, so a peer
/// that sends much and is answered late is read no further.
fn kept_bytes(api: ApiKey, body: &Bytes) -> usize {
    match api {
        // Its batches are the log's by then; what the answer needs is less than the frame was.
        ApiKey::Produce => body.len(),
        _ => body.len() * limits::DECODED_BYTES_PER_BYTE,
    }
}

fn decode<R: Request>(head: &RequestHead, body: Bytes) -> Result<R, Closed> {
    decode_request(body, head.api_version)
        .map_err(|error| Closed::Invalid(format!("API {} version {}: {error}", head.api_key, head.api_version)))
}

fn encode<M: Encodable + HeaderVersion>(head: &RequestHead, response: &M) -> Result<Frame, Closed> {
    match encode_response(head.correlation_id, response, head.api_version) {
        Ok(frame) => Ok(Frame::Whole(frame)),
        Err(error) => Err(Closed::Invalid(format!("the reply to API {} cannot be encoded: {error}", head.api_key))),
    }
}

fn reply<M: Encodable + HeaderVersion>(head: &RequestHead, response: &M) -> Result<Handled, Closed> {
    encode(head, response).map(Handled::Reply)
}

/// Lets `work` run by itself and promises its result, so that it does not wait for its turn to be answered.
fn promise_task(work: impl Future<Output = Result<Frame, Closed>> + 'static) -> Handled {
    let task = tokio::task::spawn_local(work);
    let promise = Box::pin(async move {
        task.await.unwrap_or_else(|error| Err(Closed::Invalid(format!("the handler failed: {error}"))))
    });
    // The reply of such work is not much larger than the request, which is counted by the caller.
    Handled::Later { promise, bytes_max: 0 }
}

#[cfg(test)]
mod tests;
