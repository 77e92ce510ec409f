//! What the controller does or suffers: another one takes over, a live broker is fenced, leadership is given back.

use minisr_logic::TopicPartition;
use minisr_logic::metadata::{Command, Election};

use super::{FaultType, victim};
use crate::schedule::Parameters;

/// There is no controller for `for` ms. Of what it had not finished, `kept` of 1,000 are committed, without answers.
pub const CHANGE: FaultType = FaultType {
    name: "controller-change",
    seeds_permille: 550,
    draw: |_, roll| Some(Parameters::default().with("for", roll.between(20, 800)).with("kept", roll.between(0, 1_000))),
    strike: |cluster, parameters| cluster.controller_falls(parameters.number("for"), parameters.number("kept")),
};

/// The controller fences a live broker.
pub const FALSE_FENCE: FaultType = FaultType {
    name: "false-fence",
    seeds_permille: 550,
    draw: |cluster, roll| Some(Parameters::default().with("broker", victim(cluster, roll))),
    strike: |cluster, parameters| {
        let id = parameters.broker();
        if let Some(epoch) = cluster.controller.image.broker(id).map(|it| it.epoch) {
            cluster.propose(Command::FenceBroker { id, epoch }, None);
        }
    },
};

/// Leadership is given back to the preferred replicas.
pub const PREFERRED: FaultType = FaultType {
    name: "preferred-election",
    seeds_permille: 550,
    draw: |_, _| Some(Parameters::default()),
    strike: |cluster, _| {
        let keys: Vec<TopicPartition> = cluster.controller.image.imbalanced().collect();
        for key in keys {
            cluster.propose(Command::ElectLeader { key, election: Election::Preferred }, None);
        }
    },
};

/// Every partition that nobody can lead cleanly gets a leader: by no seed, only if asked for (`--unclean`), since what
/// the others held may be lost.
pub const UNCLEAN: FaultType = FaultType {
    name: "unclean-election",
    seeds_permille: 0,
    draw: |_, _| Some(Parameters::default()),
    strike: |cluster, _| {
        let keys: Vec<TopicPartition> = cluster.controller.image.awaiting_unclean_election(true).collect();
        for key in keys {
            cluster.propose(Command::ElectLeader { key, election: Election::Unclean }, None);
        }
    },
};
