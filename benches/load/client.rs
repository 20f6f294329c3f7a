//! One client: a socket and the coroutine that gets a file.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Instant,
};

use tuffet::{
    packet::{Mode, Options, Packet, Request},
    transfer::{Event, Outcome, Step, Timing, Transfer, Want},
};

use crate::arguments::Arguments;

/// The size of the receive buffer. The kernel doubles it, and may grant less.
const BUFFER: usize = 1 << 20;

pub struct Client<'a> {
    pub socket: UdpSocket,
    /// The destination of packets: the server's port until it has answered, then its TID.
    peer: SocketAddr,
    answered: bool,
    transfer: Transfer,
    expected: &'a [u8],
    /// How many bytes have arrived intact.
    received: usize,
    intact: bool,
    pub deadline: Instant,
    pub began: Instant,
}

/// The result of a transfer.
pub struct End {
    pub outcome: Outcome,
    pub intact: bool,
    pub blocks: u64,
    pub bytes: u64,
    pub retransmits: u64,
}

impl<'a> Client<'a> {
    pub fn new(
        arguments: &Arguments,
        server: SocketAddr,
        expected: &'a [u8],
        (n, now): (usize, Instant),
    ) -> io::Result<Self> {
        let socket = match server {
            SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
        };
        socket.set_nonblocking(true)?;
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER);
        let transfer = Transfer::get(request(arguments, n), Timing::default());
        let (peer, answered, received, intact) = (server, false, 0, true);
        Ok(Self { socket, peer, answered, transfer, expected, received, intact, deadline: now, began: now })
    }

    /// Continues until the client must wait, or has ended.
    pub fn resume(&mut self, now: Instant, mut event: Event) -> Option<End> {
        loop {
            event = match self.transfer.resume(now, event) {
                Step::Send(packet) => {
                    // A packet that cannot be sent counts as lost.
                    let _ = self.socket.send_to(&packet.encode(), self.peer);
                    Event::Continue
                }
                Step::Push(chunk) => {
                    let end = self.received + chunk.len();
                    self.intact &= self.expected.get(self.received..end) == Some(&chunk[..]);
                    self.received = end;
                    Event::Continue
                }
                Step::Wait(Want::Room | Want::Commit, _) => Event::Ready,
                Step::Wait(_, deadline) => {
                    self.deadline = deadline;
                    return None;
                }
                Step::Done(outcome) => return Some(self.end(outcome)),
            };
        }
    }

    /// Takes one datagram. `None`: there is none.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Option<Event> {
        loop {
            let (len, from) = self.socket.recv_from(buffer).ok()?;
            let Ok(packet) = Packet::decode(&buffer[..len]) else { continue };
            if !self.answered {
                (self.answered, self.peer) = (true, from);
            }
            if from == self.peer {
                return Some(Event::Packet(packet));
            }
        }
    }

    fn end(&self, outcome: Outcome) -> End {
        let progress = self.transfer.progress();
        let intact = self.intact && self.received == self.expected.len();
        // The last block is never a full one.
        let blocks = progress.bytes / u64::from(progress.agreed.blksize()) + u64::from(outcome.is_success());
        End { outcome, intact, blocks, bytes: progress.bytes, retransmits: progress.retransmits }
    }
}

/// The request of the n-th client.
fn request(arguments: &Arguments, n: usize) -> Request {
    let mut options = Options::new();
    let slow_before = |n: usize| (n * arguments.slow).div_ceil(arguments.clients);
    let is_slow = slow_before(n % arguments.clients) < slow_before(n % arguments.clients + 1);
    if arguments.blksize != 512 && !is_slow {
        options.push("blksize", arguments.blksize.to_string());
    }
    if arguments.windowsize != 1 && !is_slow {
        options.push("windowsize", arguments.windowsize.to_string());
    }
    Request { filename: arguments.file.clone().into(), mode: Mode::Octet, options }
}
