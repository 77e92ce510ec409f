//! Topics and offsets: what tests, loadgen and chaos need of an admin client.

mod elections;
mod reassign;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use minisr_wire::isr_report::{self, IsrReport};
use minisr_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use minisr_wire::messages::delete_topics_request::DeleteTopicState;
use minisr_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use minisr_wire::messages::metadata_request::MetadataRequestTopic;
use minisr_wire::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeClusterResponse, ListOffsetsRequest,
    MetadataRequest, TopicName,
};
use minisr_wire::protocol::Request;
use minisr_wire::{ErrorCode, StrBytes};

use crate::backoff::Backoff;
use crate::client::{Client, ClientError};
use crate::connection::ConnectionError;
use crate::metadata::ClusterView;

pub use elections::{Elected, Election};
pub use reassign::{ConfigResource, OngoingReassignment, QuorumInfo, Reassignment};

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that is kept.
    Earliest,
    /// The next one that a consumer would read: the high watermark.
    Latest,
    /// The first at or after this time.
    Timestamp(i64),
}

impl OffsetSpec {
    const fn timestamp(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::Timestamp(timestamp_ms) => timestamp_ms,
        }
    }
}

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; −1 for the broker's default.
    pub partitions: i32,
    /// How many replicas; −1 for the broker's default.
    pub replication_factor: i16,
    /// Its configuration, such as `min.insync.replicas`.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic without configuration of its own.
    #[must_use]
    pub fn new(name: impl Into<String>, partitions: i32, replication_factor: i16) -> Self {
        Self { name: name.into(), partitions, replication_factor, configs: BTreeMap::new() }
    }

    /// Adds a configuration.
    #[must_use]
    pub fn with_config(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.configs.insert(name.into(), value.to_string());
        self
    }
}

/// Administration of the cluster that a [`Client`] knows.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

impl Admin {
    /// An admin on this client.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Creates a topic. Asks again, for as long as the request timeout, while there is no controller.
    ///
    /// # Errors
    /// The broker refuses, or nobody answers.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), ClientError> {
        let string = |text: &str| StrBytes::from_string(text.to_owned());
        let configs = topic.configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default().with_name(string(name)).with_value(Some(string(value)))
        });
        let creatable = CreatableTopic::default()
            .with_name(TopicName(string(&topic.name)))
            .with_num_partitions(topic.partitions)
            .with_replication_factor(topic.replication_factor)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![creatable]).with_timeout_ms(self.timeout_ms());
        let mut attempts = self.attempts(format!("creating topic {}", topic.name));
        loop {
            let may_exist = attempts.may_have_been_applied;
            match attempts.bounded(self.try_create(&request, may_exist)).await {
                Ok(()) => return Ok(()),
                Err(error) => attempts.pause_after(error).await?,
            }
        }
    }

    async fn try_create(&self, request: &CreateTopicsRequest, may_exist: bool) -> Result<(), ClientError> {
        let broker_id = self.broker_for_changes().await?;
        let response = self.call_or_abandon(broker_id, request, 7).await?;
        let Some(result) = response.topics.first() else {
            return refused("CreateTopics", ErrorCode::UNKNOWN_SERVER_ERROR, None);
        };
        let code = ErrorCode(result.error_code);
        if code == ErrorCode::TOPIC_ALREADY_EXISTS && may_exist {
            return Ok(());
        }
        refused(&format!("topic {}", result.name.as_str()), code, result.error_message.as_ref())
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// The broker refuses, or nobody answers.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let mut attempts = self.attempts(format!("deleting topic {name}"));
        loop {
            let may_be_gone = attempts.may_have_been_applied;
            match attempts.bounded(self.try_delete(name, may_be_gone)).await {
                Ok(()) => return Ok(()),
                Err(error) => attempts.pause_after(error).await?,
            }
        }
    }

    async fn try_delete(&self, name: &str, may_be_gone: bool) -> Result<(), ClientError> {
        let topic_name = || TopicName(StrBytes::from_string(name.to_owned()));
        // Which of the two forms is used depends on the version; both cannot be set at once.
        let by_state = DeleteTopicsRequest::default()
            .with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name()))])
            .with_timeout_ms(self.timeout_ms());
        let by_name =
            DeleteTopicsRequest::default().with_topic_names(vec![topic_name()]).with_timeout_ms(self.timeout_ms());
        let broker_id = self.broker_for_changes().await?;
        let response = match self.call_or_abandon(broker_id, &by_state, 6).await {
            Err(ClientError::Connection(ConnectionError::Encode(_))) => {
                self.call_or_abandon(broker_id, &by_name, 5).await?
            }
            other => other?,
        };
        let code = response.responses.first().map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |it| ErrorCode(it.error_code));
        if code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION && may_be_gone {
            return Ok(());
        }
        refused(&format!("topic {name}"), code, None)
    }

    /// The broker to ask for a change: the controller if it is known. A change is asked of one broker at a time: the
    /// answer of a second one would be about what the first has done.
    async fn broker_for_changes(&self) -> Result<i32, ClientError> {
        let view = self.client.refresh(Some(&[])).await?;
        let controller = view.controller_id.filter(|id| view.brokers.contains_key(id));
        let broker_id = controller.or_else(|| view.brokers.keys().next().copied());
        broker_id.ok_or_else(|| ClientError::Nobody { asked: 0, last: "no broker is known".into() })
    }

    async fn call_or_abandon<R: Request>(
        &self,
        broker_id: i32,
        request: &R,
        version_max: i16,
    ) -> Result<R::Response, ClientError> {
        let result = self.client.call_broker(broker_id, request, version_max).await;
        if result.is_err()
            && let Ok(address) = self.client.broker_address(broker_id)
        {
            self.client.abandon(&address, "a question failed");
        }
        result
    }

    /// Asks for metadata of all topics.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn metadata(&self) -> Result<Arc<ClusterView>, ClientError> {
        self.client.refresh(None).await
    }

    /// Asks for metadata of one topic.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn topic(&self, name: &str) -> Result<Arc<ClusterView>, ClientError> {
        self.client.refresh(Some(&[name.into()])).await
    }

    /// Asks for the cluster's id, controller and brokers.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn describe_cluster(&self) -> Result<DescribeClusterResponse, ClientError> {
        let response = self.client.call_any(&DescribeClusterRequest::default(), 1).await?;
        let message = response.error_message.as_ref();
        refused("DescribeCluster", ErrorCode(response.error_code), message)?;
        Ok(response)
    }

    /// Waits until every partition of the topic, `partitions` of them, has a leader.
    ///
    /// # Errors
    /// That does not happen in time.
    pub async fn wait_until_led(
        &self,
        topic: &str,
        partitions: usize,
        timeout: Duration,
    ) -> Result<Arc<ClusterView>, ClientError> {
        self.wait_until(topic, timeout, &format!("a leader of every partition of {topic}"), |view| {
            (0..partitions as i32).all(|partition| view.leader(topic, partition).is_some())
        })
        .await
    }

    /// Waits until every partition of the topic has a leader and all its replicas in the ISR.
    ///
    /// # Errors
    /// That does not happen in time.
    pub async fn wait_until_in_sync(
        &self,
        topic: &str,
        partitions: usize,
        timeout: Duration,
    ) -> Result<Arc<ClusterView>, ClientError> {
        self.wait_until(topic, timeout, &format!("the full ISR of every partition of {topic}"), |view| {
            let Some(info) = view.topics.get(topic) else {
                return false;
            };
            info.partitions.len() == partitions
                && info
                    .partitions
                    .values()
                    .all(|partition| partition.leader.is_some() && partition.isr.len() == partition.replicas.len())
        })
        .await
    }

    /// Asks for metadata of the topic again and again until `condition` holds.
    ///
    /// # Errors
    /// That does not happen in time.
    pub async fn wait_until(
        &self,
        topic: &str,
        timeout: Duration,
        what: &str,
        condition: impl Fn(&ClusterView) -> bool + Send,
    ) -> Result<Arc<ClusterView>, ClientError> {
        let deadline = Instant::now() + timeout;
        let mut backoff = Backoff::metadata();
        loop {
            let last = match tokio::time::timeout_at(deadline, self.topic(topic)).await {
                Ok(Ok(view)) if condition(&view) => return Ok(view),
                Ok(Ok(view)) => Some(format!("{:?}", view.topics.get(topic).map(|topic| &topic.partitions))),
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => None,
            };
            if Instant::now() >= deadline {
                return Err(ClientError::Deadline { what: what.to_owned(), timeout, last });
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + backoff.next())).await;
        }
    }

    /// Asks the leaders for an offset of each of these partitions; asks again, for as long as the request timeout,
    /// while a leader is missing or not ready.
    ///
    /// # Errors
    /// Nobody answers in time, or a leader refuses.
    pub async fn list_offsets(
        &self,
        topic: &str,
        partitions: &[i32],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        let mut found = BTreeMap::new();
        let mut stale = !partitions.iter().all(|&partition| self.client.view().leader(topic, partition).is_some());
        let mut attempts = self.attempts(format!("listing offsets of {topic}"));
        loop {
            match attempts.bounded(self.try_list(topic, partitions, spec, stale, &mut found)).await {
                Ok(()) => return Ok(found),
                Err(error) => attempts.pause_after(error).await?,
            }
            stale = true;
        }
    }

    /// Adds what can be found to `found`; an error if something is still missing.
    async fn try_list(
        &self,
        topic: &str,
        partitions: &[i32],
        spec: OffsetSpec,
        stale: bool,
        found: &mut BTreeMap<i32, i64>,
    ) -> Result<(), ClientError> {
        if stale {
            self.client.refresh(Some(&[topic.into()])).await?;
        }
        let view = self.client.view();
        let mut by_leader: BTreeMap<i32, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for &partition in partitions.iter().filter(|partition| !found.contains_key(*partition)) {
            let leader = view.leader(topic, partition);
            let leader = leader.ok_or_else(|| code_error(topic, partition, ErrorCode::LEADER_NOT_AVAILABLE))?;
            by_leader.entry(leader.broker_id).or_default().push(
                ListOffsetsPartition::default()
                    .with_partition_index(partition)
                    .with_current_leader_epoch(leader.epoch)
                    .with_timestamp(spec.timestamp()),
            );
        }
        let mut missing = Ok(());
        for (broker_id, partitions) in by_leader {
            let asked = ListOffsetsTopic::default()
                .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
                .with_partitions(partitions);
            let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![asked]);
            let response = self.call_or_abandon(broker_id, &request, 8).await?;
            for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
                match ErrorCode(partition.error_code) {
                    code if code.is_ok() => {
                        found.insert(partition.partition_index, partition.offset);
                    }
                    code => missing = Err(code_error(topic, partition.partition_index, code)),
                }
            }
        }
        missing
    }

    /// Asks the leaders what they know about the in-sync replicas of their partitions, by partition, with the broker
    /// that answered. Partitions without a leader, or led by a broker that is not minisr's, are left out.
    ///
    /// # Errors
    /// A leader does not answer.
    pub async fn isr_reports(&self, topic: &str) -> Result<BTreeMap<i32, (i32, IsrReport)>, ClientError> {
        let view = self.client.view();
        let led = view.topics.get(topic).map(|topic| topic.partitions.values().filter_map(|it| it.leader));
        let leaders: BTreeSet<i32> = led.into_iter().flatten().collect();
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name))]))
            .with_allow_auto_topic_creation(false)
            .with_unknown_tagged_field(isr_report::REQUEST_TAG, Bytes::new());
        let mut reports = BTreeMap::new();
        for leader in leaders {
            let response = self.call_or_abandon(leader, &request, 12).await?;
            for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
                let tagged = partition.unknown_tagged_fields.get(&isr_report::RESPONSE_TAG);
                if let Some(report) = tagged.and_then(|bytes| IsrReport::decode(bytes)) {
                    reports.insert(partition.partition_index, (leader, report));
                }
            }
        }
        Ok(reports)
    }

    fn attempts(&self, what: String) -> Attempts {
        let timeout = self.client.config().request_timeout;
        Attempts {
            what,
            timeout,
            deadline: Instant::now() + timeout,
            backoff: Backoff::metadata(),
            may_have_been_applied: false,
        }
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.config().request_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// Repeats an attempt while it fails in a way that may pass, until the request timeout has elapsed.
struct Attempts {
    what: String,
    timeout: Duration,
    deadline: Instant,
    backoff: Backoff,
    /// Whether an earlier attempt may have had an effect.
    may_have_been_applied: bool,
}

impl Attempts {
    async fn bounded<T>(&self, attempt: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        match tokio::time::timeout_at(self.deadline, attempt).await {
            Ok(result) => result,
            Err(_) => Err(self.deadline_error(None)),
        }
    }

    async fn pause_after(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !may_pass(&error) {
            return Err(error);
        }
        self.may_have_been_applied |=
            !matches!(&error, ClientError::Refused { code, .. } if *code != ErrorCode::REQUEST_TIMED_OUT);
        if Instant::now() >= self.deadline {
            return Err(self.deadline_error(Some(error.to_string())));
        }
        tokio::time::sleep_until(self.deadline.min(Instant::now() + self.backoff.next())).await;
        Ok(())
    }

    fn deadline_error(&self, last: Option<String>) -> ClientError {
        ClientError::Deadline { what: self.what.clone(), timeout: self.timeout, last }
    }
}

fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { code, .. } => code.is_retriable(),
        ClientError::Unsupported(_) | ClientError::Deadline { .. } => false,
        _ => true,
    }
}

fn refused(what: &str, code: ErrorCode, message: Option<&StrBytes>) -> Result<(), ClientError> {
    if code.is_ok() {
        return Ok(());
    }
    Err(ClientError::Refused { what: what.to_owned(), code, message: message.map(|text| text.to_string()) })
}

fn code_error(topic: &str, partition: i32, code: ErrorCode) -> ClientError {
    ClientError::Refused { what: format!("partition {topic}-{partition}"), code, message: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_send<T: Send>(_: T) {}

    #[test]
    fn futures_of_an_admin_can_move_between_threads() {
        let config = crate::ClientConfig::new(vec![], crate::Transport::Tcp);
        let admin = Admin::new(Client::new(config).unwrap());
        assert_send(admin.create_topic(&NewTopic::new("t", 1, 1)));
        assert_send(admin.delete_topic("t"));
        assert_send(admin.list_offsets("t", &[0], OffsetSpec::Latest));
        assert_send(admin.wait_until_led("t", 1, Duration::ZERO));
    }
}
