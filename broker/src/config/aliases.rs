//! Names of ZooKeeper's days that still mean something: accepted, with a sentence for the log that says what they map
//! to and why. Every other obsolete name is refused with its successor.

use std::collections::BTreeMap;

use super::ConfigError;
use super::kinds::{Kind, whole};

const SESSION_TIMEOUT: &str = "broker.session.timeout.ms";
const ZOOKEEPER_SESSION_TIMEOUT: &str = "zookeeper.session.timeout.ms";
const ZOOKEEPER_SYNC_TIME: &str = "zookeeper.sync.time.ms";

/// An obsolete name that is accepted.
pub(super) struct Alias {
    /// The name.
    pub(super) name: &'static str,
    /// What Kafka took when it was absent.
    pub(super) default_was: &'static str,
    /// What it means here.
    pub(super) meaning: &'static str,
}

/// All of them.
pub(super) const ALIASES: [Alias; 2] = [
    Alias {
        name: ZOOKEEPER_SESSION_TIMEOUT,
        default_was: "6000",
        meaning: "obsolete: taken for broker.session.timeout.ms unless that is given too; a registration here is what \
                  the broker's ephemeral node was there",
    },
    Alias {
        name: ZOOKEEPER_SYNC_TIME,
        default_was: "2000",
        meaning: "obsolete: taken for nothing; it said how far ZooKeeper's own followers may lag behind ZooKeeper's \
                  leader, and never concerned the in-sync set",
    },
];

/// Replaces obsolete names by what they stand for. Returns the sentences for the log.
pub(super) fn resolve(values: &mut BTreeMap<String, String>) -> Result<Vec<String>, ConfigError> {
    let mut notes = Vec::new();
    if let Some(value) = take_milliseconds(values, ZOOKEEPER_SESSION_TIMEOUT)? {
        notes.push(match values.get(SESSION_TIMEOUT) {
            Some(given) => format!(
                "{ZOOKEEPER_SESSION_TIMEOUT}={value} is ignored: it is an obsolete name of {SESSION_TIMEOUT}, and \
                 {SESSION_TIMEOUT}={given} is given too, which wins"
            ),
            None => {
                values.insert(SESSION_TIMEOUT.to_owned(), value.clone());
                format!(
                    "{ZOOKEEPER_SESSION_TIMEOUT}={value} is taken for {SESSION_TIMEOUT}={value}: there is no ZooKeeper, \
                     and what its session was for (a silent broker loses its registration) is now the controller's \
                     session"
                )
            }
        });
    }
    if let Some(value) = take_milliseconds(values, ZOOKEEPER_SYNC_TIME)? {
        notes.push(format!(
            "{ZOOKEEPER_SYNC_TIME}={value} is taken for nothing: it said how far ZooKeeper's own followers may lag \
             behind ZooKeeper's leader. The nearest idea here is the lag of a broker's metadata, which needs no \
             setting: brokers take the metadata as one ordered stream, and a silent one is fenced after \
             {SESSION_TIMEOUT}. How far a replica may lag is replica.lag.time.max.ms"
        ));
    }
    Ok(notes)
}

fn take_milliseconds(values: &mut BTreeMap<String, String>, name: &'static str) -> Result<Option<String>, ConfigError> {
    let Some(value) = values.remove(name) else { return Ok(None) };
    let kind = whole(1_u64, 86_400_000);
    match kind.parse(value.trim()) {
        Some(milliseconds) => Ok(Some(milliseconds.to_string())),
        None => Err(ConfigError::Invalid { name: name.to_owned(), value, allowed: kind.allowed() }),
    }
}
