//! Refuses a request whose array lengths its bytes cannot hold, or whose arrays hold too much.
//!
//! The generated decoders reserve memory for as many elements as an array *claims* to have, and a claim of 2³¹ ends
//! the process. So every request is walked once by a small table of its shape first; only if each claimed element
//! is really there is the decoder allowed to believe the claim. And since a decoded element takes up to forty times
//! the memory of its bytes, only record bytes may make a request large. The walk reads a few bytes per field and skips
//! record bytes, so it costs nanoseconds.
//!
//! Invariant: walk and decoder agree about where each field ends. Where an encoding could be read in two ways, the walk
//! refuses it.
//!
//! A request without a table is refused: whoever teaches the broker a new API adds its shape here.

use kafka_protocol::messages::ApiKey;

use crate::header::skip_tagged_fields_of;
use crate::varint;

/// The most that a request may hold beside its record bytes. Enough for a fetch of 60,000 partitions.
pub const BYTES_BESIDE_RECORDS_MAX: usize = 2 << 20;

/// Why a request body must not be given to its decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// There is no table for this API.
    #[error("requests with api key {api_key} are not known to be safe to decode")]
    NoShape {
        /// The API's number.
        api_key: i16,
    },
    /// A length points past the end, or is negative.
    #[error("request body ends before its fields do ({bytes} bytes, api key {api_key}, version {version})")]
    Truncated {
        /// The API's number.
        api_key: i16,
        /// The version claimed.
        version: i16,
        /// Size of the body.
        bytes: usize,
    },
    /// Too many fields: everything but records is small in a sound request.
    #[error(
        "request body of {bytes} bytes (api key {api_key}, version {version}) holds more than \
         {BYTES_BESIDE_RECORDS_MAX} that are no records"
    )]
    TooManyFields {
        /// The API's number.
        api_key: i16,
        /// The version claimed.
        version: i16,
        /// Size of the body.
        bytes: usize,
    },
}

enum Kind {
    /// A number or UUID of this many bytes.
    Fixed(usize),
    String,
    Bytes,
    /// An array of structures.
    Structs(&'static [Field]),
    /// An array of numbers of this many bytes.
    Numbers(usize),
    /// An array of strings.
    Strings,
}

/// One field and the versions that have it.
struct Field(Kind, i16, i16);

const MAX: i16 = i16::MAX;

const fn all(kind: Kind) -> Field {
    Field(kind, 0, MAX)
}

const fn since(version: i16, kind: Kind) -> Field {
    Field(kind, version, MAX)
}

const fn until(version: i16, kind: Kind) -> Field {
    Field(kind, 0, version)
}

use Kind::{Bytes, Fixed, Numbers, String, Strings, Structs};

const PRODUCE: &[Field] = &[
    all(String),
    all(Fixed(2)),
    all(Fixed(4)),
    all(Structs(&[until(12, String), since(13, Fixed(16)), all(Structs(&[all(Fixed(4)), all(Bytes)]))])),
];

const FETCH: &[Field] = &[
    until(14, Fixed(4)),
    all(Fixed(4)),
    all(Fixed(4)),
    since(3, Fixed(4)),
    since(4, Fixed(1)),
    since(7, Fixed(8)),
    all(Structs(&[
        until(12, String),
        since(13, Fixed(16)),
        all(Structs(&[
            all(Fixed(4)),
            since(9, Fixed(4)),
            all(Fixed(8)),
            since(12, Fixed(4)),
            since(5, Fixed(8)),
            all(Fixed(4)),
        ])),
    ])),
    since(7, Structs(&[until(12, String), since(13, Fixed(16)), all(Numbers(4))])),
    since(11, String),
];

const LIST_OFFSETS: &[Field] = &[
    all(Fixed(4)),
    since(2, Fixed(1)),
    all(Structs(&[all(String), all(Structs(&[all(Fixed(4)), since(4, Fixed(4)), all(Fixed(8))]))])),
    since(10, Fixed(4)),
];

const METADATA: &[Field] = &[
    all(Structs(&[since(10, Fixed(16)), all(String)])),
    since(4, Fixed(1)),
    Field(Fixed(1), 8, 10),
    since(8, Fixed(1)),
];

const FIND_COORDINATOR: &[Field] = &[until(3, String), since(1, Fixed(1)), since(4, Strings)];

const API_VERSIONS: &[Field] = &[since(3, String), since(3, String)];

const CREATE_TOPICS: &[Field] = &[
    all(Structs(&[
        all(String),
        all(Fixed(4)),
        all(Fixed(2)),
        all(Structs(&[all(Fixed(4)), all(Numbers(4))])),
        all(Structs(&[all(String), all(String)])),
    ])),
    all(Fixed(4)),
    since(1, Fixed(1)),
];

const DELETE_TOPICS: &[Field] = &[until(5, Strings), since(6, Structs(&[all(String), all(Fixed(16))])), all(Fixed(4))];

const ELECT_LEADERS: &[Field] = &[since(1, Fixed(1)), all(Structs(&[all(String), all(Numbers(4))])), all(Fixed(4))];

const INIT_PRODUCER_ID: &[Field] = &[all(String), all(Fixed(4)), since(3, Fixed(10))];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    since(3, Fixed(4)),
    all(Structs(&[all(String), all(Structs(&[all(Fixed(4)), since(2, Fixed(4)), all(Fixed(4))]))])),
];

const DESCRIBE_CLUSTER: &[Field] = &[all(Fixed(1)), since(1, Fixed(1)), since(2, Fixed(1))];

const ALTER_PARTITION_REASSIGNMENTS: &[Field] =
    &[all(Fixed(4)), since(1, Fixed(1)), all(Structs(&[all(String), all(Structs(&[all(Fixed(4)), all(Numbers(4))]))]))];

const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[all(Fixed(4)), all(Structs(&[all(String), all(Numbers(4))]))];

const CREATE_PARTITIONS: &[Field] =
    &[all(Structs(&[all(String), all(Fixed(4)), all(Structs(&[all(Numbers(4))]))])), all(Fixed(4)), all(Fixed(1))];

const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    all(Structs(&[all(Fixed(1)), all(String), all(Structs(&[all(String), all(Fixed(1)), all(String)]))])),
    all(Fixed(1)),
];

const DESCRIBE_CONFIGS: &[Field] =
    &[all(Structs(&[all(Fixed(1)), all(String), all(Strings)])), all(Fixed(1)), since(3, Fixed(1))];

const DESCRIBE_QUORUM: &[Field] = &[all(Structs(&[all(String), all(Structs(&[all(Fixed(4))]))]))];

const UNREGISTER_BROKER: &[Field] = &[all(Fixed(4))];

const ADD_RAFT_VOTER: &[Field] = &[
    all(String),
    all(Fixed(4)),
    all(Fixed(4)),
    all(Fixed(16)),
    all(Structs(&[all(String), all(String), all(Fixed(2))])),
];

const REMOVE_RAFT_VOTER: &[Field] = &[all(String), all(Fixed(4)), all(Fixed(16))];

/// The shape of a request and the first version in flexible encoding.
fn shape(api: ApiKey) -> Option<(&'static [Field], i16)> {
    Some(match api {
        ApiKey::Produce => (PRODUCE, 9),
        ApiKey::Fetch => (FETCH, 12),
        ApiKey::ListOffsets => (LIST_OFFSETS, 6),
        ApiKey::Metadata => (METADATA, 9),
        ApiKey::FindCoordinator => (FIND_COORDINATOR, 3),
        ApiKey::ApiVersions => (API_VERSIONS, 3),
        ApiKey::CreateTopics => (CREATE_TOPICS, 5),
        ApiKey::DeleteTopics => (DELETE_TOPICS, 4),
        ApiKey::InitProducerId => (INIT_PRODUCER_ID, 2),
        ApiKey::OffsetForLeaderEpoch => (OFFSET_FOR_LEADER_EPOCH, 4),
        ApiKey::ElectLeaders => (ELECT_LEADERS, 2),
        ApiKey::DescribeCluster => (DESCRIBE_CLUSTER, 0),
        ApiKey::AlterPartitionReassignments => (ALTER_PARTITION_REASSIGNMENTS, 0),
        ApiKey::ListPartitionReassignments => (LIST_PARTITION_REASSIGNMENTS, 0),
        ApiKey::CreatePartitions => (CREATE_PARTITIONS, 2),
        ApiKey::IncrementalAlterConfigs => (INCREMENTAL_ALTER_CONFIGS, 1),
        ApiKey::DescribeConfigs => (DESCRIBE_CONFIGS, 4),
        ApiKey::DescribeQuorum => (DESCRIBE_QUORUM, 0),
        ApiKey::UnregisterBroker => (UNREGISTER_BROKER, 0),
        ApiKey::AddRaftVoter => (ADD_RAFT_VOTER, 0),
        ApiKey::RemoveRaftVoter => (REMOVE_RAFT_VOTER, 0),
        _ => return None,
    })
}

/// Walks a request body and checks that everything it claims to hold is there.
///
/// # Errors
/// It is not, or the API has no table.
pub fn check_request(api_key: i16, version: i16, body: &[u8]) -> Result<(), GuardError> {
    let no_shape = GuardError::NoShape { api_key };
    let (fields, flexible_since) = ApiKey::try_from(api_key).ok().and_then(shape).ok_or(no_shape)?;
    let bytes = body.len();
    let mut walk = Walk { whole: bytes, rest: body, record_bytes: 0, version, flexible: version >= flexible_since };
    let walked = walk.structure(fields);
    if walk.bytes_beside_records() > BYTES_BESIDE_RECORDS_MAX {
        return Err(GuardError::TooManyFields { api_key, version, bytes });
    }
    walked.ok_or(GuardError::Truncated { api_key, version, bytes })
}

struct Walk<'a> {
    /// How many bytes there were at the start.
    whole: usize,
    rest: &'a [u8],
    /// How many of those passed were records.
    record_bytes: usize,
    version: i16,
    flexible: bool,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &[Field]) -> Option<()> {
        for Field(kind, first, last) in fields {
            if !(*first..=*last).contains(&self.version) {
                continue;
            }
            match kind {
                Fixed(bytes) => self.skip(*bytes)?,
                String => self.string()?,
                Bytes => {
                    let length = self.length(4)?;
                    self.skip(length)?;
                    self.record_bytes += length;
                }
                Structs(inner) => {
                    for _ in 0..self.length(4)? {
                        self.structure(inner)?;
                        if self.bytes_beside_records() > BYTES_BESIDE_RECORDS_MAX {
                            return None;
                        }
                    }
                }
                Numbers(bytes) => {
                    let length = self.length(4)?.checked_mul(*bytes)?;
                    self.skip(length)?;
                }
                Strings => {
                    for _ in 0..self.length(4)? {
                        self.string()?;
                    }
                }
            }
        }
        if self.flexible { skip_tagged_fields_of(&mut self.rest) } else { Some(()) }
    }

    fn bytes_beside_records(&self) -> usize {
        self.whole - self.rest.len() - self.record_bytes
    }

    fn string(&mut self) -> Option<()> {
        let length = self.length(2)?;
        self.skip(length)
    }

    /// A length in the encoding of this version; null counts as 0. Every element of anything takes a byte at least,
    /// so a loop over the length ends with the bytes.
    fn length(&mut self, prefix_bytes: usize) -> Option<usize> {
        if self.flexible {
            let length = usize::try_from(varint::take_unsigned_32(&mut self.rest)?).ok()?;
            return Some(length.saturating_sub(1));
        }
        let prefix = self.rest.get(..prefix_bytes)?;
        let length = match prefix_bytes {
            2 => i32::from(i16::from_be_bytes(prefix.try_into().ok()?)),
            _ => i32::from_be_bytes(prefix.try_into().ok()?),
        };
        self.rest = &self.rest[prefix_bytes..];
        if length == -1 { Some(0) } else { usize::try_from(length).ok() }
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }
}
