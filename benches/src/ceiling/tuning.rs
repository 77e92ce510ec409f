//! The transport settings of client and broker, with another congestion control where a run asks for one.

use std::io;
use std::sync::Arc;

use minisr_client::transport::tuning;
use quinn::TransportConfig;
use quinn::congestion::{BbrConfig, NewRenoConfig};

use super::options::Congestion;

pub(crate) use minisr_client::transport::tuning::{quic_endpoint, udp_socket};

/// quinn's settings of a connection.
pub(crate) fn quic_transport(congestion: Congestion) -> Arc<TransportConfig> {
    let mut transport = tuning::quic_transport_settings();
    match congestion {
        // quinn's own default.
        Congestion::Cubic => {}
        Congestion::Bbr => {
            transport.congestion_controller_factory(Arc::new(BbrConfig::default()));
        }
        Congestion::Reno => {
            transport.congestion_controller_factory(Arc::new(NewRenoConfig::default()));
        }
        Congestion::System => unreachable!("refused for QUIC when options are checked"),
    }
    Arc::new(transport)
}

/// Settings of a connected TCP socket. Unlike client and broker, which take what the system gives, a run that names a
/// congestion control must have it.
pub(crate) fn tune_tcp(stream: &tokio::net::TcpStream, congestion: Congestion) -> io::Result<()> {
    let name: &[u8] = match congestion {
        Congestion::Cubic => b"cubic",
        Congestion::Bbr => b"bbr",
        Congestion::Reno => b"reno",
        Congestion::System => return stream.set_nodelay(true),
    };
    tuning::tcp_stream(stream)?;
    socket2::SockRef::from(stream).set_tcp_congestion(name)
}
