//! The one place where the image changes. Each arm reads: refuse, decide, write, reply.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::check::{assert_partition, assert_partition_step};
use super::command::{Assignment, Command, IsrMember, PRODUCER_ID_BLOCK_LEN, Reply};
use super::elect_leader::elect_leader;
use super::election::{Change, changed};
use super::errors::{
    AlterPartitionError, BrokerEpochError, CommandError, CreateTopicError, DeleteTopicError, RegisterError,
    TopicConfigError, UnfenceError,
};
use super::growth;
use super::image::{Image, MIN_INSYNC_REPLICAS, Partition, Registration, Topic, UNCLEAN_LEADER_ELECTION_ENABLE};
use super::placement::place;
use super::reassignment::alter_reassignment;
use super::throttle;
use super::topic_name::{collide, validate_topic_name};
use crate::zoo::{self, Bug};
use crate::{BrokerEpoch, BrokerId, Epoch, PartitionEpoch, TopicId, TopicPartition};

/// Applies the log entry at `index`. A refused command changes nothing but the image's version, and, where an ISR
/// proposal names an ineligible member, the partition epoch.
///
/// # Panics
/// When `index` was already applied, or when the result would violate an invariant: the latter is a bug here, and
/// going on would spread it to every broker.
pub fn apply(image: &mut Image, index: u64, command: Command) -> Result<Reply, CommandError> {
    image.skip(index);
    match command {
        Command::RegisterBroker { id, incarnation, listeners, rack, clean_for_data, previous_broker_epoch } => {
            let registration = Registration {
                id,
                epoch: BrokerEpoch(i64::try_from(index).expect("log indexes fit an i64")),
                incarnation,
                listeners,
                rack,
                fenced: true,
                in_controlled_shutdown: false,
                clean_for_data,
                last_unfenced_epoch: None,
            };
            Ok(register(image, registration, previous_broker_epoch)?)
        }
        Command::UnfenceBroker { id, epoch, applied_index } => Ok(unfence(image, id, epoch, applied_index)?),
        Command::FenceBroker { id, epoch } => Ok(fence(image, id, epoch)?),
        Command::BeginControlledShutdown { id, epoch } => Ok(begin_controlled_shutdown(image, id, epoch)?),
        Command::CreateTopic { name, topic_id, assignment, configs, default_min_insync_replicas } => {
            Ok(create_topic(image, name, topic_id, &assignment, configs, default_min_insync_replicas)?)
        }
        Command::DeleteTopic { topic_id } => Ok(delete_topic(image, topic_id)?),
        Command::AlterPartition { key, broker, broker_epoch, leader_epoch, partition_epoch, new_isr } => {
            check_broker_epoch(image, broker, broker_epoch).map_err(AlterPartitionError::from)?;
            Ok(alter_partition(image, key, broker, leader_epoch, partition_epoch, &new_isr)?)
        }
        Command::ElectLeader { key, election } => Ok(elect_leader(image, key, election)?),
        Command::AllocateProducerIds { broker, broker_epoch } => {
            check_broker_epoch(image, broker, broker_epoch)?;
            let first = image.next_producer_id;
            image.next_producer_id += PRODUCER_ID_BLOCK_LEN;
            Ok(Reply::ProducerIds { first, len: PRODUCER_ID_BLOCK_LEN })
        }
        Command::AlterTopicConfigs { topic_id, changes } => Ok(alter_topic_configs(image, topic_id, changes)?),
        Command::AlterReassignment { key, target } => Ok(alter_reassignment(image, key, target.as_deref())?),
        Command::CreatePartitions { topic_id, count, assignments } => {
            Ok(growth::create_partitions(image, topic_id, count, assignments.as_deref())?)
        }
        Command::UnregisterBroker { id, directory } => Ok(growth::unregister(image, id, directory)?),
        Command::AlterVoter { id, is_voter, listed } => Ok(growth::alter_voter(image, id, is_voter, &listed)?),
        Command::AlterBrokerConfigs { broker, changes } => Ok(growth::alter_broker_configs(image, broker, changes)?),
    }
}

fn register(
    image: &mut Image,
    mut new: Registration,
    previous_broker_epoch: Option<BrokerEpoch>,
) -> Result<Reply, RegisterError> {
    let id = new.id;
    let Some(old) = image.brokers.get(&id).cloned() else {
        let epoch = new.epoch;
        // A replica cannot be assigned to a broker before it has registered, so there are no seats to lose.
        put_broker(image, new);
        return Ok(Reply::Registered { epoch });
    };
    if old.incarnation == new.incarnation {
        return Ok(Reply::Registered { epoch: old.epoch });
    }
    if !old.fenced && zoo::planted(Bug::QuickUncleanRestart) {
        let epoch = new.epoch;
        put_broker(image, Registration { fenced: false, last_unfenced_epoch: Some(epoch), ..new });
        return Ok(Reply::Registered { epoch });
    }
    if !old.fenced {
        // Trap 9: were the second life let in now, it would inherit ISR seats that the first one earned.
        return Err(RegisterError::DuplicateBrokerRegistration { broker: id, registered: old.epoch });
    }

    // Whoever does not know of the last life that acknowledged anything speaks for an earlier one. It may be a delayed
    // message of a process long dead, which must cost the present one nothing; a live one will say so again.
    if let Some(last_unfenced) = old.last_unfenced_epoch
        && previous_broker_epoch < Some(last_unfenced)
    {
        let previous = previous_broker_epoch;
        return Err(RegisterError::StaleRegistration { broker: id, previous, last_unfenced });
    }
    new.last_unfenced_epoch = old.last_unfenced_epoch;
    let (epoch, clean) = (new.epoch, new.clean_for_data);
    put_broker(image, new);
    if !clean {
        update_partitions(image, |image, topic, partition| {
            if zoo::planted(Bug::LastReplicaStanding) && partition.isr.is_empty() && partition.elr == [id] {
                return None;
            }
            let change = Change { unclean: Some(id), ..Change::default() };
            changed(partition, change, topic.min_insync_replicas(partition), |it| image.is_active(it))
        });
    }
    Ok(Reply::Registered { epoch })
}

fn unfence(image: &mut Image, id: BrokerId, epoch: BrokerEpoch, applied_index: u64) -> Result<Reply, UnfenceError> {
    let broker = check_broker_epoch(image, id, epoch)?;
    let registered_index = u64::try_from(epoch.0).expect("a broker epoch is a log index");
    if applied_index < registered_index {
        return Err(UnfenceError::NotCaughtUp { broker: id, applied_index, registered_index });
    }
    if !broker.fenced {
        return Ok(Reply::Done);
    }
    put_broker(image, Registration { fenced: false, last_unfenced_epoch: Some(epoch), ..broker });
    // Partitions without a leader may have waited for this one.
    elect_where_needed(image);
    Ok(Reply::Done)
}

fn fence(image: &mut Image, id: BrokerId, epoch: BrokerEpoch) -> Result<Reply, BrokerEpochError> {
    let broker = check_broker_epoch(image, id, epoch)?;
    if !broker.fenced {
        put_broker(image, Registration { fenced: true, in_controlled_shutdown: false, ..broker });
        leave_isrs(image, id);
    }
    Ok(Reply::Done)
}

fn begin_controlled_shutdown(image: &mut Image, id: BrokerId, epoch: BrokerEpoch) -> Result<Reply, BrokerEpochError> {
    let broker = check_broker_epoch(image, id, epoch)?;
    // A fenced broker leads nothing already and may simply stop.
    if broker.is_active() {
        put_broker(image, Registration { in_controlled_shutdown: true, ..broker });
        leave_isrs(image, id);
    }
    Ok(Reply::Done)
}

fn create_topic(
    image: &mut Image,
    name: String,
    topic_id: TopicId,
    assignment: &Assignment,
    configs: BTreeMap<String, String>,
    default_min_insync_replicas: i32,
) -> Result<Reply, CreateTopicError> {
    validate_topic_name(&name)?;
    if image.topic_ids.contains_key(&name) {
        return Err(CreateTopicError::TopicAlreadyExists { name });
    }
    if name.contains(['.', '_'])
        && let Some(existing) = image.topic_ids.keys().find(|it| collide(it, &name))
    {
        return Err(CreateTopicError::NameCollides { existing: existing.clone() });
    }
    if image.topics.contains_key(&topic_id) {
        return Err(CreateTopicError::TopicIdInUse { topic_id });
    }
    if let Some((name, value)) = configs.iter().find(|(name, value)| !is_valid_config(name, value)) {
        return Err(CreateTopicError::InvalidConfig { name: name.clone(), value: value.clone() });
    }
    let placed = place(image, assignment)?;

    let replication_factor = i16::try_from(placed[0].len()).expect("no more replicas than brokers");
    let partitions: Vec<Partition> = placed.into_iter().map(|replicas| first_record(image, replicas)).collect();
    let count = i32::try_from(partitions.len()).expect("bounded by placement");
    let topic = Topic { id: topic_id, name: name.clone(), partitions, configs, default_min_insync_replicas };
    for partition in &topic.partitions {
        assert_partition(image, partition);
    }
    Arc::make_mut(&mut image.topic_ids).insert(name, topic_id);
    Arc::make_mut(&mut image.topics).insert(topic_id, Arc::new(topic));
    Ok(Reply::TopicCreated { topic_id, partitions: count, replication_factor })
}

/// A new partition: every active replica is in sync, since all logs are empty; the first of them leads.
pub(super) fn first_record(image: &Image, replicas: Vec<BrokerId>) -> Partition {
    let isr: Vec<BrokerId> = replicas.iter().copied().filter(|it| image.is_active(*it)).collect();
    let leader = isr.first().copied();
    Partition {
        replicas,
        isr,
        elr: Vec::new(),
        last_known_leader: leader,
        leader,
        leader_epoch: Epoch(0),
        partition_epoch: PartitionEpoch(0),
        last_unclean_epoch: None,
        reassignment: None,
    }
}

fn delete_topic(image: &mut Image, topic_id: TopicId) -> Result<Reply, DeleteTopicError> {
    if !image.topics.contains_key(&topic_id) {
        return Err(DeleteTopicError::UnknownTopicId { topic_id });
    }
    let topic = Arc::make_mut(&mut image.topics).remove(&topic_id).expect("just seen");
    Arc::make_mut(&mut image.topic_ids).remove(&topic.name);
    Ok(Reply::Done)
}

/// The checks stand in Kafka's order, since leaders react differently to each code.
fn alter_partition(
    image: &mut Image,
    key: TopicPartition,
    broker: BrokerId,
    leader_epoch: Epoch,
    partition_epoch: PartitionEpoch,
    new_isr: &[IsrMember],
) -> Result<Reply, AlterPartitionError> {
    let topic = image.topic(key.topic).cloned().ok_or(AlterPartitionError::UnknownTopicId { topic_id: key.topic })?;
    let partition =
        topic.partition(key.partition).ok_or(AlterPartitionError::UnknownPartition { partition: key.partition })?;
    if leader_epoch > partition.leader_epoch || partition_epoch > partition.partition_epoch {
        return Err(AlterPartitionError::AheadOfController {
            leader_epoch: (leader_epoch, partition.leader_epoch),
            partition_epoch: (partition_epoch, partition.partition_epoch),
        });
    }
    if leader_epoch < partition.leader_epoch {
        return Err(AlterPartitionError::FencedLeaderEpoch {
            requested: leader_epoch,
            current: partition.leader_epoch,
        });
    }
    if partition.leader != Some(broker) {
        return Err(AlterPartitionError::NotLeader { leader: partition.leader });
    }
    if partition_epoch < partition.partition_epoch {
        return Err(AlterPartitionError::InvalidUpdateVersion {
            requested: partition_epoch,
            current: partition.partition_epoch,
        });
    }
    let mut seen = BTreeSet::new();
    if let Some(stranger) = new_isr.iter().find(|it| !partition.has_replica(it.broker) || !seen.insert(it.broker)) {
        return Err(AlterPartitionError::NotReplica { broker: stranger.broker });
    }
    if !new_isr.iter().any(|it| it.broker == broker) {
        return Err(AlterPartitionError::LeaderMissing);
    }
    // Traps 9 and 10: the member that fetched must be the very life that is registered now.
    let may_join = |it: &IsrMember| {
        image.broker(it.broker).is_some_and(|registered| {
            let same_life = registered.epoch == it.broker_epoch || zoo::planted(Bug::StaleAlterPartition);
            registered.is_active() && same_life
        })
    };
    if let Some(ineligible) = new_isr.iter().find(|it| !may_join(it)) {
        // The one refusal after which a leader goes back to the committed ISR. Another copy of the same proposal may
        // still be on its way, and arrive when the member is eligible again, in the same life but without what was
        // committed meanwhile. So the record moves on, and no copy fits it any more.
        let broker = ineligible.broker;
        let moved_on = PartitionEpoch(partition.partition_epoch.0 + 1);
        if !zoo::planted(Bug::RefusedCopyAccepted) {
            put_partition(image, key, Partition { partition_epoch: moved_on, ..partition.clone() });
        }
        return Err(AlterPartitionError::IneligibleReplica { broker });
    }

    let isr: Vec<BrokerId> = new_isr.iter().map(|it| it.broker).collect();
    let change = Change { isr: Some(&isr), ..Change::default() };
    let new = changed(partition, change, topic.min_insync_replicas(partition), |it| image.is_active(it));
    // A proposal that changes nothing is answered with what is, and leaves the partition epoch alone.
    let settled = new.clone().unwrap_or_else(|| partition.clone());
    // Only a reassignment that this very proposal completes may do that; Kafka answers it with 108.
    let completed = partition.reassignment.is_some() && settled.reassignment.is_none();
    assert!(settled.leader == Some(broker) || completed, "an ISR proposal moved the leadership");
    if let Some(new) = new {
        put_partition(image, key, new);
    }
    Ok(partition_reply(settled))
}

fn alter_topic_configs(
    image: &mut Image,
    topic_id: TopicId,
    changes: BTreeMap<String, Option<String>>,
) -> Result<Reply, TopicConfigError> {
    let topic = image.topic(topic_id).ok_or(TopicConfigError::UnknownTopicId { topic_id })?;
    for (name, value) in &changes {
        if let Some(value) = value.as_ref().filter(|value| !is_valid_config(name, value)) {
            return Err(TopicConfigError::InvalidConfig { name: name.clone(), value: value.clone() });
        }
    }
    let mut topic = Topic::clone(topic);
    let before: Vec<usize> = topic.partitions.iter().map(|it| topic.min_insync_replicas(it)).collect();
    for (name, value) in changes {
        match value {
            Some(value) => topic.configs.insert(name, value),
            None => topic.configs.remove(&name),
        };
    }
    let after: Vec<usize> = topic.partitions.iter().map(|it| topic.min_insync_replicas(it)).collect();
    // Under a lower minimum the leader may commit without the ELR, so its members no longer hold everything. Where
    // there is no leader nothing can be committed, and the ELR stays: dropping it would strand the partition.
    for (partition, _) in topic.partitions.iter_mut().zip(before.iter().zip(&after)).filter(|(_, (b, a))| b != a) {
        if partition.leader.is_some() && !partition.elr.is_empty() {
            partition.elr.clear();
            partition.partition_epoch = PartitionEpoch(partition.partition_epoch.0 + 1);
        }
    }
    Arc::make_mut(&mut image.topics).insert(topic_id, Arc::new(topic));
    Ok(Reply::Done)
}

/// The registration, if the epoch is its own.
fn check_broker_epoch(image: &Image, id: BrokerId, epoch: BrokerEpoch) -> Result<Registration, BrokerEpochError> {
    match image.broker(id) {
        Some(it) if it.epoch == epoch => Ok(it.clone()),
        other => Err(BrokerEpochError { broker: id, epoch, registered: other.map(|it| it.epoch) }),
    }
}

fn is_valid_config(name: &str, value: &str) -> bool {
    match name {
        MIN_INSYNC_REPLICAS => value.parse::<i32>().is_ok_and(|it| it >= 1),
        UNCLEAN_LEADER_ELECTION_ENABLE => value.to_ascii_lowercase().parse::<bool>().is_ok(),
        _ => throttle::is_valid_topic_config(name, value),
    }
}

/// Takes a broker, which must be inactive by now, out of every ISR.
fn leave_isrs(image: &mut Image, id: BrokerId) {
    update_partitions(image, |image, topic, partition| {
        if !partition.isr.contains(&id) {
            return None;
        }
        let isr: Vec<BrokerId> = partition.isr.iter().copied().filter(|it| *it != id).collect();
        let change = Change { isr: Some(&isr), ..Change::default() };
        changed(partition, change, topic.min_insync_replicas(partition), |it| image.is_active(it))
    });
}

fn elect_where_needed(image: &mut Image) {
    update_partitions(image, |image, topic, partition| {
        if partition.leader.is_some() {
            return None;
        }
        changed(partition, Change::default(), topic.min_insync_replicas(partition), |it| image.is_active(it))
    });
}

fn update_partitions(image: &mut Image, update: impl Fn(&Image, &Topic, &Partition) -> Option<Partition>) {
    let topics = Arc::clone(&image.topics);
    for topic in topics.values() {
        for (index, partition) in (0..).zip(&topic.partitions) {
            if let Some(new) = update(image, topic, partition) {
                put_partition(image, TopicPartition { topic: topic.id, partition: index }, new);
            }
        }
    }
}

pub(super) fn put_partition(image: &mut Image, key: TopicPartition, new: Partition) {
    assert_partition(image, &new);
    let topic = Arc::make_mut(&mut image.topics).get_mut(&key.topic).expect("the topic exists");
    let slot = &mut Arc::make_mut(topic).partitions[usize::try_from(key.partition).expect("not negative")];
    assert_partition_step(slot, &new);
    *slot = new;
}

fn put_broker(image: &mut Image, new: Registration) {
    Arc::make_mut(&mut image.brokers).insert(new.id, Arc::new(new));
}

pub(super) fn partition_reply(partition: Partition) -> Reply {
    Reply::Partition {
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        isr: partition.isr,
        partition_epoch: partition.partition_epoch,
    }
}
