//! Reassignments, more partitions, configurations that change at run time, and who belongs to the cluster.

use std::collections::BTreeMap;

use minisr_wire::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use minisr_wire::messages::create_partitions_request::CreatePartitionsTopic;
use minisr_wire::messages::describe_configs_request::DescribeConfigsResource;
use minisr_wire::messages::describe_quorum_request::{PartitionData, TopicData};
use minisr_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use minisr_wire::messages::{
    AddRaftVoterRequest, AlterPartitionReassignmentsRequest, CreatePartitionsRequest, DescribeConfigsRequest,
    DescribeQuorumRequest, IncrementalAlterConfigsRequest, ListPartitionReassignmentsRequest, RemoveRaftVoterRequest,
    TopicName, UnregisterBrokerRequest,
};
use minisr_wire::protocol::Request;
use minisr_wire::{ErrorCode, StrBytes};

use super::{Admin, refused};
use crate::client::ClientError;

/// What a partition's replicas shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its replicas, the preferred leader first; `None` cancels what is under way.
    pub replicas: Option<Vec<i32>>,
}

/// A reassignment under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OngoingReassignment {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// All replicas for now.
    pub replicas: Vec<i32>,
    /// Those that are being added.
    pub adding: Vec<i32>,
    /// Those that will be removed.
    pub removing: Vec<i32>,
}

impl OngoingReassignment {
    /// The replicas that the partition will have.
    #[must_use]
    pub fn target(&self) -> Vec<i32> {
        self.replicas.iter().copied().filter(|id| !self.removing.contains(id)).collect()
    }
}

/// Whose configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic's.
    Topic(String),
    /// One broker's.
    Broker(i32),
    /// All brokers'.
    AllBrokers,
}

impl ConfigResource {
    fn kind(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Broker(_) | Self::AllBrokers => 4,
        }
    }

    fn name(&self) -> StrBytes {
        StrBytes::from_string(match self {
            Self::Topic(name) => name.clone(),
            Self::Broker(id) => id.to_string(),
            Self::AllBrokers => String::new(),
        })
    }
}

/// The controller quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuorumInfo {
    /// The active controller.
    pub leader: Option<i32>,
    /// The brokers that vote.
    pub voters: Vec<i32>,
    /// The brokers that follow without a vote.
    pub observers: Vec<i32>,
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn ids(ids: &[minisr_wire::messages::BrokerId]) -> Vec<i32> {
    ids.iter().map(|id| id.0).collect()
}

impl Admin {
    /// Begins, redirects or cancels reassignments. Asked again, for as long as the request timeout, while there is no
    /// controller; naming the same target twice does no harm.
    ///
    /// # Errors
    /// The controller refuses one of them (the others may have begun), or nobody answers.
    pub async fn reassign(&self, wanted: &[Reassignment]) -> Result<(), ClientError> {
        let mut topics: BTreeMap<&str, Vec<ReassignablePartition>> = BTreeMap::new();
        for it in wanted {
            let replicas = it.replicas.as_ref().map(|ids| ids.iter().map(|id| (*id).into()).collect());
            let partition = ReassignablePartition::default().with_partition_index(it.partition).with_replicas(replicas);
            topics.entry(it.topic.as_str()).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            ReassignableTopic::default().with_name(topic_name(name)).with_partitions(partitions)
        });
        let request = AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(self.timeout_ms())
            .with_allow_replication_factor_change(true)
            .with_topics(topics.collect());
        let response = self.change("reassigning partitions", &request, 1).await?;
        refused("AlterPartitionReassignments", ErrorCode(response.error_code), response.error_message.as_ref())?;
        for topic in &response.responses {
            for it in &topic.partitions {
                let what = format!("reassigning {}-{}", topic.name.as_str(), it.partition_index);
                refused(&what, ErrorCode(it.error_code), it.error_message.as_ref())?;
            }
        }
        Ok(())
    }

    /// Every reassignment under way, as the broker that answers knows it.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn list_reassignments(&self) -> Result<Vec<OngoingReassignment>, ClientError> {
        let request = ListPartitionReassignmentsRequest::default().with_timeout_ms(self.timeout_ms()).with_topics(None);
        let response = self.change("listing reassignments", &request, 0).await?;
        refused("ListPartitionReassignments", ErrorCode(response.error_code), response.error_message.as_ref())?;
        let of_topic =
            |topic: minisr_wire::messages::list_partition_reassignments_response::OngoingTopicReassignment| {
                let name = topic.name.to_string();
                topic.partitions.into_iter().map(move |it| OngoingReassignment {
                    topic: name.clone(),
                    partition: it.partition_index,
                    replicas: ids(&it.replicas),
                    adding: ids(&it.adding_replicas),
                    removing: ids(&it.removing_replicas),
                })
            };
        Ok(response.topics.into_iter().flat_map(of_topic).collect())
    }

    /// Gives a topic more partitions, `count` in all.
    ///
    /// # Errors
    /// The controller refuses, or nobody answers.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<(), ClientError> {
        let asked =
            CreatePartitionsTopic::default().with_name(topic_name(topic)).with_count(count).with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![asked]).with_timeout_ms(self.timeout_ms());
        // Not asked again: a second answer would be about what the first has done.
        let broker_id = self.broker_for_changes().await?;
        let response = self.call_or_abandon(broker_id, &request, 3).await?;
        let Some(result) = response.results.first() else {
            return refused("CreatePartitions", ErrorCode::UNKNOWN_SERVER_ERROR, None);
        };
        refused(&format!("topic {topic}"), ErrorCode(result.error_code), result.error_message.as_ref())
    }

    /// Sets (`Some`) or removes (`None`) configurations.
    ///
    /// # Errors
    /// The controller refuses, or nobody answers.
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &[(&str, Option<String>)],
    ) -> Result<(), ClientError> {
        let change = |(name, value): &(&str, Option<String>)| {
            AlterableConfig::default()
                .with_name(StrBytes::from_string((*name).to_owned()))
                .with_config_operation(i8::from(value.is_none()))
                .with_value(value.clone().map(StrBytes::from_string))
        };
        let altered = AlterConfigsResource::default()
            .with_resource_type(resource.kind())
            .with_resource_name(resource.name())
            .with_configs(changes.iter().map(change).collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![altered]);
        let response = self.change("altering configurations", &request, 1).await?;
        let Some(result) = response.responses.first() else {
            return refused("IncrementalAlterConfigs", ErrorCode::UNKNOWN_SERVER_ERROR, None);
        };
        refused("altering configurations", ErrorCode(result.error_code), result.error_message.as_ref())
    }

    /// The configurations of a topic or broker that differ from what the programs assume, by name.
    ///
    /// # Errors
    /// There is no such resource, or nobody answers.
    pub async fn describe_configs(&self, resource: &ConfigResource) -> Result<BTreeMap<String, String>, ClientError> {
        let asked = DescribeConfigsResource::default()
            .with_resource_type(resource.kind())
            .with_resource_name(resource.name())
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![asked]);
        let response = self.change("describing configurations", &request, 4).await?;
        let mut found = BTreeMap::new();
        for result in response.results {
            let what = format!("configurations of '{}'", result.resource_name);
            refused(&what, ErrorCode(result.error_code), result.error_message.as_ref())?;
            for config in result.configs {
                found.insert(config.name.to_string(), config.value.unwrap_or_default().to_string());
            }
        }
        Ok(found)
    }

    /// The controller quorum, as the controller knows it.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn describe_quorum(&self) -> Result<QuorumInfo, ClientError> {
        let topic = TopicData::default()
            .with_topic_name(topic_name("__cluster_metadata"))
            .with_partitions(vec![PartitionData::default()]);
        let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
        let response = self.change("describing the quorum", &request, 2).await?;
        refused("DescribeQuorum", ErrorCode(response.error_code), response.error_message.as_ref())?;
        let found = response.topics.iter().flat_map(|topic| &topic.partitions).next();
        let Some(partition) = found else { return Ok(QuorumInfo::default()) };
        refused("DescribeQuorum", ErrorCode(partition.error_code), partition.error_message.as_ref())?;
        let mut quorum = QuorumInfo {
            leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
            voters: partition.current_voters.iter().map(|it| it.replica_id.0).collect(),
            observers: partition.observers.iter().map(|it| it.replica_id.0).collect(),
        };
        quorum.voters.sort_unstable();
        quorum.observers.sort_unstable();
        Ok(quorum)
    }

    /// Makes a broker that follows the controller quorum a voter, and waits until it is one.
    ///
    /// # Errors
    /// The controller refuses, nobody answers, or it takes longer than the request timeout.
    pub async fn add_voter(&self, id: i32) -> Result<(), ClientError> {
        let request =
            AddRaftVoterRequest::default().with_cluster_id(None).with_voter_id(id).with_timeout_ms(self.timeout_ms());
        let broker_id = self.broker_for_changes().await?;
        let response = self.call_or_abandon(broker_id, &request, 0).await?;
        let what = format!("promoting broker {id}");
        refused(&what, ErrorCode(response.error_code), response.error_message.as_ref())
    }

    /// Takes a broker's vote in the controller quorum away, and waits until it is gone.
    ///
    /// # Errors
    /// The controller refuses, nobody answers, or it takes longer than the request timeout.
    pub async fn remove_voter(&self, id: i32) -> Result<(), ClientError> {
        let request = RemoveRaftVoterRequest::default().with_cluster_id(None).with_voter_id(id);
        let broker_id = self.broker_for_changes().await?;
        let response = self.call_or_abandon(broker_id, &request, 0).await?;
        let what = format!("demoting broker {id}");
        refused(&what, ErrorCode(response.error_code), response.error_message.as_ref())
    }

    /// Makes the cluster forget a broker that is down, holds no replica and does not vote.
    ///
    /// # Errors
    /// The controller refuses, or nobody answers.
    pub async fn unregister_broker(&self, id: i32) -> Result<(), ClientError> {
        let request = UnregisterBrokerRequest::default().with_broker_id(id.into());
        let broker_id = self.broker_for_changes().await?;
        let response = self.call_or_abandon(broker_id, &request, 0).await?;
        let what = format!("removing broker {id}");
        refused(&what, ErrorCode(response.error_code), response.error_message.as_ref())
    }

    /// Asks something that may be asked twice.
    async fn change<R: Request>(&self, what: &str, request: &R, version_max: i16) -> Result<R::Response, ClientError> {
        let mut attempts = self.attempts(what.to_owned());
        loop {
            let attempt = async {
                let broker_id = self.broker_for_changes().await?;
                self.call_or_abandon(broker_id, request, version_max).await
            };
            match attempts.bounded(attempt).await {
                Ok(response) => return Ok(response),
                Err(error) => attempts.pause_after(error).await?,
            }
        }
    }
}
