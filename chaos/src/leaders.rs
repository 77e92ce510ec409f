//! Plain request and answer with the leaders of partitions, without the client's own retries and caches: for those
//! parts of a run that must not share the producers' opinions.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use minisr_client::connection::{Connection, ConnectionConfig, ReplyTo, decode};
use minisr_client::{Address, Dialer};
use minisr_wire::batch::BatchBuilder;
use minisr_wire::messages::create_topics_request::CreatableTopic;
use minisr_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use minisr_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use minisr_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use minisr_wire::messages::{CreateTopicsRequest, FetchRequest, ListOffsetsRequest, ProduceRequest, TopicName};
use minisr_wire::protocol::Request;
use minisr_wire::{ErrorCode, StrBytes, batch};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::history::{Read, Slot, Value};

/// Where a log begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After the last committed record.
    Latest,
    /// At the first record.
    Earliest,
}

/// What became of one write that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Acknowledged; with acks=0, handed to the connection.
    Acked,
    /// Refused with this code.
    Refused(ErrorCode),
}

/// Connections to brokers, one each, opened when needed.
#[derive(Debug)]
pub struct Leaders {
    dialer: Dialer,
    addresses: BTreeMap<i32, Address>,
    connections: BTreeMap<i32, Connection>,
    /// Topic and partition index of each slot.
    slots: Vec<(String, i32)>,
    name: &'static str,
    bound: Duration,
}

impl Leaders {
    /// Connections under the client id `name`; no answer takes longer than `bound`.
    pub fn new(
        dialer: Dialer,
        addresses: BTreeMap<i32, Address>,
        slots: Vec<(String, i32)>,
        name: &'static str,
        bound: Duration,
    ) -> Self {
        Self { dialer, addresses, connections: BTreeMap::new(), slots, name, bound }
    }

    /// Where partitions end or begin, according to this leader. Each slot comes with the leader epoch in which we
    /// believe; a broker that is not the leader in that epoch says nothing.
    pub async fn list_offsets(
        &mut self,
        leader: i32,
        slots: &[(Slot, i32)],
        end: End,
    ) -> anyhow::Result<Vec<(Slot, i64)>> {
        let timestamp = match end {
            End::Latest => -1,
            End::Earliest => -2,
        };
        let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for (slot, leader_epoch) in slots {
            let (name, index) = &self.slots[usize::from(*slot)];
            let partition = ListOffsetsPartition::default()
                .with_partition_index(*index)
                .with_current_leader_epoch(*leader_epoch)
                .with_timestamp(timestamp);
            topics.entry(name).or_default().push(partition);
        }
        let topic = |(name, partitions): (&str, Vec<ListOffsetsPartition>)| {
            ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions)
        };
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_topics(topics.into_iter().map(topic).collect());
        let response = self.call(leader, &request, 8).await?;
        let mut offsets = Vec::new();
        for topic in &response.topics {
            for partition in topic.partitions.iter().filter(|partition| partition.error_code == ErrorCode::NONE.0) {
                if let Some(slot) = self.slot(&topic.name, partition.partition_index) {
                    offsets.push((slot, partition.offset));
                }
            }
        }
        Ok(offsets)
    }

    /// Reads once from `offset` on; nothing when the leader has nothing to give just now.
    pub async fn fetch(&mut self, leader: i32, slot: Slot, epoch: i32, offset: i64) -> anyhow::Result<Vec<Read>> {
        let (name, index) = &self.slots[usize::from(slot)];
        let partition = FetchPartition::default()
            .with_partition(*index)
            .with_current_leader_epoch(epoch)
            .with_fetch_offset(offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(4 << 20);
        let topic = FetchTopic::default().with_topic(topic_name(name)).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(100)
            .with_min_bytes(1)
            .with_max_bytes(8 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        // Up to version 12 topics go by name.
        let response = self.call(leader, &request, 12).await?;
        anyhow::ensure!(response.error_code == 0, "Fetch answered {}", ErrorCode(response.error_code));
        let mut reads = Vec::new();
        for data in response.responses.iter().flat_map(|topic| &topic.partitions) {
            anyhow::ensure!(data.error_code == 0, "Fetch answered {}", ErrorCode(data.error_code));
            records(slot, offset, data.records.as_deref().unwrap_or_default(), &mut reads)?;
        }
        Ok(reads)
    }

    /// Writes one record that holds `value`, once. An error is a write whose fate is unknown.
    pub async fn produce(&mut self, leader: i32, slot: Slot, acks: i16, value: u64) -> anyhow::Result<Written> {
        let (name, index) = &self.slots[usize::from(slot)];
        let mut builder = BatchBuilder::new(128);
        builder.append(wall_clock_ms(), None, Some(&encode_value(Value(value), 8)), &[]);
        let bytes = builder.finish(batch::Producer::NONE);
        let partition = PartitionProduceData::default().with_index(*index).with_records(Some(bytes));
        let topic = TopicProduceData::default().with_name(topic_name(name)).with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(acks)
            .with_timeout_ms(self.bound.as_millis() as i32)
            .with_topic_data(vec![topic]);
        let answer = timeout(self.bound, self.exchange_produce(leader, &request, acks)).await;
        let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} ms", self.bound.as_millis())));
        if answer.is_err() {
            self.forget(leader);
        }
        answer.with_context(|| format!("broker {leader}"))
    }

    async fn exchange_produce(&mut self, leader: i32, request: &ProduceRequest, acks: i16) -> anyhow::Result<Written> {
        let connection = self.connection(leader).await?;
        let version = connection.versions().highest::<ProduceRequest>(11)?;
        if acks == 0 {
            let (written, mut told) = mpsc::unbounded_channel();
            connection.send_produce(request, version, ReplyTo::Written(written, 0))?;
            told.recv().await.context("the connection ended")?.result?;
            return Ok(Written::Acked);
        }
        let (reply, answered) = oneshot::channel();
        connection.send_produce(request, version, ReplyTo::Oneshot(reply))?;
        let response = decode::<ProduceRequest>(answered.await??, version)?;
        let code =
            response.responses.iter().flat_map(|topic| &topic.partition_responses).map(|it| it.error_code).next();
        match ErrorCode(code.context("the partition is not in the answer")?) {
            ErrorCode::NONE => Ok(Written::Acked),
            code => Ok(Written::Refused(code)),
        }
    }

    /// Creates a topic through any broker; it already existing is fine.
    pub async fn create_topic(
        &mut self,
        broker: i32,
        name: &str,
        partitions: i32,
        replication_factor: i16,
    ) -> anyhow::Result<()> {
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(replication_factor);
        let timeout_ms = self.bound.as_millis() as i32;
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout_ms);
        let response = self.call(broker, &request, 7).await?;
        for result in &response.topics {
            let code = ErrorCode(result.error_code);
            let why = result.error_message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
            anyhow::ensure!(
                code == ErrorCode::NONE || code == ErrorCode::TOPIC_ALREADY_EXISTS,
                "topic {name} was not created: {code}{why}"
            );
        }
        Ok(())
    }

    async fn call<R: Request>(&mut self, broker: i32, request: &R, version_max: i16) -> anyhow::Result<R::Response> {
        let answer = timeout(self.bound, self.exchange(broker, request, version_max)).await;
        let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} ms", self.bound.as_millis())));
        if answer.is_err() {
            self.forget(broker);
        }
        answer.with_context(|| format!("broker {broker}"))
    }

    /// The next question opens a new connection.
    fn forget(&mut self, broker: i32) {
        self.connections.remove(&broker);
        if let Some(address) = self.addresses.get(&broker) {
            self.dialer.forget(address);
        }
    }

    async fn exchange<R: Request>(
        &mut self,
        broker: i32,
        request: &R,
        version_max: i16,
    ) -> anyhow::Result<R::Response> {
        let connection = self.connection(broker).await?;
        let version = connection.versions().highest::<R>(version_max)?;
        Ok(connection.call(request, version).await?)
    }

    async fn connection(&mut self, broker: i32) -> anyhow::Result<&Connection> {
        if self.connections.get(&broker).is_none_or(Connection::is_closed) {
            let address = self.addresses.get(&broker).context("no such broker")?;
            let connection = Connection::open(&self.dialer, address, ConnectionConfig::named(self.name)).await?;
            self.connections.insert(broker, connection);
        }
        Ok(&self.connections[&broker])
    }

    fn slot(&self, topic: &TopicName, index: i32) -> Option<Slot> {
        let slot = self.slots.iter().position(|(name, number)| topic.as_str() == name && index == *number)?;
        Some(slot as Slot)
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn wall_clock_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// Decodes what a fetch returned from `offset` on; the first batch may begin before it.
fn records(slot: Slot, offset: i64, bytes: &[u8], reads: &mut Vec<Read>) -> anyhow::Result<()> {
    for item in batch::iter(&bytes[..batch::whole_batches_bytes(bytes)]) {
        let view = item?;
        view.check_crc()?;
        for record in batch::records(&view)? {
            let record = record?;
            if record.offset >= offset {
                reads.push(Read { slot, offset: record.offset, value: decode_value(record.value) });
            }
        }
    }
    Ok(())
}

/// The value of a record of ours; a record that cannot be one becomes a value that nobody ever sends.
pub fn decode_value(bytes: Option<&[u8]>) -> Value {
    match bytes.and_then(|bytes| bytes.first_chunk::<8>()) {
        Some(number) => Value(u64::from_be_bytes(*number)),
        None => Value(u64::MAX),
    }
}

/// The bytes of a record's value: the number, then filler up to `record_bytes`.
pub fn encode_value(value: Value, record_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![b'.'; record_bytes.max(8)];
    bytes[..8].copy_from_slice(&value.0.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use minisr_wire::batch::Producer;

    #[test]
    fn leaders_records_before_the_offset_are_left_out() {
        let mut builder = BatchBuilder::new(1024);
        for count in 0..4 {
            builder.append(1, None, Some(&encode_value(Value::new(3, count), 20)), &[]);
        }
        let mut bytes = builder.finish(Producer::NONE).to_vec();
        batch::stamp(&mut bytes, 10, 1);
        let mut reads = Vec::new();
        records(7, 12, &bytes, &mut reads).unwrap();
        assert_eq!(reads.iter().map(|read| read.offset).collect::<Vec<_>>(), [12, 13]);
        assert_eq!(reads[0].value, Value::new(3, 2));
    }

    #[test]
    fn leaders_foreign_record_is_no_value_of_ours() {
        assert_eq!(decode_value(Some(b"short")), Value(u64::MAX));
        assert_eq!(decode_value(None), Value(u64::MAX));
    }
}
