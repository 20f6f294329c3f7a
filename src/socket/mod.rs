//! The UDP sockets. Nothing else touches UDP.
//!
//! What bounds a TFTP server is system calls per block, so datagrams are received and sent many at a time where the
//! system can do that (Linux: recvmmsg and sendmmsg), and one at a time elsewhere. Both ways tell the address that was
//! asked, where the system can tell it, and answer from it.

#[cfg(target_os = "linux")]
pub(crate) mod epoll;
#[cfg(target_os = "linux")]
mod linux;
pub(crate) mod mtu;
mod plain;
#[cfg(test)]
mod tests;

#[cfg(target_os = "linux")]
use std::cell::Cell;
use std::{
    cell::OnceCell,
    collections::VecDeque,
    io::{self, ErrorKind as Kind},
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use async_io::Async;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{endpoint::Envelope, server::Outgoing};

/// Datagrams received in one call.
const BATCH: usize = 64;
/// The largest UDP payload, with room to notice that something is larger.
const LARGEST: usize = 65536;
/// A storm of requests waits here while the server is busy. The kernel doubles it, and may grant less.
const BUFFER: usize = 4 << 20;

/// One bound socket.
#[derive(Debug)]
pub(crate) struct Port {
    socket: Arc<UdpSocket>,
    /// Made when smol's reactor is asked to wait.
    waiting: OnceCell<Async<Arc<UdpSocket>>>,
    local: SocketAddr,
    batched: bool,
    /// The largest datagram of a run that is left to the kernel to cut.
    #[cfg(target_os = "linux")]
    segment: Cell<usize>,
}

/// How a socket is bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub(crate) address: SocketAddr,
    /// Several sockets share the address, one for each shard.
    pub(crate) shared: bool,
    /// Requests come in by it, of which the interface is of interest.
    pub(crate) listens: bool,
    /// Use the fast way where there is one.
    pub(crate) batched: bool,
}

/// How many datagrams the system has dropped before a socket, for those who watch from elsewhere: it does not keep the
/// socket open.
#[derive(Debug)]
pub(crate) struct Drops {
    socket: Weak<UdpSocket>,
    /// What the system said last; it counts in 32 bits.
    last: u32,
    sum: u64,
}

/// Received datagrams; the memory is used again and again.
pub(crate) struct Inbox {
    /// How many were asked for last.
    #[cfg(target_os = "linux")]
    asked: usize,
    /// How many came last.
    #[cfg(target_os = "linux")]
    last: usize,
    /// Left untouched by small datagrams, and so not resident.
    buffer: Box<[u8]>,
    /// With the lengths.
    envelopes: Vec<(Envelope, usize)>,
}

impl Port {
    pub(crate) fn bind(binding: Binding) -> io::Result<Self> {
        let Binding { address, shared, listens, batched } = binding;
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        #[cfg(unix)]
        if shared {
            socket.set_reuse_port(true)?;
        }
        #[cfg(not(unix))]
        let _ = shared;
        socket.bind(&address.into())?;
        Self::prepare(socket, listens, batched)
    }

    /// Takes a socket that somebody else has bound.
    pub(crate) fn adopt(socket: UdpSocket, batched: bool) -> io::Result<Self> {
        Self::prepare(socket.into(), true, batched)
    }

    fn prepare(socket: Socket, listens: bool, batched: bool) -> io::Result<Self> {
        // Both are wishes: a smaller buffer and a missing address are borne.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr()?;
        #[cfg(target_os = "linux")]
        let batched = {
            linux::enlarge(&socket, BUFFER);
            // Told with each datagram, which costs: a socket of a single address gets them at no other.
            let tells = listens || local.ip().is_unspecified();
            batched && (!tells || linux::tell_local_address(&socket, local.is_ipv6()).is_ok())
        };
        #[cfg(not(target_os = "linux"))]
        let (_, _, batched) = (listens, batched, false);
        Ok(Self {
            socket: Arc::new(socket),
            waiting: OnceCell::new(),
            local,
            batched,
            #[cfg(target_os = "linux")]
            segment: Cell::new(usize::MAX),
        })
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn drops(&self) -> Box<dyn crate::stats::Drops> {
        Box::new(Drops { socket: Arc::downgrade(&self.socket), last: 0, sum: 0 })
    }

    /// Whether it gets IPv4 as well, with addresses that are none of IPv4's.
    pub(crate) fn is_dual(&self) -> bool {
        self.local.ip().is_unspecified()
            && self.local.is_ipv6()
            && SockRef::from(&self.socket).only_v6().is_ok_and(|only| !only)
    }

    /// Receives what is there, up to a batch.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there.
    pub(crate) fn receive(&self, inbox: &mut Inbox) -> io::Result<()> {
        loop {
            inbox.envelopes.clear();
            let received = match self.batched {
                #[cfg(target_os = "linux")]
                true => linux::receive(&self.socket, inbox),
                _ => plain::receive(&self.socket, inbox),
            };
            match received {
                // An earlier datagram was not wanted where it went: that says nothing about the socket.
                Err(error) if matches!(error.kind(), Kind::ConnectionRefused | Kind::ConnectionReset) => {}
                Err(error) if error.kind() == Kind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// As [`receive`](Self::receive), with smol's reactor to wait. Whether there is more is for the next call to find
    /// out.
    pub(crate) fn poll_receive(&self, cx: &mut Context<'_>, inbox: &mut Inbox) -> Poll<io::Result<()>> {
        loop {
            ready!(self.waiting()?.poll_readable(cx))?;
            match self.receive(inbox) {
                Err(error) if error.kind() == Kind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting()?.poll_writable(cx)
    }

    fn waiting(&self) -> io::Result<&Async<Arc<UdpSocket>>> {
        if self.waiting.get().is_none() {
            let _ = self.waiting.set(Async::new(self.socket.clone())?);
        }
        self.waiting.get().ok_or_else(|| Kind::Other.into())
    }

    /// Sends from the front of the queue until it is empty or the socket is full. A datagram that cannot be sent is
    /// lost, as on any wire.
    pub(crate) fn send(&self, queue: &mut VecDeque<Outgoing>) {
        send_all(queue, |queue| match self.batched {
            #[cfg(target_os = "linux")]
            true => linux::send(&self.socket, queue.make_contiguous(), &self.segment),
            _ => plain::send(&self.socket, &queue[0]),
        });
    }
}

/// Empties the queue by a `send` that tells how many datagrams it has sent from the front.
fn send_all(queue: &mut VecDeque<Outgoing>, mut send: impl FnMut(&mut VecDeque<Outgoing>) -> io::Result<usize>) {
    while !queue.is_empty() {
        match send(queue) {
            Ok(count) => drop(queue.drain(..count)),
            Err(error) if error.kind() == Kind::WouldBlock => return,
            Err(error) if error.kind() == Kind::Interrupted => {}
            Err(error) => {
                if let Some(lost) = queue.pop_front() {
                    log::debug!("{}: cannot send {} bytes: {error}", lost.to, lost.len());
                }
            }
        }
    }
}

impl crate::stats::Drops for Drops {
    /// As many as until now, or until the socket was closed if that is what was asked last.
    fn count(&mut self) -> u64 {
        #[cfg(target_os = "linux")]
        if let Some(count) = self.socket.upgrade().and_then(|socket| linux::dropped(&*socket)) {
            self.sum += u64::from(count.wrapping_sub(self.last));
            self.last = count;
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (&self.socket, self.last);
        self.sum
    }
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            asked: 0,
            #[cfg(target_os = "linux")]
            last: 0,
            buffer: vec![0; BATCH * LARGEST].into_boxed_slice(),
            envelopes: Vec::with_capacity(BATCH),
        }
    }

    /// Whether as many came as were asked for, so that there may be more.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_full(&self) -> bool {
        self.envelopes.len() == self.asked
    }

    pub(crate) fn len(&self) -> usize {
        self.envelopes.len()
    }

    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (Envelope, &[u8])> {
        self.envelopes
            .iter()
            .zip(self.buffer.chunks(LARGEST))
            .map(|((envelope, len), bytes)| (*envelope, &bytes[..*len]))
    }
}
