//! Listeners and connections.
//!
//! Two transports serve the same connection handler ([`connection::serve`]): a bidirectional QUIC stream is what a TCP
//! connection is, an ordered pair of byte streams that carries one Kafka connection. What both keep:
//!
//! * A connection is served by one local task of the data thread, whatever happens on others.
//! * Whatever is wrong with what a peer sends ends that connection (over QUIC: resets that stream, the other streams
//!   of the same QUIC connection go on), with the reason logged and counted.
//! * The handler is told which listener the connection came in on and what certificate the peer proved to hold.
//! * A new connection that does not finish its handshake in time is dropped.
//! * Once the stop signal is given nothing more is accepted or read; what was read is answered first.

pub mod connection;
pub mod quic;
pub mod tcp;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use minisr_logic::BrokerId;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::config::{Protocol, Settings};
use crate::limits;
use crate::metrics::Metrics;
use crate::open_files;
use crate::tls::is_certificate_of;
use connection::{ByteSink, Closed, Limits, Service};

/// Who is at the other end, and where they came in.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Their address.
    pub address: SocketAddr,
    /// The listener.
    pub listener: Protocol,
    /// The certificate they proved to hold, which the cluster's authority signed; ordinary clients have none.
    pub certificate: Option<CertificateDer<'static>>,
}

impl PeerInfo {
    /// Whether the peer proved to be broker `id`.
    #[must_use]
    pub fn is_broker(&self, id: BrokerId) -> bool {
        self.certificate.as_ref().is_some_and(|certificate| is_certificate_of(certificate, id))
    }
}

/// Makes the service of each new connection.
pub trait Services {
    /// What it makes.
    type Service: Service;
    /// Called once for each connection.
    fn connect(&self, peer: PeerInfo) -> Self::Service;
}

/// What every listener needs.
pub struct Acceptor<S> {
    services: S,
    metrics: Rc<Metrics>,
    limits: Limits,
    connections_max: u64,
    stop: watch::Receiver<bool>,
    /// TCP and QUIC connections at once, those in their handshake included: see [`crate::open_files`].
    clients_max: u64,
    clients: Rc<Cell<u64>>,
    /// The last time a connection beyond the limit was logged; a flood of them is one line.
    refusals: Cell<u64>,
}

/// A client's place among those that may be connected; given back when it is dropped.
struct Place(Rc<Cell<u64>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<S: Services> Acceptor<S> {
    /// With the limits from `settings`. `stop` turns true when nothing more shall be accepted or read.
    pub fn new(services: S, settings: &Settings, metrics: Rc<Metrics>, stop: watch::Receiver<bool>) -> Self {
        let limits = Limits {
            frame_bytes_max: settings.socket_request_max_bytes as usize,
            requests_in_flight_max: limits::REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX,
            frame_time_max: limits::FRAME_TIME_MAX,
            idle_time_max: Duration::from_millis(settings.connections_max_idle_ms),
        };
        let connections_max = u64::from(settings.max_connections);
        let (clients_max, clients) = (open_files::clients_max(), Rc::default());
        Self { services, metrics, limits, connections_max, stop, clients_max, clients, refusals: Cell::new(0) }
    }

    /// Resolves when the stop signal was given.
    async fn stopped(&self) {
        // An error means that the sender is gone, which also is a stop.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    fn has_room(&self, peer: SocketAddr) -> bool {
        if self.metrics.connections_open.get() < self.connections_max {
            return true;
        }
        self.refused(peer, self.connections_max, "max.connections are open");
        false
    }

    /// A place for a new client, whatever it will open.
    fn place(&self, peer: SocketAddr) -> Option<Place> {
        if self.clients.get() >= self.clients_max {
            self.refused(peer, self.clients_max, "half of the files that may be open are for logs");
            return None;
        }
        self.clients.set(self.clients.get() + 1);
        Some(Place(Rc::clone(&self.clients)))
    }

    fn refused(&self, peer: SocketAddr, max: u64, reason: &str) {
        if self.refusals.replace(self.refusals.get() + 1).is_multiple_of(1000) {
            tracing::warn!(%peer, max, reason, "connection refused");
        }
        self.metrics.connection_closed("too many connections");
    }

    /// Serves one connection to its end; the caller cleans up by the reason.
    async fn serve(
        &self,
        peer: PeerInfo,
        limits: Limits,
        reader: impl tokio::io::AsyncRead + Unpin,
        sink: impl ByteSink,
    ) -> Closed {
        self.metrics.connections_begun.add(1);
        self.metrics.connections_open.set(self.metrics.connections_open.get() + 1);
        let address = peer.address;
        let listener = peer.listener.name();
        let service = self.services.connect(peer);
        let closed = connection::serve(reader, sink, &service, limits, self.stopped()).await;
        self.metrics.connections_open.set(self.metrics.connections_open.get() - 1);
        self.metrics.connection_closed(closed.kind());
        if closed.is_misbehaviour() {
            tracing::warn!(peer = %address, listener, reason = %closed, "connection closed");
        } else {
            tracing::debug!(peer = %address, listener, reason = %closed, "connection closed");
        }
        closed
    }
}
