//! What befalls the cluster, drawn by the plan's weights, and the healing of all of it.

use minisr_logic::metadata::{Command, Election};
use minisr_logic::{BrokerId, Offset, TopicPartition};
use minisr_storage::disk::memory::{Survives, Unsynced};

use super::message::Node;
use super::{Cluster, Event};
use crate::dice::Dice;
use crate::plan::FaultKind;
use crate::state::Fact;

impl Cluster {
    /// One fault, and the appointment for the next.
    pub(super) fn fault(&mut self) {
        if self.healed {
            return;
        }
        if self.plants_violation && self.now > self.plan.safety_ms / 2 {
            self.plant();
        }
        let pause = self.dice.between(1, self.plan.fault_pause_ms * 2);
        self.schedule(pause, Event::Fault);
        let Some(kind) = self.plan.draw_fault(&mut self.dice) else { return };
        let ids: Vec<BrokerId> = self.brokers.keys().copied().collect();
        let mut victim = *self.dice.pick(&ids);
        // Leaders are worth more.
        if self.dice.chance(500)
            && let Some(leader) = self.controller.image.partitions().find_map(|(_, it)| it.leader)
        {
            victim = leader;
        }
        self.count(kind.name(), 1);
        self.trace.write(self.now, format_args!("fault {} {victim}", kind.name()));
        match kind {
            FaultKind::KillProcess => self.kill(victim, false),
            FaultKind::PowerLoss => self.kill(victim, true),
            FaultKind::KillAll => {
                let power = self.plan.weights[FaultKind::PowerLoss as usize] > 0;
                ids.into_iter().for_each(|id| self.kill(id, power));
            }
            FaultKind::Pause => self.pause(victim),
            FaultKind::CleanRestart => {
                let now = self.now;
                if let Some(run) = self.brokers.get_mut(&victim).and_then(|it| it.run.as_mut()) {
                    run.stopping_since.get_or_insert(now);
                }
            }
            FaultKind::CutOneWay => {
                let other = self.other_node(victim);
                let (from, to) =
                    if self.dice.chance(500) { (Node::Broker(victim), other) } else { (other, Node::Broker(victim)) };
                self.cut_for_a_while(&[(from, to)]);
            }
            FaultKind::Isolate => {
                let me = Node::Broker(victim);
                let others = ids.iter().filter(|id| **id != victim).map(|id| Node::Broker(*id));
                let links: Vec<_> =
                    others.chain([Node::Controller]).flat_map(|other| [(me, other), (other, me)]).collect();
                self.cut_for_a_while(&links);
            }
            FaultKind::CutController => {
                let me = Node::Broker(victim);
                self.cut_for_a_while(&[(me, Node::Controller), (Node::Controller, me)]);
            }
            FaultKind::ControllerChange => self.controller_falls(),
            FaultKind::FalseFence => {
                if let Some(epoch) = self.controller.image.broker(victim).map(|it| it.epoch) {
                    self.propose(Command::FenceBroker { id: victim, epoch }, None);
                }
            }
            FaultKind::PreferredElection => {
                let keys: Vec<TopicPartition> = self.controller.image.imbalanced().collect();
                for key in keys {
                    self.propose(Command::ElectLeader { key, election: Election::Preferred }, None);
                }
            }
        }
    }

    /// A process is gone at once, by itself or with its machine's un-flushed data.
    fn kill(&mut self, id: BrokerId, power: bool) {
        let epoch = self.controller.image.broker(id).map(|it| it.epoch);
        let ran = self.brokers[&id].run.is_some();
        if power {
            self.lose_power(id);
        }
        if !ran {
            return;
        }
        self.note_process_end(id, false);
        // Its liveness connections break at once, or its machine is gone without a word.
        if let Some(epoch) = epoch.filter(|_| self.dice.chance(if power { 300 } else { 700 })) {
            let pause = self.dice.between(1, 60);
            self.schedule(pause, Event::Suspect { broker: id, epoch });
        }
        // Some machines are back before anybody has understood that they were gone.
        let longest = if self.dice.chance(400) { 150 } else { 3_000 };
        let pause = self.dice.between(10, longest);
        self.schedule(pause, Event::Start { broker: id });
    }

    fn lose_power(&mut self, id: BrokerId) {
        self.power_lost = true;
        self.facts.push(Fact::PowerLost { broker: id });
        let running = self.brokers[&id].run.is_some();
        let dice = &mut self.dice;
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        broker.power_lost = true;
        let lost = broker.disk.crash(&mut |unsynced| survivors(dice, unsynced));
        if lost {
            *self.counts.entry("tails-lost").or_default() += 1;
        }
        if !running {
            // What had to survive the end of the process may now be gone too, down to what was flushed.
            let flushed = |partition: &TopicPartition, state: &crate::state::State| {
                state.replica(*partition, id).map_or(Offset::ZERO, |it| it.flushed)
            };
            for (partition, must_keep) in &mut broker.must_keep {
                *must_keep = (*must_keep).min(flushed(partition, &self.state));
            }
        }
    }

    /// Notes what the logs of an ended process must still hold, and forgets the process.
    pub(super) fn note_process_end(&mut self, id: BrokerId, cleanly: bool) {
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        broker.run = None;
        broker.paused = false;
        broker.backlog.clear();
        let power_lost = broker.power_lost;
        let mine = self.state.replicas.iter_mut().filter(|(place, _)| place.1 == id);
        broker.must_keep = mine
            .map(|(place, replica)| {
                if cleanly {
                    replica.flushed = replica.end();
                }
                replica.view = None;
                (place.0, if power_lost { replica.flushed } else { replica.end() })
            })
            .collect();
    }

    fn pause(&mut self, id: BrokerId) {
        let longest = 2 * self.plan.session_timeout_ms.max(self.plan.lag_time_max_ms);
        let pause = self.dice.between(20, longest);
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        if broker.run.is_some() && !broker.paused {
            broker.paused = true;
            let life = broker.life;
            self.schedule(pause, Event::Resume { broker: id, life });
        }
    }

    /// A paused process goes on, and finds everything that came meanwhile.
    pub(super) fn resume(&mut self, id: BrokerId, life: u32) {
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        if !broker.paused || broker.life != life {
            return;
        }
        broker.paused = false;
        let backlog = std::mem::take(&mut broker.backlog);
        self.count("pauses-outlived", 1);
        for event in backlog {
            self.schedule(0, event);
        }
    }

    fn other_node(&mut self, victim: BrokerId) -> Node {
        let mut others: Vec<Node> =
            self.brokers.keys().filter(|id| **id != victim).map(|id| Node::Broker(*id)).collect();
        others.push(Node::Controller);
        others.extend((0..self.producers.len() as u32).map(Node::Client));
        *self.dice.pick(&others)
    }

    fn cut_for_a_while(&mut self, links: &[(Node, Node)]) {
        let pause = self.dice.between(50, 3 * self.plan.session_timeout_ms);
        for (from, to) in links {
            self.network.cut(*from, *to);
            self.schedule(pause, Event::Mend { from: *from, to: *to });
        }
    }

    /// All faults end: links mended, processes running, no more disturbance and no more load.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.trace.write(self.now, format_args!("heal"));
        self.network.heal();
        let ids: Vec<BrokerId> = self.brokers.keys().copied().collect();
        for id in ids {
            let life = self.brokers[&id].life;
            self.resume(id, life);
            if self.brokers[&id].run.is_none() {
                self.schedule(0, Event::Start { broker: id });
            }
        }
    }
}

/// What a power loss leaves of one file or directory.
fn survivors(dice: &mut Dice, unsynced: &Unsynced<'_>) -> Survives {
    match (dice.below(10), unsynced) {
        (0..=3, _) => Survives::Nothing,
        (4..=5, _) => Survives::Everything,
        (6..=8, Unsynced::File { operations, .. }) => {
            let whole = dice.between(0, operations.len() as u64) as usize;
            let torn = operations.get(whole).map_or(0, |bytes| dice.between(0, *bytes));
            Survives::Prefix { operations: whole, bytes: torn }
        }
        (_, Unsynced::File { operations, .. }) => {
            let written: u64 = operations.iter().sum();
            let from = dice.between(0, written);
            Survives::Hole { from, to: dice.between(from, written) }
        }
        (_, Unsynced::Directory { operations, .. }) => {
            Survives::Prefix { operations: dice.between(0, *operations as u64) as usize, bytes: 0 }
        }
    }
}
