//! The dialing side: one pipelined connection per peer, made when it is needed and made again when it broke.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use minisr_logic::BrokerId;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::debug;

use super::frame::{self, FRAME_BYTES_MAX, HELLO_BYTES_MAX, Reader};
use super::{Hello, Numbered, PROTOCOL_VERSION, Purpose, Request, Response, Welcome};
use crate::config::HostPort;
use crate::tls::broker_server_name;

/// Requests that may wait for one connection; more are refused.
const REQUESTS_WAITING_MAX: usize = 128;
/// A peer that takes longer than this to let us in is treated as not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The kernel gives up on unacknowledged bytes after this; only a lost host or link shows it.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(4);

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The peer could not be reached; it has not seen the request.
    #[error("broker {peer} at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Who.
        peer: BrokerId,
        /// Where.
        address: HostPort,
        /// Why not.
        reason: String,
        /// The peer's machine answered that nobody listens there: no process.
        refused: bool,
    },
    /// The connection broke after the request was sent; the peer may have acted on it.
    #[error("the connection to broker {peer} broke")]
    Broken {
        /// Who.
        peer: BrokerId,
    },
    /// Too many requests wait for this peer; it has not seen this one.
    #[error("too many requests wait for broker {peer}")]
    Overloaded {
        /// Who.
        peer: BrokerId,
    },
    /// The peer answered something that is no answer to the question.
    #[error("broker {peer} gave an answer of the wrong kind")]
    WrongAnswer {
        /// Who.
        peer: BrokerId,
    },
}

/// What every outgoing connection needs to say who dials.
#[derive(Clone)]
pub struct Dialer {
    connector: TlsConnector,
    cluster_id: Arc<str>,
    this_broker: BrokerId,
}

/// An open, greeted connection.
#[derive(Debug)]
pub struct Greeted {
    /// The stream, after the greeting.
    pub stream: TlsStream<TcpStream>,
    /// The process at the other end.
    pub incarnation: u128,
    reader: Reader,
}

impl Dialer {
    /// A dialer for this broker.
    #[must_use]
    pub fn new(config: Arc<rustls::ClientConfig>, cluster_id: &str, this_broker: BrokerId) -> Self {
        Self { connector: TlsConnector::from(config), cluster_id: Arc::from(cluster_id), this_broker }
    }

    /// Connects to `peer`, checks that its certificate is its own, and says hello.
    ///
    /// # Errors
    /// [`RpcError::Unreachable`].
    pub async fn dial(&self, peer: BrokerId, address: &HostPort, purpose: Purpose) -> Result<Greeted, RpcError> {
        let unreachable =
            |reason: String, refused| RpcError::Unreachable { peer, address: address.clone(), reason, refused };
        match timeout(CONNECT_TIMEOUT, self.greet(peer, address, purpose)).await {
            Ok(Ok(greeted)) => Ok(greeted),
            Ok(Err((reason, refused))) => Err(unreachable(reason, refused)),
            Err(_) => Err(unreachable("no answer in time".to_owned(), false)),
        }
    }

    async fn greet(&self, peer: BrokerId, address: &HostPort, purpose: Purpose) -> Result<Greeted, (String, bool)> {
        let tcp = TcpStream::connect((address.host.as_str(), address.port))
            .await
            .map_err(|e| (e.to_string(), e.kind() == std::io::ErrorKind::ConnectionRefused))?;
        let soft = |e: std::io::Error| (e.to_string(), false);
        tcp.set_nodelay(true).map_err(soft)?;
        let socket = socket2::SockRef::from(&tcp);
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX)).map_err(soft)?;
        let keepalive =
            socket2::TcpKeepalive::new().with_time(Duration::from_secs(1)).with_interval(Duration::from_secs(1));
        socket.set_tcp_keepalive(&keepalive).map_err(soft)?;
        let mut stream = self.connector.connect(broker_server_name(peer), tcp).await.map_err(soft)?;
        let hello = Hello {
            version: PROTOCOL_VERSION,
            cluster_id: self.cluster_id.to_string(),
            broker: self.this_broker,
            purpose,
        };
        frame::write(&mut stream, &hello).await.map_err(|e| (e.to_string(), false))?;
        let mut reader = Reader::new(HELLO_BYTES_MAX);
        match reader.next(&mut stream).await.map_err(|e| (e.to_string(), false))? {
            Welcome::Accepted { incarnation } => {
                reader.set_limit(FRAME_BYTES_MAX);
                Ok(Greeted { stream, incarnation, reader })
            }
            Welcome::Refused(reason) => Err((format!("it refused: {reason}"), false)),
        }
    }

    /// Opens a connection of its own for one question.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn ask_once(&self, peer: BrokerId, address: &HostPort, request: Request) -> Result<Response, RpcError> {
        let Greeted { mut stream, mut reader, .. } = self.dial(peer, address, Purpose::Rpc).await?;
        let broken = |_| RpcError::Broken { peer };
        frame::write(&mut stream, &Numbered { id: 0, body: request }).await.map_err(broken)?;
        let answer: Numbered<Response> = reader.next(&mut stream).await.map_err(broken)?;
        Ok(answer.body)
    }
}

/// A connection to one peer, shared by all who ask it something.
#[derive(Clone)]
pub struct Link {
    peer: BrokerId,
    address: HostPort,
    outgoing: mpsc::Sender<Outgoing>,
}

struct Outgoing {
    request: Request,
    answer: oneshot::Sender<Result<Response, RpcError>>,
}

impl Link {
    /// A link that will connect when it is first used. Its task ends when the last clone is dropped.
    #[must_use]
    pub fn new(dialer: Dialer, peer: BrokerId, address: HostPort) -> Self {
        let (outgoing, waiting) = mpsc::channel(REQUESTS_WAITING_MAX);
        tokio::spawn(run(dialer, peer, address.clone(), waiting));
        Self { peer, address, outgoing }
    }

    /// Where this link goes.
    #[must_use]
    pub fn address(&self) -> &HostPort {
        &self.address
    }

    /// Asks, and waits for the answer for as long as the caller likes: dropping the future forgets the answer only.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn ask(&self, request: Request) -> Result<Response, RpcError> {
        let (answer, answered) = oneshot::channel();
        self.outgoing.try_send(Outgoing { request, answer }).map_err(|_| RpcError::Overloaded { peer: self.peer })?;
        answered.await.unwrap_or(Err(RpcError::Broken { peer: self.peer }))
    }
}

async fn run(dialer: Dialer, peer: BrokerId, address: HostPort, mut waiting: mpsc::Receiver<Outgoing>) {
    while let Some(first) = waiting.recv().await {
        if first.answer.is_closed() {
            continue;
        }
        match dialer.dial(peer, &address, Purpose::Rpc).await {
            Ok(greeted) => converse(greeted, peer, first, &mut waiting).await,
            Err(RpcError::Unreachable { reason, refused, .. }) => {
                // Whoever queued up meanwhile gets the same answer, instead of each waiting for its own attempt.
                let mut next = Some(first);
                while let Some(outgoing) = next {
                    let error =
                        RpcError::Unreachable { peer, address: address.clone(), reason: reason.clone(), refused };
                    let _ = outgoing.answer.send(Err(error));
                    next = waiting.try_recv().ok();
                }
            }
            Err(other) => {
                let _ = first.answer.send(Err(other));
            }
        }
    }
}

/// Sends and receives until the connection breaks; then everything unanswered is answered with that.
async fn converse(greeted: Greeted, peer: BrokerId, first: Outgoing, waiting: &mut mpsc::Receiver<Outgoing>) {
    let Greeted { stream, mut reader, .. } = greeted;
    let (mut incoming, mut sending) = tokio::io::split(stream);
    let mut unanswered: BTreeMap<u64, oneshot::Sender<Result<Response, RpcError>>> = BTreeMap::new();
    let mut next_id = 0;
    let mut next = Some(first);
    loop {
        if let Some(Outgoing { request, answer }) = next.take() {
            next_id += 1;
            // Whoever gave up waiting is forgotten here, so that a silent peer cannot make this grow.
            unanswered.retain(|_, waiter| !waiter.is_closed());
            let bytes = match frame::encode(&Numbered { id: next_id, body: request }) {
                Ok(bytes) => bytes,
                Err(error) => {
                    debug!(%peer, %error, "a request could not be encoded");
                    let _ = answer.send(Err(RpcError::Overloaded { peer }));
                    continue;
                }
            };
            unanswered.insert(next_id, answer);
            let sent = async {
                sending.write_all(&bytes).await?;
                sending.flush().await
            };
            if !matches!(timeout(UNACKNOWLEDGED_MAX, sent).await, Ok(Ok(()))) {
                break;
            }
        }
        tokio::select! {
            outgoing = waiting.recv() => match outgoing {
                Some(outgoing) => next = Some(outgoing),
                None => return,
            },
            answer = reader.next::<Numbered<Response>>(&mut incoming) => match answer {
                Ok(Numbered { id, body }) => {
                    if let Some(waiter) = unanswered.remove(&id) {
                        let _ = waiter.send(Ok(body));
                    }
                }
                Err(error) => {
                    debug!(%peer, %error, "control connection ended");
                    break;
                }
            },
        }
    }
    for (_, waiter) in unanswered {
        let _ = waiter.send(Err(RpcError::Broken { peer }));
    }
}
