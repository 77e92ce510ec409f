//! What the brokers say about the cluster: leaders, in-sync sets, the active controller. Always over TCP, with short
//! bounds, so that a silent broker cannot delay a fault.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use minisr_client::connection::{Connection, ConnectionConfig};
use minisr_client::{Address, Dialer, Transport};
use minisr_cluster::{BrokerState, Cluster};
use minisr_wire::isr_report::{self, IsrReport};
use minisr_wire::messages::metadata_response::MetadataResponsePartition;
use minisr_wire::messages::{MetadataRequest, MetadataResponse};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::history::Slot;

/// One partition as the brokers describe it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    /// The leader, if there is one.
    pub leader: Option<i32>,
    /// Its epoch.
    pub leader_epoch: i32,
    /// All replicas.
    pub replicas: Vec<i32>,
    /// Those in sync, ascending.
    pub isr: Vec<i32>,
    /// What its leader tells about them, if it was among those who answered.
    pub report: Option<IsrReport>,
}

impl Partition {
    /// Whether it has a leader and every replica is in sync.
    pub fn whole(&self) -> bool {
        self.leader.is_some() && self.isr.len() == self.replicas.len() && !self.replicas.is_empty()
    }
}

/// The cluster at one moment, as its freshest broker knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The slots' partitions, in order.
    pub partitions: Vec<Partition>,
    /// The active controller, if the brokers name one.
    pub controller: Option<i32>,
    /// How many brokers answered.
    pub answered: usize,
    /// Partitions that some broker that answered does not see whole.
    pub not_whole: Vec<Slot>,
}

/// Asks brokers.
#[derive(Debug)]
pub struct Observer {
    brokers: Vec<(i32, Address)>,
    dialer: Dialer,
    connections: Mutex<BTreeMap<i32, Arc<Connection>>>,
    /// Topic and partition index of each slot.
    slots: Vec<(String, i32)>,
}

/// Longer than a healthy broker needs, shorter than a fault lasts.
pub const ANSWER_BOUND: Duration = Duration::from_millis(800);

impl Observer {
    /// An observer of the partitions `slots`.
    pub fn new(cluster: &Cluster, slots: Vec<(String, i32)>) -> anyhow::Result<Self> {
        let address = |socket: SocketAddr| Address::new(socket.ip().to_string(), socket.port());
        Ok(Self {
            brokers: cluster.ids().zip(cluster.bootstrap_tcp().into_iter().map(address)).collect(),
            dialer: Dialer::new(&Transport::Tcp, ANSWER_BOUND)?,
            connections: Mutex::new(BTreeMap::new()),
            slots,
        })
    }

    /// Asks every broker that runs, and takes the newest that any of them knows.
    pub async fn view(&self, cluster: &Cluster) -> anyhow::Result<View> {
        let asked: Vec<_> = self
            .brokers
            .iter()
            .filter(|(id, _)| cluster.state(*id).is_ok_and(|state| state == BrokerState::Running))
            .collect();
        let mut answers = tokio::task::JoinSet::new();
        for (id, address) in asked {
            let connection = self.connections.lock().await.remove(id);
            answers.spawn(ask(*id, address.clone(), self.dialer.clone(), connection));
        }
        let mut view = View { partitions: vec![Partition::default(); self.slots.len()], ..View::default() };
        let mut controllers: BTreeMap<i32, usize> = BTreeMap::new();
        let mut error = None;
        while let Some(answer) = answers.join_next().await {
            let (id, connection, response) = match answer? {
                Ok(answer) => answer,
                Err(failed) => {
                    error = Some(failed);
                    continue;
                }
            };
            self.connections.lock().await.insert(id, connection);
            view.answered += 1;
            self.merge(&mut view, &response);
            if response.controller_id.0 >= 0 {
                *controllers.entry(response.controller_id.0).or_default() += 1;
            }
        }
        if view.answered == 0 {
            return Err(error.unwrap_or_else(|| anyhow::anyhow!("no broker is running")));
        }
        view.controller = controllers.into_iter().max_by_key(|(_, votes)| *votes).map(|(id, _)| id);
        view.not_whole.sort_unstable();
        view.not_whole.dedup();
        Ok(view)
    }

    fn merge(&self, view: &mut View, response: &MetadataResponse) {
        let mut known: BTreeMap<(&str, i32), Partition> = BTreeMap::new();
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            for partition in &topic.partitions {
                let mut isr: Vec<i32> = partition.isr_nodes.iter().map(|id| id.0).collect();
                isr.sort_unstable();
                let described = Partition {
                    leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replica_nodes.iter().map(|id| id.0).collect(),
                    isr,
                    report: reported(partition),
                };
                known.insert((name.as_str(), partition.partition_index), described);
            }
        }
        for (slot, (topic, index)) in self.slots.iter().enumerate() {
            let described = known.remove(&(topic.as_str(), *index)).unwrap_or_default();
            if !described.whole() {
                view.not_whole.push(slot as Slot);
            }
            let newest = &mut view.partitions[slot];
            if newest.replicas.is_empty() || described.leader_epoch > newest.leader_epoch {
                *newest = described;
            } else if described.leader_epoch == newest.leader_epoch && described.report.is_some() {
                newest.report = described.report;
            }
        }
    }
}

fn reported(partition: &MetadataResponsePartition) -> Option<IsrReport> {
    IsrReport::decode(partition.unknown_tagged_fields.get(&isr_report::RESPONSE_TAG)?)
}

async fn ask(
    id: i32,
    address: Address,
    dialer: Dialer,
    known: Option<Arc<Connection>>,
) -> anyhow::Result<(i32, Arc<Connection>, MetadataResponse)> {
    let exchange = async {
        let connection = match known.filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => Arc::new(Connection::open(&dialer, &address, ConnectionConfig::named("chaos-observer")).await?),
        };
        let version = connection.versions().highest::<MetadataRequest>(12)?;
        let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
        let request = request.with_unknown_tagged_field(isr_report::REQUEST_TAG, Bytes::new());
        let response = connection.call(&request, version).await?;
        anyhow::Ok((connection, response))
    };
    match timeout(ANSWER_BOUND, exchange).await {
        Ok(answer) => {
            let (connection, response) = answer.with_context(|| format!("broker {id}"))?;
            Ok((id, connection, response))
        }
        Err(_) => bail!("broker {id} did not describe the cluster within {} ms", ANSWER_BOUND.as_millis()),
    }
}
