//! The datagrams that wait for the end of a batch, by port.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;

use crate::packet::{self, Packet};

/// A datagram to send. Every TFTP packet has four bytes or more, so a block is a header and a slice of its chunk.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) to: SocketAddr,
    /// The address to send from, if the socket is bound to all addresses.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "no plain way to send tells it"))]
    pub(crate) from: Option<IpAddr>,
    pub(crate) header: [u8; 4],
    pub(crate) payload: Bytes,
}

pub(crate) struct Outboxes {
    boxes: Vec<Outbox>,
    /// The ports with datagrams to send.
    filled: RefCell<Vec<usize>>,
}

#[derive(Default)]
struct Outbox {
    queue: RefCell<VecDeque<Outgoing>>,
    /// Whether the socket was full at the last attempt.
    blocked: Cell<bool>,
}

impl Outboxes {
    pub(crate) fn new(ports: usize) -> Self {
        Self { boxes: (0..ports).map(|_| Outbox::default()).collect(), filled: RefCell::default() }
    }

    pub(crate) fn push(&self, port: usize, datagram: Outgoing) {
        let outbox = &self.boxes[port];
        let mut queue = outbox.queue.borrow_mut();
        if queue.is_empty() {
            self.filled.borrow_mut().push(port);
        }
        queue.push_back(datagram);
    }

    /// Sends as many datagrams as the sockets accept. `send` takes them from the front of the queue. If it leaves any,
    /// the port is blocked until [`unblock`](Self::unblock). Returns how many datagrams were sent.
    pub(crate) fn flush(&self, mut send: impl FnMut(usize, &mut VecDeque<Outgoing>)) -> usize {
        let mut sent = 0;
        for port in self.filled.borrow_mut().drain(..) {
            let mut queue = self.boxes[port].queue.borrow_mut();
            let before = queue.len();
            send(port, &mut queue);
            sent += before - queue.len();
            self.boxes[port].blocked.set(!queue.is_empty());
        }
        sent
    }

    pub(crate) fn is_filled(&self) -> bool {
        !self.filled.borrow().is_empty()
    }

    pub(crate) fn is_blocked(&self, port: usize) -> bool {
        self.boxes[port].blocked.get()
    }

    /// Notes that the socket accepts datagrams again.
    pub(crate) fn unblock(&self, port: usize) {
        if self.boxes[port].blocked.take() {
            self.filled.borrow_mut().push(port);
        }
    }
}

impl Outgoing {
    pub(crate) fn new(to: SocketAddr, from: Option<IpAddr>, packet: Packet) -> Self {
        let (header, payload) = match packet {
            Packet::Data { block, payload } => (packet::data_header(block), payload),
            Packet::Ack(block) => (packet::ack(block), Bytes::new()),
            other => {
                let bytes = Bytes::from(other.encode());
                ([bytes[0], bytes[1], bytes[2], bytes[3]], bytes.slice(4..))
            }
        };
        Self { to, from, header, payload }
    }

    pub(crate) fn len(&self) -> usize {
        self.header.len() + self.payload.len()
    }
}
