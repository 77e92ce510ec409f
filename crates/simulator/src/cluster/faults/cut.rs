//! Links that carry nothing for a while, one direction or both.

use super::{Cluster, Event, FaultType, victim};
use crate::dice::Roll;
use crate::schedule::{Node, Parameters};

/// One direction of one link is cut for `for` ms.
pub const ONE_WAY: FaultType = FaultType {
    name: "cut-one-way",
    seeds_permille: 550,
    draw: |cluster, roll| {
        let me = victim(cluster, roll);
        let brokers = cluster.brokers.keys().filter(|id| **id != me).map(|id| Node::Broker(*id));
        let clients = (0..cluster.producers.len() as u32).map(Node::Client);
        let others: Vec<Node> = brokers.chain([Node::Controller]).chain(clients).collect();
        let (me, other) = (Node::Broker(me), *roll.pick(&others));
        let (from, to) = if roll.chance(500) { (me, other) } else { (other, me) };
        Some(lasting(cluster, roll).with("from", from).with("to", to))
    },
    strike: |cluster, parameters| {
        cut(cluster, parameters, &[(parameters.node("from"), parameters.node("to"))]);
    },
};

/// A broker is cut off from all brokers and the controller for `for` ms.
pub const ISOLATE: FaultType = FaultType {
    name: "isolate",
    seeds_permille: 550,
    draw: |cluster, roll| Some(lasting(cluster, roll).with("broker", victim(cluster, roll))),
    strike: |cluster, parameters| {
        let id = parameters.broker();
        let me = Node::Broker(id);
        let others = cluster.broker_ids().into_iter().filter(|it| *it != id).map(Node::Broker);
        let links: Vec<_> = others.chain([Node::Controller]).flat_map(|other| [(me, other), (other, me)]).collect();
        cut(cluster, parameters, &links);
    },
};

/// A broker is cut off from the controller only, for `for` ms.
pub const CONTROLLER: FaultType = FaultType {
    name: "cut-controller",
    seeds_permille: 550,
    draw: |cluster, roll| Some(lasting(cluster, roll).with("broker", victim(cluster, roll))),
    strike: |cluster, parameters| {
        let me = Node::Broker(parameters.broker());
        cut(cluster, parameters, &[(me, Node::Controller), (Node::Controller, me)]);
    },
};

fn lasting(cluster: &Cluster, roll: &mut Roll) -> Parameters {
    Parameters::default().with("for", roll.between(50, 3 * cluster.plan.session_timeout_ms))
}

fn cut(cluster: &mut Cluster, parameters: &Parameters, links: &[(Node, Node)]) {
    for (from, to) in links {
        cluster.network.cut(*from, *to);
        cluster.schedule(parameters.number("for"), Event::Mend { from: *from, to: *to });
    }
}
