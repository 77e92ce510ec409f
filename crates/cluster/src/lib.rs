//! Starts, stops, kills, pauses and inspects a local cluster of broker processes.
//!
//! Two ways of use. *Embedded* ([`Cluster::start`] and keep the value): the load generator, the chaos runner and the
//! broker's tests own their cluster, and it dies with them: on drop, on panic, and, through a small watchdog process,
//! even when they are killed with SIGKILL. *Detached* ([`Cluster::detach`], the binary `minisr-cluster`): the brokers
//! survive the terminal and are found again through their directory ([`Cluster::open`]).
//!
//! ```text
//! <dir>/cluster.json            what was asked for: ports, binary, brokers added and removed (never rewritten by faults)
//!       ca.pem  ca.key.pem      the cluster's own certificate authority
//!       broker-<id>/broker.properties  keystore.pem  data/  broker.log  broker.out  broker.pid  broker.ended
//! ```
//!
//! What holds:
//! * a signal is only ever sent to a process whose start time is the recorded one, so a reused pid is never hit;
//! * ports are chosen before anything starts, outside the range that the kernel hands to outgoing connections, and
//!   stay the same over every restart;
//! * waiting is polling of a condition with a bound, and a failure names the broker, its last log lines and the log.

mod certificates;
mod cluster;
mod driver;
mod error;
mod growth;
mod layout;
mod options;
mod ports;
mod process;
mod start;
mod watchdog;

pub use cluster::{BrokerState, Cluster};
pub use driver::{Driver, KAFKA_VERSION, KafkaError, KafkaInstallation};
pub use error::ClusterError;
pub use growth::RemoveError;
pub use layout::{BrokerPorts, Layout, default_directory};
pub use options::{ClusterOptions, FlushPolicy, Ports};
pub use process::Usage;
