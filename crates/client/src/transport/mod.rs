//! Byte streams to brokers, over QUIC or TCP.
//!
//! Whatever the transport, a [`ByteStream`] is one ordered, reliable pipe in each direction; dropping both halves
//! closes it without disturbing other streams to the same broker. A [`Dialer`] is shared by everything in one
//! client, so that all streams to a broker are streams of one QUIC connection.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use minisr_wire::FrameSplitter;

pub mod quic;
mod tcp;
pub mod tls;
pub mod tuning;
pub mod udp;

pub use tls::{TlsError, TlsFiles, TlsIdentity};

/// Pieces handed to one vectored write; the system takes at most 1,024.
const SLICES_MAX: usize = 64;

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A name or an IP address, an IPv6 address without brackets.
    pub host: String,
    /// The UDP or TCP port.
    pub port: u16,
}

impl Address {
    /// An address of these parts.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Text that is not `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not an address of the form host:port")]
pub struct AddressError {
    /// The text.
    pub text: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || AddressError { text: text.into() };
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|_| error())?;
        if host.is_empty() {
            return Err(error());
        }
        Ok(Self::new(host, port))
    }
}

/// Parses a comma-separated list of addresses, as in `--bootstrap`.
///
/// # Errors
/// One of them is not `host:port`, or there is none.
pub fn parse_addresses(text: &str) -> Result<Vec<Address>, AddressError> {
    text.split(',').map(|part| part.trim().parse()).collect()
}

/// Why a byte stream could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The broker cannot be reached, or the handshake failed.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Whom.
        address: Address,
        /// Why.
        reason: String,
    },
    /// The broker did not answer in time.
    #[error("cannot connect to {address} within {} ms", timeout.as_millis())]
    Timeout {
        /// Whom.
        address: Address,
        /// The time allowed.
        timeout: Duration,
    },
    /// The host is not a name that a certificate can carry.
    #[error("'{name}' is no valid server name")]
    ServerName {
        /// The name.
        name: String,
    },
}

/// How to reach brokers.
#[derive(Clone, Debug)]
pub enum Transport {
    /// QUIC; TLS 1.3 always.
    Quic(TlsIdentity),
    /// TCP in the clear, as kcat and most Kafka clients in a test set-up.
    Tcp,
    /// TCP under TLS.
    TcpTls(TlsIdentity),
}

impl Transport {
    /// `quic` or `tcp` or `tcp+tls`, as in results.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Quic(_) => "quic",
            Self::Tcp => "tcp",
            Self::TcpTls(_) => "tcp+tls",
        }
    }
}

/// Opens byte streams. Cheap to clone; clones share QUIC connections. Use it inside one tokio runtime.
#[derive(Clone, Debug)]
pub struct Dialer {
    kind: Arc<Kind>,
    connect_timeout: Duration,
}

#[derive(Debug)]
enum Kind {
    Quic(quic::QuicDialer),
    Tcp,
    TcpTls(Arc<rustls::ClientConfig>),
}

impl Dialer {
    /// A dialer for this transport.
    ///
    /// # Errors
    /// The TLS settings do not fit together.
    pub fn new(transport: &Transport, connect_timeout: Duration) -> Result<Self, TlsError> {
        let kind = match transport {
            Transport::Quic(identity) => Kind::Quic(quic::QuicDialer::new(identity.client_config()?)?),
            Transport::Tcp => Kind::Tcp,
            Transport::TcpTls(identity) => Kind::TcpTls(Arc::new(identity.client_config()?)),
        };
        Ok(Self { kind: Arc::new(kind), connect_timeout })
    }

    /// Opens a stream and verifies the server under the host that is dialed: an ordinary client.
    ///
    /// # Errors
    /// The broker cannot be reached in time.
    pub async fn open(&self, address: &Address) -> Result<ByteStream, DialError> {
        self.open_as(address, &address.host).await
    }

    /// Opens a stream and verifies the server under `server_name`, whatever the address: how a broker makes sure
    /// that its peer is the broker it means (see [`tls::broker_server_name`]).
    ///
    /// # Errors
    /// The broker cannot be reached in time, or is another one.
    pub async fn open_as(&self, address: &Address, server_name: &str) -> Result<ByteStream, DialError> {
        let open = async {
            match &*self.kind {
                Kind::Quic(dialer) => dialer.open(address, server_name).await,
                Kind::Tcp => tcp::open(address).await,
                Kind::TcpTls(config) => tcp::open_tls(address, server_name, config.clone()).await,
            }
        };
        tokio::time::timeout(self.connect_timeout, open)
            .await
            .map_err(|_| DialError::Timeout { address: address.clone(), timeout: self.connect_timeout })?
    }

    /// The time allowed for opening.
    #[must_use]
    pub const fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Forgets the QUIC connection to this address, so that the next stream comes on a new one. Streams that are
    /// open keep working. Call it when a broker is suspect: a killed process is silent on QUIC.
    pub fn forget(&self, address: &Address) {
        if let Kind::Quic(dialer) = &*self.kind {
            dialer.forget(address);
        }
    }

    /// Closes every QUIC connection, streams included, and waits until the brokers have been told: a socket that is
    /// merely dropped lingers for as long as its connections take to end, and a process that exits leaves brokers to
    /// find out by their idle timeout. On TCP the kernel does all of this when a stream is dropped.
    pub async fn close(&self) {
        if let Kind::Quic(dialer) = &*self.kind {
            dialer.close().await;
        }
    }
}

/// An ordered pipe in each direction.
#[derive(Debug)]
pub struct ByteStream {
    /// What the broker sends.
    pub reader: ReadHalf,
    /// What the broker receives.
    pub writer: WriteHalf,
}

impl ByteStream {
    /// Any pipe, such as the end of a duplex in a test.
    pub fn from_duplex<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader: ReadHalf::Boxed(Box::new(reader)), writer: WriteHalf::Boxed(Box::new(writer)) }
    }
}

/// The reading half of a [`ByteStream`].
pub enum ReadHalf {
    /// A QUIC stream.
    Quic(quinn::RecvStream),
    /// A TCP connection.
    Tcp(OwnedReadHalf),
    /// Anything else.
    Boxed(Box<dyn AsyncRead + Send + Unpin>),
}

/// The writing half of a [`ByteStream`].
pub enum WriteHalf {
    /// A QUIC stream.
    Quic(quinn::SendStream),
    /// A TCP connection.
    Tcp(OwnedWriteHalf),
    /// Anything else.
    Boxed(Box<dyn AsyncWrite + Send + Unpin>),
}

impl fmt::Debug for ReadHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadHalf")
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteHalf")
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => AsyncRead::poll_read(Pin::new(stream), context, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Boxed(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl ReadHalf {
    /// Reads once into the splitter: 0 at the end of the stream.
    ///
    /// # Errors
    /// The stream is broken.
    pub async fn read_into(&mut self, splitter: &mut FrameSplitter) -> io::Result<usize> {
        self.read_buf(&mut splitter.space()).await
    }
}

impl WriteHalf {
    /// Writes all pieces in order. QUIC takes them over without a copy; others write them vectored. `pieces` is
    /// consumed as it is written.
    ///
    /// # Errors
    /// The stream is broken; how much was written is not known.
    pub async fn write_pieces(&mut self, pieces: &mut [Bytes]) -> io::Result<()> {
        match self {
            Self::Quic(stream) => stream.write_all_chunks(pieces).await.map_err(io::Error::from),
            Self::Tcp(stream) => write_vectored(stream, pieces).await,
            Self::Boxed(stream) => {
                write_vectored(stream, pieces).await?;
                // A TLS stream may keep the last record to itself until it is told.
                stream.flush().await
            }
        }
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// The stream is broken.
    pub async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Quic(stream) => stream.finish().map_err(io::Error::other),
            Self::Tcp(stream) => stream.shutdown().await,
            Self::Boxed(stream) => stream.shutdown().await,
        }
    }
}

async fn write_vectored<W: AsyncWrite + Unpin + ?Sized>(writer: &mut W, mut pieces: &mut [Bytes]) -> io::Result<()> {
    loop {
        while pieces.first().is_some_and(Bytes::is_empty) {
            pieces = &mut pieces[1..];
        }
        if pieces.is_empty() {
            return Ok(());
        }
        let mut written = {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = pieces.len().min(SLICES_MAX);
            for (slice, piece) in slices.iter_mut().zip(pieces.iter()) {
                *slice = IoSlice::new(piece);
            }
            writer.write_vectored(&slices[..count]).await?
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let step = written.min(pieces[0].len());
            pieces[0].advance(step);
            written -= step;
            if pieces[0].is_empty() {
                pieces = &mut pieces[1..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_with_and_without_brackets() {
        assert_eq!("host:9092".parse(), Ok(Address::new("host", 9092)));
        assert_eq!("[::1]:9092".parse(), Ok(Address::new("::1", 9092)));
        assert_eq!(Address::new("::1", 1).to_string(), "[::1]:1");
        assert!("host".parse::<Address>().is_err());
        assert!(":1".parse::<Address>().is_err());
        assert_eq!(parse_addresses("a:1, b:2").unwrap().len(), 2);
    }
}
