//! Connections over every transport, and what they say when they end.

mod support;

use std::time::Duration;

use minisr_client::connection::{CloseReason, Connection, ConnectionConfig, ConnectionError};
use minisr_client::transport::{
    Address, ByteStream, Dialer, ReadHalf, TlsFiles, TlsIdentity, Transport, WriteHalf, quic, tls,
};
use minisr_wire::messages::MetadataRequest;
use support::FakeCluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn over_duplex() -> (Connection, tokio::io::DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    (Connection::start(ByteStream::from_duplex(ours), ConnectionConfig::default()), theirs)
}

fn served_over_duplex() -> ByteStream {
    let cluster = FakeCluster::without_brokers();
    cluster.topic("t", 1);
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    tokio::spawn(cluster.serve(1, ByteStream::from_duplex(theirs)));
    ByteStream::from_duplex(ours)
}

#[tokio::test]
async fn connection_negotiates_the_highest_common_versions() {
    let connection = Connection::negotiate(served_over_duplex(), ConnectionConfig::default()).await.unwrap();
    let versions = connection.versions();
    assert_eq!(versions.highest::<minisr_wire::messages::ProduceRequest>(i16::MAX), Ok(11));
    assert_eq!(versions.highest::<MetadataRequest>(9), Ok(9));
    assert!(versions.highest::<minisr_wire::messages::JoinGroupRequest>(9).is_err());
}

#[tokio::test]
async fn connection_pipelines_and_matches_answers_in_order() {
    let connection = Connection::negotiate(served_over_duplex(), ConnectionConfig::default()).await.unwrap();
    let version = connection.versions().highest::<MetadataRequest>(12).unwrap();
    let pending: Vec<_> = (0..100).map(|_| connection.send(&MetadataRequest::default(), version).unwrap()).collect();
    for pending in pending {
        pending.response().await.unwrap();
    }
    assert_eq!(connection.outstanding(), 0);
}

#[tokio::test]
async fn connection_that_ends_tells_written_from_never_written() {
    let (connection, mut peer) = over_duplex();
    let written = connection.send(&MetadataRequest::default(), 1).unwrap();
    let mut byte = [0];
    peer.read_exact(&mut byte).await.unwrap();
    // Nothing yields between this request and the end, so nobody can have written it.
    let queued = connection.send(&MetadataRequest::default(), 1).unwrap();
    connection.close("test");
    assert!(matches!(written.response().await, Err(ConnectionError::Unknown(CloseReason::Abandoned(_)))));
    assert!(matches!(queued.response().await, Err(ConnectionError::NotWritten(_))));
    let late = connection.send(&MetadataRequest::default(), 1);
    assert!(matches!(late, Err(ConnectionError::NotWritten(_))));
    assert!(connection.is_closed());
}

#[tokio::test]
async fn connection_closed_by_the_broker_fails_what_is_outstanding_at_once() {
    let (connection, mut peer) = over_duplex();
    let pending = connection.send(&MetadataRequest::default(), 1).unwrap();
    let mut byte = [0];
    peer.read_exact(&mut byte).await.unwrap();
    drop(peer);
    let error = pending.response().await.unwrap_err();
    assert!(error.may_have_been_applied(), "{error}");
    connection.closed().await;
}

#[tokio::test]
async fn connection_answered_with_garbage_is_closed() {
    for garbage in [&[0xff; 8][..], &[0, 0, 0, 4, 0, 0, 0, 77], &[0, 0, 0, 2, 0, 0]] {
        let (connection, mut peer) = over_duplex();
        let pending = connection.send(&MetadataRequest::default(), 1).unwrap();
        let mut byte = [0];
        peer.read_exact(&mut byte).await.unwrap();
        peer.write_all(garbage).await.unwrap();
        assert!(matches!(pending.response().await, Err(ConnectionError::Unknown(CloseReason::Protocol(_)))));
    }
}

#[tokio::test]
async fn connection_ends_when_its_last_handle_is_dropped() {
    let (connection, mut peer) = over_duplex();
    drop(connection.clone());
    let pending = connection.send(&MetadataRequest::default(), 1).unwrap();
    drop(connection);
    drop(pending);
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), peer.read_to_end(&mut rest)).await.expect("the stream ends").unwrap();
}

#[tokio::test(start_paused = true)]
async fn connection_without_progress_is_stalled_only_while_something_is_outstanding() {
    let (connection, mut peer) = over_duplex();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(connection.stalled_for(), Duration::ZERO);
    let pending = connection.send(&MetadataRequest::default(), 1).unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(connection.stalled_for() >= Duration::from_millis(300));
    // A part of an answer is progress.
    peer.write_all(&[0, 0, 0, 99]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(connection.stalled_for() <= Duration::from_millis(100));
    drop(pending);
}

/// A CA and the certificate of broker 7, as files.
fn certificates(directory: &std::path::Path) -> (TlsIdentity, TlsIdentity) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let names = vec!["broker-7.minisr".to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    std::fs::write(directory.join("ca.pem"), ca.pem()).unwrap();
    std::fs::write(directory.join("broker.pem"), certificate.pem() + &key.serialize_pem()).unwrap();
    let client = TlsFiles::ca_only(directory.join("ca.pem"));
    let broker = TlsFiles { keystore: Some(directory.join("broker.pem")), ..client.clone() };
    (client.load().unwrap(), broker.load().unwrap())
}

#[tokio::test]
async fn quic_streams_share_one_connection_and_carry_the_peers_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let (client, broker) = certificates(directory.path());
    let endpoint = quic::listen("127.0.0.1:0".parse().unwrap(), broker.server_config(false).unwrap()).unwrap();
    let address = Address::new("127.0.0.1", endpoint.local_addr().unwrap().port());
    let (seen_in, mut seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else { continue };
            let certificates = connection
                .peer_identity()
                .map(|identity| *identity.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().unwrap());
            seen_in.send(certificates).unwrap();
            tokio::spawn(async move {
                while let Ok((writer, reader)) = connection.accept_bi().await {
                    let stream = ByteStream { reader: ReadHalf::Quic(reader), writer: WriteHalf::Quic(writer) };
                    let cluster = FakeCluster::without_brokers();
                    cluster.topic("t", 1);
                    tokio::spawn(cluster.serve(7, stream));
                }
            });
        }
    });

    let dialer = Dialer::new(&Transport::Quic(client), Duration::from_secs(5)).unwrap();
    let mut connections = Vec::new();
    for _ in 0..8 {
        let connection = Connection::open(&dialer, &address, ConnectionConfig::default()).await.unwrap();
        connection.call(&MetadataRequest::default(), 9).await.unwrap();
        connections.push(connection);
    }
    assert_eq!(seen.recv().await.unwrap(), None, "an ordinary client has no certificate");
    assert!(seen.try_recv().is_err(), "eight streams must share one connection");
    dialer.forget(&address);
    Connection::open(&dialer, &address, ConnectionConfig::default()).await.unwrap();
    assert!(seen.recv().await.is_some(), "a forgotten broker is dialed anew");
    connections[0].call(&MetadataRequest::default(), 9).await.expect("streams that are open keep working");

    let peer = Dialer::new(&Transport::Quic(broker), Duration::from_secs(5)).unwrap();
    peer.open_as(&address, &tls::broker_server_name(8)).await.expect_err("the peer is broker 7, not 8");
    let mut stream = peer.open_as(&address, &tls::broker_server_name(7)).await.unwrap();
    stream.writer.write_pieces(&mut [bytes::Bytes::from_static(b"\0\0\0\0")]).await.unwrap();
    let certificates = loop {
        if let Some(certificates) = seen.recv().await.unwrap() {
            break certificates;
        }
    };
    assert!(tls::certificate_is_of_broker(&certificates[0], 7));
    assert!(!tls::certificate_is_of_broker(&certificates[0], 8));
}

#[tokio::test]
async fn quic_dialer_that_is_closed_has_told_the_broker_and_dials_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (client, broker) = certificates(directory.path());
    let endpoint = quic::listen("127.0.0.1:0".parse().unwrap(), broker.server_config(false).unwrap()).unwrap();
    let address = Address::new("127.0.0.1", endpoint.local_addr().unwrap().port());
    let (accepted_in, mut accepted) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            accepted_in.send(incoming.await.unwrap()).unwrap();
        }
    });
    let dialer = Dialer::new(&Transport::Quic(client), Duration::from_secs(5)).unwrap();
    let stream = dialer.open(&address).await.unwrap();
    let at_the_broker = accepted.recv().await.unwrap();
    dialer.close().await;
    let reason = at_the_broker.close_reason().expect("the broker knows already");
    assert!(matches!(reason, quinn::ConnectionError::ApplicationClosed(_)), "{reason}");
    drop(stream);
    dialer.open(&address).await.expect("on a new connection");
    assert!(accepted.recv().await.is_some());
}

#[tokio::test]
async fn tls_over_tcp_carries_the_same_protocol() {
    let directory = tempfile::tempdir().unwrap();
    let (client, broker) = certificates(directory.path());
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(broker.server_config(false).unwrap()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::new("localhost", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                let cluster = FakeCluster::without_brokers();
                tokio::spawn(cluster.serve(7, ByteStream::from_duplex(stream)));
            }
        }
    });
    let dialer = Dialer::new(&Transport::TcpTls(client), Duration::from_secs(5)).unwrap();
    let connection = Connection::open(&dialer, &address, ConnectionConfig::default()).await.unwrap();
    connection.call(&MetadataRequest::default(), 9).await.unwrap();
}

#[tokio::test]
async fn dialing_nobody_fails_in_the_time_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let (client, _) = certificates(directory.path());
    // A bound socket that never answers is what a killed process looks like on QUIC.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = Address::new("127.0.0.1", silent.local_addr().unwrap().port());
    let dialer = Dialer::new(&Transport::Quic(client), Duration::from_millis(200)).unwrap();
    let error = dialer.open(&address).await.unwrap_err();
    assert!(error.to_string().contains("200 ms"), "{error}");
}

#[test]
fn tls_files_that_are_wrong_are_named() {
    let missing = TlsFiles::ca_only("/nowhere/ca.pem").load().unwrap_err();
    assert!(missing.to_string().contains("/nowhere/ca.pem"));
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    assert!(TlsFiles::ca_only(&empty).load().unwrap_err().to_string().contains("holds no certificate"));
}
