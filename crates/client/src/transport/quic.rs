//! QUIC: one endpoint per dialer and address family, one connection per broker, a stream per Kafka connection.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint};

use crate::transport::tls::TlsError;
use crate::transport::udp::QuicRuntime;
use crate::transport::{Address, ByteStream, DialError, ReadHalf, WriteHalf, tuning};

/// The connection to one broker: absent, open, or lost and to be replaced by the next who asks.
type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

/// Dials QUIC.
#[derive(Debug)]
pub(super) struct QuicDialer {
    client: quinn::ClientConfig,
    /// By whether the family is IPv6; bound when first needed.
    endpoints: Mutex<BTreeMap<bool, Endpoint>>,
    slots: Mutex<BTreeMap<(Address, String), Slot>>,
}

impl QuicDialer {
    pub(super) fn new(tls: rustls::ClientConfig) -> Result<Self, TlsError> {
        let crypto = QuicClientConfig::try_from(tls).map_err(|error| TlsError::Refused(error.to_string()))?;
        let mut client = quinn::ClientConfig::new(Arc::new(crypto));
        client.transport_config(tuning::quic_transport());
        Ok(Self { client, endpoints: Mutex::default(), slots: Mutex::default() })
    }

    /// Opens a stream, on the connection that is there or on a new one.
    pub(super) async fn open(&self, address: &Address, server_name: &str) -> Result<ByteStream, DialError> {
        let slot = {
            let mut slots = self.slots.lock().expect("no holder of this lock panics");
            slots.entry((address.clone(), server_name.to_owned())).or_default().clone()
        };
        let connection = {
            // Held while dialing, so that all who want this broker wait for one handshake.
            let mut slot = slot.lock().await;
            match &*slot {
                Some(connection) if connection.close_reason().is_none() => connection.clone(),
                _ => {
                    let connection = self.connect(address, server_name).await?;
                    *slot = Some(connection.clone());
                    connection
                }
            }
        };
        let (writer, reader) = connection
            .open_bi()
            .await
            .map_err(|error| DialError::Connect { address: address.clone(), reason: error.to_string() })?;
        Ok(ByteStream { reader: ReadHalf::Quic(reader), writer: WriteHalf::Quic(writer) })
    }

    /// Makes the next [`Self::open`] dial anew: a killed process is silent on QUIC, so its connection looks open
    /// until the idle timeout.
    pub(super) fn forget(&self, address: &Address) {
        self.slots.lock().expect("no holder of this lock panics").retain(|(known, _), _| known != address);
    }

    /// Closes every connection, waits until the brokers have been told, and lets go of the sockets. What is opened
    /// afterwards comes on new ones.
    pub(super) async fn close(&self) {
        self.slots.lock().expect("no holder of this lock panics").clear();
        let endpoints = std::mem::take(&mut *self.endpoints.lock().expect("no holder of this lock panics"));
        for endpoint in endpoints.into_values() {
            endpoint.close(quinn::VarInt::from_u32(0), b"the client ends");
            endpoint.wait_idle().await;
        }
    }

    async fn connect(&self, address: &Address, server_name: &str) -> Result<Connection, DialError> {
        let failed = |reason: String| DialError::Connect { address: address.clone(), reason };
        let remote = tokio::net::lookup_host((address.host.as_str(), address.port))
            .await
            .map_err(|error| failed(error.to_string()))?
            .next()
            .ok_or_else(|| failed("the name has no address".into()))?;
        let endpoint = self.endpoint(remote.is_ipv6()).map_err(|error| failed(error.to_string()))?;
        let connecting =
            endpoint.connect_with(self.client.clone(), remote, server_name).map_err(|error| match error {
                quinn::ConnectError::InvalidServerName(name) => DialError::ServerName { name },
                other => failed(other.to_string()),
            })?;
        connecting.await.map_err(|error| failed(error.to_string()))
    }

    fn endpoint(&self, ipv6: bool) -> std::io::Result<Endpoint> {
        let mut endpoints = self.endpoints.lock().expect("no holder of this lock panics");
        if let Some(endpoint) = endpoints.get(&ipv6) {
            return Ok(endpoint.clone());
        }
        let any: SocketAddr = if ipv6 { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() };
        let socket = tuning::udp_socket(any)?;
        let endpoint = Endpoint::new(tuning::quic_endpoint(), None, socket, Arc::new(QuicRuntime))?;
        endpoints.insert(ipv6, endpoint.clone());
        Ok(endpoint)
    }
}

/// A listening QUIC endpoint with the shared tuning: for the broker, the ceiling programs and tests.
///
/// # Errors
/// The address cannot be bound, or the TLS settings do not suit QUIC.
pub fn listen(address: SocketAddr, tls: rustls::ServerConfig) -> std::io::Result<Endpoint> {
    let crypto = QuicServerConfig::try_from(tls).map_err(std::io::Error::other)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(tuning::quic_listener_transport());
    let socket = tuning::udp_socket(address)?;
    Endpoint::new(tuning::quic_endpoint(), Some(server), socket, Arc::new(QuicRuntime))
}
