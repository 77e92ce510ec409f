//! A cluster of fake brokers in one process, with a script of faults: just enough of Kafka for the client's tests.
//!
//! Idempotent sequences are checked as a broker must, so a client that reorders, skips or repeats is found out.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use minisr_client::transport::{Address, ByteStream, ReadHalf, Transport, WriteHalf};
use minisr_client::{Client, ClientConfig};
use minisr_wire::batch::{self, BatchView, sequence_after};
use minisr_wire::header::take_request_head;
use minisr_wire::message::{decode_request, encode_response};
use minisr_wire::messages::api_versions_response::ApiVersion;
use minisr_wire::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use minisr_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use minisr_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use minisr_wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use minisr_wire::messages::*;
use minisr_wire::{ErrorCode, FrameSplitter, StrBytes};
use tokio::net::TcpListener;

/// What happens to one batch of a Produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing special.
    None,
    /// Refused with this code, not appended.
    Refuse(ErrorCode),
    /// Appended, answered with this code.
    AppendAndAnswer(ErrorCode),
    /// Appended; the connection is closed instead of an answer.
    AppendAndClose,
    /// Not appended; the connection is closed instead of an answer.
    Close,
    /// Appended; never answered, and the connection says nothing any more.
    AppendAndFallSilent,
    /// Not appended, forgotten; never answered.
    FallSilent,
}

#[derive(Debug, Default)]
struct ProducerState {
    epoch: i16,
    next_sequence: i32,
    /// Base sequence, count and offset of the last five batches.
    recent: VecDeque<(i32, i32, i64)>,
}

#[derive(Debug)]
pub struct Partition {
    pub leader: i32,
    pub epoch: i32,
    pub batches: Vec<Bytes>,
    pub end: i64,
    producers: BTreeMap<i64, ProducerState>,
}

impl Partition {
    /// All values in the log, in order.
    pub fn values(&self) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        for bytes in &self.batches {
            let view = BatchView::parse(bytes).unwrap();
            view.check_crc().unwrap();
            values.extend(batch::records(&view).unwrap().map(|record| record.unwrap().value.unwrap().to_vec()));
        }
        values
    }

    fn append(&mut self, bytes: &Bytes) -> Result<i64, ErrorCode> {
        let view = batch::check_produce(bytes, 9, usize::MAX).map_err(|error| error.code())?;
        let count = view.record_count();
        if view.producer_id() >= 0 {
            let state = self.producers.entry(view.producer_id()).or_insert_with(|| ProducerState {
                epoch: view.producer_epoch(),
                next_sequence: view.base_sequence(),
                recent: VecDeque::new(),
            });
            if view.producer_epoch() < state.epoch {
                return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            if view.producer_epoch() > state.epoch {
                if view.base_sequence() != 0 {
                    return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
                }
                *state = ProducerState { epoch: view.producer_epoch(), ..ProducerState::default() };
            }
            if let Some(&(.., offset)) =
                state.recent.iter().find(|&&(base, known, _)| base == view.base_sequence() && known == count)
            {
                return Ok(offset);
            }
            if view.base_sequence() != state.next_sequence {
                return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
            state.next_sequence = sequence_after(view.base_sequence(), count);
            state.recent.push_back((view.base_sequence(), count, self.end));
            if state.recent.len() > 5 {
                state.recent.pop_front();
            }
        }
        let offset = self.end;
        let mut stamped = bytes.to_vec();
        batch::stamp(&mut stamped, offset, self.epoch);
        self.batches.push(stamped.into());
        self.end += i64::from(count);
        Ok(offset)
    }
}

#[derive(Debug, Default)]
pub struct State {
    pub addresses: BTreeMap<i32, Address>,
    pub topics: BTreeMap<String, Vec<Partition>>,
    /// One for each batch that arrives, in order.
    pub faults: VecDeque<Fault>,
    /// (broker, partition, base sequence, producer epoch) of each batch that arrived.
    pub arrived: Vec<(i32, i32, i32, i16)>,
    pub next_producer_id: i64,
    pub metadata_asked: usize,
    /// Brokers that accept but never say anything.
    pub silent: Vec<i32>,
}

impl State {
    pub fn partition(&mut self, topic: &str, partition: i32) -> &mut Partition {
        &mut self.topics.get_mut(topic).unwrap()[partition as usize]
    }

    /// Moves leadership.
    pub fn elect(&mut self, topic: &str, partition: i32, leader: i32) {
        let partition = self.partition(topic, partition);
        partition.leader = leader;
        partition.epoch += 1;
    }
}

#[derive(Clone, Debug)]
pub struct FakeCluster {
    state: Arc<Mutex<State>>,
}

impl FakeCluster {
    /// Brokers 1 to `brokers`, listening on TCP.
    pub async fn start(brokers: i32) -> Self {
        let cluster = Self { state: Arc::default() };
        for id in 1..=brokers {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = Address::new("127.0.0.1", listener.local_addr().unwrap().port());
            cluster.state().addresses.insert(id, address);
            let cluster = cluster.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    let (reader, writer) = stream.into_split();
                    let stream = ByteStream { reader: ReadHalf::Tcp(reader), writer: WriteHalf::Tcp(writer) };
                    tokio::spawn(cluster.clone().serve(id, stream));
                }
            });
        }
        cluster
    }

    pub fn without_brokers() -> Self {
        Self { state: Arc::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Adds a topic; partition p is led by broker p mod n + 1.
    pub fn topic(&self, name: &str, partitions: i32) {
        let mut state = self.state();
        let brokers = state.addresses.len().max(1) as i32;
        let partitions = (0..partitions)
            .map(|index| Partition {
                leader: index % brokers + 1,
                epoch: 0,
                batches: Vec::new(),
                end: 0,
                producers: BTreeMap::new(),
            })
            .collect();
        state.topics.insert(name.into(), partitions);
    }

    pub fn script(&self, faults: &[Fault]) {
        self.state().faults = faults.iter().copied().collect();
    }

    pub fn client(&self) -> Client {
        let bootstrap = self.state().addresses.values().cloned().collect();
        Client::new(ClientConfig::new(bootstrap, Transport::Tcp)).unwrap()
    }

    /// Speaks Kafka on one stream, in order, until the peer goes or the script says so.
    pub async fn serve(self, broker: i32, mut stream: ByteStream) {
        let mut splitter = FrameSplitter::new(1 << 24, 1 << 20);
        loop {
            while let Some(mut frame) = splitter.next_frame().unwrap() {
                let head = take_request_head(&mut frame).unwrap();
                if self.state().silent.contains(&broker) {
                    std::future::pending::<()>().await;
                }
                let answer =
                    match self.answer(broker, head.api().unwrap(), head.api_version, head.correlation_id, frame) {
                        Reply::Answer(bytes) => bytes,
                        Reply::Late(reply) => {
                            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                            let Reply::Answer(bytes) = *reply else { panic!("only an answer can be late") };
                            bytes
                        }
                        Reply::Nothing => continue,
                        Reply::Close => return,
                        Reply::Silence => std::future::pending().await,
                    };
                if stream.writer.write_pieces(&mut [answer]).await.is_err() {
                    return;
                }
            }
            if !matches!(stream.reader.read_into(&mut splitter).await, Ok(1..)) {
                return;
            }
        }
    }

    fn answer(&self, broker: i32, api: ApiKey, version: i16, correlation_id: i32, body: Bytes) -> Reply {
        match api {
            ApiKey::ApiVersions => {
                let offered =
                    [(0, 3, 11), (1, 4, 12), (2, 1, 8), (3, 0, 12), (18, 0, 4), (19, 2, 7), (20, 1, 6), (22, 0, 4)];
                let keys = offered.map(|(key, min, max)| {
                    ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
                });
                Reply::of(correlation_id, &ApiVersionsResponse::default().with_api_keys(keys.to_vec()), version)
            }
            ApiKey::Metadata => {
                let request: MetadataRequest = decode_request(body, version).unwrap();
                Reply::of(correlation_id, &self.metadata(&request), version)
            }
            ApiKey::InitProducerId => {
                let mut state = self.state();
                state.next_producer_id += 1;
                let response = InitProducerIdResponse::default().with_producer_id(state.next_producer_id.into());
                Reply::of(correlation_id, &response, version)
            }
            ApiKey::Produce => {
                let request: ProduceRequest = decode_request(body, version).unwrap();
                match self.produce(broker, &request) {
                    Ok(_) if request.acks == 0 => Reply::Nothing,
                    Ok(response) => Reply::of(correlation_id, &response, version),
                    Err(reply) => reply,
                }
            }
            ApiKey::Fetch => {
                let request: FetchRequest = decode_request(body, version).unwrap();
                Reply::of(correlation_id, &self.fetch(broker, &request), version)
            }
            ApiKey::ListOffsets => {
                let request: ListOffsetsRequest = decode_request(body, version).unwrap();
                Reply::of(correlation_id, &self.list_offsets(&request), version)
            }
            ApiKey::CreateTopics => {
                let request: CreateTopicsRequest = decode_request(body, version).unwrap();
                Reply::Late(Box::new(self.create_topics(correlation_id, &request, version)))
            }
            other => panic!("the fake broker does not know {other:?}"),
        }
    }

    /// Creating takes time, as where a quorum must agree.
    fn create_topics(&self, correlation_id: i32, request: &CreateTopicsRequest, version: i16) -> Reply {
        let results = request.topics.iter().map(|topic| {
            let exists = self.state().topics.contains_key(topic.name.as_str());
            let code = if exists { ErrorCode::TOPIC_ALREADY_EXISTS } else { ErrorCode::NONE };
            if !exists {
                self.topic(topic.name.as_str(), topic.num_partitions);
            }
            create_topics_response::CreatableTopicResult::default()
                .with_name(topic.name.clone())
                .with_error_code(code.0)
        });
        let results = results.collect();
        Reply::of(correlation_id, &CreateTopicsResponse::default().with_topics(results), version)
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let mut state = self.state();
        state.metadata_asked += 1;
        let brokers = state.addresses.iter().map(|(&id, address)| {
            MetadataResponseBroker::default()
                .with_node_id(id.into())
                .with_host(StrBytes::from_string(address.host.clone()))
                .with_port(address.port.into())
        });
        let names: Vec<String> = match &request.topics {
            None => state.topics.keys().cloned().collect(),
            Some(topics) => topics.iter().filter_map(|topic| Some(topic.name.as_ref()?.to_string())).collect(),
        };
        let topics = names.iter().map(|name| {
            let topic =
                MetadataResponseTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.clone()))));
            let Some(partitions) = state.topics.get(name) else {
                return topic.with_error_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
            };
            let partitions = partitions.iter().enumerate().map(|(index, partition)| {
                MetadataResponsePartition::default()
                    .with_partition_index(index as i32)
                    .with_leader_id(partition.leader.into())
                    .with_leader_epoch(partition.epoch)
                    .with_replica_nodes(vec![partition.leader.into()])
                    .with_isr_nodes(vec![partition.leader.into()])
            });
            topic.with_partitions(partitions.collect())
        });
        MetadataResponse::default().with_brokers(brokers.collect()).with_topics(topics.collect())
    }

    fn produce(&self, broker: i32, request: &ProduceRequest) -> Result<ProduceResponse, Reply> {
        let mut state = self.state();
        let mut end = None;
        let mut topics = Vec::new();
        for topic in &request.topic_data {
            let mut partitions = Vec::new();
            for data in &topic.partition_data {
                let bytes = data.records.as_ref().unwrap();
                let view = BatchView::parse(bytes).unwrap();
                state.arrived.push((broker, data.index, view.base_sequence(), view.producer_epoch()));
                let fault = state.faults.pop_front().unwrap_or(Fault::None);
                let Some(partition) =
                    state.topics.get_mut(topic.name.as_str()).and_then(|topic| topic.get_mut(data.index as usize))
                else {
                    partitions.push(produced(data.index, Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)));
                    continue;
                };
                if partition.leader != broker {
                    partitions.push(produced(data.index, Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)));
                    continue;
                }
                let result = match fault {
                    Fault::None => partition.append(bytes),
                    Fault::Refuse(code) => Err(code),
                    Fault::AppendAndAnswer(code) => partition.append(bytes).and(Err(code)),
                    Fault::AppendAndClose | Fault::Close | Fault::AppendAndFallSilent | Fault::FallSilent => {
                        if matches!(fault, Fault::AppendAndClose | Fault::AppendAndFallSilent) {
                            let _ = partition.append(bytes);
                        }
                        let silent = matches!(fault, Fault::AppendAndFallSilent | Fault::FallSilent);
                        end = Some(if silent { Reply::Silence } else { Reply::Close });
                        Ok(-1)
                    }
                };
                partitions.push(produced(data.index, result));
            }
            topics.push(
                TopicProduceResponse::default().with_name(topic.name.clone()).with_partition_responses(partitions),
            );
        }
        end.map_or_else(|| Ok(ProduceResponse::default().with_responses(topics)), Err)
    }

    fn fetch(&self, broker: i32, request: &FetchRequest) -> FetchResponse {
        let mut state = self.state();
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let data = PartitionData::default()
                    .with_partition_index(asked.partition)
                    .with_preferred_read_replica((-1).into())
                    .with_aborted_transactions(None)
                    .with_records(Some(Bytes::new()));
                let partition = state.partition(topic.topic.as_str(), asked.partition);
                if partition.leader != broker {
                    return data.with_error_code(ErrorCode::NOT_LEADER_OR_FOLLOWER.0);
                }
                if !(0..=partition.end).contains(&asked.fetch_offset) {
                    return data.with_error_code(ErrorCode::OFFSET_OUT_OF_RANGE.0);
                }
                let mut bytes = Vec::new();
                for batch in &partition.batches {
                    if BatchView::parse(batch).unwrap().last_offset() >= asked.fetch_offset && bytes.len() < 300 {
                        bytes.extend_from_slice(batch);
                    }
                }
                data.with_high_watermark(partition.end).with_records(Some(bytes.into()))
            });
            FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
        });
        FetchResponse::default().with_responses(topics.collect())
    }

    fn list_offsets(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let mut state = self.state();
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let end = state.partition(topic.name.as_str(), asked.partition_index).end;
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(asked.partition_index)
                    .with_offset(if asked.timestamp == -2 { 0 } else { end })
            });
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }
}

fn produced(index: i32, result: Result<i64, ErrorCode>) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    match result {
        Ok(offset) => response.with_base_offset(offset),
        Err(code) => response.with_base_offset(-1).with_error_code(code.0),
    }
}

enum Reply {
    Answer(Bytes),
    Late(Box<Reply>),
    Nothing,
    Close,
    Silence,
}

impl Reply {
    fn of<M: minisr_wire::protocol::Encodable + minisr_wire::protocol::HeaderVersion>(
        correlation_id: i32,
        response: &M,
        version: i16,
    ) -> Self {
        Self::Answer(encode_response(correlation_id, response, version).unwrap())
    }
}
