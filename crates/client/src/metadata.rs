//! What is known of the cluster: brokers, topics, leaders.
//!
//! Invariant (KIP-320): a partition's leader epoch never goes back. A broker that is behind may answer a Metadata
//! request with an old leader; what is known to be newer is kept. A topic that was deleted and created again has
//! another id and starts over.

use std::collections::BTreeMap;
use std::sync::Arc;

use minisr_wire::ErrorCode;
use minisr_wire::messages::MetadataResponse;

use crate::transport::Address;

/// The leader of a partition, in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The broker.
    pub broker_id: i32,
    /// The epoch; −1 when the broker that told us is too old to know it.
    pub epoch: i32,
}

/// What is known of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its leader; `None` while there is none.
    pub leader: Option<i32>,
    /// The leader epoch; −1 when unknown.
    pub leader_epoch: i32,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The in-sync ones.
    pub isr: Vec<i32>,
}

/// What is known of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; zero when the broker that told us is too old to know it.
    pub id: u128,
    /// Its partitions, by index.
    pub partitions: BTreeMap<i32, PartitionInfo>,
}

/// A view of the cluster, cheap to clone, not changed by later refreshes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The active controller, as far as known.
    pub controller_id: Option<i32>,
    /// Live brokers and where they listen.
    pub brokers: BTreeMap<i32, Address>,
    /// Topics that were asked for.
    pub topics: BTreeMap<Arc<str>, Arc<TopicInfo>>,
}

impl ClusterView {
    /// The leader of a partition, if there is one.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<Leader> {
        let info = self.topics.get(topic)?.partitions.get(&partition)?;
        Some(Leader { broker_id: info.leader?, epoch: info.leader_epoch })
    }

    /// How many partitions a topic has.
    #[must_use]
    pub fn partition_count(&self, topic: &str) -> Option<usize> {
        self.topics.get(topic).map(|topic| topic.partitions.len())
    }

    /// Takes in a response. Topics that it reports as missing are forgotten; those it does not mention stay.
    pub fn update(&mut self, response: &MetadataResponse) {
        if let Some(cluster_id) = &response.cluster_id {
            self.cluster_id = Some(cluster_id.to_string());
        }
        self.controller_id = Some(response.controller_id.0).filter(|&id| id >= 0);
        if !response.brokers.is_empty() {
            self.brokers = response
                .brokers
                .iter()
                .filter_map(|broker| {
                    let port = u16::try_from(broker.port).ok()?;
                    Some((broker.node_id.0, Address::new(broker.host.to_string(), port)))
                })
                .collect();
        }
        for topic in &response.topics {
            let Some(name) = topic.name.as_ref() else { continue };
            match ErrorCode(topic.error_code) {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::INVALID_TOPIC_EXCEPTION => {
                    self.topics.remove(name.as_str());
                    continue;
                }
                code if !code.is_ok() && topic.partitions.is_empty() => continue,
                _ => {}
            }
            let id = topic.topic_id.as_u128();
            let known = self.topics.get(name.as_str()).filter(|known| known.id == id || known.id == 0 || id == 0);
            let partitions = topic.partitions.iter().map(|partition| {
                let told = PartitionInfo {
                    leader: Some(partition.leader_id.0).filter(|&id| id >= 0),
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replica_nodes.iter().map(|id| id.0).collect(),
                    isr: partition.isr_nodes.iter().map(|id| id.0).collect(),
                };
                let index = partition.partition_index;
                match known.and_then(|known| known.partitions.get(&index)) {
                    Some(known) if told.leader_epoch < known.leader_epoch => (index, known.clone()),
                    _ => (index, told),
                }
            });
            let partitions = partitions.collect();
            let name: Arc<str> = name.as_str().into();
            self.topics.insert(name.clone(), Arc::new(TopicInfo { name, id, partitions }));
        }
    }
}

#[cfg(test)]
mod tests {
    use minisr_wire::StrBytes;
    use minisr_wire::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    use minisr_wire::messages::{BrokerId, TopicName};

    use super::*;

    fn response(topic_id: u128, leader: i32, epoch: i32) -> MetadataResponse {
        let partition = MetadataResponsePartition::default()
            .with_partition_index(0)
            .with_leader_id(BrokerId(leader))
            .with_leader_epoch(epoch);
        let mut topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str("t"))))
            .with_partitions(vec![partition]);
        topic.topic_id = uuid::Uuid::from_u128(topic_id);
        let broker = MetadataResponseBroker::default()
            .with_node_id(BrokerId(leader.max(1)))
            .with_host(StrBytes::from_static_str("h"))
            .with_port(9);
        MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic])
    }

    #[test]
    fn metadata_from_a_broker_that_is_behind_does_not_bring_an_old_leader_back() {
        let mut view = ClusterView::default();
        view.update(&response(7, 1, 4));
        view.update(&response(7, 2, 5));
        view.update(&response(7, 1, 4));
        assert_eq!(view.leader("t", 0), Some(Leader { broker_id: 2, epoch: 5 }));
        view.update(&response(7, -1, 6));
        assert_eq!(view.leader("t", 0), None);
    }

    #[test]
    fn metadata_of_a_recreated_topic_starts_over() {
        let mut view = ClusterView::default();
        view.update(&response(7, 1, 40));
        view.update(&response(8, 2, 0));
        assert_eq!(view.leader("t", 0), Some(Leader { broker_id: 2, epoch: 0 }));
    }

    #[test]
    fn metadata_of_a_deleted_topic_is_forgotten() {
        let mut view = ClusterView::default();
        view.update(&response(7, 1, 0));
        let mut gone = response(0, 1, 0);
        gone.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
        gone.topics[0].partitions.clear();
        view.update(&gone);
        assert_eq!(view.partition_count("t"), None);
    }
}
