//! Where the events of a run come from: drawn from the seed and written down, or read from a list.

use std::collections::{BTreeMap, VecDeque};

use super::{Cluster, Event, MessageKind};
use crate::schedule::{self, Action, Effect, Node};

/// The events of a run.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Everything that was drawn or done, in order.
    done: Vec<schedule::Event>,
    /// What is to be replayed; `None` when a seed draws.
    replay: Option<Replay>,
}

#[derive(Debug, Default)]
struct Replay {
    /// Faults and what clients do.
    actions: Vec<schedule::Event>,
    /// What is to happen to messages, by kind and link, in order of time.
    armed: BTreeMap<(MessageKind, Node, Node), VecDeque<Armed>>,
}

#[derive(Debug)]
struct Armed {
    at_ms: u64,
    nth: u32,
    effect: Effect,
}

impl Script {
    /// Does what is in the list.
    pub fn replaying(events: Vec<schedule::Event>) -> Self {
        let mut replay = Replay::default();
        for event in events {
            match event.action {
                Action::Message { kind, from, to, nth, effect } => {
                    let armed = Armed { at_ms: event.at_ms, nth, effect };
                    replay.armed.entry((kind, from, to)).or_default().push_back(armed);
                }
                _ => replay.actions.push(event),
            }
        }
        Self { done: Vec::new(), replay: Some(replay) }
    }

    /// Everything that was drawn or done.
    pub fn into_events(self) -> Vec<schedule::Event> {
        self.done
    }
}

impl Cluster {
    /// The load and the faults begin.
    pub(super) fn begin_script(&mut self) {
        if let Some(replay) = &mut self.script.replay {
            for event in std::mem::take(&mut replay.actions) {
                let pause = event.at_ms.saturating_sub(self.now);
                self.schedule(pause, Event::Act(event.action));
            }
            return;
        }
        for producer in 0..self.producers.len() as u32 {
            self.schedule(1, Event::DrawProduce { producer });
        }
        let pause = self.roll("first fault", 0).between(1, self.plan.rates.fault_pause_ms * 2);
        self.schedule(pause, Event::DrawFault);
    }

    /// Writes an action down and does it.
    pub(super) fn act(&mut self, action: Action) {
        self.script.done.push(schedule::Event { at_ms: self.now, action: action.clone() });
        match action {
            Action::Fault { name, parameters } => self.strike(name, &parameters),
            Action::Produce { producer, partition, records } => self.produce(producer, partition, records),
            Action::Message { .. } => unreachable!("messages are not acted on but met"),
        }
    }

    /// What happens to a message that is sent now, if anything.
    pub(super) fn effect_on(&mut self, kind: MessageKind, from: Node, to: Node) -> Option<Effect> {
        if self.healed {
            return None;
        }
        let mut roll = self.roll(kind.name(), from.number() << 32 | to.number());
        let nth = roll.nth;
        let effect = match &mut self.script.replay {
            Some(replay) => {
                let armed = replay.armed.get_mut(&(kind, from, to))?;
                let due = |it: &Armed| it.at_ms < self.now || it.at_ms == self.now && it.nth <= nth;
                armed.pop_front_if(|it| due(it))?.effect
            }
            None => {
                let rates = &self.plan.rates;
                let loss = rates.loss_permille + if kind.is_proposal() { rates.proposal_loss_permille } else { 0 };
                // What a client sends goes over an ordered connection, where nothing arrives twice; answers never do.
                let is_request = !matches!(
                    kind,
                    MessageKind::FetchReply
                        | MessageKind::ProduceReply
                        | MessageKind::ProducerIdReply
                        | MessageKind::ProposeReply
                        | MessageKind::HeartbeatReply
                        | MessageKind::Metadata
                );
                let repeatable = is_request && !matches!(from, Node::Client(_));
                if roll.chance(loss) {
                    Effect::Lost
                } else if roll.chance(rates.slow_permille) {
                    let by_ms = if roll.chance(200) {
                        roll.between(0, 3_000)
                    } else {
                        roll.between(2, self.plan.delay_max_ms * 20)
                    };
                    Effect::Slow { by_ms }
                } else if repeatable && roll.chance(rates.duplicate_permille) {
                    // The copy may come much later, when sender and receiver have other lives.
                    let much_later = if roll.chance(300) { roll.between(0, 4_000) } else { 0 };
                    Effect::Twice { by_ms: roll.between(0, self.plan.delay_max_ms * 3) + much_later }
                } else {
                    return None;
                }
            }
        };
        let action = Action::Message { kind, from, to, nth, effect };
        self.script.done.push(schedule::Event { at_ms: self.now, action });
        Some(effect)
    }
}
