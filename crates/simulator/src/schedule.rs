//! A run as a list of events: what befalls the cluster, which messages are lost, late or repeated, and what the
//! clients write. A seed draws such a list while it runs; a list can be run again, whole or with parts taken out.
//!
//! What is not in the list is the ordinary course of things: every message arrives, within the plan's usual delay.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use minisr_logic::BrokerId;

use crate::cluster::MessageKind;
use crate::plan::Plan;

/// A plan and the events to run it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The cluster, its settings, and the seed of the ordinary delays.
    pub plan: Plan,
    /// What happens, in order of time.
    pub events: Vec<Event>,
}

impl Schedule {
    /// How many events there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing happens.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in virtual milliseconds.
    pub at_ms: u64,
    /// What.
    pub action: Action,
}

/// What an event does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A fault strikes, or an operator does something. See [`crate::cluster::faults`].
    Fault {
        /// Its name.
        name: &'static str,
        /// Its details.
        parameters: Parameters,
    },
    /// Something happens to the next message of a kind that is sent from one node to another.
    Message {
        /// What kind.
        kind: MessageKind,
        /// From where.
        from: Node,
        /// To where.
        to: Node,
        /// How many such messages of the same millisecond are spared first.
        nth: u32,
        /// What happens to it.
        effect: Effect,
    },
    /// A producer gets something to send.
    Produce {
        /// Which producer.
        producer: u32,
        /// For which partition.
        partition: i32,
        /// How many records in the batch.
        records: i32,
    },
}

/// The class of an event, in the order in which a failure is shrunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Faults.
    Fault,
    /// Messages.
    Message,
    /// What clients do.
    Client,
}

impl Event {
    /// Its class.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self.action {
            Action::Fault { .. } => Class::Fault,
            Action::Message { .. } => Class::Message,
            Action::Produce { .. } => Class::Client,
        }
    }
}

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It never arrives.
    Lost,
    /// It arrives so much later than usual.
    Slow {
        /// Milliseconds.
        by_ms: u64,
    },
    /// It arrives, and once more so much later.
    Twice {
        /// Milliseconds.
        by_ms: u64,
    },
}

/// The details of a fault, by name: numbers, or names of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// With one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }

    /// A number; 0 if it is not given.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.0.get(name).and_then(|it| it.parse().ok()).unwrap_or(0)
    }

    /// A number that may be missing.
    #[must_use]
    pub fn maybe(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.parse().ok()
    }

    /// A word.
    #[must_use]
    pub fn word(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The broker that it befalls.
    #[must_use]
    pub fn broker(&self) -> BrokerId {
        BrokerId(i32::try_from(self.number("broker")).unwrap_or(0))
    }

    /// A node; the controller if it is not given.
    #[must_use]
    pub fn node(&self, name: &str) -> Node {
        self.0.get(name).and_then(|it| it.parse().ok()).unwrap_or(Node::Controller)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Without one.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }
}

/// A place that sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A broker.
    Broker(BrokerId),
    /// The active controller, wherever it is.
    Controller,
    /// A producer or consumer.
    Client(u32),
}

impl Node {
    /// A number of its own.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Controller => 0,
            Self::Broker(id) => id.0 as u64,
            Self::Client(index) => 1_000 + index as u64,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(id) => write!(f, "{}", id.0),
            Self::Controller => f.write_str("controller"),
            Self::Client(index) => write!(f, "client-{index}"),
        }
    }
}

impl FromStr for Node {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let client = text.strip_prefix("client-").and_then(|it| it.parse().ok()).map(Self::Client);
        let broker = || text.parse().ok().map(|id| Self::Broker(BrokerId(id)));
        match text {
            "controller" => Ok(Self::Controller),
            _ => client.or_else(broker).ok_or_else(|| format!("\"{text}\" is no node: 1, controller, client-0")),
        }
    }
}
