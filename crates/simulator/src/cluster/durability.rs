//! One directed run for the durability table: write, lose some replicas of the one partition together, look, heal, look.
//!
//! The same schedule as that of `minisr-chaos durability`. The controller stands apart from the brokers, so nothing
//! here says what a quorum survives.

use std::collections::BTreeSet;

use minisr_logic::{BrokerId, TopicPartition};
use minisr_storage::disk::memory::MemoryDisk;

use super::client::Producer;
use super::{Cluster, TOPIC};
use crate::durability::{InSync, Loss, Round};
use crate::invariants::unfinished;
use crate::schedule::{Action, Parameters};
use crate::state::{Attempt, Fact, State};

/// The one partition.
const KEY: TopicPartition = TopicPartition { topic: TOPIC, partition: 0 };
/// A batch every so often.
const WRITE_PAUSE_MS: u64 = 5;
/// How long is written before and between the blows.
const STEADY_MS: u64 = 300;
/// How long the followers stand still before the losses: what the leader acknowledges then, it acknowledges alone.
const FREEZE_MS: u64 = 120;
/// How long a client with acks=0 believes what it knows of the leader.
const LEADER_KNOWN_MS: u64 = 100;
/// Longer than the run: those lost come back when all is healed.
const NEVER_MS: u64 = 1 << 40;

/// What the clients of a run were told.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Nobody is told anything: what a leader takes counts.
    acks_none: bool,
    /// Acknowledged.
    acked: BTreeSet<Attempt>,
    /// The first attempt after the losses.
    first_down: Option<Attempt>,
    /// Of the acknowledged, those that were sent after the losses.
    acked_down: BTreeSet<Attempt>,
}

impl Watch {
    /// Takes note of what has just happened.
    pub(super) fn note(&mut self, facts: &[Fact], state: &State) {
        for fact in facts {
            match fact {
                Fact::Acked { attempt, .. } => self.acked(*attempt),
                Fact::Appended { place, from_index } if self.acks_none => {
                    let leader = state.replicas.get(place).filter(|it| it.as_leader().is_some());
                    let new = leader.and_then(|it| it.log.get(*from_index..)).unwrap_or_default();
                    new.iter().for_each(|entry| self.acked(entry.attempt));
                }
                _ => {}
            }
        }
    }

    fn acked(&mut self, attempt: Attempt) {
        self.acked.insert(attempt);
        if self.first_down.is_some_and(|first| attempt >= first) {
            self.acked_down.insert(attempt);
        }
    }
}

impl Cluster {
    /// Loses `victims` together in the way of `loss`, with as many replicas in sync as `in_sync` says.
    pub(crate) fn run_durability(
        mut self,
        victims: &[BrokerId],
        loss: Loss,
        in_sync: InSync,
        acks_none: bool,
    ) -> Round {
        self = self.with_events(Vec::new());
        self.watch = Some(Watch { acks_none, ..Watch::default() });
        self.begin();
        self.write_for(STEADY_MS);
        let replicas = self.controller.image.partition(KEY).map(|it| it.replicas.clone()).unwrap_or_default();
        let min_isr = usize::try_from(self.plan.min_insync_replicas).expect("positive");
        let set_aside: Vec<BrokerId> = match in_sync {
            InSync::Full => Vec::new(),
            InSync::Minimal => {
                replicas.iter().copied().filter(|id| !victims.contains(id)).take(replicas.len() - min_isr).collect()
            }
        };
        set_aside.iter().for_each(|id| self.kill_for_good(*id));
        let left = replicas.len() - set_aside.len();
        let deadline = self.now + self.plan.convergence_ms();
        let settled = |it: &Self| it.controller.image.partition(KEY).is_some_and(|it| it.isr.len() == left);
        self.run_until(|it| it.now >= deadline || settled(it));
        self.write_for(STEADY_MS);

        let leader = self.controller.image.partition(KEY).and_then(|it| it.leader);
        for id in replicas.iter().filter(|id| Some(**id) != leader) {
            self.strike("pause", &Parameters::default().with("broker", id).with("for", NEVER_MS));
        }
        self.write_for(FREEZE_MS);
        for id in victims {
            self.kill_for_good(*id);
            if loss == Loss::Wipe {
                self.wipe(*id);
            }
        }
        for id in self.broker_ids() {
            let life = self.brokers[&id].life;
            self.resume(id, life);
        }

        if let Some(watch) = &mut self.watch {
            watch.first_down = Some(Attempt(self.last_attempt + 1));
        }
        self.write_for(self.plan.convergence_ms());
        let leads = self.controller.image.partition(KEY).and_then(|it| it.leader);
        let view = leads.and_then(|id| self.state.replica(KEY, id)).filter(|it| it.as_leader().is_some());
        let readable: Option<BTreeSet<Attempt>> = view.map(|replica| {
            let high_watermark = replica.as_leader().expect("just filtered").high_watermark;
            replica.below(high_watermark).iter().map(|it| it.attempt).collect()
        });
        let watch = self.watch.take().expect("set above");
        // Nobody answers acks=0: that such a write got through is seen by reading it.
        let is_seen = |attempt: &Attempt| readable.as_ref().is_some_and(|readable| readable.contains(attempt));
        let writes_survive = watch.acked_down.iter().any(|attempt| !acks_none || is_seen(attempt));
        let reads_survive = readable.is_some();

        self.heal();
        let deadline = self.now + 3 * self.plan.convergence_ms();
        let is_whole = |it: &Self| unfinished(&it.state, it.power_lost).is_none();
        self.run_until(|it| it.now >= deadline || is_whole(it) && (acks_none || it.is_quiet()));
        let lost = self.lost(&watch);
        Round {
            writes_survive,
            reads_survive,
            acked: watch.acked.len(),
            lost,
            healed: is_whole(&self),
            violation: self.violation.map(|violation| violation.to_string()),
        }
    }

    /// Acknowledged, and after healing neither at the leader nor, without one, on any disk.
    fn lost(&self, watch: &Watch) -> usize {
        let leader = self.controller.image.partition(KEY).and_then(|it| it.leader);
        let kept: BTreeSet<Attempt> = self
            .state
            .replicas_of(KEY)
            .filter(|(id, _)| leader.is_none_or(|leader| leader == *id))
            .flat_map(|(_, replica)| replica.log.iter().map(|it| it.attempt))
            .collect();
        watch.acked.iter().filter(|attempt| !kept.contains(attempt)).count()
    }

    /// Goes on for a while under load.
    fn write_for(&mut self, ms: u64) {
        let until = self.now + ms;
        for at in (0..ms).step_by(usize::try_from(WRITE_PAUSE_MS).expect("small")) {
            let action = Action::Produce { producer: 0, partition: 0, records: 1 };
            self.schedule(at, super::Event::Act(action));
        }
        while self.now < until && self.violation.is_none() {
            if self.watch.as_ref().is_some_and(|watch| watch.acks_none) {
                self.producers.iter_mut().for_each(Producer::forget_leaders);
            }
            let next = until.min(self.now + LEADER_KNOWN_MS);
            self.run_until(|it| it.now >= next);
        }
    }

    /// kill -9, noticed at once; back when all is healed.
    fn kill_for_good(&mut self, id: BrokerId) {
        let parameters = Parameters::default().with("broker", id).with("back", NEVER_MS).with("noticed", 10);
        self.strike("kill-process", &parameters);
    }

    /// The disk of a broker that is down is replaced by an empty one.
    fn wipe(&mut self, id: BrokerId) {
        self.power_lost = true;
        self.facts.push(Fact::PowerLost { broker: id });
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        assert!(broker.run.is_none(), "a disk is replaced while its broker is down");
        broker.disk = MemoryDisk::new();
        broker.metadata_kept = 0;
        broker.power_lost = true;
        broker.must_keep.clear();
    }
}
