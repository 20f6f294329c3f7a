//! The UDP sockets. Nothing else touches UDP.
//!
//! What bounds a TFTP server is system calls per block, so datagrams are received and sent many at a time where the
//! system can do that (Linux: recvmmsg and sendmmsg), and one at a time elsewhere. Both ways tell the address that was
//! asked, where the system can tell it, and answer from it.

mod bind;
#[cfg(target_os = "linux")]
pub(crate) mod epoll;
#[cfg(target_os = "linux")]
mod linux;
pub(crate) mod mtu;
mod plain;
#[cfg(test)]
mod tests;

use std::{
    cell::OnceCell,
    collections::VecDeque,
    io::{self, ErrorKind as Kind},
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use async_io::Async;
use socket2::SockRef;

#[cfg(feature = "web")]
pub(crate) use bind::listen;
pub(crate) use bind::{Binding, Role, Share};

use crate::{endpoint::Envelope, server::Outgoing};

/// Datagrams received in one call.
const BATCH: usize = 64;
/// The largest UDP payload, with room to notice that something is larger.
const LARGEST: usize = 65536;
/// How often a datagram is tried again that fails for an error which may be an earlier one's.
const TRIES: usize = 2;

/// One bound socket.
#[derive(Debug)]
pub(crate) struct Port {
    socket: Arc<UdpSocket>,
    /// Made when smol's reactor is asked to wait.
    waiting: OnceCell<Async<Arc<UdpSocket>>>,
    local: SocketAddr,
    batched: bool,
    /// Whether no interface had the address when it was bound.
    awaited: bool,
    #[cfg(target_os = "linux")]
    narrow: linux::Narrow,
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
    gone: Vec<SocketAddr>,
}

impl Port {
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether no interface had its address when it was bound: it gets nothing before one has.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited
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

    /// Receives what is there, up to a batch: datagrams, and which peers are [gone](Inbox::gone). `failed`: the system
    /// has said that there is an error to be received.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there.
    pub(crate) fn receive(&self, inbox: &mut Inbox, failed: bool) -> io::Result<()> {
        inbox.envelopes.clear();
        inbox.gone.clear();
        if failed {
            self.receive_errors(inbox);
        }
        loop {
            let received = match self.batched {
                #[cfg(target_os = "linux")]
                true => linux::receive(&self.socket, inbox),
                _ => plain::receive(&self.socket, inbox),
            };
            match received {
                Err(error) if error.kind() == Kind::Interrupted => {}
                Err(error) if is_of_earlier(&error) => self.receive_errors(inbox),
                Err(error) if error.kind() == Kind::WouldBlock => {
                    // What woke the caller may be an error that a call to send has told.
                    if inbox.gone.is_empty() && !failed {
                        self.receive_errors(inbox);
                    }
                    return if inbox.gone.is_empty() { Err(error) } else { Ok(()) };
                }
                other => return other,
            }
        }
    }

    fn receive_errors(&self, inbox: &mut Inbox) {
        #[cfg(target_os = "linux")]
        linux::receive_errors(&self.socket, &mut inbox.gone);
        #[cfg(not(target_os = "linux"))]
        let _ = inbox;
    }

    /// As [`receive`](Self::receive), with smol's reactor to wait. Whether there is more is for the next call to find
    /// out.
    pub(crate) fn poll_receive(&self, cx: &mut Context<'_>, inbox: &mut Inbox) -> Poll<io::Result<()>> {
        loop {
            ready!(self.waiting()?.poll_readable(cx))?;
            match self.receive(inbox, false) {
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
            true => linux::send(&self.socket, queue.make_contiguous(), &self.narrow),
            _ => plain::send(&self.socket, &queue[0]),
        });
    }
}

/// Empties the queue by a `send` that tells how many datagrams it has sent from the front.
fn send_all(queue: &mut VecDeque<Outgoing>, mut send: impl FnMut(&mut VecDeque<Outgoing>) -> io::Result<usize>) {
    let mut tries = 0;
    while !queue.is_empty() {
        match send(queue) {
            Ok(count) => {
                drop(queue.drain(..count));
                tries = 0;
            }
            Err(error) if error.kind() == Kind::WouldBlock => return,
            Err(error) if error.kind() == Kind::Interrupted => {}
            Err(error) if is_of_earlier(&error) && tries < TRIES => tries += 1,
            Err(error) => {
                if let Some(lost) = queue.pop_front() {
                    log::debug!("{}: cannot send {} bytes: {error}", lost.to, lost.len());
                }
                tries = 0;
            }
        }
    }
}

/// Whether a call may have failed for an earlier datagram that was not wanted where it went: that says nothing about the
/// socket, nor about the datagram at hand.
fn is_of_earlier(error: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    if linux::is_of_earlier(error) {
        return true;
    }
    matches!(error.kind(), Kind::ConnectionRefused | Kind::ConnectionReset)
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

    fn is_final(&self) -> bool {
        self.socket.strong_count() == 0
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
            gone: Vec::new(),
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

    /// The peers that are not at their ports any more, as their systems say by ICMP.
    pub(crate) fn gone(&self) -> &[SocketAddr] {
        &self.gone
    }

    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (Envelope, &[u8])> {
        self.envelopes
            .iter()
            .zip(self.buffer.chunks(LARGEST))
            .map(|((envelope, len), bytes)| (*envelope, &bytes[..*len]))
    }
}
