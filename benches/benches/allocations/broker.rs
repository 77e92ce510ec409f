//! The broker's handlers: a produced batch and a fetched one, from the frame of the request to the frames of the
//! reply, without sockets. The broker is number 1 of three; the two followers are sessions that fetch.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use minisr_benches::samples::{FOLLOWERS, Metadata, REPLICATED, SINGLE, batch};
use minisr_broker::api::{Context, Session, Sessions};
use minisr_broker::config::{Protocol, Settings};
use minisr_broker::control_handle::{self, ControlPort};
use minisr_broker::metrics::Metrics;
use minisr_broker::shard::{Peers, SendFetch, ShardHandle};
use minisr_broker::tls::broker_dns_name;
use minisr_broker::transport::connection::{self, ByteSink, Frame, Handled, Limits, Promise, Service};
use minisr_broker::transport::{PeerInfo, Services};
use minisr_logic::{BrokerId, Millis};
use minisr_replica::{AlterPartition, Config, Shard};
use minisr_storage::RealDisk;
use minisr_wire::batch::BatchView;
use minisr_wire::message::encode_request;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;
use uuid::Uuid;

use crate::counted::{Average, Count, ROUNDS, WARM_UP};

const PRODUCE_VERSION: i16 = 11;
/// What replicas speak.
const REPLICA_FETCH_VERSION: i16 = 16;
/// What consumers speak.
const CONSUMER_FETCH_VERSION: i16 = 12;

/// More than the log's tail keeps in memory.
const COLD_BYTES: usize = 4 << 20;

/// Broker 1 leads and asks nobody for anything.
struct NoPeers;

impl Peers for NoPeers {
    fn send_fetch(&self, _: &ShardHandle, fetch: SendFetch) {
        panic!("unexpected {fetch:?}");
    }

    fn alter_partition(&self, _: &ShardHandle, proposal: AlterPartition) {
        panic!("unexpected {proposal:?}");
    }
}

struct Broker {
    sessions: Sessions,
    shard: ShardHandle,
    metadata: Metadata,
    _port: ControlPort,
    _directory: tempfile::TempDir,
}

impl Broker {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let values = [
            ("node.id", "1"),
            ("cluster.id", "bench"),
            ("log.dirs", directory.path().to_str().expect("UTF-8")),
            ("listeners", "QUIC://127.0.0.1:0,CONTROLLER://127.0.0.1:9300"),
            ("controller.quorum.voters", "1@127.0.0.1:9300"),
            ("ssl.truststore.location", "unused"),
            ("ssl.keystore.location", "unused"),
        ];
        let values: BTreeMap<String, String> = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let settings = Arc::new(Settings::from_values(&values).expect("valid settings"));
        let metadata = Metadata::of_three_brokers();
        let (control, port) = control_handle::channel(Arc::clone(&metadata.image));
        let config = Config::new(BrokerId(1));
        let opened = Shard::open(&mut RealDisk, directory.path(), config, Millis(0));
        let (shard, _) = opened.expect("an empty directory opens");
        let shard = ShardHandle::start(shard, Instant::now(), control.image(), Box::new(NoPeers)).expect("a thread");
        shard.registered(metadata.registration(BrokerId(1)));
        let context = Context::new(settings, shard.clone(), control, Rc::new(Metrics::default()));
        Self { sessions: Sessions(Rc::new(context)), shard, metadata, _port: port, _directory: directory }
    }

    /// A connection of a client, or of the broker that has this id.
    fn connect(&self, broker: Option<BrokerId>) -> Session {
        let certificate = broker.map(|id| {
            let names = vec![broker_dns_name(id)];
            rcgen::generate_simple_self_signed(names).expect("a certificate").cert.into()
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        self.sessions.connect(PeerInfo { address, listener: Protocol::Quic, certificate })
    }

    /// A replica's fetch, as the one broker sends it to the other.
    fn replica_fetch(&self, id: BrokerId, offset: i64) -> Bytes {
        let key = self.metadata.partition(REPLICATED);
        let epoch = self.metadata.image.partition(key).expect("a partition").leader_epoch;
        let partition = FetchPartition::default()
            .with_partition(key.partition)
            .with_current_leader_epoch(epoch.0)
            .with_fetch_offset(offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(0)
            .with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic_id(Uuid::from_u128(key.topic.0)).with_partitions(vec![partition]);
        let replica =
            ReplicaState::default().with_replica_id(id.0.into()).with_replica_epoch(self.metadata.registration(id).0);
        let request = FetchRequest::default()
            .with_replica_state(replica)
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(10 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        received(&encode_request(1, Some(&client_id()), &request, REPLICA_FETCH_VERSION).expect("encodable"))
    }
}

fn client_id() -> StrBytes {
    StrBytes::from_static_str("bench")
}

/// A frame as a connection hands it on: cut out of the buffer that it was read into.
fn received(frame: &[u8]) -> Bytes {
    let mut buffer = BytesMut::with_capacity(frame.len());
    buffer.extend_from_slice(frame);
    let mut frame = buffer.split_to(frame.len());
    frame.advance(4);
    frame.freeze()
}

fn produce(topic: &'static str, acks: i16, records: &Bytes) -> Bytes {
    let partition = PartitionProduceData::default().with_records(Some(records.clone()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str(topic)))
        .with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    encode_request(1, Some(&client_id()), &request, PRODUCE_VERSION).expect("encodable")
}

fn consumer_fetch(offset: i64, bytes_max: usize) -> Bytes {
    let partition = FetchPartition::default()
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(bytes_max as i32);
    let topic =
        FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str(SINGLE))).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    received(&encode_request(1, Some(&client_id()), &request, CONSUMER_FETCH_VERSION).expect("encodable"))
}

/// Runs `work` as the broker's data thread.
fn on_data_thread<R>(work: impl AsyncFnOnce(Broker) -> R) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async { work(Broker::start()).await })
}

/// Handles a request whose answer has to wait.
fn handle_later(count: &mut Count, session: &Session, request: Bytes) -> Promise {
    match count.of(|| session.handle(request)) {
        Handled::Later { promise, .. } => promise,
        Handled::Reply(_) => panic!("answered at once"),
        Handled::NoReply => panic!("no reply"),
        Handled::Close(closed) => panic!("closed: {closed}"),
    }
}

/// Handles a request that is answered at once.
fn handle_now(count: &mut Count, session: &Session, request: Bytes) -> Frame {
    match count.of(|| session.handle(request)) {
        Handled::Reply(frame) => frame,
        Handled::Later { .. } => panic!("answered later"),
        Handled::NoReply => panic!("no reply"),
        Handled::Close(closed) => panic!("closed: {closed}"),
    }
}

/// The reply, if it can be given by now.
fn poll(count: &mut Count, promise: &mut Promise) -> Option<Frame> {
    match count.of(|| promise.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()))) {
        Poll::Ready(reply) => Some(reply.unwrap_or_else(|closed| panic!("closed: {closed}"))),
        Poll::Pending => None,
    }
}

/// A follower and its fetch, if that waits at the leader.
struct Follower {
    id: BrokerId,
    session: Session,
    waiting: Option<Promise>,
}

impl Follower {
    fn fetch(&mut self, broker: &Broker, offset: i64, count: &mut Count) {
        let request = broker.replica_fetch(self.id, offset);
        self.waiting = match count.of(|| self.session.handle(request)) {
            Handled::Later { promise, .. } => Some(promise),
            Handled::Reply(_) => None,
            Handled::NoReply | Handled::Close(_) => panic!("a replica fetch is answered"),
        };
    }

    /// Fetches until there is nothing new, not even a high watermark.
    fn catch_up(&mut self, broker: &Broker, offset: i64) {
        let mut count = Count::default();
        while self.waiting.as_mut().is_none_or(|promise| poll(&mut count, promise).is_some()) {
            self.fetch(broker, offset, &mut count);
        }
    }
}

/// A batch produced with acks=all and replicated to two followers: allocations of the produce request, and of one
/// replica fetch that carries the batch.
pub fn replicated(batch_bytes: usize) -> (Average, Average) {
    on_data_thread(async |broker| {
        let records = batch(batch_bytes);
        let record_count = i64::from(BatchView::parse(&records).expect("a batch").record_count());
        let producer = broker.connect(None);
        let mut followers = FOLLOWERS.map(|id| Follower { id, session: broker.connect(Some(id)), waiting: None });
        let (mut produces, mut fetches) = (Count::default(), Count::default());
        let mut end = 0;
        for round in 0..WARM_UP + ROUNDS {
            if round == WARM_UP {
                (produces, fetches) = (Count::default(), Count::default());
            }
            followers.iter_mut().for_each(|follower| follower.catch_up(&broker, end));
            let request = received(&produce(REPLICATED, -1, &records));
            let mut promise = handle_later(&mut produces, &producer, request);
            produces.of(|| broker.shard.settle());
            end += record_count;
            for follower in &mut followers {
                let waiting = follower.waiting.as_mut().expect("it has caught up");
                let fetched = poll(&mut fetches, waiting).expect("there is a batch");
                assert!(fetched.len() > records.len(), "it comes with the answer");
                follower.fetch(&broker, end, &mut fetches);
            }
            assert!(poll(&mut produces, &mut promise).is_some(), "both followers have it");
        }
        (produces.per(ROUNDS), fetches.per(ROUNDS * FOLLOWERS.len() as u32))
    })
}

/// A consumer's fetch of one batch: of the newest, which the log still has in memory, and of one from the disk.
pub fn consumed(batch_bytes: usize) -> (Average, Average) {
    on_data_thread(async |broker| {
        let records = batch(batch_bytes);
        let record_count = i64::from(BatchView::parse(&records).expect("a batch").record_count());
        let session = broker.connect(None);
        let mut end = 0;
        let mut append = || {
            handle_now(&mut Count::default(), &session, received(&produce(SINGLE, 1, &records)));
            end += record_count;
            end
        };
        for _ in 0..COLD_BYTES / records.len() {
            append();
        }
        let (mut hot, mut cold) = (Count::default(), Count::default());
        for round in 0..WARM_UP + ROUNDS {
            if round == WARM_UP {
                (hot, cold) = (Count::default(), Count::default());
            }
            let newest = append() - record_count;
            for (count, offset) in [(&mut hot, newest), (&mut cold, 0)] {
                let frame = handle_now(count, &session, consumer_fetch(offset, records.len()));
                assert!((records.len()..2 * records.len()).contains(&frame.len()), "it carries one batch");
            }
        }
        (hot.per(ROUNDS), cold.per(ROUNDS))
    })
}

/// Takes replies and forgets them.
struct Forgetful;

impl ByteSink for Forgetful {
    async fn write_all_chunks(&mut self, _: &mut [Bytes]) -> std::io::Result<()> {
        Ok(())
    }

    async fn finish(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A stream of equal requests, none of which is at hand while the one before it is handled: requests in a row share what
/// is done for all of them, and how many are in a row depends on their size.
struct OneByOne {
    stream: Vec<u8>,
    request_bytes: usize,
    at: usize,
    has_rested: bool,
}

impl AsyncRead for OneByOne {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let left = self.request_bytes - self.at % self.request_bytes;
        if left == self.request_bytes && !self.has_rested {
            self.has_rested = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_rested = false;
        let end = (self.at + left.min(into.remaining())).min(self.stream.len());
        into.put_slice(&self.stream[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

/// A batch produced with acks=1 through a connection: frames are cut out of the byte stream, handled, and their
/// replies gathered and written.
pub fn through_connection(batch_bytes: usize) -> Average {
    let limits = Limits {
        frame_bytes_max: 100 << 20,
        requests_in_flight_max: 256,
        frame_time_max: Duration::from_secs(30),
        idle_time_max: Duration::from_secs(600),
    };
    on_data_thread(async |broker| {
        let request = produce(SINGLE, 1, &batch(batch_bytes));
        let session = broker.connect(None);
        let serve = async |requests: u32| {
            let stream = request.repeat(requests as usize);
            let stream = OneByOne { stream, request_bytes: request.len(), at: 0, has_rested: false };
            let mut count = Count::default();
            let served = connection::serve(stream, Forgetful, &session, limits, std::future::pending());
            let closed = count.of_future(served).await;
            assert!(matches!(closed, connection::Closed::ByPeer), "{closed}");
            count
        };
        serve(WARM_UP).await;
        // What a connection costs by itself is in both.
        let (few, many) = (serve(ROUNDS).await, serve(2 * ROUNDS).await);
        (many - few).per(ROUNDS)
    })
}
