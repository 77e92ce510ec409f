//! The frame loop over an in-memory pipe: order, caps, and every way in which a peer can misbehave.

use std::rc::Rc;

use tokio::io::{DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::oneshot;

use super::*;

/// Answers a request by its first byte: `r` at once, `b` at once with 32 MiB, `l` when the test says so, `n` never,
/// `x` by closing.
#[derive(Default)]
struct Scripted {
    handled: RefCell<Vec<Bytes>>,
    promised: RefCell<VecDeque<oneshot::Sender<()>>>,
}

impl Service for Scripted {
    fn handle(&self, request: Bytes) -> Handled {
        self.handled.borrow_mut().push(request.clone());
        match request.first() {
            Some(b'r') => Handled::Reply(framed(&request)),
            Some(b'b') => Handled::Reply(Frame::Whole(Bytes::from(vec![0; 32 << 20]))),
            Some(b'l') => {
                let (release, released) = oneshot::channel();
                self.promised.borrow_mut().push_back(release);
                let promise = Box::pin(async move {
                    released.await.map_err(|_| Closed::Refused("released by drop".to_owned()))?;
                    Ok(framed(&request))
                });
                Handled::Later { promise, bytes_max: 0 }
            }
            Some(b'n') => Handled::NoReply,
            _ => Handled::Close(Closed::Invalid("as scripted".to_owned())),
        }
    }
}

fn framed(body: &[u8]) -> Frame {
    Frame::Whole(Bytes::from(bytes_of(body)))
}

fn bytes_of(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

const LIMITS: Limits = Limits {
    frame_bytes_max: 4 << 20,
    requests_in_flight_max: 8,
    frame_time_max: Duration::from_secs(30),
    idle_time_max: Duration::from_secs(600),
};

struct Peer {
    service: Rc<Scripted>,
    write: WriteHalf<DuplexStream>,
    read: ReadHalf<DuplexStream>,
    connection: tokio::task::JoinHandle<Closed>,
}

impl Peer {
    fn connect(limits: Limits) -> Self {
        Self::connect_with(limits, |writer, _| WriteSink(writer))
    }

    fn connect_with<S: ByteSink + 'static>(
        limits: Limits,
        sink: impl FnOnce(WriteHalf<DuplexStream>, &Rc<Scripted>) -> S,
    ) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(theirs);
        let service = Rc::new(Scripted::default());
        let handler = Rc::clone(&service);
        let sink = sink(writer, &service);
        let connection =
            tokio::task::spawn_local(
                async move { serve(reader, sink, &*handler, limits, std::future::pending()).await },
            );
        let (read, write) = tokio::io::split(ours);
        Self { service, write, read, connection }
    }

    async fn send(&mut self, body: &[u8]) {
        self.write.write_all(&bytes_of(body)).await.expect("the connection reads");
    }

    async fn receive(&mut self) -> Vec<u8> {
        let len = self.read.read_u32().await.expect("a reply");
        let mut body = vec![0; len as usize];
        self.read.read_exact(&mut body).await.expect("the whole reply");
        body
    }

    async fn handled(&self, count: usize) {
        while self.service.handled.borrow().len() < count {
            tokio::task::yield_now().await;
        }
    }

    fn release(&self) {
        let released = self.service.promised.borrow_mut().pop_front().expect("a promise");
        released.send(()).expect("somebody waits");
    }

    fn release_last(&self) {
        let released = self.service.promised.borrow_mut().pop_back().expect("a promise");
        released.send(()).expect("somebody waits");
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn pipelined_requests_are_admitted_before_earlier_replies_and_answered_in_order() {
    run(async {
        let mut peer = Peer::connect(LIMITS);
        for body in [b"l1", b"r2", b"l3", b"r4"] {
            peer.send(body).await;
        }
        peer.handled(4).await;
        peer.release_last();
        peer.release();
        for body in [b"l1", b"r2", b"l3", b"r4"] {
            assert_eq!(peer.receive().await, body);
        }
    });
}

/// Notes how many requests were handled whenever replies leave.
struct Noting<W> {
    sink: WriteSink<W>,
    service: Rc<Scripted>,
    handled_at_writes: Rc<RefCell<Vec<usize>>>,
}

impl<W: AsyncWrite + Unpin> ByteSink for Noting<W> {
    async fn write_all_chunks(&mut self, chunks: &mut [Bytes]) -> io::Result<()> {
        self.handled_at_writes.borrow_mut().push(self.service.handled.borrow().len());
        self.sink.write_all_chunks(chunks).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.sink.finish().await
    }
}

#[test]
fn reply_that_is_ready_leaves_before_the_next_request_is_read() {
    run(async {
        let handled_at_writes = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&handled_at_writes);
        let mut peer = Peer::connect_with(LIMITS, |writer, service| Noting {
            sink: WriteSink(writer),
            service: Rc::clone(service),
            handled_at_writes: noted,
        });
        peer.send(b"l1").await;
        peer.handled(1).await;
        // Both are there when the connection has its next turn.
        peer.release();
        peer.send(b"r2").await;
        assert_eq!((peer.receive().await, peer.receive().await), (b"l1".to_vec(), b"r2".to_vec()));
        assert_eq!(*handled_at_writes.borrow(), [1, 2], "the peer got its first reply and then was read again");
    });
}

#[test]
fn request_without_reply_leaves_no_gap() {
    run(async {
        let mut peer = Peer::connect(LIMITS);
        for body in [b"r1", b"n2", b"r3"] {
            peer.send(body).await;
        }
        assert_eq!(peer.receive().await, b"r1");
        assert_eq!(peer.receive().await, b"r3");
    });
}

#[test]
fn in_flight_cap_leaves_further_requests_unread_until_replies_leave() {
    run(async {
        let mut peer = Peer::connect(LIMITS);
        for n in 0..20_u8 {
            peer.send(&[b'l', n]).await;
        }
        peer.handled(LIMITS.requests_in_flight_max).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(peer.service.handled.borrow().len(), LIMITS.requests_in_flight_max);
        for n in 0..20_u8 {
            peer.release();
            assert_eq!(peer.receive().await, [b'l', n]);
            peer.handled(20.min(LIMITS.requests_in_flight_max + usize::from(n) + 1)).await;
        }
    });
}

#[test]
fn frames_of_every_size_arrive_whole_however_they_are_cut() {
    run(async {
        let mut peer = Peer::connect(LIMITS);
        let sizes = [1, 3, 4, 100, 4092, 4093, 8188, 8192, 65_536, 70_000, 1 << 20, (3 << 20) + 17];
        for (round, cut) in [1_usize << 20, 8192, 5000].into_iter().enumerate() {
            let mut stream = Vec::new();
            for size in sizes {
                let mut body = vec![b'n'; size];
                body.iter_mut().skip(1).enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
                stream.extend(bytes_of(&body));
            }
            for piece in stream.chunks(cut) {
                peer.write.write_all(piece).await.expect("the connection reads");
                tokio::task::yield_now().await;
            }
            peer.handled(sizes.len() * (round + 1)).await;
        }
        for (request, size) in peer.service.handled.borrow().iter().zip(sizes.iter().cycle()) {
            assert_eq!(request.len(), *size);
            assert!(request.iter().skip(1).enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
        }
    });
}

#[test]
fn frame_oversized_or_negative_closes_before_memory_is_taken() {
    for prefix in [i32::MAX, (4 << 20) + 1, -1, i32::MIN, i32::from_be_bytes(*b"GET ")] {
        run(async {
            let mut peer = Peer::connect(LIMITS);
            peer.write.write_all(&prefix.to_be_bytes()).await.expect("the connection reads");
            let closed = peer.connection.await.expect("no panic");
            assert!(matches!(closed, Closed::Oversized { announced, .. } if announced == prefix), "{closed}");
        });
    }
}

#[test]
fn frame_truncated_closes_with_what_came() {
    run(async {
        let mut peer = Peer::connect(LIMITS);
        peer.write.write_all(&[0, 0, 0, 9, b'r', b'x']).await.expect("the connection reads");
        peer.write.shutdown().await.expect("half-close");
        let closed = peer.connection.await.expect("no panic");
        assert!(matches!(closed, Closed::Truncated { received: 6, announced: 13 }), "{closed}");
    });
}

#[test]
fn frame_that_trickles_closes_after_the_bound_though_bytes_keep_coming() {
    run(async {
        let mut peer = Peer::connect(LIMITS);
        let begun = Instant::now();
        peer.write.write_all(&100_u32.to_be_bytes()).await.expect("the connection reads");
        while !peer.connection.is_finished() {
            let _ = peer.write.write_all(b"x").await;
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(begun.elapsed() < Duration::from_secs(60), "never closed");
        }
        let closed = peer.connection.await.expect("no panic");
        assert!(matches!(closed, Closed::Slow { announced: 104, .. }), "{closed}");
    });
}

#[test]
fn idle_connection_closes_but_not_while_a_reply_is_owed() {
    run(async {
        let mut peer = Peer::connect(LIMITS);
        peer.send(b"l1").await;
        peer.handled(1).await;
        tokio::time::sleep(LIMITS.idle_time_max * 3).await;
        assert!(!peer.connection.is_finished(), "a reply was owed");
        peer.release();
        assert_eq!(peer.receive().await, b"l1");
        tokio::time::sleep(LIMITS.idle_time_max * 2).await;
        let closed = peer.connection.await.expect("no panic");
        assert!(matches!(closed, Closed::Idle { .. }), "{closed}");
    });
}

#[test]
fn half_closed_peer_still_gets_its_replies() {
    run(async {
        let mut peer = Peer::connect(LIMITS);
        peer.send(b"l1").await;
        peer.send(b"r2").await;
        peer.write.shutdown().await.expect("half-close");
        peer.handled(2).await;
        peer.release();
        assert_eq!(peer.receive().await, b"l1");
        assert_eq!(peer.receive().await, b"r2");
        assert!(matches!(peer.connection.await.expect("no panic"), Closed::ByPeer));
    });
}

#[test]
fn refused_request_closes_at_once_even_behind_a_promise() {
    run(async {
        let mut peer = Peer::connect(LIMITS);
        peer.send(b"l1").await;
        peer.send(b"x").await;
        let closed = peer.connection.await.expect("no panic");
        assert!(matches!(closed, Closed::Invalid(_)), "{closed}");
    });
}

#[test]
fn failed_promise_closes_the_connection() {
    run(async {
        let mut peer = Peer::connect(LIMITS);
        peer.send(b"l1").await;
        peer.handled(1).await;
        peer.service.promised.borrow_mut().clear();
        let closed = peer.connection.await.expect("no panic");
        assert!(matches!(closed, Closed::Refused(_)), "{closed}");
    });
}

#[test]
fn peer_that_does_not_take_its_replies_is_read_no_further_and_closed_after_the_bound() {
    run(async {
        let mut peer = Peer::connect(LIMITS);
        for _ in 0..6 {
            peer.send(b"b").await;
        }
        peer.handled(2).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(peer.service.handled.borrow().len() <= 3, "replies of 64 MiB are enough to stop reading");
        let closed = peer.connection.await.expect("no panic");
        assert!(matches!(closed, Closed::SlowReader { .. }), "{closed}");
    });
}
