//! Listeners, voters and the other settings that name addresses.

use minisr_logic::BrokerId;
use std::collections::BTreeMap;
use std::fmt;

/// What is spoken on a listener. The name in front of `://` in `listeners`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Kafka's protocol over QUIC streams, for clients and for peers.
    Quic,
    /// Kafka's protocol over plain TCP, for clients.
    Plaintext,
    /// Kafka's protocol over TLS on TCP; peers use it when `inter.broker.transport=tcp`.
    Ssl,
    /// Control RPC between brokers: TCP with mutual TLS. Raft, registrations, heartbeats, probes and liveness.
    Controller,
}

impl Protocol {
    /// The name in `listeners` and in Kafka's metadata.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quic => "QUIC",
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::Controller => "CONTROLLER",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Quic, Self::Plaintext, Self::Ssl, Self::Controller]
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }
}

/// A host and a port, not resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// A name or an address; an IPv6 address stands without its brackets.
    pub host: String,
    /// The port; 0 asks the system for a free one.
    pub port: u16,
}

impl HostPort {
    /// Parses `host:port` or `[v6]:port`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        (!host.is_empty() && host.chars().all(plain)).then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One entry of `listeners` or `advertised.listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where.
    pub address: HostPort,
}

/// Parses `QUIC://host:port,PLAINTEXT://host:port`; no protocol twice.
pub fn listeners(value: &str) -> Option<Vec<Listener>> {
    let mut parsed: Vec<Listener> = Vec::new();
    for part in value.split(',').map(str::trim) {
        let (name, address) = part.split_once("://")?;
        let protocol = Protocol::from_name(name)?;
        if parsed.iter().any(|listener| listener.protocol == protocol) {
            return None;
        }
        parsed.push(Listener { protocol, address: HostPort::parse(address)? });
    }
    Some(parsed)
}

/// Like [`listeners`], and empty means "the same as `listeners`".
pub fn optional_listeners(value: &str) -> Option<Option<Vec<Listener>>> {
    if value.is_empty() { Some(None) } else { listeners(value).map(Some) }
}

/// Parses `1@host:port,2@host:port`; no id twice, no port 0.
pub fn voters(value: &str) -> Option<BTreeMap<BrokerId, HostPort>> {
    let mut parsed = BTreeMap::new();
    for part in value.split(',').map(str::trim) {
        let (id, address) = part.split_once('@')?;
        let address = HostPort::parse(address)?;
        if address.port == 0 || parsed.insert(broker_id(id)?, address).is_some() {
            return None;
        }
    }
    Some(parsed)
}

/// Parses one `ID=host:port` of `--peer-address`.
#[must_use]
pub fn peer_address(value: &str) -> Option<(BrokerId, HostPort)> {
    let (id, address) = value.split_once('=')?;
    Some((broker_id(id)?, HostPort::parse(address).filter(|address| address.port != 0)?))
}

fn broker_id(text: &str) -> Option<BrokerId> {
    text.trim().parse().ok().filter(|id| *id >= 0).map(BrokerId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_with_names_ports_and_ipv6_are_read() {
        let read = listeners("QUIC://127.0.0.1:0, controller://[::1]:9300").expect("valid");
        assert_eq!(read[0].protocol, Protocol::Quic);
        assert_eq!(read[1].address.to_string(), "[::1]:9300");
    }

    #[test]
    fn listeners_repeated_unknown_or_without_port_are_refused() {
        for bad in
            ["QUIC://a:1,QUIC://b:2", "HTTP://a:1", "QUIC://a", "QUIC://:1", "QUIC://a:70000", "", "QUIC://a b:1"]
        {
            assert_eq!(listeners(bad), None, "{bad}");
        }
    }

    #[test]
    fn voters_need_distinct_ids_and_real_ports() {
        assert_eq!(voters("1@a:1,2@b:2").expect("valid").len(), 2);
        for bad in ["1@a:1,1@b:2", "1@a:0", "a:1", "-1@a:1", ""] {
            assert_eq!(voters(bad), None, "{bad}");
        }
    }
}
