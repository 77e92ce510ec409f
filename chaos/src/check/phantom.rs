//! **phantom**: a value read that no one sent, or whose write was reported as definitely not done.

use std::collections::BTreeSet;

use super::Finding;
use crate::history::{History, Outcome};

/// Looks at every read of every reader.
pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("phantom", "read, and never sent or reported as not written");
    let index = history.index();
    let mut reported = BTreeSet::new();
    for read in history.reads() {
        let sent = index.get(&read.value).map(|index| &history.sends[*index]);
        let why = match sent {
            None => "was never sent",
            Some(send) if send.slot != read.slot => "was sent to another partition",
            Some(send) if send.outcome == Outcome::Failed => "was reported as definitely not written",
            Some(_) => continue,
        };
        if reported.insert(read.value) {
            finding.add(|| format!("{} at {} offset {} {why}", read.value, history.name(read.slot), read.offset));
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::doctored::{at, clean, found};
    use super::*;
    use crate::history::Value;

    #[test]
    fn phantom_value_from_nowhere_is_found_once() {
        let mut history = clean();
        history.live[0].reads[at(5)].value = Value::new(77, 1);
        history.last.reads[at(5)].value = Value::new(77, 1);
        assert_eq!(check(&history).count, 1);
        assert!(found(&history).contains(&"phantom"));
    }

    #[test]
    fn phantom_refused_write_that_appears_is_found() {
        let mut history = clean();
        history.sends[at(5)].outcome = Outcome::Failed;
        assert_eq!(check(&history).count, 1);
        assert_eq!(found(&history), ["phantom"]);
    }

    #[test]
    fn phantom_unknown_write_may_appear() {
        let mut history = clean();
        history.sends[at(5)].outcome = Outcome::Unknown;
        assert_eq!(found(&history), Vec::<&str>::new());
    }
}
