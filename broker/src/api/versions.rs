//! Which APIs are served in which versions; also the list that ApiVersions answers.
//!
//! Clients use the highest version that both sides know, so only what is served is offered. The one exception is
//! Produce: librdkafka before 2.11.1 sends uncompressed unless version 0 is offered, so 0 to 2 are offered; a request
//! that really uses them closes its connection, as in Kafka.

use minisr_wire::ApiKey;

/// One API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The API.
    pub api: ApiKey,
    /// The lowest version offered.
    pub offered_min: i16,
    /// The lowest version served.
    pub min: i16,
    /// The highest version offered and served.
    pub max: i16,
}

const fn served(api: ApiKey, min: i16, max: i16) -> Served {
    Served { api, offered_min: min, min, max }
}

/// Everything that is served, in order of API key.
pub const SERVED: &[Served] = &[
    Served { api: ApiKey::Produce, offered_min: 0, min: 3, max: 11 },
    served(ApiKey::Fetch, 4, 18),
    served(ApiKey::ListOffsets, 1, 8),
    served(ApiKey::Metadata, 0, 12),
    served(ApiKey::ApiVersions, 0, 4),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    served(ApiKey::InitProducerId, 0, 4),
    served(ApiKey::OffsetForLeaderEpoch, 2, 4),
    served(ApiKey::DescribeConfigs, 1, 4),
    served(ApiKey::CreatePartitions, 0, 3),
    served(ApiKey::ElectLeaders, 0, 2),
    served(ApiKey::IncrementalAlterConfigs, 0, 1),
    served(ApiKey::AlterPartitionReassignments, 0, 1),
    served(ApiKey::ListPartitionReassignments, 0, 0),
    served(ApiKey::DescribeQuorum, 0, 2),
    served(ApiKey::DescribeCluster, 0, 1),
    served(ApiKey::UnregisterBroker, 0, 0),
    served(ApiKey::AddRaftVoter, 0, 0),
    served(ApiKey::RemoveRaftVoter, 0, 0),
];

/// Whether requests of this API and version are handled.
#[must_use]
pub fn is_served(api: ApiKey, version: i16) -> bool {
    SERVED.iter().any(|served| served.api == api && (served.min..=served.max).contains(&version))
}

#[cfg(test)]
mod tests {
    use minisr_wire::ApiKey;
    use minisr_wire::messages::*;
    use minisr_wire::protocol::Message;

    use super::*;

    #[test]
    fn versions_served_lie_within_what_the_message_types_know() {
        for served in SERVED {
            let known = match served.api {
                ApiKey::Produce => ProduceRequest::VERSIONS,
                ApiKey::Fetch => FetchRequest::VERSIONS,
                ApiKey::ListOffsets => ListOffsetsRequest::VERSIONS,
                ApiKey::Metadata => MetadataRequest::VERSIONS,
                ApiKey::ApiVersions => ApiVersionsRequest::VERSIONS,
                ApiKey::CreateTopics => CreateTopicsRequest::VERSIONS,
                ApiKey::DeleteTopics => DeleteTopicsRequest::VERSIONS,
                ApiKey::InitProducerId => InitProducerIdRequest::VERSIONS,
                ApiKey::OffsetForLeaderEpoch => OffsetForLeaderEpochRequest::VERSIONS,
                ApiKey::ElectLeaders => ElectLeadersRequest::VERSIONS,
                ApiKey::DescribeCluster => DescribeClusterRequest::VERSIONS,
                ApiKey::DescribeConfigs => DescribeConfigsRequest::VERSIONS,
                ApiKey::CreatePartitions => CreatePartitionsRequest::VERSIONS,
                ApiKey::IncrementalAlterConfigs => IncrementalAlterConfigsRequest::VERSIONS,
                ApiKey::AlterPartitionReassignments => AlterPartitionReassignmentsRequest::VERSIONS,
                ApiKey::ListPartitionReassignments => ListPartitionReassignmentsRequest::VERSIONS,
                ApiKey::DescribeQuorum => DescribeQuorumRequest::VERSIONS,
                ApiKey::UnregisterBroker => UnregisterBrokerRequest::VERSIONS,
                ApiKey::AddRaftVoter => AddRaftVoterRequest::VERSIONS,
                ApiKey::RemoveRaftVoter => RemoveRaftVoterRequest::VERSIONS,
                other => panic!("{other:?} is served and not in this test"),
            };
            assert!(known.min <= served.min && served.max <= known.max, "{served:?} against {known}");
            assert!(served.offered_min <= served.min && served.min <= served.max, "{served:?}");
        }
    }

    #[test]
    fn versions_are_listed_once_each_in_order_of_key() {
        assert!(SERVED.is_sorted_by_key(|served| served.api as i16));
        assert!(SERVED.windows(2).all(|pair| pair[0].api != pair[1].api));
    }

    #[test]
    fn versions_that_old_librdkafka_probes_are_offered() {
        let offered = |api, version: i16| {
            SERVED.iter().any(|served| served.api == api && (served.offered_min..=served.max).contains(&version))
        };
        for version in [0, 3, 7] {
            assert!(offered(ApiKey::Produce, version));
        }
        assert!(offered(ApiKey::Fetch, 4) && offered(ApiKey::Fetch, 10));
        assert!(offered(ApiKey::ListOffsets, 1) && offered(ApiKey::InitProducerId, 0));
        assert!(!is_served(ApiKey::Produce, 2) && is_served(ApiKey::Produce, 3) && !is_served(ApiKey::Produce, 12));
    }
}
