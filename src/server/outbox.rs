//! What is to be sent, by each port, until the end of a batch.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use crate::socket::Outgoing;

pub(crate) struct Outboxes {
    boxes: Vec<Outbox>,
    /// The ports that have something to send.
    filled: RefCell<Vec<usize>>,
}

#[derive(Default)]
struct Outbox {
    queue: RefCell<VecDeque<Outgoing>>,
    /// Whether the socket took no more when it was last tried.
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

    /// Has everything sent that the sockets take. `send` takes from the front of the queue; if it leaves anything, the
    /// port is blocked until [`unblock`](Self::unblock). Returns how many datagrams were sent.
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

    /// The socket takes datagrams again.
    pub(crate) fn unblock(&self, port: usize) {
        if self.boxes[port].blocked.take() {
            self.filled.borrow_mut().push(port);
        }
    }
}
