//! Kafka over TCP: plain for clients (kcat, librdkafka, Java), with mutual TLS for peers and clients that want it.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::connection::WriteSink;
use super::{Acceptor, PeerInfo, Place, Services};
use crate::config::Protocol;
use crate::limits;

/// Accepts plain TCP connections until the stop signal.
pub async fn accept_plaintext<S: Services + 'static>(listener: TcpListener, acceptor: Rc<Acceptor<S>>) {
    while let Some((stream, address, place)) = accept(&listener, &acceptor).await {
        let acceptor = Rc::clone(&acceptor);
        tokio::task::spawn_local(async move {
            let peer = PeerInfo { address, listener: Protocol::Plaintext, certificate: None };
            let (reader, writer) = stream.into_split();
            acceptor.serve(peer, acceptor.limits, reader, WriteSink(writer)).await;
            drop(place);
        });
    }
}

/// Accepts TLS connections until the stop signal.
pub async fn accept_tls<S: Services + 'static>(listener: TcpListener, tls: TlsAcceptor, acceptor: Rc<Acceptor<S>>) {
    while let Some((stream, address, place)) = accept(&listener, &acceptor).await {
        let acceptor = Rc::clone(&acceptor);
        let handshake = tls.accept(stream);
        tokio::task::spawn_local(async move {
            // Given back when the task ends, however it does.
            let _place = place;
            let stream = match tokio::time::timeout(limits::HANDSHAKE_TIME_MAX, handshake).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return handshake_failed(&acceptor, address, &error.to_string()),
                Err(_) => return handshake_failed(&acceptor, address, "it took too long"),
            };
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
            let certificate = certificate.map(rustls::pki_types::CertificateDer::into_owned);
            let peer = PeerInfo { address, listener: Protocol::Ssl, certificate };
            let (reader, writer) = tokio::io::split(stream);
            acceptor.serve(peer, acceptor.limits, reader, WriteSink(writer)).await;
        });
    }
}

/// The next connection that there is room for; `None` after the stop signal.
async fn accept<S: Services>(
    listener: &TcpListener,
    acceptor: &Acceptor<S>,
) -> Option<(TcpStream, std::net::SocketAddr, Place)> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = acceptor.stopped() => return None,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(place) = acceptor.place(address).filter(|_| acceptor.has_room(address)) else { continue };
                if let Err(error) = minisr_client::transport::tuning::tcp_stream(&stream) {
                    tracing::debug!(peer = %address, %error, "socket options not set");
                }
                return Some((stream, address, place));
            }
            Err(error) => accept_failed(&error).await,
        }
    }
}

fn handshake_failed<S: Services>(acceptor: &Acceptor<S>, peer: std::net::SocketAddr, reason: &str) {
    acceptor.metrics.connection_closed("handshake failed");
    tracing::warn!(%peer, reason, "handshake failed");
}

/// Usually the process has no file descriptor left; connections that end give some back.
async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
