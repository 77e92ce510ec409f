//! Every transport setting, in one place, for client, broker (both sides) and the ceiling programs.
//!
//! quinn's defaults are meant for the Internet: on a fast link they cost a factor of three or four. What is set
//! here was measured on loopback with three hops (producer → leader → two followers); the figures in the comments
//! are MB/s of user data on two small cores.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{AckFrequencyConfig, EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;

/// Application protocol of every QUIC and TLS connection.
pub const ALPN: &[u8] = b"minisr/1";

/// Ordered Kafka connections that a client opens to each broker, unless told otherwise.
pub const STREAMS_PER_BROKER: usize = 8;

/// Upper bound of path MTU discovery, in bytes of UDP payload. With segmentation offload a 64 KiB send is ten
/// datagrams of this size; larger ones (8,952) lose offload and two thirds of the throughput, 16,000 and more stall.
pub const UDP_PAYLOAD_BYTES_MAX: u16 = 6_500;

/// Receive window of one stream. 1 MiB is better than 4 MiB and more: the bytes stay in the cache.
pub const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// Receive window of a connection: at least streams × stream window, or one stalled stream stops the others.
pub const CONNECTION_WINDOW_BYTES: u32 = 64 * STREAM_WINDOW_BYTES;

/// Bytes a connection keeps for retransmission before it stops taking more.
pub const SEND_WINDOW_BYTES: u64 = 16 * 1024 * 1024;

/// Streams a peer may open on one connection; quinn's default is 100.
pub const STREAMS_MAX: u32 = 1_024;

/// Size asked for the kernel's UDP buffers. The kernel may give less (`net.core.rmem_max`), silently.
pub const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Whoever dialed sends a packet this often on an idle connection: it keeps it alive, and a process that took the place of a
/// dead one answers with a reset. Every 100 ms and from both sides it cost brokers with 2,000 clients a whole core.
pub const KEEP_ALIVE: Duration = Duration::from_millis(900);

/// A connection silent for this long is gone.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The congestion control asked for on TCP. A system default such as BBR halves the throughput of loopback.
pub const TCP_CONGESTION: &[u8] = b"cubic";

const _: () = assert!(CONNECTION_WINDOW_BYTES as u64 >= STREAMS_PER_BROKER as u64 * STREAM_WINDOW_BYTES as u64);
const _: () = assert!(IDLE_TIMEOUT.as_millis() > 10 * KEEP_ALIVE.as_millis());

/// Settings of every QUIC connection on the side that dials.
#[must_use]
pub fn quic_transport() -> Arc<TransportConfig> {
    Arc::new(quic_transport_settings())
}

/// Settings of every QUIC connection on the side that listens: it leaves keeping alive to the one who dialed.
#[must_use]
pub fn quic_listener_transport() -> Arc<TransportConfig> {
    let mut transport = quic_transport_settings();
    transport.keep_alive_interval(None);
    Arc::new(transport)
}

/// Those of the side that dials, to be changed further: the ceiling programs compare congestion controllers.
#[must_use]
pub fn quic_transport_settings() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(UDP_PAYLOAD_BYTES_MAX);
    // An acknowledgement for every ten packets instead of every two: less work on both sides. A lone packet waits up to
    // 10 ms for something to travel with its acknowledgement: at 1,000 single records a second on three leaders the
    // packets of one connection are 3 ms apart, and with 2 ms each cost a datagram of its own and two wake-ups, in all
    // 40 % of the brokers' CPU. Loss of a last packet is found that much later, still sooner than with QUIC's 25 ms.
    let mut ack_frequency = AckFrequencyConfig::default();
    ack_frequency.ack_eliciting_threshold(VarInt::from_u32(10)).max_ack_delay(Some(Duration::from_millis(10)));

    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(ack_frequency))
        .enable_segmentation_offload(true)
        .datagram_receive_buffer_size(None)
        // Until the first sample, a lost handshake packet is repeated after three of these, not after a second.
        .initial_rtt(Duration::from_millis(30))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("the idle timeout fits a QUIC integer")));
    transport
}

/// Settings of every QUIC endpoint.
#[must_use]
pub fn quic_endpoint() -> EndpointConfig {
    let mut endpoint = EndpointConfig::default();
    endpoint.max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX).expect("the payload size is above QUIC's minimum");
    endpoint
}

/// A bound UDP socket with large buffers, for a QUIC endpoint.
///
/// # Errors
/// The address cannot be bound.
pub fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // IPv4 may be served by a socket of its own on the same port.
        socket.set_only_v6(true)?;
    }
    // Smaller buffers than asked for are slower, not wrong.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Applies the TCP settings to a connected or accepted stream: no delay, the congestion control where the system
/// lets it be chosen.
///
/// # Errors
/// The stream is not usable any more.
pub fn tcp_stream(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(stream).set_tcp_congestion(TCP_CONGESTION);
    #[cfg(not(target_os = "linux"))]
    let _ = SockRef::from(stream);
    Ok(())
}
