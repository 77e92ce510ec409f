//! An operator deletes the topic and creates another one of the same name: nothing of the old one may turn up in it
//! (trap 21).

use minisr_logic::TopicId;
use minisr_logic::metadata::{Assignment, Command};

use super::{Cluster, Event, FaultType};
use crate::cluster::TOPIC_NAME;
use crate::schedule::Parameters;

/// The topic is deleted, and created anew.
pub const RECREATE: FaultType = FaultType {
    name: "recreate-topic",
    seeds_permille: 200,
    draw: |_, _| Some(Parameters::default()),
    strike: |cluster, _| {
        cluster.topic = TopicId(cluster.topic.0 + 1);
        cluster.forget_positions();
        cluster.ensure_topic();
    },
};

const RETRY_MS: u64 = 120;

impl Cluster {
    /// Sees to it that the topic that clients use exists, and no other one under its name.
    pub(in crate::cluster) fn ensure_topic(&mut self) {
        let image = &self.controller.image;
        if image.topic(self.topic).is_some() {
            return;
        }
        let command = match image.topic_by_name(TOPIC_NAME) {
            Some(old) => Command::DeleteTopic { topic_id: old.id },
            None => Command::CreateTopic {
                name: TOPIC_NAME.to_owned(),
                topic_id: self.topic,
                assignment: Assignment::Automatic {
                    partitions: self.plan.partitions,
                    replication_factor: self.plan.replication_factor,
                },
                configs: std::collections::BTreeMap::new(),
                default_min_insync_replicas: self.plan.min_insync_replicas,
            },
        };
        self.propose(command, None);
        self.schedule(RETRY_MS, Event::EnsureTopic);
    }
}
