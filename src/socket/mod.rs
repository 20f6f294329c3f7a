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

#[cfg(target_os = "linux")]
use std::cell::Cell;
use std::{
    cell::OnceCell,
    collections::VecDeque,
    io::{self, ErrorKind as Kind},
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use smol::Async;
use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::{self, Packet};

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
    /// Use the fast way where there is one.
    pub(crate) batched: bool,
}

/// A datagram to be sent. Every TFTP packet has four bytes or more, so a block is a header and a slice of its chunk.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) to: SocketAddr,
    /// The address to send from, where the socket is bound to all of them.
    pub(crate) from: Option<IpAddr>,
    header: [u8; 4],
    payload: Bytes,
}

/// Where a received datagram came from, and where it went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub(crate) peer: SocketAddr,
    /// The address of ours to answer from; `None` where the system does not tell.
    pub(crate) local: Option<IpAddr>,
    /// Index of the interface that it came in by; 0 where the system does not tell.
    pub(crate) interface: u32,
    len: usize,
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
    envelopes: Vec<Envelope>,
}

impl Port {
    pub(crate) fn bind(binding: Binding) -> io::Result<Self> {
        let Binding { address, shared, batched } = binding;
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
        // Both are wishes: a smaller buffer and a missing address are borne.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        #[cfg(target_os = "linux")]
        let batched = batched && linux::prepare(&socket, address.is_ipv6(), BUFFER).is_ok();
        #[cfg(not(target_os = "linux"))]
        let batched = batched && false;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr()?;
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
        while !queue.is_empty() {
            let sent = match self.batched {
                #[cfg(target_os = "linux")]
                true => linux::send(&self.socket, queue.make_contiguous(), &self.segment),
                _ => plain::send(&self.socket, &queue[0]),
            };
            match sent {
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
}

impl Outgoing {
    pub(crate) fn new(to: SocketAddr, from: Option<IpAddr>, packet: &Packet) -> Self {
        let (header, payload) = match packet {
            Packet::Data { block, payload } => (packet::data_header(*block), payload.clone()),
            Packet::Ack(block) => (packet::ack(*block), Bytes::new()),
            other => {
                let bytes = Bytes::from(other.encode());
                ([bytes[0], bytes[1], bytes[2], bytes[3]], bytes.slice(4..))
            }
        };
        Self { to, from, header, payload }
    }

    fn len(&self) -> usize {
        self.header.len() + self.payload.len()
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

    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (Envelope, &[u8])> {
        self.envelopes
            .iter()
            .zip(self.buffer.chunks(LARGEST))
            .map(|(envelope, bytes)| (*envelope, &bytes[..envelope.len]))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_lite::future::poll_fn;

    use super::*;

    fn port(batched: bool, address: &str) -> Port {
        Port::bind(Binding { address: address.parse().unwrap(), shared: false, batched }).unwrap()
    }

    fn receive(port: &Port, inbox: &mut Inbox) {
        smol::block_on(poll_fn(|cx| port.poll_receive(cx, inbox))).unwrap();
    }

    #[test]
    fn both_ways_carry_the_same() {
        for (from, to) in [(true, true), (true, false), (false, true), (false, false)] {
            let (sender, receiver) = (port(from, "127.0.0.1:0"), port(to, "127.0.0.1:0"));
            let packets: Vec<Packet> = (0..150u16)
                .map(|block| Packet::Data { block, payload: vec![block as u8; usize::from(block) * 9].into() })
                .chain([Packet::Ack(7), Packet::Data { block: 1, payload: vec![9; 65464].into() }])
                .collect();
            let mut queue = packets.iter().map(|packet| Outgoing::new(receiver.local(), None, packet)).collect();
            sender.send(&mut queue);
            assert!(queue.is_empty());
            let (mut inbox, mut received) = (Inbox::new(), Vec::new());
            while received.len() < packets.len() {
                receive(&receiver, &mut inbox);
                for (envelope, bytes) in inbox.datagrams() {
                    assert_eq!(envelope.peer, sender.local());
                    received.push(Packet::decode(bytes).unwrap());
                }
            }
            assert_eq!(received, packets);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
        let (server, client) = (port(true, "0.0.0.0:0"), port(true, "127.0.0.1:0"));
        let asked: IpAddr = Ipv4Addr::new(127, 0, 0, 77).into();
        let mut inbox = Inbox::new();
        client.send(&mut [Outgoing::new((asked, server.local().port()).into(), None, &Packet::Ack(1))].into());
        receive(&server, &mut inbox);
        let (envelope, _) = inbox.datagrams().next().unwrap();
        assert_eq!(envelope.local, Some(asked));
        assert_ne!(envelope.interface, 0);
        server.send(&mut [Outgoing::new(envelope.peer, envelope.local, &Packet::Ack(1))].into());
        receive(&client, &mut inbox);
        assert_eq!(inbox.datagrams().next().unwrap().0.peer, (asked, server.local().port()).into());
    }

    #[test]
    fn a_datagram_that_cannot_be_sent_does_not_stop_the_others() {
        for batched in [true, false] {
            let (sender, receiver) = (port(batched, "127.0.0.1:0"), port(batched, "127.0.0.1:0"));
            let nowhere = "[::1]:9".parse().unwrap();
            let to = [nowhere, receiver.local(), nowhere, receiver.local()];
            let mut queue = to.iter().map(|to| Outgoing::new(*to, None, &Packet::Ack(3))).collect();
            sender.send(&mut queue);
            assert!(queue.is_empty());
            let (mut inbox, mut count) = (Inbox::new(), 0);
            while count < 2 {
                receive(&receiver, &mut inbox);
                count += inbox.datagrams().count();
            }
        }
    }
}
