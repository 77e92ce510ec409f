//! The listening side: who is let in, and what becomes of each request.

use std::sync::Arc;
use std::time::Duration;

use minisr_logic::BrokerId;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::frame::{self, FRAME_BYTES_MAX, FrameError, HELLO_BYTES_MAX, Reader};
use super::{Hello, Numbered, PROTOCOL_VERSION, Purpose, Request, Response, Welcome};
use crate::tls::is_certificate_of;

/// Connections at once; a cluster needs three per peer.
const CONNECTIONS_MAX: usize = 512;
/// Requests of one connection under way at once.
const REQUESTS_IN_FLIGHT_MAX: usize = 128;
/// A peer must have said hello by then.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// This process.
    fn incarnation(&self) -> u128;
    /// This cluster.
    fn cluster_id(&self) -> &str;
    /// Answers one request of a broker whose certificate was checked.
    fn handle(self: Arc<Self>, from: BrokerId, request: Request) -> impl Future<Output = Response> + Send;
}

/// Accepts connections for as long as the runtime lives.
pub async fn serve<H: Handler>(listener: TcpListener, config: Arc<rustls::ServerConfig>, handler: Arc<H>) {
    let acceptor = TlsAcceptor::from(config);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let (tcp, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely; those in use come back.
                warn!(%error, "cannot accept a control connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
        tokio::spawn(async move {
            if let Err(reason) = connection(tcp, &acceptor, handler).await {
                debug!(%from, %reason, "control connection closed");
            }
            drop(place);
        });
    }
}

/// Why a connection was closed.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("no TLS: {0}")]
    Handshake(std::io::Error),
    #[error("no hello in time")]
    Silent,
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

async fn connection<H: Handler>(tcp: TcpStream, acceptor: &TlsAcceptor, handler: Arc<H>) -> Result<(), Closed> {
    let mut reader = Reader::new(HELLO_BYTES_MAX);
    let greeted = timeout(HELLO_TIMEOUT, async {
        tcp.set_nodelay(true).map_err(Closed::Handshake)?;
        let mut stream = acceptor.accept(tcp).await.map_err(Closed::Handshake)?;
        let hello: Hello = reader.next(&mut stream).await?;
        let verdict = judge(&hello, &stream, handler.as_ref());
        let welcome = match &verdict {
            Ok(()) => Welcome::Accepted { incarnation: handler.incarnation() },
            Err(reason) => Welcome::Refused(reason.clone()),
        };
        frame::write(&mut stream, &welcome).await?;
        match verdict {
            Ok(()) => Ok((stream, hello)),
            Err(reason) => {
                warn!(broker = %hello.broker, %reason, "a peer was refused");
                Err(Closed::Refused(reason))
            }
        }
    })
    .await;
    let (stream, hello) = greeted.map_err(|_| Closed::Silent)??;
    reader.set_limit(FRAME_BYTES_MAX);
    match hello.purpose {
        Purpose::Liveness => wait_for_end(stream).await,
        Purpose::Rpc => answer(stream, reader, hello.broker, handler).await,
    }
}

/// Refuses whoever is of another cluster or not who it says it is.
fn judge(hello: &Hello, stream: &TlsStream<TcpStream>, handler: &impl Handler) -> Result<(), String> {
    if hello.version != PROTOCOL_VERSION {
        return Err(format!("control protocol {} is spoken here, not {}", PROTOCOL_VERSION, hello.version));
    }
    if hello.cluster_id != handler.cluster_id() {
        return Err(format!("this is cluster {}, not {}", handler.cluster_id(), hello.cluster_id));
    }
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    if certificate.is_some_and(|it| is_certificate_of(it, hello.broker)) {
        Ok(())
    } else {
        Err(format!("the certificate presented is not that of broker {}", hello.broker))
    }
}

async fn wait_for_end(mut stream: TlsStream<TcpStream>) -> Result<(), Closed> {
    let mut unexpected = [0; 1];
    match stream.read(&mut unexpected).await {
        Ok(0) | Err(_) => Ok(()),
        Ok(_) => Err(Closed::Refused("bytes on a liveness connection".to_owned())),
    }
}

async fn answer<H: Handler>(
    stream: TlsStream<TcpStream>,
    mut reader: Reader,
    from: BrokerId,
    handler: Arc<H>,
) -> Result<(), Closed> {
    let (mut incoming, mut sending) = tokio::io::split(stream);
    let (answers, mut answered) = mpsc::channel::<Numbered<Response>>(REQUESTS_IN_FLIGHT_MAX);
    let under_way = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX));
    let writer = async {
        while let Some(answer) = answered.recv().await {
            frame::write(&mut sending, &answer).await?;
        }
        Ok::<(), Closed>(())
    };
    let receiver = async {
        loop {
            let Numbered { id, body } = match reader.next::<Numbered<Request>>(&mut incoming).await {
                Ok(request) => request,
                Err(FrameError::Closed) => return Ok(()),
                Err(error) => return Err(Closed::from(error)),
            };
            let place = Arc::clone(&under_way).acquire_owned().await.expect("the semaphore is never closed");
            let (handler, answers) = (Arc::clone(&handler), answers.clone());
            tokio::spawn(async move {
                let body = handler.handle(from, body).await;
                let _ = answers.send(Numbered { id, body }).await;
                drop(place);
            });
        }
    };
    tokio::select! {
        ended = receiver => ended,
        failed = writer => failed,
    }
}
