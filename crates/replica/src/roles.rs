//! Metadata in, roles out: the image is compared with the last one, partitions are created, removed, and given the role
//! that their leader epoch says.
//!
//! No role is taken from an image that shows another life of this broker: a leader epoch of the life before may have
//! been led with data that this life does not have, and must not be led again. The controller ends all leaderships of
//! a life before it accepts the next one, so waiting costs nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use minisr_logic::metadata::{Image, Partition as Assigned, Topic, TopicChange};
use minisr_logic::partition::{Members, Role, View};
use minisr_logic::zoo::{self, Bug};
use minisr_logic::{BrokerEpoch, BrokerId, Millis, TopicPartition};
use minisr_storage::Disk;
use minisr_storage::checkpoint::{self, Durability};

use crate::open::{BROKER_EPOCH, UNCLEAN_START};
use crate::output::{Notice, Output};
use crate::partition::{Partition, directory_name};
use crate::settings::TopicSettings;
use crate::shard::{Shard, answer_resigned};

impl<D: Disk> Shard<D> {
    pub(crate) fn on_registered(
        &mut self,
        now: Millis,
        broker_epoch: BrokerEpoch,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        self.broker_epoch = Some(broker_epoch);
        // The controller knows now whether this life is clean; a later start need not say so again. The epoch comes
        // first: were it lost, the next life would count as unclean, which is merely slow.
        let content = format!("{}\n", broker_epoch.0);
        let noted =
            checkpoint::write(disk, &self.root, BROKER_EPOCH, content.as_bytes(), Durability::Synced).and_then(|()| {
                match self.sync_failed {
                    // That note is about the next registration, not about this one.
                    true => Ok(()),
                    false => checkpoint::remove(disk, &self.root, UNCLEAN_START),
                }
            });
        match noted {
            Ok(()) => self.unclean_start = false,
            Err(error) => self.warn_all(&format!("cannot note the broker epoch: {error}"), outputs),
        }
        self.reconcile(now, disk, outputs);
    }

    pub(crate) fn on_image(&mut self, now: Millis, image: Arc<Image>, disk: &mut D, outputs: &mut Vec<Output>) {
        if self.image.as_ref().is_some_and(|newest| newest.version() >= image.version()) {
            return;
        }
        self.image = Some(image);
        self.reconcile(now, disk, outputs);
    }

    /// Makes the roles what the newest image says, if it is about this life of the broker.
    fn reconcile(&mut self, now: Millis, disk: &mut D, outputs: &mut Vec<Output>) {
        let (Some(image), Some(broker_epoch)) = (self.image.clone(), self.broker_epoch) else { return };
        if image.broker(self.config.broker).is_none_or(|registered| registered.epoch != broker_epoch) {
            return;
        }
        let before = self.applied.replace(image.clone());
        if before.is_none() {
            self.remove_strangers(&image, disk, outputs);
        }
        let earlier = before.clone().unwrap_or_else(|| Arc::new(Image::new()));
        let changes = image.topic_changes(&earlier);
        // First what is gone: a topic of the same name may be among the new ones, and needs the directories.
        let deleted: Vec<_> = changes
            .iter()
            .filter_map(|it| match it {
                TopicChange::Deleted(topic) => Some(keys(topic)),
                TopicChange::Changed(_) => None,
            })
            .flatten()
            .collect();
        self.remove(&deleted, disk, outputs);
        let mut gone = Vec::new();
        let mut changed = BTreeSet::new();
        for change in changes {
            match change {
                TopicChange::Deleted(_) => {}
                TopicChange::Changed(topic) => {
                    changed.insert(topic.id);
                    for key in keys(topic) {
                        let assigned = topic.partition(key.partition).expect("one of its partitions");
                        if assigned.has_replica(self.config.broker) {
                            self.host(key, topic, disk, outputs);
                            let isr_before = earlier.partition(key).map(|it| it.isr.iter().copied().collect());
                            self.take_role(now, key, &image, topic, assigned, isr_before, disk, outputs);
                        } else {
                            gone.push(key);
                        }
                    }
                }
            }
        }
        self.remove(&gone, disk, outputs);
        self.set_throttles(now, &image);
        if before.is_some_and(|before| registrations(&before) != registrations(&image)) {
            self.refresh_members(now, &image, &changed, disk, outputs);
        }
    }

    /// Brokers were registered, fenced or unfenced: leaders need to know, although no partition record changed.
    fn refresh_members(
        &mut self,
        now: Millis,
        image: &Arc<Image>,
        done: &BTreeSet<minisr_logic::TopicId>,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        let led: Vec<_> = self
            .partitions
            .values()
            .filter(|partition| partition.replica.leader().is_some() && !done.contains(&partition.key.topic))
            .map(|partition| partition.key)
            .collect();
        for key in led {
            if let Some((topic, assigned)) = image.topic(key.topic).zip(image.partition(key)) {
                self.take_role(now, key, image, topic, assigned, None, disk, outputs);
            }
        }
    }

    /// Makes sure that the partition is hosted.
    fn host(&mut self, key: TopicPartition, topic: &Topic, disk: &mut D, outputs: &mut Vec<Output>) {
        let settings = TopicSettings::of(topic, &self.config.topic);
        if let Some(partition) = self.partitions.get_mut(&key) {
            if partition.settings != settings {
                partition.log.set_config(settings.log.clone());
                partition.settings = settings;
            }
            return;
        }
        if self.offline.contains_key(&key) {
            return;
        }
        match Partition::create(disk, &self.root, &topic.name, key, settings, &self.config) {
            Ok(partition) => {
                self.partitions.insert(key, partition);
            }
            Err(error) => {
                let reason = error.to_string();
                self.offline.insert(key, reason.clone());
                outputs.push(Output::Notice(Notice::LogFailed { partition: key, reason }));
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "image, topic and partition are one thing in three parts")]
    fn take_role(
        &mut self,
        now: Millis,
        key: TopicPartition,
        image: &Image,
        topic: &Topic,
        assigned: &Assigned,
        isr_before: Option<BTreeSet<BrokerId>>,
        disk: &mut D,
        outputs: &mut Vec<Output>,
    ) {
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        let applied = partition.replica.apply(now, view(image, topic, assigned));
        self.touched.insert(key);
        let log_start = partition.replica.log().cursors.log_start();
        answer_resigned(applied.resigned, log_start, outputs);
        if let Some(from) = applied.isr_before {
            partition.note_isr_change(now, &from, Some(image), outputs);
        }
        let is_in_sync = assigned.isr.contains(&self.config.broker);
        let moved = std::mem::replace(&mut partition.is_in_sync, is_in_sync) != is_in_sync;
        if !applied.new_epoch {
            if let (true, Role::Follower(follower)) = (moved, partition.replica.role())
                && let Some(leader) = follower.leader()
            {
                self.fetchers.assign(key, leader, is_in_sync, &self.config);
            }
            return;
        }
        match partition.replica.role() {
            Role::Leader(leader) => {
                let (leader_epoch, start) = (leader.epoch(), leader.epoch_start());
                self.fetchers.unassign(key);
                outputs.push(Output::Notice(Notice::BecameLeader { partition: key, leader_epoch, start }));
                // What this leader found changed when it took over, such as the leader before it missing.
                if let Some(from) = isr_before.filter(|before| before != leader.isr().settled()) {
                    partition.note_isr_change(now, &from, Some(image), outputs);
                }
                partition.epochs_written = false;
            }
            Role::Follower(follower) => {
                let (leader, leader_epoch) = (follower.leader(), follower.epoch());
                match leader {
                    Some(leader) => self.fetchers.assign(key, leader, is_in_sync, &self.config),
                    None => self.fetchers.unassign(key),
                }
                outputs.push(Output::Notice(Notice::BecameFollower { partition: key, leader_epoch, leader }));
                let log = partition.replica.log();
                if zoo::planted(Bug::TruncateToHighWatermark)
                    || (zoo::planted(Bug::TruncateToHighWatermarkAfterPowerLoss) && log.epochs.latest().is_none())
                {
                    let high_watermark = log.cursors.high_watermark();
                    self.truncate(now, key, high_watermark, disk, outputs);
                }
            }
            Role::Offline => {}
        }
    }

    /// With the first image of this life: what is on disk but not in the metadata was deleted while this broker was
    /// away, or belongs to a namesake's earlier topic id (trap 21).
    fn remove_strangers(&mut self, image: &Image, disk: &mut D, outputs: &mut Vec<Output>) {
        if zoo::planted(Bug::TopicRecreated) {
            self.adopt_namesakes(image);
        }
        let is_stranger =
            |key: &TopicPartition| !image.partition(*key).is_some_and(|it| it.has_replica(self.config.broker));
        let gone: Vec<_> = self.partitions.keys().copied().filter(is_stranger).collect();
        self.remove(&gone, disk, outputs);
    }

    /// The planted bug: a log belongs to the topic that has its name now, whatever topic id it was written under.
    fn adopt_namesakes(&mut self, image: &Image) {
        for (key, mut partition) in std::mem::take(&mut self.partitions) {
            let namesake = image.topic_by_name(&partition.topic).map(|topic| topic.id);
            partition.key = TopicPartition { topic: namesake.unwrap_or(key.topic), ..key };
            self.partitions.insert(partition.key, partition);
        }
    }

    /// Removes partitions from this broker, checkpoints first, so that what is missing was meant to be.
    fn remove(&mut self, gone: &[TopicPartition], disk: &mut D, outputs: &mut Vec<Output>) {
        let mut removed = Vec::new();
        for &key in gone {
            self.offline.remove(&key);
            let Some(mut partition) = self.partitions.remove(&key) else { continue };
            let log_start = partition.replica.log().cursors.log_start();
            answer_resigned(partition.fail(), log_start, outputs);
            self.fetchers.unassign(key);
            self.flusher.forget(key);
            self.touched.insert(key);
            removed.push(partition);
        }
        if removed.is_empty() {
            return;
        }
        self.write_checkpoints(disk, outputs);
        for partition in removed {
            let (key, name) = (partition.key, directory_name(&partition.topic, partition.key.partition));
            drop(partition);
            let directory = self.root.join(&name);
            // The topic id goes first, and for good: a power loss may bring back a part of the rest, and a log that
            // lacks its beginning must not be taken for this replica when it is assigned here again (seed 119).
            let gone = checkpoint::remove(disk, &directory, checkpoint::PARTITION_METADATA)
                .map_err(|error| error.to_string())
                .and_then(|()| disk.remove_dir_all(&directory).map_err(|error| error.to_string()));
            match gone {
                Ok(()) => outputs.push(Output::Notice(Notice::Removed { partition: key })),
                Err(error) => {
                    let what = format!("cannot remove {name}: {error}");
                    outputs.push(Output::Notice(Notice::Warning { partition: key, what }));
                }
            }
        }
    }
}

/// What decisions see of a partition's metadata.
fn view(image: &Image, topic: &Topic, assigned: &Assigned) -> View {
    let registration = |id: BrokerId| image.broker(id).map(|registered| (registered.epoch, registered.is_active()));
    View {
        leader: assigned.leader,
        leader_epoch: assigned.leader_epoch,
        partition_epoch: assigned.partition_epoch,
        isr: assigned.isr.iter().copied().collect(),
        members: Members::new(
            assigned.replicas.iter().map(|&id| (id, registration(id))),
            topic.min_insync_replicas(assigned),
        ),
    }
}

fn keys(topic: &Topic) -> impl Iterator<Item = TopicPartition> + use<> {
    let id = topic.id;
    let count = i32::try_from(topic.partitions.len()).expect("partition indexes are i32");
    (0..count).map(move |partition| TopicPartition { topic: id, partition })
}

fn registrations(image: &Image) -> Vec<(BrokerId, BrokerEpoch, bool)> {
    image.brokers().map(|it| (it.id, it.epoch, it.is_active())).collect()
}
