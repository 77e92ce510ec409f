//! A consumer: partitions assigned at offsets, one waiting fetch per leader, raw batches out.
//!
//! Record bytes are not parsed here; [`Fetched::records`] does on demand. Fetch sessions are declined. Every fetch
//! names the leader epoch that is known, so that neither side acts on an old one (KIP-320).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use minisr_wire::batch::{self, BatchError, BatchView, RecordError, RecordView, whole_batches_bytes};
use minisr_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use minisr_wire::messages::fetch_response::PartitionData;
use minisr_wire::messages::{FetchRequest, FetchResponse, TopicName};
use minisr_wire::{ErrorCode, StrBytes};

use crate::admin::{Admin, OffsetSpec};
use crate::backoff::Backoff;
use crate::client::{Client, ClientError};
use crate::connection::{CloseReason, ConnectError, Connection, ConnectionError};
use crate::transport::DialError;

/// The highest Fetch version in use, and the highest that names topics instead of giving their ids.
const FETCH_VERSION_MAX: i16 = 16;
const FETCH_VERSION_BY_NAME_MAX: i16 = 12;

/// How often a waiting fetch looks at the state of its connection.
const WATCH_EVERY: Duration = Duration::from_millis(50);

/// How long a fetch waits for a connection before metadata is asked for again.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// How long a follower is read before the leader is asked again which one to read: `metadata.max.age.ms`.
const FOLLOW_MAX: Duration = Duration::from_secs(300);

/// How long leaders are read, without a rack, after a follower could not be.
const FOLLOW_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How long leaders are read, without a rack, after one has named a follower that is not in our metadata.
const KNOWN_AFTER: Duration = Duration::from_secs(1);

/// What to do when the offset to be read does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// Continue at the first offset that is kept.
    Earliest,
    /// Continue at the end.
    Latest,
    /// Report an error.
    Error,
}

/// Settings of a consumer; names follow Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// `fetch.max.wait`: how long a broker may hold a fetch when it has nothing new.
    pub fetch_wait: Duration,
    /// `fetch.min.bytes`.
    pub fetch_bytes_min: i32,
    /// `fetch.max.bytes`.
    pub fetch_bytes_max: i32,
    /// `max.partition.fetch.bytes`.
    pub partition_bytes_max: i32,
    /// `auto.offset.reset`.
    pub reset: OffsetReset,
    /// `check.crcs`.
    pub check_crcs: bool,
    /// `client.rack`: where this consumer runs. A leader that has a `replica.selector.class` then sends it to a follower
    /// in the same rack (KIP-392); empty reads at leaders.
    pub client_rack: String,
    /// How much longer than `fetch_wait` a broker may be silent before it is suspect.
    pub suspect_after: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            fetch_wait: Duration::from_millis(500),
            fetch_bytes_min: 1,
            fetch_bytes_max: 16 * 1024 * 1024,
            partition_bytes_max: 1024 * 1024,
            reset: OffsetReset::Error,
            check_crcs: true,
            client_rack: String::new(),
            suspect_after: Duration::from_millis(300),
        }
    }
}

/// Why a consumer cannot go on. Everything that may pass (no leader, lost connections) is retried instead.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConsumerError {
    /// The offset does not exist, and the policy is to say so.
    #[error("offset {offset} of {topic}-{partition} is out of range")]
    OutOfRange {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// The broker refuses for good.
    #[error("fetching {topic}-{partition}: {code}")]
    Refused {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Kafka's code.
        code: ErrorCode,
    },
    /// A batch is corrupt.
    #[error("batch at or after offset {offset} of {topic}-{partition}: {error}")]
    Corrupt {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Where it was read.
        offset: i64,
        /// What is wrong.
        error: BatchError,
    },
    /// A record is malformed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A question of metadata or offsets failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The end was not reached in time.
    #[error("{topic} was not read to the end within {} ms; positions {positions:?} of {ends:?}", timeout.as_millis())]
    Deadline {
        /// The topic.
        topic: Arc<str>,
        /// The time allowed.
        timeout: Duration,
        /// How far each partition was read.
        positions: BTreeMap<i32, i64>,
        /// Where each ends.
        ends: BTreeMap<i32, i64>,
    },
}

/// What one fetch brought for one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The first offset that was asked for: the first batch may begin earlier.
    pub from: i64,
    /// The offset to continue at.
    pub next: i64,
    /// The high watermark that the leader told.
    pub high_watermark: i64,
    /// The log start that the leader told.
    pub log_start: i64,
    /// The broker that answered.
    pub broker_id: i32,
    /// The leader epoch that was known when it was asked.
    pub leader_epoch: i32,
    /// Whole batches, as the leader has them.
    pub bytes: Bytes,
}

impl Fetched {
    /// The batches.
    pub fn batches(&self) -> impl Iterator<Item = BatchView<'_>> {
        // They were parsed when they came in.
        batch::iter(&self.bytes).map_while(Result::ok)
    }

    /// Calls `each` with every record at or after the offset asked for, control batches left out.
    ///
    /// # Errors
    /// A batch is compressed, or a record malformed.
    pub fn records<'a>(&'a self, mut each: impl FnMut(&BatchView<'a>, &RecordView<'a>)) -> Result<(), RecordError> {
        for view in self.batches().filter(|batch| !batch.is_control()) {
            for record in batch::records(&view)? {
                let record = record?;
                if record.offset >= self.from {
                    each(&view, &record);
                }
            }
        }
        Ok(())
    }
}

/// A partition: topic and index.
type Key = (Arc<str>, i32);

#[derive(Debug)]
struct Position {
    offset: i64,
    /// Raised when a batch is larger than the limit.
    bytes_max: i32,
    /// Whether a fetch is under way.
    fetching: bool,
    /// Whether the offset must be looked up again.
    lost: bool,
    /// The follower to read instead of the leader, and until when.
    near: Option<(i32, Instant)>,
    not_before: Option<Instant>,
    backoff: Backoff,
}

/// What was asked of one leader.
struct Asked {
    broker_id: i32,
    /// Partition, offset, leader epoch.
    partitions: Vec<(Key, i64, i32)>,
    result: Result<FetchResponse, ClientError>,
    connection: Option<Connection>,
}

/// Reads the partitions assigned to it.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    config: ConsumerConfig,
    positions: BTreeMap<Key, Position>,
    connections: BTreeMap<i32, Connection>,
    fetches: JoinSet<Asked>,
    /// Fetched and not yet returned.
    ready: Vec<Fetched>,
    stale: bool,
    suspect: Option<i32>,
    refresh_not_before: Option<Instant>,
    refresh_backoff: Backoff,
    /// Until then the rack is not told: a follower could not be read.
    rackless_until: Option<Instant>,
}

impl Consumer {
    /// A consumer without partitions.
    #[must_use]
    pub fn new(client: Client, config: ConsumerConfig) -> Self {
        Self {
            client,
            config,
            positions: BTreeMap::new(),
            connections: BTreeMap::new(),
            fetches: JoinSet::new(),
            ready: Vec::new(),
            stale: false,
            suspect: None,
            refresh_not_before: None,
            refresh_backoff: Backoff::metadata(),
            rackless_until: None,
        }
    }

    /// Reads a partition from this offset on; replaces its position if it has one.
    pub fn assign(&mut self, topic: &str, partition: i32, offset: i64) {
        let fetching = self.positions.get(&(topic.into(), partition)).is_some_and(|position| position.fetching);
        self.positions.insert(
            (topic.into(), partition),
            Position {
                offset,
                bytes_max: self.config.partition_bytes_max,
                fetching,
                lost: false,
                near: None,
                not_before: None,
                backoff: Backoff::metadata(),
            },
        );
    }

    /// Stops reading a partition.
    pub fn unassign(&mut self, topic: &str, partition: i32) {
        self.positions.remove(&(topic.into(), partition));
    }

    /// The offset to be read next.
    #[must_use]
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.positions.get(&(topic.into(), partition)).map(|position| position.offset)
    }

    /// Waits for records of any partition. Without partitions it waits for ever. Dropping the future loses nothing.
    ///
    /// # Errors
    /// A partition cannot be read on.
    pub async fn poll(&mut self) -> Result<Fetched, ConsumerError> {
        loop {
            if let Some(fetched) = self.ready.pop() {
                return Ok(fetched);
            }
            self.find_lost().await?;
            let resume_at = self.start_fetches();
            let refresh_at = self.stale.then(|| self.refresh_not_before.unwrap_or_else(Instant::now));
            let wake_at = [resume_at, refresh_at].into_iter().flatten().min();
            let sleep = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(asked) = self.fetches.join_next() => {
                    if let Ok(asked) = asked {
                        self.take_in(asked)?;
                    }
                }
                () = sleep => {
                    if refresh_at.is_some_and(|at| at <= Instant::now()) {
                        self.refresh().await;
                    }
                }
            }
        }
    }

    /// Asks for metadata; a failure is no error, since the question is repeated.
    async fn refresh(&mut self) {
        let mut topics: Vec<Arc<str>> = self.positions.keys().map(|(topic, _)| topic.clone()).collect();
        topics.dedup();
        let suspect = self.suspect.take();
        let result = self.client.refresh_avoiding(suspect, Some(&topics)).await;
        self.refresh_not_before = Some(Instant::now() + self.refresh_backoff.next());
        match result {
            Ok(_) => self.stale = false,
            Err(error) => tracing::debug!(%error, "no metadata"),
        }
    }

    /// Looks the offset up where it does not exist any more.
    async fn find_lost(&mut self) -> Result<(), ConsumerError> {
        let lost: Vec<Key> =
            self.positions.iter().filter(|(_, position)| position.lost).map(|(key, _)| key.clone()).collect();
        for (topic, partition) in lost {
            let spec = match self.config.reset {
                OffsetReset::Earliest => OffsetSpec::Earliest,
                OffsetReset::Latest => OffsetSpec::Latest,
                OffsetReset::Error => {
                    let offset = self.position(&topic, partition).unwrap_or(-1);
                    return Err(ConsumerError::OutOfRange { topic, partition, offset });
                }
            };
            let found = Admin::new(self.client.clone()).list_offsets(&topic, &[partition], spec).await?;
            if let (Some(position), Some(&offset)) =
                (self.positions.get_mut(&(topic, partition)), found.get(&partition))
            {
                position.offset = offset;
                position.lost = false;
            }
        }
        Ok(())
    }

    /// Starts a fetch at every leader (or follower in the same rack) that has none under way; returns when a partition that pauses may go on.
    fn start_fetches(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let view = self.client.view();
        let mut resume_at: Option<Instant> = None;
        let mut by_leader: BTreeMap<i32, Vec<(Key, i64, i32, i32)>> = BTreeMap::new();
        for (key, position) in &self.positions {
            if position.fetching {
                continue;
            }
            if let Some(at) = position.not_before.filter(|&at| at > now) {
                resume_at = Some(resume_at.map_or(at, |known| known.min(at)));
                continue;
            }
            let near = position.near.filter(|(id, until)| *until > now && view.brokers.contains_key(id));
            match view.leader(&key.0, key.1) {
                Some(leader) => by_leader.entry(near.map_or(leader.broker_id, |(id, _)| id)).or_default().push((
                    key.clone(),
                    position.offset,
                    leader.epoch,
                    position.bytes_max,
                )),
                None => self.stale = true,
            }
        }
        for (broker_id, partitions) in by_leader {
            for (key, ..) in &partitions {
                if let Some(position) = self.positions.get_mut(key) {
                    position.fetching = true;
                }
            }
            let connection = self.connections.get(&broker_id).filter(|connection| !connection.is_closed()).cloned();
            let (client, mut config) = (self.client.clone(), self.config.clone());
            if self.rackless_until.is_some_and(|until| until > now) {
                config.client_rack.clear();
            }
            self.fetches.spawn(async move {
                let (result, connection) = fetch(&client, &config, broker_id, connection, &partitions).await;
                let partitions = partitions.into_iter().map(|(key, offset, epoch, _)| (key, offset, epoch)).collect();
                Asked { broker_id, partitions, result, connection }
            });
        }
        resume_at
    }

    fn take_in(&mut self, asked: Asked) -> Result<(), ConsumerError> {
        let Asked { broker_id, partitions, result, connection } = asked;
        match connection {
            Some(connection) => drop(self.connections.insert(broker_id, connection)),
            None => drop(self.connections.remove(&broker_id)),
        }
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(broker_id, %error, "a fetch failed");
                self.suspect = Some(broker_id);
                for (key, ..) in &partitions {
                    self.back_to_leader(key, broker_id);
                    self.pause(key);
                }
                return Ok(());
            }
        };
        let view = self.client.view();
        let mut failure = None;
        for (key, from, leader_epoch) in partitions {
            let topic_id = view.topics.get(&key.0).map(|topic| topic.id);
            let data = response
                .responses
                .iter()
                .filter(|topic| {
                    topic.topic.as_str() == &*key.0
                        || (topic.topic.is_empty() && Some(topic.topic_id.as_u128()) == topic_id)
                })
                .flat_map(|topic| &topic.partitions)
                .find(|partition| partition.partition_index == key.1);
            let Some(position) = self.positions.get_mut(&key) else { continue };
            position.fetching = false;
            if position.offset != from {
                // It was assigned elsewhere meanwhile.
                continue;
            }
            let code = match data {
                None if response.error_code != 0 => ErrorCode(response.error_code),
                None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Some(data) => ErrorCode(data.error_code),
            };
            match (code, data) {
                (ErrorCode::NONE, Some(data)) => {
                    position.backoff.reset();
                    self.refresh_backoff.reset();
                    match self.take_data(&key, from, leader_epoch, broker_id, data) {
                        Ok(()) => {}
                        Err(error) => failure = Some(error),
                    }
                }
                // A follower may not be as far; what the leader says counts.
                (ErrorCode::OFFSET_OUT_OF_RANGE, _) if self.back_to_leader(&key, broker_id) => {}
                (ErrorCode::OFFSET_OUT_OF_RANGE, _) => {
                    if let Some(position) = self.positions.get_mut(&key) {
                        position.lost = true;
                    }
                }
                (code, _) if code.is_retriable() => {
                    self.back_to_leader(&key, broker_id);
                    self.pause(&key);
                }
                (code, _) => {
                    failure = Some(ConsumerError::Refused { topic: key.0, partition: key.1, code });
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn take_data(
        &mut self,
        key: &Key,
        from: i64,
        leader_epoch: i32,
        broker_id: i32,
        data: &PartitionData,
    ) -> Result<(), ConsumerError> {
        let position = self.positions.get_mut(key).expect("the caller has just looked it up");
        if data.preferred_read_replica.0 >= 0 {
            if self.client.view().brokers.contains_key(&data.preferred_read_replica.0) {
                position.near = Some((data.preferred_read_replica.0, Instant::now() + FOLLOW_MAX));
            } else {
                // It came after our metadata. The leader would name it again and again: on there without the rack
                // until newer metadata can be here.
                self.stale = true;
                self.rackless_until = Some(Instant::now() + KNOWN_AFTER);
            }
            return Ok(());
        }
        let Some(records) = data.records.as_ref().filter(|records| !records.is_empty()) else {
            return Ok(());
        };
        let bytes = records.slice(..whole_batches_bytes(records));
        let corrupt = |error| ConsumerError::Corrupt { topic: key.0.clone(), partition: key.1, offset: from, error };
        let mut next = from;
        for batch in batch::iter(&bytes) {
            let batch = batch.map_err(corrupt)?;
            if self.config.check_crcs {
                batch.check_crc().map_err(corrupt)?;
            }
            next = next.max(batch.next_offset());
        }
        if bytes.is_empty() {
            // Not even the first batch fits the limit.
            if let Err(error @ (BatchError::Length { .. } | BatchError::Magic { .. })) = BatchView::parse(records) {
                return Err(corrupt(error));
            }
            position.bytes_max = position.bytes_max.saturating_mul(2);
            return Ok(());
        }
        position.offset = next;
        self.ready.push(Fetched {
            topic: key.0.clone(),
            partition: key.1,
            from,
            next,
            high_watermark: data.high_watermark,
            log_start: data.log_start_offset,
            broker_id,
            leader_epoch,
            bytes,
        });
        Ok(())
    }

    /// A follower could not be read: on with the leader, without telling it the rack for a while. `false` if `broker_id`
    /// was not read as a follower.
    fn back_to_leader(&mut self, key: &Key, broker_id: i32) -> bool {
        let Some(position) = self.positions.get_mut(key) else { return false };
        let was_near = position.near.take_if(|(id, _)| *id == broker_id).is_some();
        if was_near {
            self.rackless_until = Some(Instant::now() + FOLLOW_AGAIN_AFTER);
        }
        was_near
    }

    /// A partition pauses, and goes on with newer metadata.
    fn pause(&mut self, key: &Key) {
        self.stale = true;
        if let Some(position) = self.positions.get_mut(key) {
            position.fetching = false;
            position.not_before = Some(Instant::now() + position.backoff.next());
        }
    }
}

/// One fetch at one leader. Gives the connection back if it can be used again.
async fn fetch(
    client: &Client,
    config: &ConsumerConfig,
    broker_id: i32,
    connection: Option<Connection>,
    partitions: &[(Key, i64, i32, i32)],
) -> (Result<FetchResponse, ClientError>, Option<Connection>) {
    let connection = match connection {
        Some(connection) => connection,
        // A dead broker is silent on QUIC, and the leader may be elsewhere already: no long wait.
        None => match tokio::time::timeout(CONNECT_MAX, client.connect(broker_id)).await.unwrap_or_else(|_| {
            let address = client.broker_address(broker_id)?;
            Err(ConnectError::Dial(DialError::Timeout { address, timeout: CONNECT_MAX }).into())
        }) {
            Ok(connection) => connection,
            Err(error) => {
                if let Ok(address) = client.broker_address(broker_id) {
                    client.dialer().forget(&address);
                }
                return (Err(error), None);
            }
        },
    };
    let (request, version) = match fetch_request(client, config, &connection, partitions) {
        Ok(request) => request,
        Err(error) => return (Err(error), Some(connection)),
    };
    let pending = match connection.send(&request, version) {
        Ok(pending) => pending,
        Err(error) => return (Err(error.into()), None),
    };
    // It does not borrow the connection.
    let answer = pending.response();
    tokio::pin!(answer);
    let silence_max = config.fetch_wait + config.suspect_after;
    loop {
        match tokio::time::timeout(WATCH_EVERY, answer.as_mut()).await {
            Ok(Ok(response)) => return (Ok(response), Some(connection)),
            Ok(Err(error)) => return (Err(error.into()), None),
            Err(_) if connection.stalled_for() > silence_max => {
                // A fetch changes nothing, so giving it up costs nothing.
                if let Ok(address) = client.broker_address(broker_id) {
                    client.abandon(&address, "no answer to a fetch");
                }
                let reason = CloseReason::Abandoned("no answer to a fetch".into());
                return (Err(ConnectionError::Unknown(reason).into()), None);
            }
            Err(_) => {}
        }
    }
}

fn fetch_request(
    client: &Client,
    config: &ConsumerConfig,
    connection: &Connection,
    partitions: &[(Key, i64, i32, i32)],
) -> Result<(FetchRequest, i16), ClientError> {
    let view = client.view();
    let topic_id = |topic: &Arc<str>| view.topics.get(topic).map(|topic| topic.id).filter(|&id| id != 0);
    let by_id = partitions.iter().all(|(key, ..)| topic_id(&key.0).is_some());
    let version_max = if by_id { FETCH_VERSION_MAX } else { FETCH_VERSION_BY_NAME_MAX };
    let version = connection.versions().highest::<FetchRequest>(version_max)?;
    let mut topics: Vec<(Arc<str>, FetchTopic)> = Vec::new();
    for ((topic, partition), offset, epoch, bytes_max) in partitions {
        let asked = FetchPartition::default()
            .with_partition(*partition)
            .with_current_leader_epoch(*epoch)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(*bytes_max);
        match topics.last_mut() {
            Some((known, fetch)) if known == topic => fetch.partitions.push(asked),
            _ => {
                let mut fetch = FetchTopic::default().with_partitions(vec![asked]);
                if version > FETCH_VERSION_BY_NAME_MAX {
                    fetch.topic_id = Uuid::from_u128(topic_id(topic).unwrap_or_default());
                } else {
                    fetch.topic = TopicName(StrBytes::from_string(topic.to_string()));
                }
                topics.push((topic.clone(), fetch));
            }
        }
    }
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(i32::try_from(config.fetch_wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(config.fetch_bytes_min)
        .with_max_bytes(config.fetch_bytes_max)
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_rack_id(StrBytes::from_string(if version >= 11 { config.client_rack.clone() } else { String::new() }))
        .with_topics(topics.into_iter().map(|(_, fetch)| fetch).collect());
    Ok((request, version))
}

/// What was read of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRange {
    /// The log start.
    pub start: i64,
    /// The end offset: one past the last record.
    pub end: i64,
}

/// Reads every partition of a topic from its log start to its end offset, retrying until it can: the final reads of
/// a verification. Calls `each` with partition, batch and record.
///
/// # Errors
/// The end is not reached in time, or a partition cannot be read.
pub async fn read_all(
    client: &Client,
    topic: &str,
    timeout: Duration,
    mut each: impl FnMut(i32, &BatchView<'_>, &RecordView<'_>) + Send,
) -> Result<BTreeMap<i32, ReadRange>, ConsumerError> {
    let deadline = Instant::now() + timeout;
    let mut positions = BTreeMap::new();
    let mut ends = BTreeMap::new();
    let reading = async {
        let admin = Admin::new(client.clone());
        let all_led = |view: &crate::ClusterView| {
            view.topics.get(topic).is_some_and(|topic| {
                !topic.partitions.is_empty() && topic.partitions.values().all(|partition| partition.leader.is_some())
            })
        };
        let view =
            admin.wait_until(topic, timeout, &format!("a leader of every partition of {topic}"), all_led).await?;
        let partitions: Vec<i32> = view.topics[topic].partitions.keys().copied().collect();
        let starts = admin.list_offsets(topic, &partitions, OffsetSpec::Earliest).await?;
        ends = admin.list_offsets(topic, &partitions, OffsetSpec::Latest).await?;
        let config = ConsumerConfig { reset: OffsetReset::Earliest, ..ConsumerConfig::default() };
        let mut consumer = Consumer::new(client.clone(), config);
        for (&partition, &start) in &starts {
            positions.insert(partition, start);
            if start < ends[&partition] {
                consumer.assign(topic, partition, start);
            }
        }
        while positions.iter().any(|(partition, &position)| position < ends[partition]) {
            let fetched = consumer.poll().await?;
            fetched.records(|batch, record| each(fetched.partition, batch, record))?;
            positions.insert(fetched.partition, fetched.next);
            if fetched.next >= ends[&fetched.partition] {
                consumer.unassign(topic, fetched.partition);
            }
        }
        let range = |(&partition, &start): (&i32, &i64)| (partition, ReadRange { start, end: ends[&partition] });
        Ok(starts.iter().map(range).collect())
    };
    match tokio::time::timeout_at(deadline, reading).await {
        Ok(result) => result,
        Err(_) => Err(ConsumerError::Deadline { topic: topic.into(), timeout, positions, ends }),
    }
}
