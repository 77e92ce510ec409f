//! The connections that replica fetches travel on: one loop for each leader broker and fetcher index.
//!
//! A loop takes the shard's newest request, sends it, and hands the answer back; the records in it stay slices of what
//! was read from the socket. What the answer means is the shard's business. A connection belongs to one registration
//! of the leader: a leader that died is silent on QUIC, so when it registers again its old connection is dropped
//! rather than waited for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use minisr_client::connection::{Connection, ConnectionConfig};
use minisr_client::transport::tls::broker_server_name;
use minisr_client::transport::{Address, Dialer};
use minisr_logic::metadata::Image;
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, Offset, TopicId, TopicPartition};
use minisr_replica::{
    EpochEnd, Event, FetchError, FetchPartition, FetchReply, FetchRequest, Fetched, FetchedPartition, FetcherId, Reader,
};
use minisr_wire::ErrorCode;
use minisr_wire::messages::fetch_request::{FetchPartition as AskedPartition, FetchTopic, ReplicaState};
use minisr_wire::messages::fetch_response::PartitionData;
use minisr_wire::messages::{FetchRequest as KafkaFetchRequest, FetchResponse};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::isr;
use crate::api::FLUSHED_OFFSET_TAG;
use crate::api::error_code;
use crate::config::{Protocol, Settings};
use crate::control_handle::ControlHandle;
use crate::shard::{Peers, SendFetch, ShardHandle};

/// The version of Fetch that replicas speak: it carries the replica's broker epoch, topics by id, and the high
/// watermark that the replica knows.
const FETCH_VERSION: i16 = 18;

/// Everything the shard asks of other brokers.
#[derive(Debug)]
pub struct PeerLinks {
    links: Rc<Links>,
    loops: RefCell<BTreeMap<FetcherId, mpsc::UnboundedSender<SendFetch>>>,
    control: ControlHandle,
}

#[derive(Debug)]
struct Links {
    dialer: Dialer,
    listener: Protocol,
    overrides: BTreeMap<BrokerId, Address>,
    answer_time_max: Duration,
    client_id: String,
}

impl PeerLinks {
    /// Dials on the transport of the settings, with this broker's own certificate unless peers are insecure.
    #[must_use]
    pub fn new(settings: &Settings, dialer: Dialer, control: ControlHandle) -> Self {
        let overrides = settings.peer_addresses.iter();
        let links = Links {
            dialer,
            listener: settings.inter_broker_listener(),
            overrides: overrides.map(|(id, at)| (*id, Address::new(at.host.clone(), at.port))).collect(),
            answer_time_max: Duration::from_millis(settings.replica_socket_timeout_ms),
            client_id: format!("broker-{}-fetcher", settings.node_id),
        };
        Self { links: Rc::new(links), loops: RefCell::default(), control }
    }
}

impl Peers for PeerLinks {
    fn send_fetch(&self, shard: &ShardHandle, fetch: SendFetch) {
        let mut loops = self.loops.borrow_mut();
        let inbox = loops.entry(fetch.fetcher).or_insert_with(|| {
            let (sender, inbox) = mpsc::unbounded_channel();
            tokio::task::spawn_local(run(fetch.fetcher, Rc::clone(&self.links), shard.clone(), inbox));
            sender
        });
        assert!(inbox.send(fetch).is_ok(), "a fetch loop ended while the shard runs");
    }

    fn alter_partition(&self, shard: &ShardHandle, proposal: minisr_replica::AlterPartition) {
        tokio::task::spawn_local(isr::propose(self.control.clone(), shard.clone(), proposal));
    }
}

/// What was dialed last, and the registration of the leader that it belonged to. The dialer keeps the QUIC connection
/// under a stream, and must be told to forget it when the leader has registered again.
struct Link {
    connection: Connection,
    address: Address,
    registration: Option<BrokerEpoch>,
}

async fn run(id: FetcherId, links: Rc<Links>, shard: ShardHandle, mut inbox: mpsc::UnboundedReceiver<SendFetch>) {
    let mut link: Option<Link> = None;
    let mut next = inbox.recv().await;
    while let Some(fetch) = next {
        let asked = fetch_once(&links, &shard, &mut link, &fetch);
        let (reply, newer) = tokio::select! {
            biased;
            reply = asked => (reply, None),
            // A newer request makes this one void, and its answer with it.
            newer = inbox.recv() => (Err(FetchFailure::Void), newer),
        };
        let is_void = matches!(reply, Err(FetchFailure::Void));
        match reply {
            Ok(reply) => {
                let correlation = fetch.correlation;
                shard.answer(Event::FetchResponse { fetcher: id, correlation, reply });
            }
            Err(FetchFailure::Void) => {
                // The old request may still wait at the leader, but not in the new one's way: a follower's newer fetch
                // makes the leader answer its older one at once, and the stream drops that answer.
                shard.answer(Event::FetchFailed { fetcher: id, correlation: fetch.correlation });
            }
            Err(failure) => {
                tracing::info!(leader = %id.leader, reason = %failure, "replica fetch failed");
                if let Some(link) = link.take() {
                    links.dialer.forget(&link.address);
                }
                shard.answer(Event::FetchFailed { fetcher: id, correlation: fetch.correlation });
            }
        }
        next = if is_void { newer } else { inbox.recv().await };
    }
}

#[derive(Debug, thiserror::Error)]
enum FetchFailure {
    #[error("a newer request took its place")]
    Void,
    #[error("the metadata has no {0} address of it")]
    NoAddress(&'static str),
    #[error("{0}")]
    Connect(String),
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    Connection(#[from] minisr_client::connection::ConnectionError),
    #[error("it refused the whole request with {0}")]
    Refused(ErrorCode),
    #[error("it answered other partitions than were asked for")]
    Mismatch,
}

async fn fetch_once(
    links: &Links,
    shard: &ShardHandle,
    link: &mut Option<Link>,
    fetch: &SendFetch,
) -> Result<FetchReply, FetchFailure> {
    let leader = fetch.fetcher.leader;
    let registration = shard.image().broker(leader).map(|broker| broker.epoch);
    if let Some(old) = link.take_if(|link| link.registration != registration || link.connection.is_closed()) {
        links.dialer.forget(&old.address);
    }
    let connection = match link.as_ref().map(|link| link.connection.clone()) {
        Some(connection) => connection,
        None => {
            let (connection, address) = connect(links, &shard.image(), leader).await?;
            *link = Some(Link { connection: connection.clone(), address, registration });
            connection
        }
    };
    let deadline = Instant::now() + links.answer_time_max + Duration::from_millis(fetch.request.max_wait_ms);
    let pending = connection.send(&request(&fetch.request), FETCH_VERSION)?;
    let response = tokio::time::timeout_at(deadline, pending.response())
        .await
        .map_err(|_| FetchFailure::Silent(links.answer_time_max))??;
    reply(&fetch.request, response)
}

async fn connect(links: &Links, image: &Image, leader: BrokerId) -> Result<(Connection, Address), FetchFailure> {
    let advertised = || {
        let listener = image.broker(leader)?.listener(links.listener.name())?;
        Some(Address::new(listener.host.clone(), listener.port))
    };
    let address = match links.overrides.get(&leader) {
        Some(address) => address.clone(),
        None => advertised().ok_or(FetchFailure::NoAddress(links.listener.name()))?,
    };
    let stream = links
        .dialer
        .open_as(&address, &broker_server_name(leader.0))
        .await
        .map_err(|error| FetchFailure::Connect(error.to_string()))?;
    let connection = Connection::start(stream, ConnectionConfig::named(links.client_id.clone()));
    tracing::debug!(%leader, %address, "replica fetches connected");
    Ok((connection, address))
}

fn request(fetch: &FetchRequest) -> KafkaFetchRequest {
    let Reader::Replica { id, broker_epoch } = fetch.reader else {
        panic!("a shard fetches as a replica, not as {:?}", fetch.reader);
    };
    let mut topics: Vec<FetchTopic> = Vec::new();
    for partition in &fetch.partitions {
        let topic_id = uuid::Uuid::from_u128(partition.partition.topic.0);
        if topics.last().is_none_or(|topic| topic.topic_id != topic_id) {
            topics.push(FetchTopic::default().with_topic_id(topic_id));
        }
        topics.last_mut().expect("pushed above").partitions.push(asked(partition));
    }
    let replica = ReplicaState::default()
        .with_replica_id(id.0.into())
        .with_replica_epoch(broker_epoch.map_or(-1, |epoch| epoch.0));
    KafkaFetchRequest::default()
        .with_replica_state(replica)
        .with_max_wait_ms(i32_of(fetch.max_wait_ms))
        .with_min_bytes(i32_of(fetch.min_bytes))
        .with_max_bytes(i32_of(fetch.max_bytes))
        .with_session_epoch(-1)
        .with_topics(topics)
}

fn asked(partition: &FetchPartition) -> AskedPartition {
    let asked = AskedPartition::default()
        .with_partition(partition.partition.partition)
        .with_current_leader_epoch(partition.current_leader_epoch.map_or(-1, |epoch| epoch.0))
        .with_fetch_offset(partition.fetch_offset.0)
        .with_last_fetched_epoch(partition.last_fetched_epoch.map_or(-1, |epoch| epoch.0))
        .with_log_start_offset(partition.log_start.map_or(-1, |offset| offset.0))
        .with_high_watermark(partition.high_watermark.map_or(i64::MAX, |offset| offset.0))
        .with_partition_max_bytes(i32_of(partition.max_bytes));
    match partition.flushed {
        Some(flushed) => {
            let value = bytes::Bytes::copy_from_slice(&flushed.0.to_be_bytes());
            asked.with_unknown_tagged_field(FLUSHED_OFFSET_TAG, value)
        }
        None => asked,
    }
}

fn reply(fetch: &FetchRequest, response: FetchResponse) -> Result<FetchReply, FetchFailure> {
    ErrorCode(response.error_code).ok().map_err(FetchFailure::Refused)?;
    let answers = response.responses.into_iter().flat_map(|topic| {
        let id = TopicId(topic.topic_id.as_u128());
        topic.partitions.into_iter().map(move |partition| (id, partition))
    });
    let mut partitions = Vec::new();
    // In the order asked, without those that would say nothing.
    let mut questions = fetch.partitions.iter();
    for (topic, answer) in answers {
        let key = TopicPartition { topic, partition: answer.partition_index };
        let asked = questions.find(|asked| asked.partition == key).ok_or(FetchFailure::Mismatch)?;
        partitions.push(FetchedPartition { partition: key, result: fetched(asked, answer) });
    }
    Ok(FetchReply { partitions })
}

fn fetched(asked: &FetchPartition, answer: PartitionData) -> Result<Fetched, FetchError> {
    match ErrorCode(answer.error_code) {
        ErrorCode::NONE => {}
        ErrorCode::OFFSET_OUT_OF_RANGE => {
            return Err(FetchError::OffsetOutOfRange {
                log_start: Offset(answer.log_start_offset),
                log_end: Offset(answer.high_watermark),
            });
        }
        code => return Err(error_code::fetch_error(code, asked.current_leader_epoch.unwrap_or(Epoch(-1)))),
    }
    let end = answer.diverging_epoch;
    Ok(Fetched {
        records: answer.records.into_iter().filter(|records| !records.is_empty()).collect(),
        high_watermark: Offset(answer.high_watermark),
        last_stable: Offset(answer.last_stable_offset),
        log_start: Offset(answer.log_start_offset),
        preferred_read_replica: None,
        diverging: (end.end_offset >= 0)
            .then_some(EpochEnd { epoch: Epoch(end.epoch), end_offset: Offset(end.end_offset) }),
    })
}

fn i32_of(value: impl TryInto<i32>) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}
