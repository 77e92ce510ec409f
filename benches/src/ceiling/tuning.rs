//! Every transport setting of the ceiling, in one place.
//!
//! They are those of `minisr_client::transport::tuning`, written out until that module can be used here.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, CubicConfig, NewRenoConfig};
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use super::options::Congestion;

/// Upper bound of path MTU discovery. 64 KiB then go out as ten datagrams in one GSO send.
const MTU_MAX: u16 = 6_500;
/// Bytes a peer may have on its way on one stream. More was slower: the data leaves the cache.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// quinn's settings of one connection that carries `streams` streams.
pub fn quic_transport(congestion: Congestion, streams: usize) -> TransportConfig {
    let streams = u32::try_from(streams).expect("the number of streams is bounded").max(8);
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_MAX);
    let mut transport = TransportConfig::default();
    transport
        .mtu_discovery_config(Some(mtu))
        .max_concurrent_bidi_streams(VarInt::from_u32(1024))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES * streams))
        .send_window(u64::from(STREAM_WINDOW_BYTES) * u64::from(streams))
        .keep_alive_interval(Some(Duration::from_millis(100)))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(10_000))));
    match congestion {
        Congestion::Cubic => transport.congestion_controller_factory(Arc::new(CubicConfig::default())),
        Congestion::Bbr => transport.congestion_controller_factory(Arc::new(BbrConfig::default())),
        Congestion::Reno => transport.congestion_controller_factory(Arc::new(NewRenoConfig::default())),
        Congestion::System => unreachable!("refused for QUIC when options are checked"),
    };
    transport
}

/// quinn's settings of an endpoint: it must accept datagrams as large as the discovered MTU.
pub fn quic_endpoint() -> EndpointConfig {
    let mut endpoint = EndpointConfig::default();
    endpoint.max_udp_payload_size(MTU_MAX).expect("the MTU bound is within QUIC's range");
    endpoint
}

/// A UDP socket with large buffers, bound to `address`.
pub fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Settings of a connected TCP socket.
pub fn tune_tcp(stream: &tokio::net::TcpStream, congestion: Congestion) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let name: &[u8] = match congestion {
        Congestion::Cubic => b"cubic",
        Congestion::Bbr => b"bbr",
        Congestion::Reno => b"reno",
        Congestion::System => return Ok(()),
    };
    socket2::SockRef::from(stream).set_tcp_congestion(name)
}
