//! One ordered, two-way stream between two processes, whatever carries it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::options::{Options, Transport};
use super::tuning;
use minisr_client::transport::udp::QuicRuntime;

const SERVER_NAME: &str = "ceiling.minisr";
const ALPN: &[u8] = b"minisr-ceiling/1";

/// The receiving half of a stream.
pub(crate) struct Receiver(Box<dyn AsyncRead + Send + Unpin>);

/// The sending half of a stream. QUIC takes a frame without copying it.
pub(crate) enum Sender {
    Quic(quinn::SendStream),
    Bytes(Box<dyn AsyncWrite + Send + Unpin>),
}

impl Receiver {
    /// The next frame of exactly `length` bytes; `None` when the peer has finished between two frames.
    pub(crate) async fn frame(&mut self, length: usize) -> io::Result<Option<Bytes>> {
        let mut frame = BytesMut::with_capacity(length);
        while frame.len() < length {
            let missing = length - frame.len();
            let read = self.0.read_buf(&mut (&mut frame).limit(missing)).await?;
            match (read, frame.is_empty()) {
                (0, true) => return Ok(None),
                (0, false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
        Ok(Some(frame.freeze()))
    }

    /// Waits for at least one message of `length` bytes and takes all that have arrived; 0 when the peer has finished.
    pub(crate) async fn count_messages(&mut self, length: usize, pending: &mut BytesMut) -> io::Result<usize> {
        while pending.len() < length {
            pending.reserve(64 * length);
            if self.0.read_buf(pending).await? == 0 {
                return Ok(0);
            }
        }
        let count = pending.len() / length;
        pending.advance(count * length);
        Ok(count)
    }
}

impl Sender {
    pub(crate) async fn send(&mut self, frame: Bytes) -> io::Result<()> {
        match self {
            Sender::Quic(stream) => Ok(stream.write_chunk(frame).await?),
            Sender::Bytes(stream) => {
                stream.write_all(&frame).await?;
                stream.flush().await
            }
        }
    }

    /// Says that no frame will follow.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        match self {
            Sender::Quic(stream) => stream.finish().map_err(io::Error::other),
            Sender::Bytes(stream) => stream.shutdown().await,
        }
    }
}

/// A self-signed certificate for one run.
pub(crate) fn write_certificate(directory: &Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed(vec![SERVER_NAME.to_owned()])?;
    std::fs::write(directory.join("certificate.der"), made.cert.der())?;
    std::fs::write(directory.join("key.der"), made.signing_key.serialize_der())?;
    Ok(())
}

struct Tls {
    client: Arc<rustls::ClientConfig>,
    server: Arc<rustls::ServerConfig>,
}

fn read_tls(directory: &Path) -> Result<Tls> {
    let certificate = CertificateDer::from(std::fs::read(directory.join("certificate.der"))?);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(std::fs::read(directory.join("key.der"))?));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone())?;
    let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Tls { client: Arc::new(client), server: Arc::new(server) })
}

/// Where a process waits for the streams of the one before it.
pub(crate) enum Acceptor {
    Quic { endpoint: quinn::Endpoint, connection: Option<quinn::Connection> },
    Tcp { listener: TcpListener, tls: Option<tokio_rustls::TlsAcceptor>, options: Options },
}

impl Acceptor {
    pub(crate) async fn bind(options: &Options, directory: &Path) -> Result<Acceptor> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        match options.transport {
            Transport::Quic => {
                let tls = QuicServerConfig::try_from(read_tls(directory)?.server)?;
                let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
                config.transport_config(tuning::quic_transport(options.congestion));
                let endpoint = quinn::Endpoint::new(
                    tuning::quic_endpoint(),
                    Some(config),
                    tuning::udp_socket(any)?,
                    Arc::new(QuicRuntime),
                )?;
                Ok(Acceptor::Quic { endpoint, connection: None })
            }
            Transport::Tcp | Transport::TcpTls => {
                let tls = match options.transport {
                    Transport::TcpTls => Some(tokio_rustls::TlsAcceptor::from(read_tls(directory)?.server)),
                    _ => None,
                };
                Ok(Acceptor::Tcp { listener: TcpListener::bind(any).await?, tls, options: options.clone() })
            }
        }
    }

    pub(crate) fn port(&self) -> Result<u16> {
        Ok(match self {
            Acceptor::Quic { endpoint, .. } => endpoint.local_addr()?.port(),
            Acceptor::Tcp { listener, .. } => listener.local_addr()?.port(),
        })
    }

    /// The next stream of the one peer that connects.
    pub(crate) async fn accept(&mut self) -> Result<(Sender, Receiver)> {
        match self {
            Acceptor::Quic { endpoint, connection } => {
                if connection.is_none() {
                    let incoming = endpoint.accept().await.context("the endpoint is closed")?;
                    *connection = Some(incoming.await?);
                }
                let (send, receive) = connection.as_ref().expect("just connected").accept_bi().await?;
                Ok((Sender::Quic(send), Receiver(Box::new(receive))))
            }
            Acceptor::Tcp { listener, tls, options } => {
                let (stream, _) = listener.accept().await?;
                tuning::tune_tcp(&stream, options.congestion)?;
                match tls {
                    Some(tls) => Ok(split(tls.accept(stream).await?)),
                    None => Ok(split_tcp(stream)),
                }
            }
        }
    }
}

/// Opens streams to one process.
pub(crate) enum Connector {
    Quic { connection: quinn::Connection, _endpoint: quinn::Endpoint },
    Tcp { address: SocketAddr, tls: Option<tokio_rustls::TlsConnector>, options: Options },
}

impl Connector {
    pub(crate) async fn connect(options: &Options, directory: &Path, port: u16) -> Result<Connector> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match options.transport {
            Transport::Quic => {
                let tls = QuicClientConfig::try_from(read_tls(directory)?.client)?;
                let mut config = quinn::ClientConfig::new(Arc::new(tls));
                config.transport_config(tuning::quic_transport(options.congestion));
                let endpoint = quinn::Endpoint::new(
                    tuning::quic_endpoint(),
                    None,
                    tuning::udp_socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?,
                    Arc::new(QuicRuntime),
                )?;
                let connection = endpoint.connect_with(config, address, SERVER_NAME)?.await?;
                Ok(Connector::Quic { connection, _endpoint: endpoint })
            }
            Transport::Tcp | Transport::TcpTls => {
                let tls = match options.transport {
                    Transport::TcpTls => Some(tokio_rustls::TlsConnector::from(read_tls(directory)?.client)),
                    _ => None,
                };
                Ok(Connector::Tcp { address, tls, options: options.clone() })
            }
        }
    }

    pub(crate) async fn open(&self) -> Result<(Sender, Receiver)> {
        match self {
            Connector::Quic { connection, .. } => {
                let (send, receive) = connection.open_bi().await?;
                Ok((Sender::Quic(send), Receiver(Box::new(receive))))
            }
            Connector::Tcp { address, tls, options } => {
                let stream = TcpStream::connect(address).await?;
                tuning::tune_tcp(&stream, options.congestion).with_context(|| {
                    format!("the kernel does not offer {:?} as TCP congestion control", options.congestion)
                })?;
                match tls {
                    Some(tls) => Ok(split(tls.connect(ServerName::try_from(SERVER_NAME)?, stream).await?)),
                    None => Ok(split_tcp(stream)),
                }
            }
        }
    }
}

fn split_tcp(stream: TcpStream) -> (Sender, Receiver) {
    let (read, write) = stream.into_split();
    (Sender::Bytes(Box::new(write)), Receiver(Box::new(read)))
}

fn split<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S) -> (Sender, Receiver) {
    let (read, write) = tokio::io::split(stream);
    (Sender::Bytes(Box::new(write)), Receiver(Box::new(read)))
}
