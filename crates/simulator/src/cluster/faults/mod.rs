//! What befalls the cluster: one file for each kind of fault, and the healing of all of them.
//!
//! A fault has two halves. `draw` looks at the cluster and chooses the details from the dice; `strike` carries it out
//! and knows nothing but the details, so that a recorded fault can be struck again. To add one: a file with a
//! [`FaultType`], and its name in [`ALL`].

mod canary;
mod configure;
mod controller;
mod cut;
mod disk;
mod handback;
mod kill;
mod pause;
mod reassign;
mod recreate;
mod rejoin;
mod restart;
mod slow;

use minisr_logic::BrokerId;
use minisr_replica::PartitionDescription;

use super::{Cluster, Event};
use crate::dice::Roll;
use crate::schedule::{Action, Parameters};

/// A kind of fault.
#[derive(Clone, Copy, Debug)]
pub struct FaultType {
    /// Its name in reports and scenarios.
    pub name: &'static str,
    /// In how many of 1,000 seeds it can happen.
    pub seeds_permille: u64,
    /// Chooses the details; `None` if it cannot happen now.
    pub(super) draw: fn(&Cluster, &mut Roll) -> Option<Parameters>,
    /// Carries it out.
    pub(super) strike: fn(&mut Cluster, &Parameters),
}

/// A later part of a fault that is a story, told with the details of the whole.
pub(super) type Part = fn(&mut Cluster, &Parameters);

/// All that a seed may draw.
pub const ALL: &[FaultType] = &[
    kill::PROCESS,
    kill::POWER,
    kill::ALL,
    pause::PAUSE,
    restart::CLEAN,
    cut::ONE_WAY,
    cut::ISOLATE,
    cut::CONTROLLER,
    slow::SLOW_LINK,
    controller::CHANGE,
    controller::FALSE_FENCE,
    controller::PREFERRED,
    configure::MIN_ISR,
    recreate::RECREATE,
    reassign::REASSIGN,
    reassign::CANCEL,
    disk::ERROR,
    rejoin::STALE,
    handback::HANDBACK,
];

/// The fault of a name, those included that no seed draws.
#[must_use]
pub fn named(name: &str) -> Option<FaultType> {
    ALL.iter().copied().chain([canary::CANARY, controller::UNCLEAN]).find(|it| it.name == name)
}

impl Cluster {
    /// Draws one fault, and the appointment for the next.
    pub(super) fn draw_fault(&mut self) {
        if self.healed {
            return;
        }
        let mut roll = self.roll("fault", 0);
        let pause = roll.between(1, self.plan.rates.fault_pause_ms * 2);
        self.schedule(pause, Event::DrawFault);
        let fault = if self.plants_violation && self.now > self.plan.safety_ms / 2 {
            canary::CANARY
        } else {
            let Some(fault) = self.plan.rates.draw_fault(&mut roll) else { return };
            fault
        };
        if let Some(parameters) = (fault.draw)(self, &mut roll) {
            self.act(Action::Fault { name: fault.name, parameters });
        }
    }

    pub(super) fn strike(&mut self, name: &'static str, parameters: &Parameters) {
        let Some(fault) = named(name) else { unreachable!("a schedule holds known faults only, not {name}") };
        self.count(fault.name, 1);
        let details: Vec<String> = parameters.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        self.trace.write(self.now, format_args!("fault {name}{}", details.concat()));
        (fault.strike)(self, parameters);
    }

    pub(super) fn broker_ids(&self) -> Vec<BrokerId> {
        self.brokers.keys().copied().collect()
    }

    /// All faults end: links mended, processes running, no more disturbance and no more load.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.trace.write(self.now, format_args!("heal"));
        self.network.heal();
        for id in self.broker_ids() {
            let life = self.brokers[&id].life;
            self.resume(id, life);
            self.reboot(id);
            if self.brokers[&id].run.is_none() {
                self.schedule(0, Event::Start { broker: id });
            }
        }
    }
}

/// Somebody to suffer. Leaders are worth more, and so are those about to enter an ISR.
fn victim(cluster: &Cluster, roll: &mut Roll) -> BrokerId {
    let any = *roll.pick(&cluster.broker_ids());
    let views = cluster.state.replicas.values().filter_map(|it| it.as_leader());
    let joins = |view: &PartitionDescription| {
        view.proposed_isr.as_ref().and_then(|it| it.iter().copied().find(|id| !view.isr.contains(id)))
    };
    let joiners: Vec<BrokerId> = views.filter_map(joins).collect();
    if !joiners.is_empty() && roll.chance(500) {
        return *roll.pick(&joiners);
    }
    let leaders: Vec<BrokerId> = cluster.controller.image.partitions().filter_map(|(_, it)| it.leader).collect();
    if !leaders.is_empty() && roll.chance(500) { *roll.pick(&leaders) } else { any }
}
