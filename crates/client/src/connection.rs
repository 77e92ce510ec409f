//! One ordered, pipelined Kafka connection on a byte stream.
//!
//! Requests go out in the order in which they were handed over, without waiting for earlier answers; answers come in
//! the same order and are matched first in, first out, their correlation ids checked. Handing a request over is
//! synchronous ([`Connection::send`]), so callers keep their order without a lock; what gathers while a write is
//! under way leaves in one vectored write.
//!
//! When a connection ends, every request learns whether it was certainly *never written* or perhaps *applied*: that
//! is the difference between a failed operation and an unknown one.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use minisr_wire::frame::FRAME_BYTES_MAX;
use minisr_wire::header::peek_correlation_id;
use minisr_wire::message::{decode_response, encode_request};
use minisr_wire::messages::{ApiVersionsRequest, ApiVersionsResponse, ProduceRequest};
use minisr_wire::protocol::Request;
use minisr_wire::scatter::encode_produce_request;
use minisr_wire::{Chunks, DecodeError, EncodeError, ErrorCode, FrameSplitter, StrBytes};

use crate::sasl::{self, SaslCredentials, SaslError};
use crate::transport::{Address, ByteStream, DialError, Dialer, ReadHalf, WriteHalf};

/// Memory taken for an answer on the word of its length prefix alone: a fetch's default limit. Brokers are believed more
/// than clients are.
const FRAME_BYTES_TRUSTED: usize = 16 << 20;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// This side closed it.
    #[error("closed by this side")]
    Local,
    /// The broker closed it.
    #[error("closed by the broker")]
    Remote,
    /// This side gave up on it.
    #[error("given up: {0}")]
    Abandoned(String),
    /// Reading or writing failed.
    #[error("input/output failed: {0}")]
    Io(String),
    /// The broker sent something that is not the protocol.
    #[error("protocol violated: {0}")]
    Protocol(String),
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// No byte of it was written: it certainly had no effect.
    #[error("request was never written: {0}")]
    NotWritten(CloseReason),
    /// It was written, perhaps in part: it may have been applied.
    #[error("request was written, its fate is unknown: {0}")]
    Unknown(CloseReason),
    /// It cannot be encoded.
    #[error("request cannot be encoded: {0}")]
    Encode(String),
    /// The answer cannot be decoded; the request was applied or refused, we cannot tell.
    #[error("answer cannot be decoded: {0}")]
    Decode(String),
}

impl ConnectionError {
    /// Whether the request may have had an effect.
    #[must_use]
    pub const fn may_have_been_applied(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Decode(_))
    }
}

/// Why a connection could not be set up.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// No byte stream.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The exchange of versions failed.
    #[error("versions cannot be negotiated: {0}")]
    Negotiate(#[from] ConnectionError),
    /// The broker refused to name its versions.
    #[error("broker refuses ApiVersions: {0}")]
    Refused(ErrorCode),
    /// The broker does not believe who we are, or we do not believe the broker.
    #[error(transparent)]
    Sasl(#[from] SaslError),
}

/// Settings of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// `client.id`, sent with every request.
    pub client_id: StrBytes,
    /// Largest response accepted.
    pub frame_bytes_max: usize,
    /// Who we are; `None` where nobody asks.
    pub sasl: Option<SaslCredentials>,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self { client_id: StrBytes::from_static_str("minisr"), frame_bytes_max: FRAME_BYTES_MAX, sasl: None }
    }
}

impl ConnectionConfig {
    /// The defaults, with this client id.
    #[must_use]
    pub fn named(client_id: impl Into<String>) -> Self {
        Self { client_id: StrBytes::from_string(client_id.into()), ..Self::default() }
    }
}

/// The versions that a broker serves, from ApiVersions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    ranges: BTreeMap<i16, (i16, i16)>,
}

/// The broker and this client have no version of an API in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broker serves no version of api key {api_key} that this client speaks")]
pub struct Unsupported {
    /// The API.
    pub api_key: i16,
}

impl Versions {
    /// Takes the ranges out of a response.
    #[must_use]
    pub fn from_response(response: &ApiVersionsResponse) -> Self {
        let ranges = response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Self { ranges }
    }

    /// The highest version of `R` that both sides know, and that is at most `version_max`.
    ///
    /// # Errors
    /// There is none.
    pub fn highest<R: Request>(&self, version_max: i16) -> Result<i16, Unsupported> {
        let unsupported = Unsupported { api_key: R::KEY };
        let &(min, max) = self.ranges.get(&R::KEY).ok_or(unsupported)?;
        let highest = max.min(R::VERSIONS.max).min(version_max);
        if highest >= min.max(R::VERSIONS.min) { Ok(highest) } else { Err(unsupported) }
    }
}

/// Where the answer to a raw frame goes.
#[derive(Debug)]
pub enum ReplyTo {
    /// There is no answer (Produce with acks=0); the channel is told, with an empty frame, when all of it is written.
    Written(mpsc::UnboundedSender<Tagged>, u64),
    /// To one waiting future.
    Oneshot(oneshot::Sender<Result<Bytes, ConnectionError>>),
    /// To a channel that many requests share, with a tag: no task and no future per request.
    Tagged(mpsc::UnboundedSender<Tagged>, u64),
}

/// What a shared channel receives.
#[derive(Debug)]
pub struct Tagged {
    /// The tag of the request.
    pub tag: u64,
    /// The response frame, or why there is none.
    pub result: Result<Bytes, ConnectionError>,
}

impl ReplyTo {
    fn complete(self, result: Result<Bytes, ConnectionError>) {
        // A receiver that is gone has lost interest; that is its right.
        match self {
            Self::Oneshot(sender) => drop(sender.send(result)),
            Self::Written(sender, tag) | Self::Tagged(sender, tag) => drop(sender.send(Tagged { tag, result })),
        }
    }
}

struct Queued {
    frame: Chunks,
    correlation_id: i32,
    reply_to: ReplyTo,
}

struct Waiting {
    correlation_id: i32,
    reply_to: ReplyTo,
}

struct State {
    /// Handed over, no byte written.
    queued: VecDeque<Queued>,
    /// Given to the stream, answers expected in this order.
    waiting: VecDeque<Waiting>,
    next_correlation_id: i32,
    /// When bytes last came in, or when the oldest waiting request began to wait with nothing before it.
    progress_at: Instant,
    closed: Option<CloseReason>,
    writer: Option<std::task::Waker>,
}

struct Shared {
    state: Mutex<State>,
    closed: watch::Sender<bool>,
    config: ConnectionConfig,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn reason(&self) -> CloseReason {
        self.state().closed.clone().unwrap_or(CloseReason::Local)
    }

    /// Ends the connection, once: everything queued was never written, everything waiting is unknown.
    fn close(&self, reason: CloseReason) {
        let (queued, waiting, writer) = {
            let mut state = self.state();
            if state.closed.is_some() {
                return;
            }
            state.closed = Some(reason.clone());
            (std::mem::take(&mut state.queued), std::mem::take(&mut state.waiting), state.writer.take())
        };
        self.closed.send_replace(true);
        for waiting in waiting {
            waiting.reply_to.complete(Err(ConnectionError::Unknown(reason.clone())));
        }
        for queued in queued {
            queued.reply_to.complete(Err(ConnectionError::NotWritten(reason.clone())));
        }
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

/// Closes the connection when the last handle goes.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close(CloseReason::Local);
    }
}

/// A handle to one connection; clones share it. The connection ends when the last handle is dropped.
#[derive(Clone)]
pub struct Connection {
    owner: Arc<Owner>,
    versions: Arc<Versions>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("closed", &self.close_reason()).finish_non_exhaustive()
    }
}

/// An answer that is on its way.
#[derive(Debug)]
#[must_use = "without it nobody learns what became of the request"]
pub struct Pending<R> {
    receiver: oneshot::Receiver<Result<Bytes, ConnectionError>>,
    version: i16,
    response: PhantomData<fn() -> R>,
}

impl<R: Request> Pending<R> {
    /// Waits for the answer. Dropping the future is allowed at any time and disturbs nobody.
    ///
    /// # Errors
    /// There is none.
    pub async fn response(self) -> Result<R::Response, ConnectionError> {
        let frame = match self.receiver.await {
            Ok(result) => result?,
            // The connection answers everyone before it goes; only a runtime that is shut down gets here.
            Err(_) => return Err(ConnectionError::Unknown(CloseReason::Local)),
        };
        decode::<R>(frame, self.version)
    }
}

/// Decodes the frame that [`Connection::send_encoded`] brought back.
///
/// # Errors
/// It is not a response of this type and version.
pub fn decode<R: Request>(frame: Bytes, version: i16) -> Result<R::Response, ConnectionError> {
    let decoded: Result<_, DecodeError> = decode_response::<R>(frame, version);
    decoded.map(|(_, response)| response).map_err(|error| ConnectionError::Decode(error.to_string()))
}

impl Connection {
    /// Runs the protocol on a byte stream, without asking for versions. Spawns two tasks.
    #[must_use]
    pub fn start(stream: ByteStream, config: ConnectionConfig) -> Self {
        let state = State {
            queued: VecDeque::new(),
            waiting: VecDeque::new(),
            next_correlation_id: 0,
            progress_at: Instant::now(),
            closed: None,
            writer: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), closed: watch::Sender::new(false), config });
        tokio::spawn(write_loop(stream.writer, shared.clone()));
        tokio::spawn(read_loop(stream.reader, shared.clone()));
        Self { owner: Arc::new(Owner { shared }), versions: Arc::default() }
    }

    /// Runs the protocol on a byte stream and asks for the broker's versions.
    ///
    /// # Errors
    /// The broker does not tell.
    pub async fn negotiate(stream: ByteStream, config: ConnectionConfig) -> Result<Self, ConnectError> {
        let mut connection = Self::start(stream, config);
        connection.versions = Arc::new(connection.ask_versions().await?);
        Ok(connection)
    }

    /// Opens a byte stream with the dialer, negotiates and, with credentials, authenticates, all within the dialer's
    /// timeout.
    ///
    /// # Errors
    /// The broker cannot be reached, does not tell its versions, or does not accept the credentials.
    pub async fn open(dialer: &Dialer, address: &Address, config: ConnectionConfig) -> Result<Self, ConnectError> {
        let stream = dialer.open(address).await?;
        let timeout = dialer.connect_timeout();
        let set_up = async {
            let credentials = config.sasl.clone();
            let connection = Self::negotiate(stream, config).await?;
            if let Some(credentials) = credentials {
                sasl::authenticate(&connection, &credentials).await?;
            }
            Ok::<_, ConnectError>(connection)
        };
        tokio::time::timeout(timeout, set_up)
            .await
            .map_err(|_| DialError::Timeout { address: address.clone(), timeout })?
    }

    async fn ask_versions(&self) -> Result<Versions, ConnectError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("minisr"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let (version, oldest) = (3, 0);
        let frame = self.exchange(&request, version).await?;
        // A broker that does not know the version says so in the oldest form.
        let code = frame.get(4..6).map_or(0, |code| i16::from_be_bytes([code[0], code[1]]));
        let version = if ErrorCode(code) == ErrorCode::UNSUPPORTED_VERSION { oldest } else { version };
        let mut response = decode::<ApiVersionsRequest>(frame, version)?;
        if version == oldest && response.api_keys.is_empty() {
            let frame = self.exchange(&ApiVersionsRequest::default(), oldest).await?;
            response = decode::<ApiVersionsRequest>(frame, oldest)?;
        }
        match ErrorCode(response.error_code) {
            code if code.is_ok() || (version == oldest && code == ErrorCode::UNSUPPORTED_VERSION) => {
                Ok(Versions::from_response(&response))
            }
            code => Err(ConnectError::Refused(code)),
        }
    }

    /// What the broker serves; empty unless negotiated.
    #[must_use]
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// There is none.
    pub async fn call<R: Request>(&self, request: &R, version: i16) -> Result<R::Response, ConnectionError> {
        self.send(request, version)?.response().await
    }

    /// Hands a request over; requests leave in the order of these calls. Not for acks=0, which has no answer.
    ///
    /// # Errors
    /// It cannot be encoded, or the connection is closed.
    pub fn send<R: Request>(&self, request: &R, version: i16) -> Result<Pending<R>, ConnectionError> {
        let (sender, receiver) = oneshot::channel();
        self.send_encoded(ReplyTo::Oneshot(sender), |correlation_id, client_id| {
            encode_request(correlation_id, client_id, request, version).map(Chunks::from)
        })?;
        Ok(Pending { receiver, version, response: PhantomData })
    }

    /// Hands a Produce request over, its record bytes shared, not copied.
    ///
    /// # Errors
    /// It cannot be encoded, or the connection is closed; `reply_to` is not told then.
    pub fn send_produce(
        &self,
        request: &ProduceRequest,
        version: i16,
        reply_to: ReplyTo,
    ) -> Result<(), ConnectionError> {
        self.send_encoded(reply_to, |correlation_id, client_id| {
            encode_produce_request(correlation_id, client_id, request, version)
        })
    }

    /// Hands over a frame that `encode` makes from the correlation id and client id it is given.
    ///
    /// # Errors
    /// It cannot be encoded, or the connection is closed; `reply_to` is not told then.
    pub fn send_encoded(
        &self,
        reply_to: ReplyTo,
        encode: impl FnOnce(i32, Option<&StrBytes>) -> Result<Chunks, EncodeError>,
    ) -> Result<(), ConnectionError> {
        let shared = &self.owner.shared;
        // The lock is held while encoding: correlation ids and frames must leave in the same order.
        let mut state = shared.state();
        if let Some(reason) = &state.closed {
            return Err(ConnectionError::NotWritten(reason.clone()));
        }
        let correlation_id = state.next_correlation_id;
        let frame = encode(correlation_id, Some(&shared.config.client_id))
            .map_err(|error| ConnectionError::Encode(error.to_string()))?;
        state.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        if state.waiting.is_empty() && state.queued.is_empty() {
            state.progress_at = Instant::now();
        }
        state.queued.push_back(Queued { frame, correlation_id, reply_to });
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(())
    }

    async fn exchange<R: Request>(&self, request: &R, version: i16) -> Result<Bytes, ConnectionError> {
        let (sender, receiver) = oneshot::channel();
        self.send_encoded(ReplyTo::Oneshot(sender), |correlation_id, client_id| {
            encode_request(correlation_id, client_id, request, version).map(Chunks::from)
        })?;
        receiver.await.map_err(|_| ConnectionError::Unknown(CloseReason::Local))?
    }

    /// How long requests have been outstanding without a byte from the broker; zero when nothing is outstanding.
    #[must_use]
    pub fn stalled_for(&self) -> Duration {
        let state = self.owner.shared.state();
        if state.waiting.is_empty() && state.queued.is_empty() {
            return Duration::ZERO;
        }
        state.progress_at.elapsed()
    }

    /// Requests handed over and not answered.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        let state = self.owner.shared.state();
        state.waiting.len() + state.queued.len()
    }

    /// Why the connection ended, if it has.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.owner.shared.state().closed.clone()
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.owner.shared.closed.borrow()
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) {
        let mut closed = self.owner.shared.closed.subscribe();
        // The sender lives in `shared`, which this handle keeps alive.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Ends the connection: everything outstanding fails at once, as unknown or as never written.
    pub fn close(&self, why: impl Into<String>) {
        self.owner.shared.close(CloseReason::Abandoned(why.into()));
    }
}

/// Waits until something is queued and moves all of it to `waiting`: from then on its fate is unknown.
///
/// Requests without an answer go to `unanswered` instead: their fate is known when they are written.
async fn take_queued(shared: &Shared, pieces: &mut Vec<Bytes>, unanswered: &mut Vec<ReplyTo>) -> Option<()> {
    std::future::poll_fn(|context| {
        let mut state = shared.state();
        if state.closed.is_some() {
            return std::task::Poll::Ready(None);
        }
        if state.queued.is_empty() {
            state.writer = Some(context.waker().clone());
            return std::task::Poll::Pending;
        }
        while let Some(Queued { frame, correlation_id, reply_to }) = state.queued.pop_front() {
            pieces.extend(frame.into_pieces());
            match reply_to {
                ReplyTo::Written(..) => unanswered.push(reply_to),
                _ => state.waiting.push_back(Waiting { correlation_id, reply_to }),
            }
        }
        std::task::Poll::Ready(Some(()))
    })
    .await
}

async fn write_loop(mut writer: WriteHalf, shared: Arc<Shared>) {
    let mut closed = shared.closed.subscribe();
    let mut pieces = Vec::new();
    let mut unanswered = Vec::new();
    while take_queued(&shared, &mut pieces, &mut unanswered).await.is_some() {
        let failure = tokio::select! {
            result = writer.write_pieces(&mut pieces) => result.err().map(|error| CloseReason::Io(error.to_string())),
            _ = closed.wait_for(|closed| *closed) => Some(shared.reason()),
        };
        pieces.clear();
        for reply_to in unanswered.drain(..) {
            reply_to.complete(match &failure {
                None => Ok(Bytes::new()),
                Some(reason) => Err(ConnectionError::Unknown(reason.clone())),
            });
        }
        if let Some(reason) = failure {
            shared.close(reason);
            return;
        }
    }
    let _ = writer.finish().await;
}

async fn read_loop(mut reader: ReadHalf, shared: Arc<Shared>) {
    let mut closed = shared.closed.subscribe();
    let mut splitter = FrameSplitter::new(shared.config.frame_bytes_max, FRAME_BYTES_TRUSTED);
    loop {
        let read = tokio::select! {
            read = reader.read_into(&mut splitter) => read,
            _ = closed.wait_for(|closed| *closed) => return,
        };
        let reason = match read {
            Ok(0) => Some(CloseReason::Remote),
            Ok(_) => take_answers(&shared, &mut splitter).err(),
            Err(error) => Some(CloseReason::Io(error.to_string())),
        };
        if let Some(reason) = reason {
            shared.close(reason);
            return;
        }
    }
}

/// Gives every complete answer to whoever waits for it.
fn take_answers(shared: &Shared, splitter: &mut FrameSplitter) -> Result<(), CloseReason> {
    shared.state().progress_at = Instant::now();
    loop {
        let frame = match splitter.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            Err(error) => return Err(CloseReason::Protocol(error.to_string())),
        };
        let Some(correlation_id) = peek_correlation_id(&frame) else {
            return Err(CloseReason::Protocol(format!("response of {} bytes has no correlation id", frame.len())));
        };
        let waiting = {
            let mut state = shared.state();
            match state.waiting.front() {
                Some(waiting) if waiting.correlation_id == correlation_id => state.waiting.pop_front(),
                Some(waiting) => {
                    let expected = waiting.correlation_id;
                    return Err(CloseReason::Protocol(format!(
                        "response to request {correlation_id} where that to {expected} was due"
                    )));
                }
                None => return Err(CloseReason::Protocol(format!("response {correlation_id} to no request"))),
            }
        };
        if let Some(waiting) = waiting {
            waiting.reply_to.complete(Ok(frame));
        }
    }
}
