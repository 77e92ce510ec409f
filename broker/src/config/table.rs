//! The one table of settings: name, type, default, what is allowed, unit and meaning. The struct [`Settings`], the
//! parser and `minisr-broker --settings` are all made from it.

use super::endpoints::{self, HostPort, Listener};
use super::kinds::{Boolean, Kind, OneOf, OnePath, OptionalText, Parsed, Text, whole};
use super::{ConfigError, FlushPolicy, InterBrokerTransport};
use minisr_logic::BrokerId;
use minisr_logic::partition::LagComparison;
use minisr_replica::ReplicaSelector;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The documentation of one setting.
#[derive(Clone, Debug)]
pub struct Documented {
    /// Its name in a settings file.
    pub name: &'static str,
    /// Its default as text; `None` when it must be given.
    pub default: Option<&'static str>,
    /// What values it takes.
    pub allowed: String,
    /// What it means, its unit included.
    pub meaning: &'static str,
}

macro_rules! settings {
    ($( $name:literal $field:ident: $type:ty = $default:expr, $kind:expr, $meaning:literal; )*) => {
        /// Every setting of a broker, parsed and checked.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $( #[doc = concat!("`", $name, "`: ", $meaning)] pub $field: $type, )*
            /// From `--peer-address`: where the data listener of a peer is dialed instead of its advertised address,
            /// which is how a proxy is put on one link.
            pub peer_addresses: BTreeMap<BrokerId, HostPort>,
            /// `--controller-address`: where a peer's CONTROLLER listener is dialed instead of where it is.
            pub controller_addresses: BTreeMap<BrokerId, HostPort>,
            /// `--insecure-peers`: peers speak plaintext TCP and prove nothing. A flag and no setting, so that no file
            /// hides it.
            pub insecure_peers: bool,
            /// What obsolete names among the settings were taken for: sentences for the log.
            pub notes: Vec<String>,
        }

        impl Settings {
            /// Reads every setting out of `values`; what is not in the table is refused.
            pub(super) fn parse(values: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
                const NAMES: &[&str] = &[$( $name ),*];
                if let Some(name) = values.keys().find(|name| !NAMES.contains(&name.as_str())) {
                    return Err(super::unknown(name, NAMES));
                }
                Ok(Self {
                    $( $field: one($name, values, $default, &$kind)?, )*
                    peer_addresses: BTreeMap::new(),
                    controller_addresses: BTreeMap::new(),
                    insecure_peers: false,
                    notes: Vec::new(),
                })
            }

            /// The table, in the order in which it is written down.
            #[must_use]
            pub fn documented() -> Vec<Documented> {
                vec![$( Documented {
                    name: $name,
                    default: $default,
                    allowed: Kind::<$type>::allowed(&$kind),
                    meaning: $meaning,
                } ),*]
            }
        }
    };
}

fn one<T>(
    name: &'static str,
    values: &BTreeMap<String, String>,
    default: Option<&'static str>,
    kind: &impl Kind<T>,
) -> Result<T, ConfigError> {
    let Some(value) = values.get(name).map(String::as_str).or(default) else {
        return Err(ConfigError::Missing { name, allowed: kind.allowed() });
    };
    kind.parse(value.trim()).ok_or_else(|| ConfigError::Invalid {
        name: name.to_owned(),
        value: value.to_owned(),
        allowed: kind.allowed(),
    })
}

const LISTENERS: Parsed<Vec<Listener>> = Parsed(
    endpoints::listeners,
    "a list of PROTOCOL://host:port with QUIC, PLAINTEXT, SSL or CONTROLLER, each at most once",
);
const ADVERTISED: Parsed<Option<Vec<Listener>>> = Parsed(
    endpoints::optional_listeners,
    "empty, or a list of PROTOCOL://host:port with QUIC, PLAINTEXT, SSL or CONTROLLER, each at most once",
);
const VOTERS: Parsed<BTreeMap<BrokerId, HostPort>> =
    Parsed(endpoints::voters, "a list of id@host:port, each id once and no port 0");
const NODE_ID: Parsed<BrokerId> =
    Parsed(|value| value.parse().ok().filter(|id| *id >= 0).map(BrokerId), "a whole number from 0 to 2147483647");
const FLUSH: OneOf<FlushPolicy> =
    OneOf(&[("never", FlushPolicy::Never), ("interval", FlushPolicy::Interval), ("commit", FlushPolicy::Commit)]);
const TRANSPORT: OneOf<InterBrokerTransport> =
    OneOf(&[("quic", InterBrokerTransport::Quic), ("tcp", InterBrokerTransport::Tcp)]);
const LAG_COMPARISON: OneOf<LagComparison> =
    OneOf(&[("greater", LagComparison::Greater), ("greater-or-equal", LagComparison::GreaterOrEqual)]);
const CLEANUP_DELETE: OneOf<()> = OneOf(&[("delete", ())]);
const SELECTOR: Parsed<ReplicaSelector> = Parsed(
    |class| match class.rsplit('.').next() {
        Some("" | "LeaderSelector") => Some(ReplicaSelector::Leader),
        Some("RackAwareReplicaSelector") => Some(ReplicaSelector::RackAware),
        _ => None,
    },
    "empty, or org.apache.kafka.common.replica.RackAwareReplicaSelector",
);
const CREATE_TIME: OneOf<()> = OneOf(&[("CreateTime", ())]);

const DAY_MS: u64 = 86_400_000;

settings! {
    "node.id" node_id: BrokerId = None, NODE_ID,
        "the broker's id, unique in the cluster";
    "cluster.id" cluster_id: String = None, Text,
        "the cluster's id; a data directory of another cluster is refused";
    "log.dirs" log_dir: PathBuf = None, OnePath,
        "the data directory; made when it does not exist";
    "broker.rack" broker_rack: Option<String> = Some(""), OptionalText,
        "the rack or zone of this broker";

    "listeners" listeners: Vec<Listener> = None, LISTENERS,
        "where this broker listens; port 0 is allowed for QUIC, PLAINTEXT and SSL";
    "advertised.listeners" advertised_listeners: Option<Vec<Listener>> = Some(""), ADVERTISED,
        "where others reach it; a listener that is not named here is advertised as it is bound";
    "controller.quorum.voters" controller_quorum_voters: BTreeMap<BrokerId, HostPort> = None, VOTERS,
        "the brokers that form the controller quorum and their CONTROLLER addresses";
    "ssl.truststore.location" ssl_truststore_location: PathBuf = None, OnePath,
        "PEM file with the certificate authority that signed the brokers' certificates";
    "ssl.keystore.location" ssl_keystore_location: PathBuf = None, OnePath,
        "PEM file with this broker's certificate chain and then its private key";
    "inter.broker.transport" inter_broker_transport: InterBrokerTransport = Some("quic"), TRANSPORT,
        "what replica fetches travel on; tcp needs an SSL listener";
    "socket.request.max.bytes" socket_request_max_bytes: i32 = Some("104857600"), whole(1024, i32::MAX),
        "largest request frame in bytes; checked before memory is taken for it";
    "connections.max.idle.ms" connections_max_idle_ms: u64 = Some("600000"), whole(1000, i64::MAX as u64),
        "milliseconds without a request after which a client's TCP connection is closed";
    "max.connections" max_connections: u32 = Some("2147483647"), whole(1, i32::MAX as u32),
        "how many connections at once; more are closed as they arrive";

    "auto.create.topics.enable" auto_create_topics_enable: bool = Some("true"), Boolean,
        "whether a metadata request for an unknown topic creates it";
    "num.partitions" num_partitions: i32 = Some("1"), whole(1, 10_000),
        "partitions of a topic created without a number";
    "default.replication.factor" default_replication_factor: i16 = Some("1"), whole(1, i16::MAX),
        "copies, the leader's included, of a topic created without a number";
    "min.insync.replicas" min_insync_replicas: i32 = Some("1"), whole(1, i32::MAX),
        "in-sync copies that acks=all needs, unless the topic says otherwise; capped at the replication factor";
    "unclean.leader.election.enable" unclean_leader_election_enable: bool = Some("false"), Boolean,
        "whether a replica outside the in-sync set may lead when nobody else can, which loses records, unless the \
         topic says otherwise; the active controller's counts";
    "auto.leader.rebalance.enable" auto_leader_rebalance_enable: bool = Some("true"), Boolean,
        "whether the active controller gives partitions back to their preferred (first) replicas";
    "leader.imbalance.check.interval.seconds" leader_imbalance_check_interval_seconds: u64 = Some("300"), whole(1, DAY_MS),
        "seconds between looks for partitions that their preferred replica does not lead";
    "leader.imbalance.per.broker.percentage" leader_imbalance_per_broker_percentage: u32 = Some("10"), whole(0, 100),
        "percentage of the partitions that a broker should lead and does not, above which they are given back to it";
    "message.max.bytes" message_max_bytes: i32 = Some("1048588"), whole(0, i32::MAX),
        "largest record batch in bytes, unless the topic says otherwise";
    "validate.records" validate_records: bool = Some("false"), Boolean,
        "whether the leader walks the records inside each uncompressed batch, as Kafka does";

    "log.segment.bytes" log_segment_bytes: u64 = Some("1073741824"), whole(1 << 20, i32::MAX as u64),
        "bytes after which a segment is closed and the next one begun";
    "log.roll.ms" log_roll_ms: u64 = Some("604800000"), whole(1, i64::MAX as u64),
        "milliseconds after which a segment is closed even when it is small";
    "log.retention.ms" log_retention_ms: i64 = Some("604800000"), whole(-1, i64::MAX),
        "milliseconds that a closed segment is kept; -1 for ever";
    "log.retention.bytes" log_retention_bytes: i64 = Some("-1"), whole(-1, i64::MAX),
        "bytes of a partition that are kept; -1 for all";
    "log.retention.check.interval.ms" log_retention_check_interval_ms: u64 = Some("300000"), whole(1, i64::MAX as u64),
        "milliseconds between looks for segments to delete";
    "log.cleanup.policy" log_cleanup_policy: () = Some("delete"), CLEANUP_DELETE,
        "what happens to old segments";
    "log.index.interval.bytes" log_index_interval_bytes: u32 = Some("4096"), whole(0, i32::MAX as u32),
        "bytes of log per index entry";
    "log.index.size.max.bytes" log_index_size_max_bytes: u32 = Some("10485760"), whole(4, i32::MAX as u32),
        "largest index file in bytes; a full index closes its segment";
    "log.preallocate" log_preallocate: bool = Some("true"), Boolean,
        "whether a growing segment reserves room on the disk ahead of its end: as much again as it is long, from 1 to 16 MiB";
    "log.message.timestamp.type" log_message_timestamp_type: () = Some("CreateTime"), CREATE_TIME,
        "whose clock a record's timestamp is from";
    "log.message.timestamp.before.max.ms" log_message_timestamp_before_max_ms: u64 = Some("9223372036854775807"), whole(0, i64::MAX as u64),
        "how many milliseconds a record's timestamp may lie behind this broker's clock";
    "log.message.timestamp.after.max.ms" log_message_timestamp_after_max_ms: u64 = Some("3600000"), whole(0, i64::MAX as u64),
        "how many milliseconds a record's timestamp may lie ahead of this broker's clock";
    "log.flush.policy" log_flush_policy: FlushPolicy = Some("never"), FLUSH,
        "when data is forced to disk: never (replication is the durability), interval, or commit (before this \
         replica's copy counts)";
    "log.flush.interval.ms" log_flush_interval_ms: u64 = Some("1000"), whole(1, DAY_MS),
        "milliseconds between flushes under log.flush.policy=interval";
    "log.flush.offset.checkpoint.interval.ms" log_flush_offset_checkpoint_interval_ms: u64 = Some("60000"), whole(1, DAY_MS),
        "milliseconds between checkpoints of the recovery points";

    "num.replica.fetchers" num_replica_fetchers: u32 = Some("1"), whole(1, 64),
        "fetch loops for each leader broker";
    "replica.lag.time.max.ms" replica_lag_time_max_ms: u64 = Some("30000"), whole(1, DAY_MS),
        "milliseconds without having caught up after which a follower leaves the in-sync set";
    "replica.lag.max.messages" replica_lag_max_messages: u64 = Some("0"), whole(0, i64::MAX as u64),
        "legacy: records that a follower may lack before it leaves the in-sync set, looked at after each append; 0 is \
         off, and Kafka has had no such rule since 0.9 because it drops healthy followers";
    "replica.lag.max.messages.comparison" replica_lag_max_messages_comparison: LagComparison = Some("greater"), LAG_COMPARISON,
        "when that many are too many: greater (more than N, as old Kafka had it) or greater-or-equal";
    "replica.fetch.wait.max.ms" replica_fetch_wait_max_ms: u64 = Some("500"), whole(1, DAY_MS),
        "milliseconds that a follower's fetch waits at the leader; less than replica.lag.time.max.ms";
    "replica.fetch.min.bytes" replica_fetch_min_bytes: i32 = Some("1"), whole(0, i32::MAX),
        "bytes that end a follower's wait";
    "replica.fetch.max.bytes" replica_fetch_max_bytes: i32 = Some("1048576"), whole(0, i32::MAX),
        "bytes of one partition in a follower's fetch; a first batch is always returned whole";
    "replica.fetch.response.max.bytes" replica_fetch_response_max_bytes: i32 = Some("10485760"), whole(0, i32::MAX),
        "bytes of a whole follower's fetch";
    "replica.fetch.backoff.ms" replica_fetch_backoff_ms: u64 = Some("1000"), whole(0, DAY_MS),
        "milliseconds between an error and the next fetch of that partition";
    "replica.socket.timeout.ms" replica_socket_timeout_ms: u64 = Some("30000"), whole(1, DAY_MS),
        "milliseconds without an answer after which a replica connection is given up";
    "replica.high.watermark.delay.max.ms" replica_high_watermark_delay_max_ms: u64 = Some("5"), whole(0, DAY_MS),
        "milliseconds that a newer high watermark may wait for records to travel to a follower with; 0 sends it at once";
    "replica.high.watermark.checkpoint.interval.ms" replica_high_watermark_checkpoint_interval_ms: u64 = Some("5000"), whole(1, DAY_MS),
        "milliseconds between checkpoints of the high watermarks";
    "replica.selector.class" replica_selector_class: ReplicaSelector = Some(""), SELECTOR,
        "to which replica a leader sends consumers: to itself, or to an in-sync follower in their own rack";
    "fetch.max.bytes" fetch_max_bytes: i32 = Some("57671680"), whole(1024, i32::MAX),
        "largest consumer fetch answered, in bytes";
    "producer.id.expiration.ms" producer_id_expiration_ms: u64 = Some("86400000"), whole(1, i64::MAX as u64),
        "milliseconds after which an idle idempotent producer is forgotten";

    "broker.heartbeat.interval.ms" broker_heartbeat_interval_ms: u64 = Some("2000"), whole(1, DAY_MS),
        "milliseconds between a broker's heartbeats to the active controller";
    "broker.session.timeout.ms" broker_session_timeout_ms: u64 = Some("9000"), whole(1, DAY_MS),
        "milliseconds without a heartbeat after which a broker is fenced; more than twice the heartbeat interval";
    "controller.quorum.heartbeat.interval.ms" controller_quorum_heartbeat_interval_ms: u64 = Some("100"), whole(10, DAY_MS),
        "milliseconds between the Raft leader's heartbeats";
    "controller.quorum.election.timeout.ms" controller_quorum_election_timeout_ms: u64 = Some("400"), whole(30, DAY_MS),
        "milliseconds since the Raft leader was last heard during which voters refuse candidates; a voter stands half \
         to once this time later, unless it knows that the leader is dead";
    "controller.quorum.request.timeout.ms" controller_quorum_request_timeout_ms: u64 = Some("2000"), whole(10, DAY_MS),
        "milliseconds until a request to the controller is tried again elsewhere";
    "controller.snapshot.entries" controller_snapshot_entries: u64 = Some("10000"), whole(10, 10_000_000),
        "metadata log entries between two snapshots";
    "liveness.probe.timeout.ms" liveness_probe_timeout_ms: u64 = Some("250"), whole(10, DAY_MS),
        "milliseconds that one probe of a suspected broker may take";
    "liveness.probe.attempts" liveness_probe_attempts: u32 = Some("3"), whole(1, 100),
        "probes of a suspected broker that must all fail before it is fenced; a refused connection is decisive at \
         once";
    "controlled.shutdown.max.wait.ms" controlled_shutdown_max_wait_ms: u64 = Some("30000"), whole(0, DAY_MS),
        "milliseconds that a stopping broker waits for others to take over what it leads";
}
