//! The UDP sockets. No other module touches UDP.
//!
//! System calls per block limit the speed of a TFTP server. So many datagrams are received and sent in one call where
//! the system can do that (Linux: recvmmsg and sendmmsg), and one in a call elsewhere. Both ways answer from the
//! address that the request was sent to, if the system tells it.

mod bind;
#[cfg(target_os = "linux")]
pub(crate) mod epoll;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::allow_fragments;
pub(crate) mod mtu;
#[cfg(target_os = "linux")]
mod no_buffers;
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

#[cfg(any(feature = "status", feature = "web"))]
pub(crate) use bind::listen;
pub(crate) use bind::{Binding, Role, Share};

use crate::{endpoint::Envelope, server::Outgoing};

/// The most datagrams that one call receives.
const BATCH: usize = 64;
/// The largest UDP payload, with room to notice a larger one.
const LARGEST: usize = 65536;
/// How often a datagram is sent again after an error that may belong to an earlier one.
const TRIES: usize = 2;

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Port {
    socket: Arc<UdpSocket>,
    /// Made when smol's reactor first waits for the socket.
    waiting: OnceCell<Async<Arc<UdpSocket>>>,
    local: SocketAddr,
    batched: bool,
    /// Whether no interface had the address when the socket was bound.
    awaited: bool,
    #[cfg(target_os = "linux")]
    narrow: linux::Narrow,
}

/// How many datagrams for a socket the system has dropped, for observers in other threads. It does not keep the socket
/// open.
#[derive(Debug)]
pub(crate) struct Drops {
    socket: Weak<UdpSocket>,
    /// The last count of the system, which has 32 bits.
    last: u32,
    sum: u64,
}

/// Received datagrams. The memory is used again for each batch.
pub(crate) struct Inbox {
    /// How many datagrams the last call asked for.
    #[cfg(target_os = "linux")]
    asked: usize,
    /// How many datagrams the last call received.
    #[cfg(target_os = "linux")]
    last: usize,
    /// Small datagrams leave most of it untouched, and so not resident.
    buffer: Box<[u8]>,
    /// The envelopes of the datagrams, with their lengths.
    envelopes: Vec<(Envelope, usize)>,
    closed_ports: Vec<SocketAddr>,
}

impl Port {
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether no interface had the address when the socket was bound. The socket receives nothing until one has it.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited
    }

    pub(crate) fn drops(&self) -> Box<dyn crate::stats::Drops> {
        Box::new(Drops { socket: Arc::downgrade(&self.socket), last: 0, sum: 0 })
    }

    /// Whether the socket also receives IPv4 datagrams, with IPv6 addresses.
    pub(crate) fn is_dual(&self) -> bool {
        self.local.ip().is_unspecified()
            && self.local.is_ipv6()
            && SockRef::from(&self.socket).only_v6().is_ok_and(|only| !only)
    }

    /// Receives up to a batch of datagrams, and the peers whose ports are [closed](Inbox::closed_ports). `failed` tells
    /// whether the system has reported an error that is to be received.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing to receive.
    pub(crate) fn receive(&self, inbox: &mut Inbox, failed: bool) -> io::Result<()> {
        inbox.envelopes.clear();
        inbox.closed_ports.clear();
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
                Err(error) if is_about_earlier_datagram(&error) => self.receive_errors(inbox),
                Err(error) if error.kind() == Kind::WouldBlock => {
                    // The caller may have been woken by an error that a call to send has already reported.
                    if inbox.closed_ports.is_empty() && !failed {
                        self.receive_errors(inbox);
                    }
                    return if inbox.closed_ports.is_empty() { Err(error) } else { Ok(()) };
                }
                other => return other,
            }
        }
    }

    fn receive_errors(&self, inbox: &mut Inbox) {
        #[cfg(target_os = "linux")]
        linux::receive_errors(&self.socket, &mut inbox.closed_ports);
        #[cfg(not(target_os = "linux"))]
        let _ = inbox;
    }

    /// As [`receive`](Self::receive), waiting with smol's reactor. The next call finds out whether there is more.
    pub(crate) fn poll_receive(&self, cx: &mut Context<'_>, inbox: &mut Inbox) -> Poll<io::Result<()>> {
        loop {
            ready!(self.waiting()?.poll_readable(cx))?;
            match self.receive(inbox, false) {
                Err(error) if error.kind() == Kind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// Whether no datagram waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.socket.peek_from(&mut [0]).is_err_and(|error| error.kind() == Kind::WouldBlock)
    }

    /// Allows the socket to send to a broadcast address.
    #[cfg(feature = "dhcp")]
    pub(crate) fn allow_broadcast(&self) -> io::Result<()> {
        SockRef::from(&self.socket).set_broadcast(true)
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

/// Empties the queue by a `send` that returns how many datagrams it has sent from the front.
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
            Err(error) if is_about_earlier_datagram(&error) && tries < TRIES => tries += 1,
            Err(error) => {
                if let Some(lost) = queue.pop_front() {
                    #[cfg(target_os = "linux")]
                    no_buffers::warn(&error, lost.to);
                    log::debug!("{}: cannot send {} bytes: {error}", lost.to, lost.len());
                }
                tries = 0;
            }
        }
    }
}

/// Whether a call may have failed because of an earlier datagram, which its destination did not want. That says
/// nothing about the socket or the current datagram.
fn is_about_earlier_datagram(error: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    if linux::is_about_earlier_datagram(error) {
        return true;
    }
    matches!(error.kind(), Kind::ConnectionRefused | Kind::ConnectionReset)
}

impl crate::stats::Drops for Drops {
    /// The count until now. If the socket is closed, the count of the last call before that.
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
            closed_ports: Vec::new(),
        }
    }

    /// Whether as many datagrams came as were asked for, so that there may be more.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_full(&self) -> bool {
        self.envelopes.len() == self.asked
    }

    pub(crate) fn len(&self) -> usize {
        self.envelopes.len()
    }

    /// The peers whose ports are closed, as ICMP says.
    pub(crate) fn closed_ports(&self) -> &[SocketAddr] {
        &self.closed_ports
    }

    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (Envelope, &[u8])> {
        self.envelopes
            .iter()
            .zip(self.buffer.chunks(LARGEST))
            .map(|((envelope, len), bytes)| (*envelope, &bytes[..*len]))
    }
}
