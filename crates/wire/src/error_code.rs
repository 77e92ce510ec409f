//! Kafka's numeric error codes, with the two questions a client asks of each: may I retry, and is the record
//! certainly absent.
//!
//! This is the only file in which the numbers appear.

use std::fmt;

/// An error code as it stands in responses; 0 is success.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ErrorCode(pub i16);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $(, $retriable:ident)?;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// Kafka's name of the code; "UNKNOWN" for numbers that this build has no name for.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => stringify!($name),)*
                    _ => "UNKNOWN",
                }
            }

            /// Whether the same request may succeed later: the flag of Kafka's own clients.
            #[must_use]
            pub const fn is_retriable(self) -> bool {
                match self.0 {
                    $($number => codes!(@retriable $($retriable)?),)*
                    _ => false,
                }
            }
        }
    };
    (@retriable retriable) => { true };
    (@retriable) => { false };
}

codes! {
    /// An unexpected error inside the server.
    UNKNOWN_SERVER_ERROR = -1;
    /// Success.
    NONE = 0;
    /// The offset lies outside the range held by the broker.
    OFFSET_OUT_OF_RANGE = 1;
    /// A batch fails its CRC, has a wrong length or is otherwise corrupt.
    CORRUPT_MESSAGE = 2, retriable;
    /// The topic or partition is not known here.
    UNKNOWN_TOPIC_OR_PARTITION = 3, retriable;
    /// The partition has no leader at the moment.
    LEADER_NOT_AVAILABLE = 5, retriable;
    /// This broker is neither leader nor, for reads, follower of the partition.
    NOT_LEADER_OR_FOLLOWER = 6, retriable;
    /// The request's own timeout ran out; what it wrote stays written.
    REQUEST_TIMED_OUT = 7, retriable;
    /// The broker is not available.
    BROKER_NOT_AVAILABLE = 8;
    /// The batch exceeds `max.message.bytes`.
    MESSAGE_TOO_LARGE = 10;
    /// The connection ended before the answer.
    NETWORK_EXCEPTION = 13, retriable;
    /// The coordinator is loading.
    COORDINATOR_LOAD_IN_PROGRESS = 14, retriable;
    /// There is no coordinator at the moment.
    COORDINATOR_NOT_AVAILABLE = 15, retriable;
    /// This broker is not the coordinator.
    NOT_COORDINATOR = 16, retriable;
    /// The topic's name is not allowed.
    INVALID_TOPIC_EXCEPTION = 17;
    /// The batch exceeds `segment.bytes`.
    RECORD_LIST_TOO_LARGE = 18;
    /// The ISR is smaller than `min.insync.replicas`; nothing was appended.
    NOT_ENOUGH_REPLICAS = 19, retriable;
    /// The ISR shrank below `min.insync.replicas` after the append.
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20, retriable;
    /// `acks` is none of 0, 1, −1.
    INVALID_REQUIRED_ACKS = 21;
    /// The group's generation is not this one.
    ILLEGAL_GENERATION = 22;
    /// No common protocol in the group.
    INCONSISTENT_GROUP_PROTOCOL = 23;
    /// The member is not known.
    UNKNOWN_MEMBER_ID = 25;
    /// The session timeout lies outside the allowed range.
    INVALID_SESSION_TIMEOUT = 26;
    /// The group is rebalancing.
    REBALANCE_IN_PROGRESS = 27;
    /// The client may not do this to the topic.
    TOPIC_AUTHORIZATION_FAILED = 29;
    /// The client may not do this to the cluster.
    CLUSTER_AUTHORIZATION_FAILED = 31;
    /// A timestamp is out of range, or the client set LogAppendTime.
    INVALID_TIMESTAMP = 32;
    /// The broker does not offer the SASL mechanism.
    UNSUPPORTED_SASL_MECHANISM = 33;
    /// The request does not fit the state of the SASL exchange.
    ILLEGAL_SASL_STATE = 34;
    /// The version is not served.
    UNSUPPORTED_VERSION = 35;
    /// A topic of this name exists.
    TOPIC_ALREADY_EXISTS = 36;
    /// The number of partitions is not allowed.
    INVALID_PARTITIONS = 37;
    /// The replication factor is not allowed, or exceeds the number of brokers.
    INVALID_REPLICATION_FACTOR = 38;
    /// The replica assignment is not allowed.
    INVALID_REPLICA_ASSIGNMENT = 39;
    /// A configuration is not allowed.
    INVALID_CONFIG = 40;
    /// This broker is not the active controller.
    NOT_CONTROLLER = 41, retriable;
    /// The request contradicts itself or the state.
    INVALID_REQUEST = 42;
    /// The policy refuses the request.
    POLICY_VIOLATION = 44;
    /// The batch's first sequence does not follow the last one.
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45;
    /// The batch has a sequence that is long known.
    DUPLICATE_SEQUENCE_NUMBER = 46;
    /// The producer's epoch is older than the known one.
    INVALID_PRODUCER_EPOCH = 47;
    /// The transaction is in another state.
    INVALID_TXN_STATE = 48;
    /// The producer id does not belong to the transactional id.
    INVALID_PRODUCER_ID_MAPPING = 49;
    /// The transaction timeout is not allowed.
    INVALID_TRANSACTION_TIMEOUT = 50;
    /// Another transaction of the producer is under way.
    CONCURRENT_TRANSACTIONS = 51, retriable;
    /// The transaction coordinator has been superseded.
    TRANSACTION_COORDINATOR_FENCED = 52;
    /// The operation was not attempted, since another one failed.
    OPERATION_NOT_ATTEMPTED = 55;
    /// The disk refused; the log is offline.
    KAFKA_STORAGE_ERROR = 56, retriable;
    /// The credentials are not accepted.
    SASL_AUTHENTICATION_FAILED = 58;
    /// The producer id is not known.
    UNKNOWN_PRODUCER_ID = 59;
    /// The fetch session is not known.
    FETCH_SESSION_ID_NOT_FOUND = 70, retriable;
    /// The fetch session's epoch is another one.
    INVALID_FETCH_SESSION_EPOCH = 71, retriable;
    /// The leader epoch in the request is older than the broker's.
    FENCED_LEADER_EPOCH = 74, retriable;
    /// The leader epoch in the request is newer than the broker's.
    UNKNOWN_LEADER_EPOCH = 75, retriable;
    /// The codec is not supported by this version.
    UNSUPPORTED_COMPRESSION_TYPE = 76;
    /// The broker epoch is older than the registered one.
    STALE_BROKER_EPOCH = 77;
    /// The high watermark has not reached the start of the leader's epoch yet.
    OFFSET_NOT_AVAILABLE = 78, retriable;
    /// The group member must join again with the id it was given.
    MEMBER_ID_REQUIRED = 79;
    /// The preferred leader is not in the ISR.
    PREFERRED_LEADER_NOT_AVAILABLE = 80, retriable;
    /// The group instance id was taken over.
    FENCED_INSTANCE_ID = 82;
    /// No replica is available that may lead.
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83, retriable;
    /// The partition has the leader it should have.
    ELECTION_NOT_NEEDED = 84, retriable;
    /// There is no reassignment of this partition to cancel.
    NO_REASSIGNMENT_IN_PROGRESS = 85;
    /// The record does not pass the broker's checks.
    INVALID_RECORD = 87;
    /// A transactional offset commit is pending.
    UNSTABLE_OFFSET_COMMIT = 88, retriable;
    /// A newer instance of the producer exists.
    PRODUCER_FENCED = 90;
    /// The partition epoch in the request is not the controller's.
    INVALID_UPDATE_VERSION = 95;
    /// The topic id is not known here.
    UNKNOWN_TOPIC_ID = 100, retriable;
    /// Another incarnation of this broker is registered.
    DUPLICATE_BROKER_REGISTRATION = 101;
    /// The broker id is not registered.
    BROKER_ID_NOT_REGISTERED = 102;
    /// The topic id does not belong to the name.
    INCONSISTENT_TOPIC_ID = 103, retriable;
    /// The cluster id is another one.
    INCONSISTENT_CLUSTER_ID = 104;
    /// A replica may not join the ISR.
    INELIGIBLE_REPLICA = 107;
    /// The change moved leadership elsewhere.
    NEW_LEADER_ELECTED = 108;
    /// DescribeCluster asked for endpoints of a kind that there is not here.
    UNSUPPORTED_ENDPOINT_TYPE = 115;
    /// The broker is a voter of the controller quorum already.
    DUPLICATE_VOTER = 126;
    /// The broker is no voter of the controller quorum.
    VOTER_NOT_FOUND = 127;
}

impl ErrorCode {
    /// Whether this is success.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// `Ok` for success, the code as an error otherwise.
    ///
    /// # Errors
    /// The code is not 0.
    pub const fn ok(self) -> Result<(), Self> {
        if self.is_ok() { Ok(()) } else { Err(self) }
    }

    /// Whether a Produce attempt answered with this code has certainly left nothing in the log. Everything else
    /// that is not success leaves the attempt *unknown*; an operation has failed only if every attempt is absent.
    #[must_use]
    pub const fn is_definitely_absent(self) -> bool {
        matches!(
            self,
            Self::NOT_ENOUGH_REPLICAS
                | Self::INVALID_REQUIRED_ACKS
                | Self::MESSAGE_TOO_LARGE
                | Self::RECORD_LIST_TOO_LARGE
                | Self::CORRUPT_MESSAGE
                | Self::INVALID_RECORD
                | Self::INVALID_TIMESTAMP
                | Self::UNSUPPORTED_COMPRESSION_TYPE
                | Self::UNSUPPORTED_VERSION
        )
    }
}

impl From<i16> for ErrorCode {
    fn from(code: i16) -> Self {
        Self(code)
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> Self {
        code.0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    use kafka_protocol::error::ParseResponseErrorCode;

    use super::*;

    #[test]
    fn error_codes_agree_with_the_message_crate_on_names_and_retriability() {
        for number in -1..=110 {
            let code = ErrorCode(number);
            if code.name() == "UNKNOWN" || code.is_ok() {
                continue;
            }
            let theirs = number.err().expect("the crate knows it");
            let ours = code.name().replace("_EXCEPTION", "").replace('_', "").to_lowercase();
            assert_eq!(format!("{theirs:?}").replace("Exception", "").to_lowercase(), ours, "{code}");
            // Kafka made 51 retriable after the table from which the crate was generated.
            assert!(
                theirs.is_retriable() == code.is_retriable() || code == ErrorCode::CONCURRENT_TRANSACTIONS,
                "{code}"
            );
        }
    }

    #[test]
    fn error_codes_after_which_data_may_be_there_are_not_absent() {
        for code in [
            ErrorCode::REQUEST_TIMED_OUT,
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            ErrorCode::KAFKA_STORAGE_ERROR,
            ErrorCode::NONE,
            ErrorCode(999),
        ] {
            assert!(!code.is_definitely_absent(), "{code}");
        }
        assert!(ErrorCode::NOT_ENOUGH_REPLICAS.is_definitely_absent());
    }
}
