//! A story that independent faults would hardly ever tell: a follower is about to rejoin the ISR when its machine
//! loses power, and the proposal that speaks for the life before reaches the controller only when the next one is
//! registered (traps 9 to 11).

use minisr_logic::metadata::Command;

use super::kill::kill;
use super::{Cluster, Event, FaultType};
use crate::cluster::MessageKind;
use crate::schedule::{Node, Parameters};

/// Broker `broker` is fenced, so that it leaves the ISR of leader `leader` and comes back at once. The leader's ISR
/// proposals of the next `hold` ms take as long. After `after` ms the broker loses power (`salt`), and cannot reach
/// the leader for `apart` ms; it is back after `back` ms.
pub const STALE: FaultType = FaultType {
    name: "stale-rejoin",
    seeds_permille: 150,
    draw: |cluster, roll| {
        let mut pairs = Vec::new();
        for (_, partition) in cluster.controller.image.partitions() {
            let leader = partition.leader;
            pairs.extend(leader.into_iter().flat_map(|leader| {
                partition.replicas.iter().filter(move |id| **id != leader).map(move |id| (leader, *id))
            }));
        }
        if pairs.is_empty() {
            return None;
        }
        let (leader, follower) = *roll.pick(&pairs);
        let parameters = Parameters::default().with("leader", leader).with("broker", follower);
        let heartbeat = cluster.plan.heartbeat_interval_ms;
        let parameters =
            parameters.with("after", heartbeat + roll.between(20, 400)).with("back", roll.between(10, 100));
        let parameters = parameters.with("hold", 2 * heartbeat + roll.between(300, 1_500)).with("noticed", 1);
        Some(parameters.with("apart", roll.between(500, 2_000)).with("salt", roll.between(1, 1 << 32)))
    },
    strike: |cluster, parameters| {
        let id = parameters.broker();
        let (link, hold) = ((parameters.node("leader"), Node::Controller), parameters.number("hold"));
        if let Some(epoch) = cluster.controller.image.broker(id).map(|it| it.epoch) {
            cluster.propose(Command::FenceBroker { id, epoch }, None);
        }
        cluster.network.slow_down(MessageKind::AlterPartition, link, hold, cluster.now + hold);
        let parameters = parameters.clone();
        cluster.schedule(parameters.number("after"), Event::Continue { part: blackout, parameters });
    },
};

/// The second half of the story.
fn blackout(cluster: &mut Cluster, parameters: &Parameters) {
    let (id, leader) = (parameters.broker(), parameters.node("leader"));
    let me = Node::Broker(id);
    for (from, to) in [(me, leader), (leader, me)] {
        cluster.network.cut(from, to);
        cluster.schedule(parameters.number("apart"), Event::Mend { from, to });
    }
    kill(cluster, id, parameters, Some(parameters.number("salt")));
}
