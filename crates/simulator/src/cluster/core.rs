//! Healing a part: a core of the brokers is whole again while the rest stays broken. What the core can serve it must
//! serve, without waiting for the others.

use std::collections::BTreeSet;

use minisr_logic::metadata::Partition;
use minisr_logic::{BrokerId, TopicPartition};

use super::{Cluster, Event};
use crate::dice::Roll;
use crate::invariants::Violation;
use crate::schedule::Node;

impl Cluster {
    /// Ends all disturbance and load. A minority stays dead or cut off, if every partition keeps as many replicas as
    /// `min.insync.replicas` asks for without it; then the core must take writes.
    pub(super) fn heal_core(&mut self) {
        let mut roll = self.roll("core", 0);
        let broken = self.choose_broken(&mut roll);
        let cut_off = roll.chance(500);
        self.heal();
        if broken.is_empty() {
            return;
        }
        self.count("cores-healed", 1);
        self.trace.write(self.now, format_args!("broken: {broken:?}, cut off: {cut_off}"));
        self.broken = broken.clone();
        for id in &broken {
            if !cut_off {
                if self.brokers[id].run.is_some() {
                    self.note_process_end(*id, false);
                }
                continue;
            }
            let me = Node::Broker(*id);
            let brokers = self.broker_ids().into_iter().filter(|it| it != id).map(Node::Broker);
            let clients = (0..(self.producers.len() + self.consumers.len()) as u32).map(Node::Client);
            for other in brokers.chain(clients).chain([Node::Controller]) {
                self.network.cut(me, other);
                self.network.cut(other, me);
            }
        }
        let deadline = self.now + self.patience_ms();
        self.run_until(|it| it.now >= deadline || it.core_leads());
        if self.violation.is_none() {
            self.violation = self.core_lags();
        }
        self.write_once_more();
        let deadline = self.now + self.patience_ms();
        self.run_until(|it| it.now >= deadline || it.unserved().is_none());
        if self.violation.is_none() {
            let dead = self.controller.image.partitions().any(|(_, it)| self.needs_broken(it));
            self.violation = self.unserved().filter(|_| !dead).map(|it| self.core_violation(&it.what));
        }
        self.broken.clear();
    }

    /// How long a healed cluster may take: what the plan says, and the time to copy the longest log, of which a fetch
    /// brings at most one segment.
    pub(super) fn patience_ms(&self) -> u64 {
        let bytes = self.brokers.values().map(|it| it.disk.bytes_stored()).max().unwrap_or(0);
        self.plan.convergence_ms() + bytes / self.plan.segment_bytes * 4 * self.plan.delay_max_ms
    }

    /// Some brokers that may stay broken: a minority.
    fn choose_broken(&self, roll: &mut Roll) -> BTreeSet<BrokerId> {
        let ids = self.broker_ids();
        let most = (ids.len() - 1) / 2;
        let mut broken = BTreeSet::new();
        // The topic is about to be another one, or to ask for more replicas.
        if self.controller.image.topic(self.topic).is_none() || self.controller.is_changing_topics() {
            return broken;
        }
        for _ in 0..most {
            let mut more = broken.clone();
            more.insert(*roll.pick(&ids));
            let image = &self.controller.image;
            let enough = |topic: &minisr_logic::metadata::Topic, it: &Partition| {
                it.replicas.iter().filter(|id| !more.contains(id)).count() >= topic.min_insync_replicas(it)
            };
            if image.topics().all(|topic| topic.partitions.iter().all(|it| enough(topic, it))) {
                broken = more;
            }
        }
        broken
    }

    /// Whether a partition cannot serve before the broken brokers are back: only they hold everything, or a
    /// reassignment left too few of its replicas in the core.
    fn needs_broken(&self, partition: &Partition) -> bool {
        let holders_are_broken =
            partition.leader.is_none() && partition.isr.iter().chain(&partition.elr).all(|id| self.broken.contains(id));
        let in_core = partition.replicas.iter().filter(|id| !self.broken.contains(id)).count();
        let needed = self.controller.image.topic(self.topic).map_or(0, |it| it.min_insync_replicas(partition));
        holders_are_broken || in_core < needed
    }

    fn core_partitions(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        self.controller.image.partitions().filter(|(_, it)| !self.needs_broken(it))
    }

    fn core_leads(&self) -> bool {
        // What the metadata says of a life that is over does not count.
        let lives = self.brokers.iter().filter(|(id, _)| !self.broken.contains(id)).all(|(id, broker)| {
            let registered = self.controller.image.broker(*id).filter(|it| it.is_active()).map(|it| it.incarnation);
            broker.run.as_ref().is_some_and(|run| registered == Some(run.incarnation))
        });
        lives
            && self.controller.image.topic(self.topic).is_some_and(|topic| {
                self.core_partitions().all(|(_, it)| {
                    let core = it.isr.iter().filter(|id| !self.broken.contains(id)).count();
                    it.leader.is_some_and(|id| !self.broken.contains(&id))
                        && core == it.isr.len()
                        && core >= topic.min_insync_replicas(it)
                })
            })
    }

    fn core_violation(&self, what: &str) -> Violation {
        let what = format!("{:?} stay broken; {what}", self.broken);
        Violation { number: 31, name: "CoreServes", what }
    }

    /// What the core should lead and does not.
    fn core_lags(&self) -> Option<Violation> {
        if self.core_leads() {
            return None;
        }
        let describe = |(key, it): (TopicPartition, &Partition)| {
            format!("partition {}: leader {:?}, ISR {:?}, ELR {:?}", key.partition, it.leader, it.isr, it.elr)
        };
        let partitions: Vec<String> = self.core_partitions().map(describe).collect();
        Some(self.core_violation(&format!("the others do not lead with enough replicas: {}", partitions.join("; "))))
    }

    /// Starts what stayed broken.
    pub(super) fn heal_rest(&mut self) {
        self.network.heal();
        for id in self.broker_ids() {
            if self.brokers[&id].run.is_none() {
                self.schedule(0, Event::Start { broker: id });
            }
        }
    }
}
