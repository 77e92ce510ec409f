//! The model as `stateright` takes it: what always holds, and what must happen somewhere, or the check proves nothing.

use minisr_logic::Offset;
use minisr_replica::PartitionDescription;
use stateright::{Model, Property};

use crate::action::Action;
use crate::bounds::Bounds;
use crate::broker::{Broker, Entry, KEY};
use crate::world::World;

/// Everything that may happen within some bounds.
#[derive(Clone, Copy, Debug)]
pub struct Replication {
    /// The bounds.
    pub bounds: Bounds,
}

/// A property that is seen as it happens: violated in a state whose history says so.
macro_rules! seen {
    ($name:literal) => {
        Property::always($name, |_, world: &World| {
            world.history.fault.as_ref().is_none_or(|fault| fault.invariant != $name)
        })
    };
}

impl Model for Replication {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.bounds)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.possible(actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        world.after(&action)
    }

    fn format_action(&self, action: &Action) -> String {
        action.to_string()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            seen!("OneLeaderPerEpoch"),
            seen!("EpochsNeverDecrease"),
            Property::always("CursorsOrdered", |_, world: &World| {
                world.brokers().filter_map(Broker::view).all(cursors_ordered)
            }),
            seen!("HighWatermarkMonotonic"),
            Property::always("LogMatching", |_, world: &World| logs_match(world)),
            seen!("LeaderCompleteness"),
            seen!("AckedReadable"),
            seen!("AckedOnMinIsr"),
            Property::always("RefusedAbsent", |_, world: &World| refused_absent(world)),
            seen!("ImageSound"),
            Property::always("StrongIsr", |_, world: &World| isr_is_strong(world)),
            seen!("HighWatermarkReported"),
            seen!("HighWatermarkNeedsMinIsr"),
            seen!("NoCutBelowHighWatermark"),
            Property::always("BatchEpochsOrdered", |_, world: &World| world.brokers().all(batch_epochs_ordered)),
            seen!("NoAssertionFails"),
        ];
        properties.extend(self.must_happen());
        properties
    }
}

impl Replication {
    /// What these bounds allow must be reached.
    fn must_happen(&self) -> Vec<Property<Self>> {
        let bounds = self.bounds;
        let all = |_: &Self, world: &World| world.history.acked.len() == usize::from(world.bounds().records);
        let mut wanted = Vec::new();
        if bounds.records > 0 {
            wanted.push(Property::sometimes("every record is acknowledged", all));
        }
        if bounds.fencings > 0 {
            wanted.extend([
                Property::sometimes("another leader is elected", |_, world: &World| world.history.leaders.len() > 1),
                Property::sometimes("the in-sync set shrinks", |_, world: &World| isr_len(world) < 3),
                Property::sometimes("a fenced broker is back in the in-sync set", |_, world: &World| {
                    isr_len(world) == 3 && world.spent.fencings > 0
                }),
                Property::sometimes("a deposed leader does not know it yet", |_, world: &World| {
                    world.brokers().filter(|broker| broker.as_leader().is_some()).count() > 1
                }),
            ]);
        }
        if bounds.fencings > 0 && bounds.records > 0 {
            wanted.push(Property::sometimes("a log is cut", |_, world: &World| world.history.was_cut));
        }
        if bounds.kills > 0 && bounds.fencings > 0 {
            wanted.push(Property::sometimes("a killed leader comes back and follows", |_, world: &World| {
                world.brokers().any(|it| {
                    it.life > 1 && it.view().is_some_and(|view| view.leader.is_some_and(|leader| leader != it.id))
                })
            }));
        }
        if bounds.power_losses > 0 {
            wanted.push(Property::sometimes("a power loss takes records", |_, world: &World| {
                world.brokers().any(|broker| broker.damaged)
            }));
        }
        if bounds.lags > 0 && bounds.records > 0 {
            wanted.push(Property::sometimes("a lagging member leaves the in-sync set", |_, world: &World| {
                isr_len(world) < 3 && world.spent.fencings == 0
            }));
        }
        wanted
    }
}

fn isr_len(world: &World) -> usize {
    world.image().partition(KEY).map_or(0, |it| it.isr.len())
}

fn cursors_ordered(view: &PartitionDescription) -> bool {
    Offset::ZERO <= view.log_start && view.log_start <= view.high_watermark && view.high_watermark <= view.log_end
}

fn logs_match(world: &World) -> bool {
    let logs: Vec<_> = world.brokers().map(|broker| &broker.log).collect();
    let agree = |a: &[Entry], b: &[Entry]| {
        let last_same = a.iter().zip(b).rposition(|(a, b)| a.epoch == b.epoch);
        last_same.is_none_or(|at| a[..=at] == b[..=at])
    };
    logs.iter().enumerate().all(|(at, log)| logs[at + 1..].iter().all(|other| agree(log, other)))
}

fn refused_absent(world: &World) -> bool {
    world.brokers().all(|broker| broker.log.iter().all(|entry| !world.history.refused.contains(&entry.record)))
}

fn batch_epochs_ordered(broker: &Broker) -> bool {
    let highest = broker.view().and_then(|view| view.leader_epoch);
    broker.log.is_sorted_by_key(|entry| entry.epoch)
        && highest.is_none_or(|highest| broker.log.last().is_none_or(|entry| entry.epoch <= highest))
}

/// Every committed member of the ISR holds what is below the high watermark of the leader that the metadata names.
fn isr_is_strong(world: &World) -> bool {
    let Some(partition) = world.image().partition(KEY) else { return true };
    let Some(leader) = partition.leader.map(|id| world.broker(id)) else { return true };
    let Some(view) = leader.as_leader().filter(|view| view.leader_epoch == Some(partition.leader_epoch)) else {
        return true;
    };
    let below = usize::try_from(view.high_watermark.0).expect("not negative");
    let members = partition.isr.iter().map(|id| world.broker(*id));
    members.filter(|member| !member.damaged).all(|member| member.log.get(..below) == leader.log.get(..below))
}
