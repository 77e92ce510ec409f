//! What may happen next, and how the world is then.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use minisr_logic::BrokerId;
use minisr_logic::metadata::Command;
use minisr_replica::{Acks, AlterPartitionError, Append, BatchSummary, Event, Ticket};
use minisr_wire::batch::{BatchBuilder, Producer};

use crate::bounds::{Bounds, Doctored, Victims};
use crate::broker::{FOREVER_MS, KEY, LAG_TIME_MAX_MS, Loss};
use crate::message::Message;
use crate::world::World;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A producer sends the next record, acks=all, to a broker that believes it leads.
    Produce(BrokerId),
    /// A message arrives.
    Deliver(Arc<Message>),
    /// An ISR proposal, or the answer to one, is lost, and the leader notices.
    Lose(Arc<Message>),
    /// A broker learns the metadata up to a version.
    Learn(BrokerId, usize),
    /// The controller fences a broker, rightly or not.
    Fence(BrokerId),
    /// A process dies.
    Kill(BrokerId),
    /// A machine loses power.
    LosePower(BrokerId, Loss),
    /// A process starts, recovers its log and registers. In between it does nothing that anybody could see, so this
    /// is one event, which waits until the controller would accept the registration.
    Restart(BrokerId),
    /// A registered broker has caught up with the metadata and is unfenced.
    Unfence(BrokerId),
    /// A leader's clock runs on past the lag time.
    LagTimePasses(BrokerId),
    /// A sync ends.
    Sync(BrokerId),
}

impl World {
    /// Everything that may happen next.
    pub fn possible(&self, actions: &mut Vec<Action>) {
        // What follows a violation is of no interest.
        if self.history.fault.is_some() {
            return;
        }
        let (bounds, spent) = (self.bounds(), &self.spent);
        for message in &self.messages {
            let arrives = match &**message {
                Message::Fetch { fetcher, .. } => self.broker(fetcher.leader).process.is_some(),
                _ => true,
            };
            if arrives {
                actions.push(Action::Deliver(Arc::clone(message)));
            }
            let is_about_isr =
                matches!(**message, Message::AlterPartition { .. } | Message::AlterPartitionAnswer { .. });
            if is_about_isr && spent.losses < bounds.losses {
                actions.push(Action::Lose(Arc::clone(message)));
            }
        }
        for broker in self.brokers() {
            self.possible_at(broker.id, bounds, actions);
        }
    }

    fn possible_at(&self, id: BrokerId, bounds: &Bounds, actions: &mut Vec<Action>) {
        let (broker, spent) = (self.broker(id), &self.spent);
        let registered = self.image().broker(id).expect("every broker has registered once");
        let may_fail = bounds.victims == Victims::Any || id == BrokerId(1);
        if !registered.fenced && spent.fencings < bounds.fencings && may_fail {
            actions.push(Action::Fence(id));
        }
        let Some(process) = &broker.process else {
            if registered.fenced {
                actions.push(Action::Restart(id));
            }
            return;
        };
        if spent.kills < bounds.kills && may_fail {
            actions.push(Action::Kill(id));
        }
        if spent.power_losses < bounds.power_losses && may_fail {
            actions.push(Action::LosePower(id, Loss::Everything));
            actions.push(Action::LosePower(id, Loss::LastWrite));
        }
        if process.seen < self.version() {
            actions.push(Action::Learn(id, process.seen + 1));
            if process.seen + 1 < self.version() {
                actions.push(Action::Learn(id, self.version()));
            }
        }
        if registered.fenced && process.epoch == Some(registered.epoch) {
            actions.push(Action::Unfence(id));
        }
        if process.syncing.is_some() {
            actions.push(Action::Sync(id));
        }
        if let Some(leads) = broker.as_leader() {
            if spent.records < bounds.records {
                actions.push(Action::Produce(id));
            }
            if spent.lags < bounds.lags && leads.isr.len() > 1 {
                actions.push(Action::LagTimePasses(id));
            }
        }
    }

    /// The world after an action; `None` when it changes nothing. A panic of the code under test is a violation.
    #[must_use]
    pub fn after(&self, action: &Action) -> Option<Self> {
        let mut world = self.clone();
        match catch_unwind(AssertUnwindSafe(|| {
            let comes_to_something = world.happens(action);
            world.drop_void();
            comes_to_something.then_some(world)
        })) {
            Ok(after) => after,
            Err(panic) => {
                let what = panic.downcast_ref::<String>().cloned();
                let what = what.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
                let mut world = self.clone();
                world.fault("NoAssertionFails", what.unwrap_or_default());
                Some(world)
            }
        }
    }

    /// Carries out an action; false when it comes to nothing.
    fn happens(&mut self, action: &Action) -> bool {
        match action {
            Action::Produce(id) => self.produce(*id),
            Action::Deliver(message) => return self.deliver(message),
            Action::Lose(message) => self.lose(message),
            Action::Learn(id, version) => self.learn(*id, *version),
            Action::Fence(id) => {
                self.spent.fencings += 1;
                let epoch = self.image().broker(*id).expect("registered").epoch;
                return self.propose(Command::FenceBroker { id: *id, epoch }).is_ok();
            }
            Action::Kill(id) => {
                self.spent.kills += 1;
                let bounds = *self.bounds();
                self.broker_mut(*id).kill(&bounds);
                self.history.reported.retain(|(leader, _), _| leader != id);
            }
            Action::LosePower(id, loss) => {
                self.spent.power_losses += 1;
                let bounds = *self.bounds();
                self.broker_mut(*id).lose_power(&bounds, *loss);
                self.history.reported.retain(|(leader, _), _| leader != id);
            }
            Action::Restart(id) => {
                self.start(*id);
                return self.register(*id);
            }
            Action::Unfence(id) => return self.unfence(*id),
            Action::LagTimePasses(id) => {
                self.spent.lags += 1;
                let broker = self.broker_mut(*id);
                broker.now = broker.now.plus(LAG_TIME_MAX_MS + 1);
                self.step(*id, Event::Tick { wall_clock_ms: 0 });
            }
            Action::Sync(id) => self.run(*id, |broker, bounds| broker.sync(bounds)),
        }
        true
    }

    fn produce(&mut self, id: BrokerId) {
        self.spent.records += 1;
        let record = self.spent.records;
        let mut builder = BatchBuilder::new(128);
        // The number of the record is put where the time goes, to be found again in the logs.
        builder.append(i64::from(record), None, None, &[]);
        self.step(
            id,
            Event::Append(Append {
                ticket: Ticket(u64::from(record)),
                partition: KEY,
                batch: builder.finish(Producer::NONE).into(),
                summary: BatchSummary { records: 1, max_timestamp_ms: i64::from(record), producer: None },
                acks: Acks::All,
                timeout_ms: FOREVER_MS,
            }),
        );
    }

    fn deliver(&mut self, message: &Arc<Message>) -> bool {
        self.take(message);
        match &**message {
            Message::Fetch { .. } => return self.fetch_arrives(message),
            Message::Fetched { to, fetcher, correlation, reply } => {
                let (fetcher, correlation, reply) = (*fetcher, *correlation, reply.clone());
                self.step(to.broker, Event::FetchResponse { fetcher, correlation, reply });
            }
            Message::AlterPartition { from, correlation, command } => {
                self.proposal_arrives(*from, *correlation, command.clone());
            }
            Message::AlterPartitionAnswer { to, correlation, result } => {
                let (correlation, result) = (*correlation, result.clone());
                self.step(to.broker, Event::AlterPartitionReply { partition: KEY, correlation, result });
            }
        }
        true
    }

    fn lose(&mut self, message: &Arc<Message>) {
        self.take(message);
        self.spent.losses += 1;
        let (Message::AlterPartition { from: leader, correlation, .. }
        | Message::AlterPartitionAnswer { to: leader, correlation, .. }) = &**message
        else {
            unreachable!("only what is about the ISR is lost");
        };
        if self.is_alive(*leader) {
            let error = if self.bounds().doctored == Some(Doctored::RevertsUnanswered) {
                AlterPartitionError::OperationNotAttempted
            } else {
                AlterPartitionError::Unknown
            };
            let (correlation, result) = (*correlation, Err(error));
            self.step(leader.broker, Event::AlterPartitionReply { partition: KEY, correlation, result });
        }
    }

    fn take(&mut self, message: &Arc<Message>) {
        let at = self.messages.iter().position(|other| other == message).expect("a message under way");
        self.messages.remove(at);
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Produce(id) => write!(f, "the next record is sent to {id}"),
            Self::Deliver(message) => write!(f, "{message}"),
            Self::Lose(message) => write!(f, "lost: {message}"),
            Self::Learn(id, version) => write!(f, "{id} learns metadata {version}"),
            Self::Fence(id) => write!(f, "the controller fences {id}"),
            Self::Kill(id) => write!(f, "{id} is killed"),
            Self::LosePower(id, loss) => write!(f, "{id} loses power, and of what was not flushed: {loss:?}"),
            Self::Restart(id) => write!(f, "{id} starts again and registers"),
            Self::Unfence(id) => write!(f, "{id} is unfenced"),
            Self::LagTimePasses(id) => write!(f, "the lag time passes at {id}"),
            Self::Sync(id) => write!(f, "a sync ends at {id}"),
        }
    }
}
