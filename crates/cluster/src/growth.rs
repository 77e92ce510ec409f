//! Brokers that are added to a cluster and removed from it while it serves.
//!
//! A new broker joins as a learner of the controller quorum: it gets the metadata and can hold replicas, and a command
//! can make it a voter. A broker goes in an order in which nothing is lost at any point: its replicas move to others
//! (each move ends when the others are in sync), its vote moves, its process stops, the cluster forgets it, its
//! directory goes.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use minisr_client::{Address, Admin, Client, ClientConfig, ClientError, ClusterView, Reassignment, Transport};

use crate::BrokerState;
use crate::certificates::Authority;
use crate::cluster::{Cluster, Slot, lock};
use crate::driver::Driver;
use crate::error::ClusterError;
use crate::options::Ports;
use crate::ports;

/// How often a condition of the cluster is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How long a stopped broker may stay unfenced: longer than any sensible session.
const FENCE_BOUND: Duration = Duration::from_secs(60);
/// How long a change of the voters may take.
const VOTERS_BOUND: Duration = Duration::from_secs(20);

/// What can go wrong while a broker is removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Its replicas have nowhere to go.
    #[error(
        "broker {id} cannot be removed: {topic}-{partition} has {replicas} replicas and there is no other live broker \
         for one of them; add a broker or lower the replication factor first"
    )]
    NoRoom {
        /// The broker.
        id: i32,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// How many replicas it has.
        replicas: usize,
    },
    /// It is the last one.
    #[error("broker {id} cannot be removed: it is the only one (`down` removes the cluster)")]
    OnlyBroker {
        /// The broker.
        id: i32,
    },
    /// The replicas did not move in time.
    #[error("broker {id} still holds {left} replicas after {seconds} s; the moves go on, so try again later")]
    NotDrained {
        /// The broker.
        id: i32,
        /// Replicas that it still holds.
        left: usize,
        /// How long was waited.
        seconds: u64,
    },
    /// The cluster refuses or does not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The processes or files of the cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// No client can be made.
    #[error("no client: {0}")]
    Transport(String),
}

impl Cluster {
    /// An admin client over TCP that asks any broker.
    ///
    /// # Errors
    /// No client can be made.
    pub fn admin(&self) -> Result<Admin, RemoveError> {
        let address = |it: std::net::SocketAddr| Address::new(it.ip().to_string(), it.port());
        let servers = self.bootstrap_tcp().into_iter().map(address).collect();
        let client = Client::new(ClientConfig::new(servers, Transport::Tcp));
        Ok(Admin::new(client.map_err(|error| RemoveError::Transport(error.to_string()))?))
    }

    /// Refuses what rests on minisr's own controllers where there are none.
    ///
    /// # Errors
    /// The brokers are another implementation's.
    pub fn demand_minisr(&self, command: &'static str) -> Result<(), ClusterError> {
        match self.driver() {
            Driver::Minisr => Ok(()),
            driver => Err(ClusterError::OnlyMinisr { command, driver: driver.name() }),
        }
    }

    /// Adds a broker with free ports and the settings of the others, and waits until it is registered and unfenced.
    /// Returns its id, which no broker of this cluster ever had.
    ///
    /// # Errors
    /// It cannot be made or does not become ready.
    pub async fn add(&self) -> Result<i32, ClusterError> {
        self.demand_minisr("add")?;
        let (id, text) = self.make_broker()?;
        let layout = self.layout();
        let data = layout.data(id);
        fs::create_dir_all(&data).map_err(ClusterError::file("create", &data))?;
        let host = lock(&self.description).host;
        Authority::open(layout)?.issue(id, host, &layout.keystore(id))?;
        let properties = layout.properties(id);
        fs::write(&properties, text).map_err(ClusterError::file("write", &properties))?;
        layout.write_description(&lock(&self.description).clone())?;
        self.launch(id)?;
        self.wait_ready(id).await?;
        Ok(id)
    }

    /// Takes an id and ports, and returns the text of the settings file.
    fn make_broker(&self) -> Result<(i32, String), ClusterError> {
        let mut description = lock(&self.description);
        let model = *description.ids().first().expect("a cluster has brokers");
        let path = self.layout().properties(model);
        let given = fs::read_to_string(&path).map_err(ClusterError::file("read", &path))?;
        let mut settings: Vec<(String, String)> = given
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        settings.retain(|(name, _)| !OWN_SETTINGS.contains(&name.as_str()));
        // As long as the brokers of the first hour are all there their list is right. Else any broker may have to be
        // asked who leads; who votes is then in the metadata.
        if !description.removed.is_empty() {
            settings.retain(|(name, _)| name != VOTERS);
            let present = description.ids().into_iter().map(|id| {
                let address = std::net::SocketAddr::new(description.host, description.ports[id as usize - 1].control);
                format!("{id}@{address}")
            });
            settings.push((VOTERS.to_owned(), present.collect::<Vec<_>>().join(",")));
        }
        let found = ports::choose(description.host, 1, Ports::default())?;
        description.ports.extend(found);
        lock(&self.brokers).push(Slot::default());
        let id = description.ports.len() as i32;
        let text = description.driver.properties(self.layout(), &description, id, &settings);
        Ok((id, text))
    }

    /// Removes what there is of a broker whose process has gone. The rest of the cluster is not told:
    /// [`remove_broker`](Self::remove_broker) does that first.
    ///
    /// # Errors
    /// It runs, or its directory cannot be removed.
    pub fn forget(&self, id: i32) -> Result<(), ClusterError> {
        if !matches!(self.state(id)?, BrokerState::Killed | BrokerState::Stopped | BrokerState::Died) {
            let state = self.state(id)?.to_string();
            return Err(ClusterError::WrongState { id, state, wanted: "removed" });
        }
        let broker = self.layout().broker(id);
        fs::remove_dir_all(&broker).map_err(ClusterError::file("remove", &broker))?;
        let mut description = lock(&self.description);
        description.removed.insert(id);
        self.layout().write_description(&description)
    }

    /// Moves everything away from a broker, stops it, and makes the cluster forget it. `told` hears each step as a
    /// sentence.
    ///
    /// # Errors
    /// See [`RemoveError`]. What was done stays done, and doing it again goes on from there.
    pub async fn remove_broker(
        &self,
        id: i32,
        drain_max: Duration,
        mut told: impl FnMut(String) + Send,
    ) -> Result<(), RemoveError> {
        self.demand_minisr("remove")?;
        let state = self.state(id)?;
        if self.ids().count() == 1 {
            return Err(RemoveError::OnlyBroker { id });
        }
        let admin = self.admin()?;
        self.drain(&admin, id, drain_max, &mut told).await?;
        self.hand_over_vote(&admin, id, &mut told).await?;
        if matches!(state, BrokerState::Running | BrokerState::Paused) {
            told(format!("stopping broker {id}"));
            self.stop(id).await?;
        }
        // What was created meanwhile may have been given to it.
        self.drain(&admin, id, drain_max, &mut told).await?;
        let deadline = Instant::now() + FENCE_BOUND;
        while let Err(refusal) = admin.unregister_broker(id).await {
            // Until its session has ended it counts as alive; and if it was the controller, another one must be found.
            if Instant::now() >= deadline {
                return Err(refusal.into());
            }
            tokio::time::sleep(POLL).await;
        }
        self.forget(id)?;
        told(format!("broker {id} is removed"));
        Ok(())
    }

    async fn drain(
        &self,
        admin: &Admin,
        id: i32,
        drain_max: Duration,
        told: &mut (impl FnMut(String) + Send),
    ) -> Result<(), RemoveError> {
        let deadline = Instant::now() + drain_max;
        let mut said = usize::MAX;
        loop {
            let view = admin.metadata().await?;
            let held = held_by(&view, id);
            if held == 0 {
                return Ok(());
            }
            if held != said {
                told(format!("broker {id} holds {held} replicas"));
                said = held;
            }
            let moves = moves_away(&view, &admin.list_reassignments().await?, id)?;
            if !moves.is_empty() {
                admin.reassign(&moves).await?;
            }
            if Instant::now() >= deadline {
                return Err(RemoveError::NotDrained { id, left: held, seconds: drain_max.as_secs() });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Its vote goes, and where there is a broker that only follows, that one gets one first: the quorum stays as large
    /// as it was.
    async fn hand_over_vote(
        &self,
        admin: &Admin,
        id: i32,
        told: &mut (impl FnMut(String) + Send),
    ) -> Result<(), RemoveError> {
        let quorum = admin.describe_quorum().await?;
        if !quorum.voters.contains(&id) {
            return Ok(());
        }
        let view = admin.metadata().await?;
        let heir = quorum.observers.iter().find(|it| **it != id && view.brokers.contains_key(it));
        if let Some(heir) = heir {
            told(format!("broker {heir} becomes a voter of the controller quorum"));
            patiently(async || admin.add_voter(*heir).await).await?;
        }
        told(format!("broker {id} gives up its vote in the controller quorum"));
        patiently(async || admin.remove_voter(id).await).await?;
        Ok(())
    }
}

/// What each broker has for itself in its settings file.
const OWN_SETTINGS: [&str; 4] = ["node.id", "listeners", "log.dirs", "ssl.keystore.location"];
const VOTERS: &str = "controller.quorum.voters";

/// Repeats a change of the voters while the controller changes or another change is under way.
async fn patiently(attempt: impl AsyncFn() -> Result<(), ClientError>) -> Result<(), ClientError> {
    let deadline = Instant::now() + VOTERS_BOUND;
    loop {
        match attempt().await {
            // An earlier attempt, whose answer was lost, has done it.
            Err(ClientError::Refused { code, .. }) if matches!(code.name(), "DUPLICATE_VOTER" | "VOTER_NOT_FOUND") => {
                return Ok(());
            }
            Err(ClientError::Refused { code, .. }) if code.is_retriable() && Instant::now() < deadline => {}
            Err(ClientError::Connection(_) | ClientError::Nobody { .. }) if Instant::now() < deadline => {}
            result => return result,
        }
        tokio::time::sleep(POLL).await;
    }
}

fn held_by(view: &ClusterView, id: i32) -> usize {
    let partitions = view.topics.values().flat_map(|topic| topic.partitions.values());
    partitions.filter(|partition| partition.replicas.contains(&id)).count()
}

/// The moves that take broker `id` out of every partition that has it, each to the live broker with the fewest
/// replicas. Partitions that are on their way already are left alone.
fn moves_away(
    view: &ClusterView,
    ongoing: &[minisr_client::OngoingReassignment],
    id: i32,
) -> Result<Vec<Reassignment>, RemoveError> {
    let mut load: BTreeMap<i32, usize> = view.brokers.keys().filter(|it| **it != id).map(|it| (*it, 0)).collect();
    for partition in view.topics.values().flat_map(|topic| topic.partitions.values()) {
        for replica in &partition.replicas {
            load.entry(*replica).and_modify(|it| *it += 1);
        }
    }
    let mut moves = Vec::new();
    for topic in view.topics.values() {
        for (&partition, info) in topic.partitions.iter().filter(|(_, it)| it.replicas.contains(&id)) {
            let under_way = ongoing.iter().find(|it| it.topic == *topic.name && it.partition == partition);
            let current = under_way.map_or_else(|| info.replicas.clone(), minisr_client::OngoingReassignment::target);
            if !current.contains(&id) {
                continue;
            }
            let room = load.iter().filter(|(it, _)| !current.contains(it)).min_by_key(|(it, count)| (**count, **it));
            let Some((&to, _)) = room else {
                let (topic, replicas) = (topic.name.to_string(), current.len());
                return Err(RemoveError::NoRoom { id, topic, partition, replicas });
            };
            *load.get_mut(&to).expect("one of them") += 1;
            let replicas = current.iter().map(|it| if *it == id { to } else { *it }).collect();
            moves.push(Reassignment { topic: topic.name.to_string(), partition, replicas: Some(replicas) });
        }
    }
    Ok(moves)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use minisr_client::OngoingReassignment;
    use minisr_client::metadata::{PartitionInfo, TopicInfo};

    use super::*;

    /// Topic `t` with these replicas per partition, on live brokers 1 to `brokers`.
    fn view(brokers: i32, partitions: &[&[i32]]) -> ClusterView {
        let name: Arc<str> = "t".into();
        let info = |replicas: &&[i32]| PartitionInfo {
            leader: replicas.first().copied(),
            leader_epoch: 0,
            replicas: replicas.to_vec(),
            isr: replicas.to_vec(),
        };
        let partitions = (0..).zip(partitions.iter().map(info)).collect();
        let topic = TopicInfo { name: name.clone(), id: 1, partitions };
        ClusterView {
            brokers: (1..=brokers).map(|id| (id, Address::new("localhost", 1))).collect(),
            topics: [(name, Arc::new(topic))].into(),
            ..ClusterView::default()
        }
    }

    #[test]
    fn removing_moves_each_replica_to_the_least_loaded_broker_and_keeps_the_order() {
        let view = view(5, &[&[1, 2, 3], &[2, 1, 3], &[2, 3, 4]]);
        let moves = moves_away(&view, &[], 1).unwrap();
        let targets: Vec<_> = moves.iter().map(|it| (it.partition, it.replicas.clone().unwrap())).collect();
        assert_eq!(targets, [(0, vec![5, 2, 3]), (1, vec![2, 4, 3])]);
    }

    #[test]
    fn removing_without_room_is_a_sentence() {
        let error = moves_away(&view(3, &[&[1, 2, 3]]), &[], 2).unwrap_err().to_string();
        assert!(error.contains("t-0 has 3 replicas"), "{error}");
    }

    #[test]
    fn removing_leaves_alone_what_is_on_its_way() {
        let view = view(4, &[&[4, 2, 3, 1]]);
        let ongoing = OngoingReassignment {
            topic: "t".to_owned(),
            partition: 0,
            replicas: vec![4, 2, 3, 1],
            adding: vec![4],
            removing: vec![1],
        };
        assert_eq!(moves_away(&view, &[ongoing], 1).unwrap(), []);
    }
}
