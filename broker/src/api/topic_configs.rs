//! Which settings a topic may have, and with which values.
//!
//! Checked before a command is proposed, in the broker that was asked: a setting that nothing obeys must not look as
//! though it were in force (`cleanup.policy=compact`), and a value that cannot be read must not be read as the default.
//! The metadata machine has checks of its own for the settings that its decisions depend on; those hold for commands
//! that are in the log already, these need not.

use minisr_logic::metadata::{FOLLOWER_THROTTLED_REPLICAS, LEADER_THROTTLED_REPLICAS};
use minisr_wire::ErrorCode;

use super::admin::Refusal;

enum Allowed {
    /// A whole number from here to there.
    Whole(i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Checked by the metadata machine.
    Elsewhere,
}

const FROM_ZERO: Allowed = Allowed::Whole(0, i64::MAX);
const FROM_ONE: Allowed = Allowed::Whole(1, i64::MAX);
/// −1 is for ever.
const LIMIT: Allowed = Allowed::Whole(-1, i64::MAX);

/// Every setting, in order. Of those with one word each, that word is what minisr does.
const TOPIC_CONFIGS: &[(&str, Allowed)] = &[
    ("cleanup.policy", Allowed::OneOf(&["delete"])),
    ("compression.type", Allowed::OneOf(&["producer"])),
    (FOLLOWER_THROTTLED_REPLICAS, Allowed::Elsewhere),
    ("index.interval.bytes", Allowed::Whole(0, i32::MAX as i64)),
    (LEADER_THROTTLED_REPLICAS, Allowed::Elsewhere),
    ("max.message.bytes", Allowed::Whole(0, i32::MAX as i64)),
    ("message.timestamp.after.max.ms", FROM_ZERO),
    ("message.timestamp.before.max.ms", FROM_ZERO),
    ("message.timestamp.type", Allowed::OneOf(&["CreateTime"])),
    ("min.insync.replicas", Allowed::Elsewhere),
    ("preallocate", Allowed::OneOf(&["false", "true"])),
    ("retention.bytes", LIMIT),
    ("retention.ms", LIMIT),
    ("segment.bytes", Allowed::Whole(14, i32::MAX as i64)),
    ("segment.ms", FROM_ONE),
    ("unclean.leader.election.enable", Allowed::Elsewhere),
];

/// Refuses a setting that no topic has, or a value that it cannot take.
pub(super) fn check(name: &str, value: &str) -> Result<(), Refusal> {
    let Some((_, allowed)) = TOPIC_CONFIGS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = TOPIC_CONFIGS.iter().map(|(known, _)| *known).collect();
        let reason = format!("'{name}' is not a setting of a topic here; these are: {}", known.join(", "));
        return Err((ErrorCode::INVALID_CONFIG, reason));
    };
    let (is_allowed, wanted) = match allowed {
        Allowed::Whole(from, to) => {
            let is_inside = value.parse::<i64>().is_ok_and(|value| (from..=to).contains(&&value));
            (is_inside, format!("a whole number from {from} to {to}"))
        }
        Allowed::OneOf(words) => (words.contains(&value), words.join(" or ")),
        Allowed::Elsewhere => (true, String::new()),
    };
    if is_allowed {
        return Ok(());
    }
    Err((ErrorCode::INVALID_CONFIG, format!("'{value}' is not a value of {name}; allowed is {wanted}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_settings_that_nothing_obeys_are_refused_with_what_is_allowed() {
        for (name, value, word) in [
            ("cleanup.policy", "compact", "delete"),
            ("cleanup.policy", "compact,delete", "delete"),
            ("segment.bytes", "1", "14"),
            ("segment.ms", "0", "from 1"),
            ("segment.ms", "99999999999999999999", "whole number"),
            ("retention.ms", "soon", "from -1"),
            ("max.message.bytes", "-1", "from 0"),
            ("message.timestamp.type", "LogAppendTime", "CreateTime"),
            ("preallocate", "yes", "false or true"),
            ("nonsense", "1", "these are: cleanup.policy"),
            ("", "", "is not a setting"),
        ] {
            let (code, reason) = check(name, value).expect_err(name);
            assert_eq!(code, ErrorCode::INVALID_CONFIG, "{name}={value}");
            assert!(reason.contains(word), "{name}={value}: {reason}");
        }
    }

    #[test]
    fn topic_settings_within_their_range_are_taken() {
        for (name, value) in [
            ("cleanup.policy", "delete"),
            ("compression.type", "producer"),
            ("retention.ms", "-1"),
            ("segment.bytes", "1048576"),
            ("min.insync.replicas", "2"),
        ] {
            assert_eq!(check(name, value), Ok(()), "{name}={value}");
        }
        assert!(TOPIC_CONFIGS.is_sorted_by_key(|(name, _)| *name));
    }
}
