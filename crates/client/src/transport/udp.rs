//! The UDP socket under QUIC, with fewer system calls and wake-ups than the runtime's own.
//!
//! Two things cost much where many small datagrams travel between a few processes:
//!
//! * A socket that is registered for *writing* too is woken whenever the receiver takes one of its datagrams, since
//!   that frees room in its send buffer. It has nothing to write, looks, and sleeps again. So here a socket is
//!   registered for reading only; a writer registers when a send was refused, which happens when the buffer is full.
//! * After a read that filled only part of its buffers the socket is empty: a further read would say so at the price
//!   of another system call. The next datagram raises readiness again, since registration is edge-triggered.
//!
//! Client, broker and ceiling programs share it.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::transport::tuning::UDP_PAYLOAD_BYTES_MAX;

/// One call takes as many datagrams as there are, up to its buffers (`recvmmsg`).
const READS_ALL_THERE_IS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// What a UDP datagram, or several that the kernel has put together, hold at most.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Tokio's timers and tasks, with this module's sockets.
#[derive(Debug)]
pub struct QuicRuntime;

impl Runtime for QuicRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Arc::new(Socket { socket: registered(socket, Interest::READABLE)?, state, is_full: AtomicBool::new(false) }))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

#[expect(deprecated, reason = "its successor is unsafe; the socket is owned and stays open as long as this")]
fn registered(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

#[derive(Debug)]
struct Socket {
    socket: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    /// A send was refused, and nobody has seen room since.
    is_full: AtomicBool,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(RoomPoller { socket: self, registration: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.socket.get_ref().into(), transmit);
        if matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.is_full.store(true, Ordering::Release);
        }
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let room = buffers.len().min(meta.len());
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(context))?;
            // A datagram that comes during the call raises readiness anew, which neither way of clearing takes back.
            match ready.try_io(|socket| self.state.recv(socket.get_ref().into(), buffers, meta)) {
                Ok(received) => {
                    if READS_ALL_THERE_IS && matches!(received, Ok(count) if count < room) {
                        ready.clear_ready();
                    }
                    return Poll::Ready(received);
                }
                Err(_was_empty) => {}
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// As many as fill the largest datagram: the kernel puts no more together, and quinn makes room for this many
    /// payloads, 32 times over, for each endpoint. The kernel's own number would be 13 MB in place of 2.
    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments().min(DATAGRAM_BYTES_MAX.div_ceil(usize::from(UDP_PAYLOAD_BYTES_MAX)))
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits for room in the send buffer, for one connection.
#[derive(Debug)]
struct RoomPoller {
    socket: Arc<Socket>,
    /// A second descriptor of the socket, registered for writing while this connection waits.
    registration: Option<AsyncFd<UdpSocket>>,
}

impl UdpPoller for RoomPoller {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.registration.is_none() {
            if !self.socket.is_full.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
            let again = self.socket.socket.get_ref().try_clone()?;
            self.registration = Some(registered(again, Interest::WRITABLE)?);
        }
        let registration = self.registration.as_ref().expect("registered above");
        let has_room = ready!(registration.poll_write_ready(context)).map(drop);
        self.registration = None;
        self.socket.is_full.store(false, Ordering::Release);
        Poll::Ready(has_room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::net::Ipv4Addr;

    fn pair() -> (Arc<dyn AsyncUdpSocket>, UdpSocket) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        (QuicRuntime.wrap_udp_socket(socket).unwrap(), peer)
    }

    async fn receive(socket: &dyn AsyncUdpSocket) -> Vec<u8> {
        let mut buffers = [[0; 2048]; 4];
        let mut meta = [RecvMeta::default(); 4];
        let mut received = Vec::new();
        let count = poll_fn(|context| {
            let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
            socket.poll_recv(context, &mut slices, &mut meta)
        })
        .await
        .unwrap();
        for (buffer, meta) in buffers.iter().zip(&meta).take(count) {
            received.extend_from_slice(&buffer[..meta.len]);
        }
        received
    }

    #[tokio::test]
    async fn udp_every_datagram_is_seen_though_readiness_is_cleared_after_each_partial_read() {
        let (socket, peer) = pair();
        let address = socket.local_addr().unwrap();
        for value in 0..200u8 {
            peer.send_to(&[value], address).unwrap();
            assert_eq!(receive(&*socket).await, [value]);
        }
        // More than one read takes.
        for value in 0..10u8 {
            peer.send_to(&[value], address).unwrap();
        }
        let mut all = Vec::new();
        while all.len() < 10 {
            all.extend(receive(&*socket).await);
        }
        assert_eq!(all, (0..10).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn udp_refused_send_waits_for_room_and_goes_on() {
        let (socket, _peer) = pair();
        let mut poller = Arc::clone(&socket).create_io_poller();
        let is_writable = poll_fn(|context| Poll::Ready(poller.as_mut().poll_writable(context).is_ready())).await;
        assert!(is_writable, "nothing was refused yet");
        // A full send buffer cannot be made on loopback, where the receiver's buffer takes or drops at once; so the
        // mark that a refused send leaves is set by hand.
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        udp.set_nonblocking(true).unwrap();
        let state = UdpSocketState::new((&udp).into()).unwrap();
        let socket = registered(udp, Interest::READABLE).unwrap();
        let marked = Arc::new(Socket { socket, state, is_full: AtomicBool::new(true) });
        let mut poller = Arc::clone(&marked).create_io_poller();
        poll_fn(|context| poller.as_mut().poll_writable(context)).await.unwrap();
        assert!(!marked.is_full.load(Ordering::Acquire), "there was room");
    }
}
