//! A story that independent faults would hardly ever tell: leadership goes away from a broker and comes back before it
//! hears of either, and meanwhile a follower has cut off what this leader had counted (trap 22).

use minisr_logic::metadata::{Command, Election};
use minisr_logic::{BrokerId, TopicPartition};

use super::kill::kill;
use super::{Cluster, Event, FaultType};
use crate::cluster::MessageKind;
use crate::schedule::{Node, Parameters};

/// What leader `leader` answers to fetches of broker `broker`, the preferred leader, takes `late` ms for so long, so
/// that others are ahead of it. The leader hears nothing from the controller for `deaf` ms. After `after` ms leadership
/// is given back to the preferred replicas; `reign` ms later the broker is killed. Its death is noticed after `noticed`
/// ms, so that the next in line leads again; it is back after `back` ms.
pub const HANDBACK: FaultType = FaultType {
    name: "unheard-handback",
    seeds_permille: 150,
    draw: |cluster, roll| {
        let pairs: Vec<(BrokerId, BrokerId)> =
            cluster.controller.image.imbalanced().filter_map(|key| pair(cluster, key)).collect();
        if pairs.is_empty() {
            return None;
        }
        let (leader, preferred) = *roll.pick(&pairs);
        let (after, reign) = (roll.between(40, 300), roll.between(30, 400));
        let parameters = Parameters::default().with("leader", leader).with("broker", preferred);
        let parameters = parameters.with("after", after).with("late", after + roll.between(20, 200));
        let parameters = parameters.with("reign", reign).with("deaf", after + reign + roll.between(50, 400));
        Some(parameters.with("noticed", roll.between(1, 60)).with("back", roll.between(200, 2_000)))
    },
    strike: |cluster, parameters| {
        let (leader, preferred) = (parameters.node("leader"), Node::Broker(parameters.broker()));
        let late = parameters.number("late");
        cluster.network.slow_down(MessageKind::FetchReply, (leader, preferred), late, cluster.now + late);
        cluster.network.cut(Node::Controller, leader);
        cluster.schedule(parameters.number("deaf"), Event::Mend { from: Node::Controller, to: leader });
        let parameters = parameters.clone();
        cluster.schedule(parameters.number("after"), Event::Continue { part: give_back, parameters });
    },
};

/// Leader and preferred leader of a partition, if a third replica is in sync with both.
fn pair(cluster: &Cluster, key: TopicPartition) -> Option<(BrokerId, BrokerId)> {
    let partition = cluster.controller.image.partition(key).filter(|it| it.isr.len() > 2)?;
    let preferred = *partition.replicas.first()?;
    partition.leader.filter(|_| partition.isr.contains(&preferred)).map(|leader| (leader, preferred))
}

fn give_back(cluster: &mut Cluster, parameters: &Parameters) {
    let keys: Vec<TopicPartition> = cluster.controller.image.imbalanced().collect();
    for key in keys {
        cluster.propose(Command::ElectLeader { key, election: Election::Preferred }, None);
    }
    let parameters = parameters.clone();
    cluster.schedule(parameters.number("reign"), Event::Continue { part: end_reign, parameters });
}

fn end_reign(cluster: &mut Cluster, parameters: &Parameters) {
    kill(cluster, parameters.broker(), parameters, None);
}
