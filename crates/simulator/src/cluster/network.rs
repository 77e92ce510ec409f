//! Links: how long a message takes, whether it arrives, and how often.

use std::collections::BTreeMap;

use super::message::Node;
use crate::dice::Dice;
use crate::plan::Plan;

/// The state of all links. Directed: a cut from A to B leaves B to A alone.
#[derive(Debug, Default)]
pub struct Network {
    cuts: BTreeMap<(Node, Node), u32>,
    /// When the last message of an ordered connection arrives.
    ordered: BTreeMap<(Node, Node, u32), u64>,
    quiet: bool,
}

/// The fate of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost,
    /// It arrives at this time.
    Arrives(u64),
    /// It arrives at both of these times.
    Twice(u64, u64),
}

impl Network {
    /// Cuts one direction of a link, once more.
    pub fn cut(&mut self, from: Node, to: Node) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    /// Undoes one cut.
    pub fn mend(&mut self, from: Node, to: Node) {
        if let Some(count) = self.cuts.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    /// Undoes every cut and ends all disturbance.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.quiet = true;
    }

    /// Whether a message gets through this way.
    #[must_use]
    pub fn is_cut(&self, from: Node, to: Node) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// Draws the fate of a message on its own: order is not kept.
    pub fn send(&self, plan: &Plan, dice: &mut Dice, now: u64, from: Node, to: Node, repeatable: bool) -> Fate {
        let disturbed = |permille: u64, dice: &mut Dice| !self.quiet && dice.chance(permille);
        if self.is_cut(from, to) || disturbed(plan.loss_permille, dice) {
            return Fate::Lost;
        }
        let delay = |dice: &mut Dice| {
            let usual = dice.between(1, plan.delay_max_ms);
            if !disturbed(plan.slow_permille, dice) {
                usual
            } else if dice.chance(200) {
                usual + dice.between(0, 3_000)
            } else {
                usual * dice.between(5, 40)
            }
        };
        let first = now + delay(dice);
        if repeatable && disturbed(plan.duplicate_permille, dice) {
            // The copy may come much later, when sender and receiver have other lives.
            let much_later = if dice.chance(300) { dice.between(0, 4_000) } else { 0 };
            let second = now + delay(dice) * 3 + much_later;
            return Fate::Twice(first, second);
        }
        Fate::Arrives(first)
    }

    /// Draws the fate of a message on an ordered connection: it arrives after everything sent before on it. What is
    /// lost on the way breaks the connection, which is the caller's business.
    pub fn send_ordered(
        &mut self,
        plan: &Plan,
        dice: &mut Dice,
        now: u64,
        (from, to, connection): (Node, Node, u32),
    ) -> Fate {
        match self.send(plan, dice, now, from, to, false) {
            Fate::Arrives(time) => {
                let last = self.ordered.entry((from, to, connection)).or_default();
                *last = time.max(*last);
                Fate::Arrives(*last)
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Node = Node::Client(1);
    const B: Node = Node::Client(2);

    #[test]
    fn cuts_are_directed_and_counted() {
        let mut network = Network::default();
        network.cut(A, B);
        network.cut(A, B);
        network.mend(A, B);
        assert!(network.is_cut(A, B));
        assert!(!network.is_cut(B, A));
        network.mend(A, B);
        assert!(!network.is_cut(A, B));
    }

    #[test]
    fn ordered_connection_keeps_order() {
        let (plan, mut dice) = (Plan { loss_permille: 0, ..Plan::draw(1) }, Dice::new(1));
        let mut network = Network::default();
        let mut last = 0;
        for now in 0..100 {
            let Fate::Arrives(time) = network.send_ordered(&plan, &mut dice, now, (A, B, 0)) else { panic!("lost") };
            assert!(time >= last);
            last = time;
        }
    }
}
