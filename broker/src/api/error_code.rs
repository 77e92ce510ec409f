//! From typed errors to Kafka's codes. No other file of the broker decides which code an error becomes.

use minisr_logic::metadata::{CommandError, CreateTopicError, DeleteTopicError, ElectLeaderError};
use minisr_replica::{AppendError, FetchError, ListOffsetsError};
use minisr_wire::ErrorCode;

use crate::control_handle::ProposeError;

/// How a request names its topics, which decides what an unknown one is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// By name.
    Name,
    /// By id.
    Id,
}

/// A topic or partition that is not in the metadata.
#[must_use]
pub fn unknown_topic(named_by: NamedBy) -> ErrorCode {
    match named_by {
        NamedBy::Name => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        NamedBy::Id => ErrorCode::UNKNOWN_TOPIC_ID,
    }
}

/// Produce, for a partition that the metadata knows: where the shard does not host it, another broker does (or this
/// one will in a moment), so the client must look for the leader again.
#[must_use]
pub fn append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::UnknownPartition | AppendError::NotLeader | AppendError::LeadershipLost => {
            ErrorCode::NOT_LEADER_OR_FOLLOWER
        }
        AppendError::NotEnoughReplicas { .. } => ErrorCode::NOT_ENOUGH_REPLICAS,
        AppendError::NotEnoughReplicasAfterAppend { .. } => ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        AppendError::TimedOut => ErrorCode::REQUEST_TIMED_OUT,
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
        AppendError::MessageTooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        AppendError::RecordListTooLarge { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
        AppendError::StorageFailed => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// Fetch and OffsetForLeaderEpoch, for a partition that the metadata knows.
#[must_use]
pub fn fetch(error: &FetchError) -> ErrorCode {
    match error {
        FetchError::UnknownPartition | FetchError::NotLeader | FetchError::NotReplica => {
            ErrorCode::NOT_LEADER_OR_FOLLOWER
        }
        FetchError::StaleBrokerEpoch => ErrorCode::STALE_BROKER_EPOCH,
        FetchError::FencedLeaderEpoch { .. } => ErrorCode::FENCED_LEADER_EPOCH,
        FetchError::UnknownLeaderEpoch { .. } => ErrorCode::UNKNOWN_LEADER_EPOCH,
        FetchError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        FetchError::LogOffline => ErrorCode::KAFKA_STORAGE_ERROR,
        FetchError::InconsistentTopicId => ErrorCode::INCONSISTENT_TOPIC_ID,
        FetchError::Other => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// ListOffsets.
#[must_use]
pub fn list_offsets(error: &ListOffsetsError) -> ErrorCode {
    match error {
        ListOffsetsError::Fetch(error) => fetch(error),
        ListOffsetsError::OffsetNotAvailable => ErrorCode::OFFSET_NOT_AVAILABLE,
    }
}

/// The reverse of [`fetch`], for a follower that reads its leader's answer.
#[must_use]
pub fn fetch_error(code: ErrorCode, current: minisr_logic::Epoch) -> FetchError {
    match code {
        ErrorCode::NOT_LEADER_OR_FOLLOWER => FetchError::NotLeader,
        ErrorCode::STALE_BROKER_EPOCH => FetchError::StaleBrokerEpoch,
        ErrorCode::FENCED_LEADER_EPOCH => FetchError::FencedLeaderEpoch { current },
        ErrorCode::UNKNOWN_LEADER_EPOCH => FetchError::UnknownLeaderEpoch { current },
        ErrorCode::KAFKA_STORAGE_ERROR => FetchError::LogOffline,
        ErrorCode::UNKNOWN_TOPIC_ID | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => FetchError::UnknownPartition,
        ErrorCode::INCONSISTENT_TOPIC_ID => FetchError::InconsistentTopicId,
        _ => FetchError::Other,
    }
}

/// Whatever a client asked the controller for.
#[must_use]
pub fn propose(error: &ProposeError) -> ErrorCode {
    match error {
        ProposeError::Refused(error) => command(error),
        ProposeError::NoController => ErrorCode::NOT_CONTROLLER,
        ProposeError::TimedOut => ErrorCode::REQUEST_TIMED_OUT,
        ProposeError::Overloaded | ProposeError::Stopped => ErrorCode::NOT_CONTROLLER,
    }
}

/// A command that the metadata state machine refused. Only commands that clients cause are told apart.
fn command(error: &CommandError) -> ErrorCode {
    match error {
        CommandError::CreateTopic(error) => create_topic(error),
        CommandError::DeleteTopic(DeleteTopicError::UnknownTopicId { .. }) => ErrorCode::UNKNOWN_TOPIC_ID,
        CommandError::ElectLeader(error) => elect_leader(error),
        CommandError::BrokerEpoch(_) => ErrorCode::STALE_BROKER_EPOCH,
        // For these the metadata machine's own number is the one a client knows.
        CommandError::Reassignment(_)
        | CommandError::CreatePartitions(_)
        | CommandError::Unregister(_)
        | CommandError::AlterVoter(_)
        | CommandError::TopicConfig(_)
        | CommandError::BrokerConfig(_) => ErrorCode(error.kafka_code()),
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

fn elect_leader(error: &ElectLeaderError) -> ErrorCode {
    match error {
        ElectLeaderError::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ElectLeaderError::ElectionNotNeeded => ErrorCode::ELECTION_NOT_NEEDED,
        ElectLeaderError::PreferredLeaderNotAvailable { .. } => ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
        ElectLeaderError::EligibleLeadersNotAvailable => ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
    }
}

fn create_topic(error: &CreateTopicError) -> ErrorCode {
    match error {
        CreateTopicError::InvalidName(_) | CreateTopicError::NameCollides { .. } => ErrorCode::INVALID_TOPIC_EXCEPTION,
        CreateTopicError::TopicAlreadyExists { .. } => ErrorCode::TOPIC_ALREADY_EXISTS,
        CreateTopicError::MixedRacks { .. } => ErrorCode::INVALID_REQUEST,
        CreateTopicError::TopicIdInUse { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
        CreateTopicError::InvalidPartitions { .. } => ErrorCode::INVALID_PARTITIONS,
        CreateTopicError::InvalidReplicationFactor { .. } => ErrorCode::INVALID_REPLICATION_FACTOR,
        CreateTopicError::InvalidReplicaAssignment { .. } => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        CreateTopicError::InvalidConfig { .. } => ErrorCode::INVALID_CONFIG,
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::{Epoch, Offset};

    use super::*;

    #[test]
    fn append_errors_have_the_numbers_that_kafka_gives_them() {
        let cases = [
            (AppendError::NotLeader, 6),
            (AppendError::LeadershipLost, 6),
            (AppendError::NotEnoughReplicas { isr: 1, min_isr: 2 }, 19),
            (AppendError::NotEnoughReplicasAfterAppend { isr: 1, min_isr: 2 }, 20),
            (AppendError::TimedOut, 7),
            (AppendError::OutOfOrderSequence { expected: 1, actual: 3 }, 45),
            (AppendError::InvalidProducerEpoch { current: 2, actual: 1 }, 47),
            (AppendError::MessageTooLarge { size_bytes: 2, max_bytes: 1 }, 10),
            (AppendError::RecordListTooLarge { size_bytes: 2, max_bytes: 1 }, 18),
            (AppendError::StorageFailed, 56),
        ];
        for (error, number) in cases {
            assert_eq!(append(&error).0, number, "{error}");
        }
    }

    #[test]
    fn append_that_may_have_left_data_never_reads_as_absent() {
        for error in [
            AppendError::LeadershipLost,
            AppendError::TimedOut,
            AppendError::NotEnoughReplicasAfterAppend { isr: 1, min_isr: 2 },
            AppendError::StorageFailed,
        ] {
            assert!(!append(&error).is_definitely_absent(), "{error}");
        }
    }

    #[test]
    fn fetch_errors_that_a_follower_acts_on_survive_the_wire() {
        let current = Epoch(7);
        for error in [
            FetchError::NotLeader,
            FetchError::StaleBrokerEpoch,
            FetchError::FencedLeaderEpoch { current },
            FetchError::UnknownLeaderEpoch { current },
            FetchError::LogOffline,
            FetchError::InconsistentTopicId,
        ] {
            assert_eq!(fetch_error(fetch(&error), current), error);
        }
        let out_of_range = FetchError::OffsetOutOfRange { log_start: Offset(1), log_end: Offset(2) };
        assert_eq!(fetch(&out_of_range).0, 1);
        assert_eq!(unknown_topic(NamedBy::Id).0, 100);
        assert_eq!(unknown_topic(NamedBy::Name).0, 3);
    }

    #[test]
    fn replication_factor_above_the_brokers_has_its_own_code() {
        let error = CreateTopicError::InvalidReplicationFactor { replication_factor: 4, usable_brokers: 3 };
        assert_eq!(propose(&ProposeError::Refused(CommandError::CreateTopic(error))).0, 38);
        assert_eq!(propose(&ProposeError::NoController).0, 41);
        assert_eq!(propose(&ProposeError::TimedOut).0, 7);
    }
}
