//! Ports for the brokers, all chosen before the first broker starts.
//!
//! They must survive restarts, so none may come from the ephemeral range, where any outgoing connection could take it
//! while its broker is down.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use crate::error::ClusterError;
use crate::layout::BrokerPorts;
use crate::options::Ports;

const LOWEST: u16 = 10_000;
const EPHEMERAL_DEFAULT: u16 = 32_768;

/// Chooses the ports of `brokers` brokers: fixed ones are checked, the others searched for.
pub(crate) fn choose(host: IpAddr, brokers: usize, wanted: Ports) -> Result<Vec<BrokerPorts>, ClusterError> {
    let mut free = Search::new(host);
    let mut chosen = Vec::with_capacity(brokers);
    for broker in 1..=brokers as i32 {
        chosen.push(BrokerPorts {
            quic: port(wanted.quic, broker, host, "udp", &mut free, brokers)?,
            tcp: port(wanted.tcp, broker, host, "tcp", &mut free, brokers)?,
            control: port(wanted.control, broker, host, "tcp", &mut free, brokers)?,
        });
    }
    let mut tcp: Vec<u16> = chosen.iter().flat_map(|ports| [ports.tcp, ports.control]).collect();
    tcp.sort_unstable();
    if let Some(twice) = tcp.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ClusterError::Option(format!(
            "port {} would be used twice: --tcp-port and --control-port must lie further apart",
            twice[0]
        )));
    }
    Ok(chosen)
}

fn port(
    base: Option<u16>,
    broker: i32,
    host: IpAddr,
    transport: &'static str,
    free: &mut Search,
    brokers: usize,
) -> Result<u16, ClusterError> {
    let Some(base) = base else {
        return free.next().ok_or(ClusterError::NoPorts { wanted: brokers * 3 });
    };
    let port = u16::try_from(i32::from(base) + broker)
        .map_err(|_| ClusterError::Option(format!("port {base} + {broker} is beyond 65535")))?;
    let taken = if transport == "udp" { !udp_free(host, port) } else { !tcp_free(host, port) };
    if taken { Err(ClusterError::PortInUse { port, transport, broker }) } else { Ok(port) }
}

/// Walks through the ports below the ephemeral range from a random start, so that clusters started at the same
/// moment rarely meet; where they do, the broker reports it and the start is tried again.
struct Search {
    host: IpAddr,
    next: u16,
    left: u16,
    highest: u16,
}

impl Search {
    fn new(host: IpAddr) -> Self {
        let highest = ephemeral_start().max(LOWEST + 1_000);
        let span = highest - LOWEST;
        let next = LOWEST + (RandomState::new().build_hasher().finish() % u64::from(span)) as u16;
        Self { host, next, left: span, highest }
    }

    fn next(&mut self) -> Option<u16> {
        while self.left > 0 {
            let candidate = self.next;
            self.left -= 1;
            self.next = if candidate + 1 >= self.highest { LOWEST } else { candidate + 1 };
            // Both, so that one number is never half taken and logs stay readable.
            if tcp_free(self.host, candidate) && udp_free(self.host, candidate) {
                return Some(candidate);
            }
        }
        None
    }
}

fn ephemeral_start() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(EPHEMERAL_DEFAULT)
}

fn tcp_free(host: IpAddr, port: u16) -> bool {
    TcpListener::bind(SocketAddr::new(host, port)).is_ok()
}

fn udp_free(host: IpAddr, port: u16) -> bool {
    UdpSocket::bind(SocketAddr::new(host, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn ports_free_are_distinct_and_below_the_ephemeral_range() {
        let chosen = choose(HOST, 5, Ports::default()).unwrap();
        let mut all: Vec<u16> = chosen.iter().flat_map(|ports| [ports.quic, ports.tcp, ports.control]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 15);
        assert!(all.iter().all(|port| (LOWEST..ephemeral_start()).contains(port)));
    }

    #[test]
    fn ports_fixed_and_taken_name_the_port() {
        let taken = TcpListener::bind((HOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = choose(HOST, 2, Ports { tcp: Some(port - 1), ..Ports::default() }).unwrap_err();
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    }

    #[test]
    fn ports_fixed_too_close_are_refused() {
        let base = choose(HOST, 4, Ports::default()).unwrap()[0].quic;
        let ports = Ports { tcp: Some(base), control: Some(base + 1), quic: None };
        assert!(choose(HOST, 3, ports).unwrap_err().to_string().contains("twice"));
    }
}
