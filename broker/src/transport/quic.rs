//! Kafka over QUIC: each bidirectional stream that a peer opens is one ordered Kafka connection.
//!
//! A client certificate is optional. Brokers present theirs, so that their claimed replica ids can be checked;
//! ordinary clients have none. A certificate that the cluster's authority did not sign fails the handshake.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;

use super::connection::{ByteSink, Closed};
use super::{Acceptor, PeerInfo, Services};
use crate::config::Protocol;
use crate::limits;

/// Application error code of a stream that was reset because of what its peer sent, as PROTOCOL.md lists it.
pub const STREAM_REFUSED: VarInt = VarInt::from_u32(1);
/// Application error code of a connection that ends because this broker stops.
pub const BROKER_STOPPING: VarInt = VarInt::from_u32(2);
/// Application error code of a connection beyond `max.connections`.
pub const TOO_MANY_CONNECTIONS: VarInt = VarInt::from_u32(3);

/// A stream without requests costs next to nothing, and the QUIC connection under it has an idle timeout of its own.
const STREAM_IDLE_TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Accepts QUIC connections until the stop signal.
pub async fn accept<S: Services + 'static>(endpoint: Endpoint, acceptor: Rc<Acceptor<S>>) {
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = acceptor.stopped() => None,
        };
        let Some(incoming) = incoming else { return };
        let address = incoming.remote_address();
        let Some(place) = acceptor.place(address).filter(|_| acceptor.has_room(address)) else {
            incoming.refuse();
            continue;
        };
        let acceptor = Rc::clone(&acceptor);
        tokio::task::spawn_local(async move {
            accept_streams(incoming, acceptor).await;
            drop(place);
        });
    }
}

async fn accept_streams<S: Services + 'static>(incoming: Incoming, acceptor: Rc<Acceptor<S>>) {
    let address = incoming.remote_address();
    let connection = match tokio::time::timeout(limits::HANDSHAKE_TIME_MAX, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return handshake_failed(&acceptor, address, &error.to_string()),
        Err(_) => return handshake_failed(&acceptor, address, "it took too long"),
    };
    let peer = PeerInfo { address, listener: Protocol::Quic, certificate: certificate(&connection) };
    loop {
        let stream = tokio::select! {
            stream = connection.accept_bi() => stream,
            () = acceptor.stopped() => return,
        };
        let (sender, receiver) = match stream {
            Ok(stream) => stream,
            Err(reason) => {
                tracing::debug!(peer = %address, %reason, "QUIC connection ended");
                return;
            }
        };
        if !acceptor.has_room(address) {
            connection.close(TOO_MANY_CONNECTIONS, b"max.connections");
            return;
        }
        let acceptor = Rc::clone(&acceptor);
        let peer = peer.clone();
        tokio::task::spawn_local(async move { serve_stream(peer, sender, receiver, &acceptor).await });
    }
}

async fn serve_stream<S: Services>(
    peer: PeerInfo,
    sender: SendStream,
    mut receiver: RecvStream,
    acceptor: &Acceptor<S>,
) {
    let mut limits = acceptor.limits;
    limits.idle_time_max = STREAM_IDLE_TIME_MAX;
    let mut sink = StreamSink(sender);
    let closed = acceptor.serve(peer, limits, &mut receiver, &mut sink).await;
    if !matches!(closed, Closed::ByPeer | Closed::Stopping | Closed::Lost(_)) {
        // Both directions end at once; an error here means that the peer was faster.
        let _ = sink.0.reset(STREAM_REFUSED);
        let _ = receiver.stop(STREAM_REFUSED);
    }
}

fn certificate(connection: &Connection) -> Option<CertificateDer<'static>> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

fn handshake_failed<S: Services>(acceptor: &Acceptor<S>, peer: std::net::SocketAddr, reason: &str) {
    acceptor.metrics.connection_closed("handshake failed");
    tracing::warn!(%peer, reason, "handshake failed");
}

/// The sending half of a stream. Chunks are handed over without a copy.
#[derive(Debug)]
struct StreamSink(SendStream);

impl ByteSink for &mut StreamSink {
    async fn write_all_chunks(&mut self, chunks: &mut [Bytes]) -> io::Result<()> {
        Ok(self.0.write_all_chunks(chunks).await?)
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.0.finish().map_err(io::Error::other)?;
        // The last replies must have arrived before the connection may go.
        let _ = self.0.stopped().await;
        Ok(())
    }
}
