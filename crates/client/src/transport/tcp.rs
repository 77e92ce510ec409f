//! TCP, plain or under TLS.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::transport::{Address, ByteStream, DialError, ReadHalf, WriteHalf, tuning};

/// Connects without TLS.
pub(super) async fn open(address: &Address) -> Result<ByteStream, DialError> {
    let (reader, writer) = connect(address).await?.into_split();
    Ok(ByteStream { reader: ReadHalf::Tcp(reader), writer: WriteHalf::Tcp(writer) })
}

/// Connects and verifies the server under `server_name`.
pub(super) async fn open_tls(
    address: &Address,
    server_name: &str,
    config: Arc<rustls::ClientConfig>,
) -> Result<ByteStream, DialError> {
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|_| DialError::ServerName { name: server_name.to_owned() })?;
    let stream = connect(address).await?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| DialError::Connect { address: address.clone(), reason: error.to_string() })?;
    let (reader, writer) = tokio::io::split(stream);
    Ok(ByteStream { reader: ReadHalf::Boxed(Box::new(reader)), writer: WriteHalf::Boxed(Box::new(writer)) })
}

async fn connect(address: &Address) -> Result<TcpStream, DialError> {
    let failed = |error: std::io::Error| DialError::Connect { address: address.clone(), reason: error.to_string() };
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(failed)?;
    tuning::tcp_stream(&stream).map_err(failed)?;
    Ok(stream)
}
