//! Processes and machines that are gone from one moment to the next.

use minisr_logic::{BrokerId, Offset, TopicPartition};
use minisr_storage::disk::memory::{Survives, Unsynced};

use super::{Cluster, Event, FaultType, victim};
use crate::dice::Roll;
use crate::schedule::Parameters;
use crate::state::Fact;

/// kill -9: the page cache survives. The process is back after `back` ms; if its death is noticed at once, after
/// `noticed` ms.
pub const PROCESS: FaultType = FaultType {
    name: "kill-process",
    seeds_permille: 550,
    draw: |cluster, roll| Some(death(roll, false).with("broker", victim(cluster, roll))),
    strike: |cluster, parameters| kill(cluster, parameters.broker(), parameters, None),
};

/// The machine loses power: of what was not flushed, the luck of `salt` decides what is left (0: nothing).
pub const POWER: FaultType = FaultType {
    name: "power-loss",
    seeds_permille: 450,
    draw: |cluster, roll| Some(death(roll, true).with("broker", victim(cluster, roll))),
    strike: |cluster, parameters| {
        kill(cluster, parameters.broker(), parameters, Some(parameters.number("salt")));
    },
};

/// All brokers are killed at once: by power loss if there is a `salt`, otherwise the processes. With `apart` they come
/// back up to so many ms apart.
pub const ALL: FaultType = FaultType {
    name: "kill-all",
    seeds_permille: 200,
    draw: |cluster, roll| {
        let power = cluster.plan.rates.weights.get(POWER.name).is_some_and(|weight| *weight > 0);
        Some(death(roll, power).with("apart", roll.between(0, 2_000)))
    },
    strike: |cluster, parameters| {
        for (index, id) in cluster.broker_ids().into_iter().enumerate() {
            let mut own = Roll::of(parameters.number("apart") * 16 + index as u64);
            let later = own.between(0, parameters.number("apart"));
            let own = parameters.clone().with("back", parameters.number("back") + later);
            kill(
                cluster,
                id,
                &own,
                parameters.maybe("salt").map(|salt| if salt == 0 { 0 } else { salt + index as u64 }),
            );
        }
    },
};

/// When it is back, and when its end is noticed: its liveness connections break at once, or its machine is gone
/// without a word.
fn death(roll: &mut Roll, power: bool) -> Parameters {
    // Some machines are back before anybody has understood that they were gone.
    let longest = if roll.chance(400) { 150 } else { 3_000 };
    let parameters = Parameters::default().with("back", roll.between(10, longest));
    let parameters = if roll.chance(if power { 300 } else { 700 }) {
        parameters.with("noticed", roll.between(1, 60))
    } else {
        parameters
    };
    if power { parameters.with("salt", roll.between(1, 1 << 32)) } else { parameters }
}

pub(super) fn kill(cluster: &mut Cluster, id: BrokerId, parameters: &Parameters, salt: Option<u64>) {
    let Some(broker) = cluster.brokers.get(&id) else { return };
    let ran = broker.run.is_some();
    let epoch = cluster.controller.image.broker(id).map(|it| it.epoch);
    if let Some(salt) = salt {
        cluster.lose_power(id, salt);
    }
    if !ran {
        return;
    }
    cluster.note_process_end(id, false);
    if let Some((epoch, noticed)) = epoch.zip(parameters.maybe("noticed")) {
        cluster.schedule(noticed, Event::Suspect { broker: id, epoch });
    }
    cluster.schedule(parameters.number("back"), Event::Start { broker: id });
}

impl Cluster {
    fn lose_power(&mut self, id: BrokerId, salt: u64) {
        self.power_lost = true;
        self.facts.push(Fact::PowerLost { broker: id });
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        let running = broker.run.is_some();
        broker.power_lost = true;
        let mut luck = Roll::of(salt);
        let lost = broker.disk.crash(&mut |unsynced| match salt {
            0 => Survives::Nothing,
            _ => survivors(&mut luck, unsynced),
        });
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
    pub(in crate::cluster) fn note_process_end(&mut self, id: BrokerId, cleanly: bool) {
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
}

/// What a power loss leaves of one file or directory.
fn survivors(luck: &mut Roll, unsynced: &Unsynced<'_>) -> Survives {
    match (luck.below(10), unsynced) {
        (0..=3, _) => Survives::Nothing,
        (4..=5, _) => Survives::Everything,
        (6..=8, Unsynced::File { operations, .. }) => {
            let whole = luck.between(0, operations.len() as u64) as usize;
            let torn = operations.get(whole).map_or(0, |bytes| luck.between(0, *bytes));
            Survives::Prefix { operations: whole, bytes: torn }
        }
        (_, Unsynced::File { operations, .. }) => {
            let written: u64 = operations.iter().sum();
            let from = luck.between(0, written);
            Survives::Hole { from, to: luck.between(from, written) }
        }
        (_, Unsynced::Directory { operations, .. }) => {
            Survives::Prefix { operations: luck.between(0, *operations as u64) as usize, bytes: 0 }
        }
    }
}
