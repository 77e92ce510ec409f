//! Elections on request.

use minisr_wire::messages::elect_leaders_request::TopicPartitions;
use minisr_wire::messages::{ElectLeadersRequest, TopicName};
use minisr_wire::{ErrorCode, StrBytes};

use super::{Admin, refused};
use crate::client::ClientError;

/// Who may be elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// The first replica of each partition, if it is in sync.
    Preferred,
    /// Any live replica of a partition that nobody can lead without loss. **Acknowledged records may be lost.**
    Unclean,
}

/// What became of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elected {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Why there was no election; `ELECTION_NOT_NEEDED` where the leader is the right one already.
    pub error: Option<(ErrorCode, Option<String>)>,
}

impl Admin {
    /// Elects leaders of these partitions (topic and indexes), or of all where something is to be done. Asked once: an
    /// election that may have happened is not asked for again.
    ///
    /// # Errors
    /// Nobody answers, or the request is refused as a whole.
    pub async fn elect_leaders(
        &self,
        election: Election,
        partitions: Option<&[(String, Vec<i32>)]>,
    ) -> Result<Vec<Elected>, ClientError> {
        let asked = |(topic, partitions): &(String, Vec<i32>)| {
            TopicPartitions::default()
                .with_topic(TopicName(StrBytes::from_string(topic.clone())))
                .with_partitions(partitions.clone())
        };
        let request = ElectLeadersRequest::default()
            .with_election_type(match election {
                Election::Preferred => 0,
                Election::Unclean => 1,
            })
            .with_topic_partitions(partitions.map(|partitions| partitions.iter().map(asked).collect()))
            .with_timeout_ms(self.timeout_ms());
        let broker_id = self.broker_for_changes().await?;
        let response = self.call_or_abandon(broker_id, &request, 2).await?;
        refused("ElectLeaders", ErrorCode(response.error_code), None)?;
        let mut results = Vec::new();
        for topic in response.replica_election_results {
            for result in topic.partition_result {
                let code = ErrorCode(result.error_code);
                let message = result.error_message.map(|message| message.to_string());
                results.push(Elected {
                    topic: topic.topic.to_string(),
                    partition: result.partition_id,
                    error: (!code.is_ok()).then_some((code, message)),
                });
            }
        }
        Ok(results)
    }
}
