//! Checks between settings: each value is allowed alone, the combination is not.

use super::{ConfigError, InterBrokerTransport, Protocol, Settings};

impl Settings {
    /// Refuses combinations that cannot work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_times()?;
        self.check_sizes()?;
        self.check_replication()?;
        self.check_listeners()
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        // Equal is refused too: a follower that only waits would then look like one that is stuck.
        below(
            ("replica.fetch.wait.max.ms", self.replica_fetch_wait_max_ms),
            ("replica.lag.time.max.ms", self.replica_lag_time_max_ms),
        )?;
        below(
            ("replica.fetch.wait.max.ms", self.replica_fetch_wait_max_ms),
            ("replica.socket.timeout.ms", self.replica_socket_timeout_ms),
        )?;
        if self.broker_session_timeout_ms <= 2 * self.broker_heartbeat_interval_ms {
            return Err(ConfigError::Invalid {
                name: "broker.session.timeout.ms".to_owned(),
                value: self.broker_session_timeout_ms.to_string(),
                allowed: format!(
                    "more than twice broker.heartbeat.interval.ms={}, so that one lost heartbeat fences nobody",
                    self.broker_heartbeat_interval_ms
                ),
            });
        }
        if self.controller_quorum_election_timeout_ms < 3 * self.controller_quorum_heartbeat_interval_ms {
            return Err(ConfigError::Invalid {
                name: "controller.quorum.election.timeout.ms".to_owned(),
                value: self.controller_quorum_election_timeout_ms.to_string(),
                allowed: format!(
                    "at least three times controller.quorum.heartbeat.interval.ms={}",
                    self.controller_quorum_heartbeat_interval_ms
                ),
            });
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        let batch_bytes_max = self.message_max_bytes as u64;
        // A batch must fit into a request with room for the request's own fields, and into one segment.
        below(
            ("message.max.bytes", batch_bytes_max),
            ("socket.request.max.bytes", self.socket_request_max_bytes as u64),
        )?;
        if batch_bytes_max > self.log_segment_bytes {
            return Err(ConfigError::Invalid {
                name: "message.max.bytes".to_owned(),
                value: batch_bytes_max.to_string(),
                allowed: format!("at most log.segment.bytes={}", self.log_segment_bytes),
            });
        }
        Ok(())
    }

    fn check_replication(&self) -> Result<(), ConfigError> {
        // A larger value than the factor is legal for topics (it is capped), but as a pair of defaults it is a slip.
        if self.min_insync_replicas > i32::from(self.default_replication_factor).max(3) {
            return Err(ConfigError::Invalid {
                name: "min.insync.replicas".to_owned(),
                value: self.min_insync_replicas.to_string(),
                allowed: format!(
                    "at most the replication factor (default.replication.factor={}, or 3 for topics that name one)",
                    self.default_replication_factor
                ),
            });
        }
        Ok(())
    }

    fn check_listeners(&self) -> Result<(), ConfigError> {
        let invalid = |value: String, allowed: &str| {
            Err(ConfigError::Invalid { name: "listeners".to_owned(), value, allowed: allowed.to_owned() })
        };
        let written = || {
            let parts: Vec<String> =
                self.listeners.iter().map(|l| format!("{}://{}", l.protocol.name(), l.address)).collect();
            parts.join(",")
        };
        if self.listener(Protocol::Quic).is_none() && self.listener(Protocol::Plaintext).is_none() {
            return invalid(written(), "a list with a QUIC or a PLAINTEXT listener for clients");
        }
        match self.listener(Protocol::Controller) {
            None => return invalid(written(), "a list with a CONTROLLER listener"),
            Some(address) if address.port == 0 => {
                return invalid(written(), "a list whose CONTROLLER listener has a fixed port");
            }
            Some(_) => {}
        }
        if self.insecure_peers && self.inter_broker_transport != InterBrokerTransport::Tcp {
            return Err(ConfigError::InsecurePeers { needs: "inter.broker.transport=tcp" });
        }
        if self.listener(self.inter_broker_listener()).is_some() {
            return self.check_advertised();
        }
        match (self.inter_broker_transport, self.insecure_peers) {
            (InterBrokerTransport::Quic, _) => {
                invalid(written(), "a list with a QUIC listener, since inter.broker.transport=quic")
            }
            (InterBrokerTransport::Tcp, false) => {
                invalid(written(), "a list with an SSL listener, since inter.broker.transport=tcp")
            }
            (InterBrokerTransport::Tcp, true) => {
                Err(ConfigError::InsecurePeers { needs: "a PLAINTEXT listener in listeners" })
            }
        }
    }

    fn check_advertised(&self) -> Result<(), ConfigError> {
        for advertised in self.advertised_listeners.iter().flatten() {
            if self.listener(advertised.protocol).is_none() {
                return Err(ConfigError::Invalid {
                    name: "advertised.listeners".to_owned(),
                    value: format!("{}://{}", advertised.protocol.name(), advertised.address),
                    allowed: "a list whose protocols all appear in listeners".to_owned(),
                });
            }
        }
        for listener in &self.listeners {
            let advertised = self.advertised(listener.protocol, 1).map(|address| address.host);
            if matches!(advertised.as_deref(), Some("0.0.0.0" | "::")) {
                return Err(ConfigError::Invalid {
                    name: "advertised.listeners".to_owned(),
                    value: format!("{}://{}", listener.protocol.name(), listener.address),
                    allowed: "an address that others can dial, since a listener on all addresses names none".to_owned(),
                });
            }
        }
        Ok(())
    }
}

fn below((name, value): (&str, u64), (limit_name, limit): (&str, u64)) -> Result<(), ConfigError> {
    if value < limit {
        return Ok(());
    }
    Err(ConfigError::Invalid {
        name: name.to_owned(),
        value: value.to_string(),
        allowed: format!("less than {limit_name}={limit}"),
    })
}
