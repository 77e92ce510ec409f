//! Who was heard when: the active controller's sessions. Time comes in as an argument; what follows from it is
//! proposed as a command that names the broker epoch meant, so a session that ended too late harms nobody.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use minisr_logic::metadata::Image;
use minisr_logic::{BrokerEpoch, BrokerId};

/// The sessions of all brokers.
#[derive(Debug)]
pub struct Sessions {
    timeout: Duration,
    by_broker: BTreeMap<BrokerId, Session>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    epoch: BrokerEpoch,
    /// The newest heartbeat, or when the session was granted without one.
    heard: Instant,
    /// Whether there was a heartbeat at all.
    is_proven: bool,
}

impl Sessions {
    /// No sessions; each lasts `timeout` after a heartbeat.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, by_broker: BTreeMap::new() }
    }

    /// A newly active controller knows nobody's heartbeats, so everyone gets a fresh session at the first look.
    pub fn forget_all(&mut self) {
        self.by_broker.clear();
    }

    /// A heartbeat was accepted.
    pub fn heard(&mut self, broker: BrokerId, epoch: BrokerEpoch, now: Instant) {
        self.by_broker.insert(broker, Session { epoch, heard: now, is_proven: true });
    }

    /// Whether a heartbeat of this life was accepted after `since`.
    #[must_use]
    pub fn was_heard_after(&self, broker: BrokerId, epoch: BrokerEpoch, since: Instant) -> bool {
        self.by_broker.get(&broker).is_some_and(|it| it.epoch == epoch && it.is_proven && it.heard > since)
    }

    /// The unfenced brokers whose session has ended. Brokers seen for the first time, or in a new life, get a
    /// session.
    pub fn expired(&mut self, image: &Image, now: Instant) -> Vec<(BrokerId, BrokerEpoch)> {
        self.by_broker.retain(|broker, _| image.broker(*broker).is_some());
        let mut expired = Vec::new();
        for registration in image.brokers().filter(|registration| !registration.fenced) {
            let session = self.by_broker.entry(registration.id).or_insert(Session {
                epoch: registration.epoch,
                heard: now,
                is_proven: false,
            });
            if session.epoch < registration.epoch {
                *session = Session { epoch: registration.epoch, heard: now, is_proven: false };
            }
            if now.saturating_duration_since(session.heard) > self.timeout {
                expired.push((registration.id, registration.epoch));
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minisr_logic::metadata::{Command, apply};

    const TIMEOUT: Duration = Duration::from_secs(9);

    fn image_with_unfenced_broker() -> (Image, BrokerId, BrokerEpoch) {
        let id = BrokerId(1);
        let mut image = Image::new();
        let register = Command::RegisterBroker {
            id,
            incarnation: 1,
            listeners: Vec::new(),
            rack: None,
            clean_for_data: true,
            previous_broker_epoch: None,
        };
        apply(&mut image, 1, register).expect("registered");
        let epoch = BrokerEpoch(1);
        apply(&mut image, 2, Command::UnfenceBroker { id, epoch, applied_index: 1 }).expect("unfenced");
        (image, id, epoch)
    }

    #[test]
    fn sessions_silent_for_longer_than_the_timeout_expire() {
        let (image, id, epoch) = image_with_unfenced_broker();
        let start = Instant::now();
        let mut sessions = Sessions::new(TIMEOUT);
        sessions.heard(id, epoch, start);
        assert_eq!(sessions.expired(&image, start + TIMEOUT), []);
        assert_eq!(sessions.expired(&image, start + TIMEOUT * 2), [(id, epoch)]);
    }

    #[test]
    fn sessions_under_a_new_controller_start_afresh() {
        let (image, id, epoch) = image_with_unfenced_broker();
        let start = Instant::now();
        let mut sessions = Sessions::new(TIMEOUT);
        sessions.heard(id, epoch, start);
        sessions.forget_all();
        let later = start + TIMEOUT * 3;
        assert_eq!(sessions.expired(&image, later), []);
        assert!(!sessions.was_heard_after(id, epoch, start), "a granted session is no heartbeat");
        assert_eq!(sessions.expired(&image, later + TIMEOUT * 2), [(id, epoch)]);
    }

    #[test]
    fn hints_are_older_than_a_later_heartbeat() {
        let (_, id, epoch) = image_with_unfenced_broker();
        let start = Instant::now();
        let mut sessions = Sessions::new(TIMEOUT);
        sessions.heard(id, epoch, start + Duration::from_millis(5));
        assert!(sessions.was_heard_after(id, epoch, start));
        assert!(!sessions.was_heard_after(id, epoch, start + Duration::from_millis(5)));
        assert!(!sessions.was_heard_after(id, BrokerEpoch(9), start));
    }

    #[test]
    fn fenced_brokers_have_no_session_to_lose() {
        let (mut image, id, epoch) = image_with_unfenced_broker();
        apply(&mut image, 3, Command::FenceBroker { id, epoch }).expect("fenced");
        let mut sessions = Sessions::new(TIMEOUT);
        let now = Instant::now();
        assert_eq!(sessions.expired(&image, now), []);
        assert_eq!(sessions.expired(&image, now + TIMEOUT * 2), []);
    }
}
