//! One ordered Kafka connection over any pair of byte streams: a TCP or TLS socket, or one bidirectional QUIC stream.
//!
//! The whole connection is one task with two halves that run side by side and share a queue of replies:
//!
//! ```text
//!   bytes ─> [read half] frame ─> Service::handle ─> reply, or the promise of one ─┐
//!                                                                                  queue, in arrival order
//!   bytes <─ [write half] coalesced replies <──────────────────────────────────────┘
//! ```
//!
//! Invariants:
//! * Requests are decoded, admitted and appended in arrival order, because `handle` is synchronous and called for one
//!   frame after the other; no reply is waited for in between, up to the in-flight cap.
//! * Replies leave in arrival order, however their promises resolve.
//! * A length prefix is checked before memory is taken for the frame; memory beyond a small trusted amount grows only
//!   as bytes come.
//! * Whatever is wrong with the bytes ends this connection with a [`Closed`] reason and nothing else.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use minisr_wire::frame::{FrameError, FrameSplitter, LENGTH_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use crate::limits;

/// What a connection is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `socket.request.max.bytes`.
    pub frame_bytes_max: usize,
    /// Requests admitted and not answered.
    pub requests_in_flight_max: usize,
    /// How long one frame may take, before the extra time for its size.
    pub frame_time_max: Duration,
    /// `connections.max.idle.ms`: no request begun and none under way for this long.
    pub idle_time_max: Duration,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// The peer sent its last request, and every reply was written.
    #[error("the peer closed it")]
    ByPeer,
    /// This broker is stopping.
    #[error("this broker is stopping")]
    Stopping,
    /// Reading or writing failed; the peer is gone.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    /// The peer closed in the middle of a frame.
    #[error("truncated frame: the peer closed after {received} of {announced} bytes")]
    Truncated {
        /// Bytes of the frame that came (of its length prefix when `announced` is 4).
        received: usize,
        /// Bytes that were announced.
        announced: usize,
    },
    /// A length prefix beyond `socket.request.max.bytes`, or negative.
    #[error("frame of {announced} bytes refused: at most {max} are allowed")]
    Oversized {
        /// The length prefix.
        announced: i32,
        /// The limit.
        max: usize,
    },
    /// A frame was begun and did not end in time.
    #[error("slow frame: {received} of {announced} bytes came in {elapsed_ms} ms")]
    Slow {
        /// Bytes that came.
        received: usize,
        /// Bytes that were announced.
        announced: usize,
        /// Time since the first of them.
        elapsed_ms: u64,
    },
    /// Nothing was asked for too long.
    #[error("idle for {idle_ms} ms")]
    Idle {
        /// How long.
        idle_ms: u64,
    },
    /// The frame is not a request that can be understood.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The request was understood, and this peer must not send it.
    #[error("refused: {0}")]
    Refused(String),
    /// Replies were written and the peer did not take them in time.
    #[error("slow reader: {unwritten} bytes of replies were not taken within {allowed_ms} ms")]
    SlowReader {
        /// Bytes of the write that was given up, taken or not.
        unwritten: usize,
        /// The time allowed.
        allowed_ms: u64,
    },
    /// A request with acks=0 failed. It has no reply, so closing is the only way to tell (as Kafka does).
    #[error("a produce request with acks=0 failed: {0}")]
    UnacknowledgedFailure(String),
}

impl Closed {
    /// Whether an operator wants to read about it: something was wrong with what the peer did.
    #[must_use]
    pub fn is_misbehaviour(&self) -> bool {
        !matches!(self, Self::ByPeer | Self::Stopping | Self::Lost(_) | Self::Idle { .. })
    }

    /// The kind of reason, for counting.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ByPeer => "by peer",
            Self::Stopping => "stopping",
            Self::Lost(_) => "lost",
            Self::Truncated { .. } => "truncated frame",
            Self::Oversized { .. } => "oversized frame",
            Self::Slow { .. } => "slow frame",
            Self::SlowReader { .. } => "slow reader",
            Self::Idle { .. } => "idle",
            Self::Invalid(_) => "invalid request",
            Self::Refused(_) => "refused request",
            Self::UnacknowledgedFailure(_) => "acks=0 failure",
        }
    }
}

/// A reply as it goes to the peer, its length prefix included. Large parts stay separate so that nobody copies them.
#[derive(Debug)]
pub enum Frame {
    /// All in one piece.
    Whole(Bytes),
    /// In several, to be written one after the other.
    Chunks(Vec<Bytes>),
}

impl Frame {
    /// Its size.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Whole(chunk) => chunk.len(),
            Self::Chunks(chunks) => chunks.iter().map(Bytes::len).sum(),
        }
    }

    /// Whether it has no bytes, not even a length prefix.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a promised reply turns out to be.
pub type Promise = Pin<Box<dyn Future<Output = Result<Frame, Closed>>>>;

/// What became of one request.
pub enum Handled {
    /// It is answered.
    Reply(Frame),
    /// It is admitted; the reply comes later. The promise is polled when its turn has come, so it must not need to
    /// be polled to make progress that others wait for.
    Later {
        /// The reply.
        promise: Promise,
        /// How much memory the reply may take before it is written. Small for everything but fetched records.
        bytes_max: usize,
    },
    /// It is done and has no reply (acks=0).
    NoReply,
    /// The connection must end, now.
    Close(Closed),
}

/// What handles a connection's requests.
pub trait Service {
    /// Handles one request: the frame without its length prefix.
    fn handle(&self, request: Bytes) -> Handled;
}

/// Where reply bytes go.
#[allow(async_fn_in_trait, reason = "used with concrete types on one thread only")]
pub trait ByteSink {
    /// Writes all chunks, one after the other.
    async fn write_all_chunks(&mut self, chunks: &mut [Bytes]) -> io::Result<()>;
    /// Says that nothing more will come.
    async fn finish(&mut self) -> io::Result<()>;
}

/// A [`ByteSink`] over any [`AsyncWrite`]; vectored where that helps.
#[derive(Debug)]
pub struct WriteSink<W>(pub W);

impl<W: AsyncWrite + Unpin> ByteSink for WriteSink<W> {
    async fn write_all_chunks(&mut self, chunks: &mut [Bytes]) -> io::Result<()> {
        const SLICES_MAX: usize = 64;
        let mut first = 0;
        while first < chunks.len() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = chunks[first..].len().min(SLICES_MAX);
            for (slice, chunk) in slices.iter_mut().zip(&chunks[first..]) {
                *slice = IoSlice::new(chunk);
            }
            let mut written = self.0.write_vectored(&slices[..count]).await?;
            if written == 0 && chunks[first..].iter().any(|chunk| !chunk.is_empty()) {
                return Err(io::ErrorKind::WriteZero.into());
            }
            while first < chunks.len() && written >= chunks[first].len() {
                written -= chunks[first].len();
                first += 1;
            }
            if first < chunks.len() {
                chunks[first].advance(written);
            }
        }
        self.0.flush().await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// Serves one connection until it ends, and says why it ended. `stop` resolves when no more requests shall be read.
pub async fn serve<R, W, S>(
    reader: R,
    mut sink: W,
    service: &S,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> Closed
where
    R: AsyncRead + Unpin,
    W: ByteSink,
    S: Service,
{
    let replies = Replies::default();
    let read_half = async {
        let mut stop = pin!(stop);
        let mut frames = FrameReader::new(reader, limits);
        let mut handled_bytes = 0;
        let closed = loop {
            replies.room(limits.requests_in_flight_max).await;
            let request = tokio::select! {
                biased;
                () = &mut stop => break Closed::Stopping,
                request = frames.next(&replies) => match request {
                    Ok(Some(request)) => request,
                    Ok(None) => break Closed::ByPeer,
                    Err(closed) => return closed,
                },
            };
            handled_bytes += request.len();
            match service.handle(request) {
                Handled::Reply(frame) => replies.push(frame.len(), Slot::Ready(frame)),
                Handled::Later { promise, bytes_max } => replies.push(bytes_max, Slot::Promised(promise)),
                Handled::NoReply => {}
                Handled::Close(closed) => return closed,
            }
            if handled_bytes >= limits::TURN_BYTES_MAX {
                handled_bytes = 0;
                tokio::task::yield_now().await;
            }
        };
        // The peer may have half-closed and still wants its answers.
        match tokio::time::timeout(limits::DRAIN_TIME_MAX, replies.drained()).await {
            Ok(()) | Err(_) => closed,
        }
    };
    let write_half = async {
        let mut chunks = Vec::new();
        loop {
            if let Err(closed) = replies.next_chunks(&mut chunks).await {
                return closed;
            }
            let bytes: usize = chunks.iter().map(Bytes::len).sum();
            let allowed = time_for(limits.frame_time_max, bytes);
            match tokio::time::timeout(allowed, sink.write_all_chunks(&mut chunks)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Closed::Lost(error),
                Err(_) => {
                    return Closed::SlowReader { unwritten: bytes, allowed_ms: allowed.as_millis() as u64 };
                }
            }
            chunks.clear();
            replies.written();
        }
    };
    // What is ready leaves before more is read: the peer works on it while what it sent next is appended here. What the
    // read half handles in this turn is written in this turn.
    let closed = {
        let (mut read_half, mut write_half) = (pin!(read_half), pin!(write_half));
        std::future::poll_fn(|context| {
            if let Poll::Ready(closed) = write_half.as_mut().poll(context) {
                return Poll::Ready(closed);
            }
            replies.is_pushed.set(false);
            if let Poll::Ready(closed) = read_half.as_mut().poll(context) {
                return Poll::Ready(closed);
            }
            if replies.is_pushed.get() { write_half.as_mut().poll(context) } else { Poll::Pending }
        })
        .await
    };
    if matches!(closed, Closed::ByPeer | Closed::Stopping) {
        let _ = tokio::time::timeout(limits::DRAIN_TIME_MAX, sink.finish()).await;
    }
    closed
}

enum Slot {
    Ready(Frame),
    Promised(Promise),
}

/// The queue between the halves. Both run in one task, so a half that waits is polled again whenever the other half's
/// event wakes the task; only what the write half does *after* the read half was polled needs a wake of its own.
#[derive(Default)]
struct Replies {
    slots: RefCell<VecDeque<(usize, Slot)>>,
    /// What the replies in the queue and in the write under way may take.
    bytes: Cell<usize>,
    /// Replies taken from the queue and not yet written.
    writing: Cell<usize>,
    /// Their share of `bytes`.
    writing_bytes: Cell<usize>,
    /// The read half waits for room, or for the queue to drain.
    reader_waits: Cell<bool>,
    /// A reply was put into the queue since this was last cleared.
    is_pushed: Cell<bool>,
    /// Replies were taken or written since the read half was last polled.
    has_progressed: Cell<bool>,
    last_written: Cell<Option<Instant>>,
}

impl Replies {
    fn push(&self, bytes: usize, slot: Slot) {
        self.bytes.set(self.bytes.get() + bytes);
        self.is_pushed.set(true);
        self.slots.borrow_mut().push_back((bytes, slot));
    }

    fn in_flight(&self) -> usize {
        self.slots.borrow().len() + self.writing.get()
    }

    async fn room(&self, max: usize) {
        self.until(|replies| replies.in_flight() < max && replies.bytes.get() < limits::REPLY_BYTES_MAX).await;
    }

    async fn drained(&self) {
        self.until(|replies| replies.in_flight() == 0).await;
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        std::future::poll_fn(|_| {
            let is_met = condition(self);
            self.reader_waits.set(!is_met);
            if is_met { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn written(&self) {
        self.writing.set(0);
        self.bytes.set(self.bytes.get() - self.writing_bytes.replace(0));
        self.has_progressed.set(true);
        self.last_written.set(Some(Instant::now()));
    }

    /// Waits until the oldest reply is there, then takes it and every further one that is ready behind it.
    async fn next_chunks(&self, chunks: &mut Vec<Bytes>) -> Result<(), Closed> {
        std::future::poll_fn(|context| self.poll_chunks(context, chunks)).await
    }

    fn poll_chunks(&self, context: &mut Context<'_>, chunks: &mut Vec<Bytes>) -> Poll<Result<(), Closed>> {
        // Only reached after the last write ended, so the read half may have room again.
        let mut gathered = Gathered { chunks, small: BytesMut::new(), bytes: 0 };
        let mut taken = 0;
        let mut taken_bytes = 0;
        let closed = loop {
            if gathered.bytes >= limits::WRITE_BYTES_MAX {
                break None;
            }
            let Some((bytes, slot)) = self.slots.borrow_mut().pop_front() else { break None };
            match slot {
                Slot::Ready(frame) => gathered.add(frame),
                Slot::Promised(mut promise) => match promise.as_mut().poll(context) {
                    Poll::Ready(Ok(frame)) => gathered.add(frame),
                    Poll::Ready(Err(closed)) => break Some(closed),
                    Poll::Pending => {
                        self.slots.borrow_mut().push_front((bytes, Slot::Promised(promise)));
                        break None;
                    }
                },
            }
            taken += 1;
            taken_bytes += bytes;
        };
        gathered.finish();
        self.writing.set(taken);
        self.writing_bytes.set(taken_bytes);
        if (self.has_progressed.take() || taken > 0) && self.reader_waits.get() {
            // Polled before this half in this turn: it must look again.
            context.waker().wake_by_ref();
        }
        match closed {
            Some(closed) => Poll::Ready(Err(closed)),
            None if taken > 0 => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }
}

/// Collects reply bytes: small ones side by side in one buffer, large ones as they are.
struct Gathered<'a> {
    chunks: &'a mut Vec<Bytes>,
    small: BytesMut,
    bytes: usize,
}

impl Gathered<'_> {
    fn add(&mut self, frame: Frame) {
        match frame {
            Frame::Whole(chunk) => self.add_chunk(chunk),
            Frame::Chunks(chunks) => chunks.into_iter().for_each(|chunk| self.add_chunk(chunk)),
        }
    }

    fn add_chunk(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        if chunk.len() <= limits::COALESCE_BYTES_MAX {
            self.small.extend_from_slice(&chunk);
        } else {
            self.finish();
            self.chunks.push(chunk);
        }
    }

    fn finish(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push(self.small.split().freeze());
        }
    }
}

/// Reads the byte stream frame by frame, and watches how long each takes.
struct FrameReader<R> {
    reader: R,
    limits: Limits,
    frames: FrameSplitter,
    /// When the first byte of the frame under way came, or when the last frame was complete.
    since: Instant,
    /// One timer for the life of the connection, re-armed only when it fires: frames come far more often.
    check: Pin<Box<tokio::time::Sleep>>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    fn new(reader: R, limits: Limits) -> Self {
        let now = Instant::now();
        let first_check = limits.frame_time_max.min(limits.idle_time_max);
        let frames = FrameSplitter::new(limits.frame_bytes_max, limits::FRAME_BYTES_TRUSTED);
        Self { reader, limits, frames, since: now, check: Box::pin(tokio::time::sleep(first_check)) }
    }

    /// The next frame without its prefix; `None` when the peer closed between two frames. Cancelling loses nothing.
    async fn next(&mut self, replies: &Replies) -> Result<Option<Bytes>, Closed> {
        loop {
            if let Some(frame) = self.frames.next_frame().map_err(|error| self.oversized(error))? {
                self.since = Instant::now();
                return Ok(Some(frame));
            }
            let announced = self.frames.announced_bytes().map_err(|error| self.oversized(error))?;
            let was_empty = self.frames.pending_bytes() == 0;
            let read = tokio::select! {
                biased;
                read = read_some(&mut self.reader, &mut self.frames) => read,
                () = &mut self.check => {
                    self.check_time(announced, replies)?;
                    continue;
                }
            };
            match (read, self.frames.pending_bytes()) {
                (Ok(0), 0) => return Ok(None),
                (Ok(0), received) => {
                    return Err(Closed::Truncated { received, announced: LENGTH_BYTES + announced.unwrap_or(0) });
                }
                (Ok(_), _) if was_empty => self.since = Instant::now(),
                (Ok(_), _) => {}
                (Err(error), _) => return Err(Closed::Lost(error)),
            }
        }
    }

    fn oversized(&self, error: FrameError) -> Closed {
        let announced = match error {
            FrameError::Negative { length } => length,
            FrameError::Oversized { length, .. } => i32::try_from(length).unwrap_or(i32::MAX),
        };
        Closed::Oversized { announced, max: self.limits.frame_bytes_max }
    }

    fn check_time(&mut self, announced: Option<usize>, replies: &Replies) -> Result<(), Closed> {
        let now = Instant::now();
        let received = self.frames.pending_bytes();
        if received > 0 {
            let elapsed = now - self.since;
            let allowed = time_for(self.limits.frame_time_max, announced.unwrap_or(0));
            if elapsed >= allowed {
                let announced = LENGTH_BYTES + announced.unwrap_or(0);
                return Err(Closed::Slow { received, announced, elapsed_ms: elapsed.as_millis() as u64 });
            }
            self.check.as_mut().reset(self.since + allowed);
            return Ok(());
        }
        let last = replies.last_written.get().map_or(self.since, |written| written.max(self.since));
        let idle = now - last;
        if replies.in_flight() == 0 && idle >= self.limits.idle_time_max {
            return Err(Closed::Idle { idle_ms: idle.as_millis() as u64 });
        }
        // Early enough for a frame that begins right now.
        self.check.as_mut().reset(now + self.limits.frame_time_max.min(self.limits.idle_time_max));
        Ok(())
    }
}

/// How long `bytes` may take on the way.
fn time_for(base: Duration, bytes: usize) -> Duration {
    base + limits::FRAME_TIME_PER_MIB * u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

async fn read_some<R: AsyncRead + Unpin>(reader: &mut R, frames: &mut FrameSplitter) -> io::Result<usize> {
    reader.read_buf(&mut frames.space()).await
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
