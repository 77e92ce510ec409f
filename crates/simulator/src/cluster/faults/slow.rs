//! A link on which one kind of message is late for a while: answers that come when the epoch is over, proposals about
//! brokers that have another life by then.

use super::{FaultType, victim};
use crate::cluster::MessageKind;
use crate::schedule::{Node, Parameters};

/// Every message of a `kind` from `from` to `to` takes `by` ms longer, for `for` ms.
pub const SLOW_LINK: FaultType = FaultType {
    name: "slow-link",
    seeds_permille: 550,
    draw: |cluster, roll| {
        let me = victim(cluster, roll);
        let others: Vec<Node> = cluster.brokers.keys().filter(|id| **id != me).map(|id| Node::Broker(*id)).collect();
        let (me, other) = (Node::Broker(me), *roll.pick(&others));
        let (kind, from, to) = *roll.pick(&[
            (MessageKind::AlterPartition, me, Node::Controller),
            (MessageKind::AlterPartition, me, Node::Controller),
            (MessageKind::ProposeReply, Node::Controller, me),
            (MessageKind::Metadata, Node::Controller, me),
            (MessageKind::HeartbeatReply, Node::Controller, me),
            (MessageKind::Fetch, other, me),
            (MessageKind::FetchReply, me, other),
            (MessageKind::FetchReply, me, other),
        ]);
        let timeout = cluster.plan.session_timeout_ms;
        let parameters = Parameters::default().with("kind", kind.name()).with("from", from).with("to", to);
        Some(parameters.with("by", roll.between(20, 2 * timeout)).with("for", roll.between(50, 2 * timeout)))
    },
    strike: |cluster, parameters| {
        let link = (parameters.node("from"), parameters.node("to"));
        let until_ms = cluster.now + parameters.number("for");
        if let Some(kind) = parameters.word("kind").and_then(MessageKind::named) {
            cluster.network.slow_down(kind, link, parameters.number("by"), until_ms);
        }
    },
};
