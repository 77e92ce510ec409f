//! Links: which are cut, and what is on the way on ordered connections.

use std::collections::BTreeMap;

use super::MessageKind;
use crate::schedule::Node;

/// The state of all links. Directed: a cut from A to B leaves B to A alone.
#[derive(Debug, Default)]
pub struct Network {
    cuts: BTreeMap<(Node, Node), u32>,
    /// When the last message of an ordered connection arrives.
    ordered: BTreeMap<(Node, Node, u32), u64>,
    /// By how much messages of a kind are late, and until when.
    slow: BTreeMap<(MessageKind, Node, Node), (u64, u64)>,
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

    /// Messages of a kind are late on a link until some time.
    pub fn slow_down(&mut self, kind: MessageKind, (from, to): (Node, Node), by_ms: u64, until_ms: u64) {
        self.slow.insert((kind, from, to), (by_ms, until_ms));
    }

    /// By how much a message that is sent now is late.
    #[must_use]
    pub fn late_ms(&self, kind: MessageKind, from: Node, to: Node, now_ms: u64) -> u64 {
        self.slow.get(&(kind, from, to)).filter(|(_, until)| now_ms < *until).map_or(0, |(by, _)| *by)
    }

    /// Undoes every cut and slowness.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.slow.clear();
    }

    /// Whether a message gets lost this way.
    #[must_use]
    pub fn is_cut(&self, from: Node, to: Node) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// When a message that would arrive at `time_ms` arrives on an ordered connection: not before what was sent before
    /// it. What is lost on the way breaks the connection, which is the caller's business.
    pub fn in_order(&mut self, connection: (Node, Node, u32), time_ms: u64) -> u64 {
        let last = self.ordered.entry(connection).or_default();
        *last = time_ms.max(*last);
        *last
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
    fn slow_link_is_slow_for_its_kind_and_time() {
        let mut network = Network::default();
        network.slow_down(MessageKind::Fetch, (A, B), 70, 100);
        assert_eq!(network.late_ms(MessageKind::Fetch, A, B, 99), 70);
        assert_eq!(network.late_ms(MessageKind::Fetch, A, B, 100), 0);
        assert_eq!(network.late_ms(MessageKind::FetchReply, A, B, 99), 0);
    }

    #[test]
    fn ordered_connection_keeps_order() {
        let mut network = Network::default();
        assert_eq!(network.in_order((A, B, 0), 30), 30);
        assert_eq!(network.in_order((A, B, 0), 20), 30);
        assert_eq!(network.in_order((A, B, 1), 20), 20, "another connection");
    }
}
