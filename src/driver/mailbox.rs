//! The queue in which the packets of one transfer wait for its task.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    task::{Context, Waker},
};

use crate::{endpoint::CloseReason, error::Refusal, packet::Packet, transfer::Event};

/// Packets that one mailbox holds. More are dropped, as a full socket would drop them; the peer sends them again.
const MOST: usize = 256;
/// Bytes of DATA that one mailbox holds, as many as a socket. A peer may send 64 KiB a packet, agreed or not.
const MOST_BYTES: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Mailbox {
    packets: RefCell<VecDeque<Packet>>,
    /// Bytes of DATA in `packets`.
    bytes: Cell<usize>,
    repeated: Cell<bool>,
    closed: Cell<Option<CloseReason>>,
    /// Whether the peer's port is closed.
    unreachable: Cell<bool>,
    stopped: Cell<bool>,
    expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Whether the task waits for the source or sink too.
    awaits_handler: Cell<bool>,
}

impl Mailbox {
    pub(crate) fn post(&self, packet: Packet) {
        let mut packets = self.packets.borrow_mut();
        if packets.capacity() == 0 {
            // In lock-step there is never a second packet.
            packets.reserve_exact(1);
        }
        let bytes = self.bytes.get() + payload_len(&packet);
        if packets.len() < MOST && bytes <= MOST_BYTES {
            self.bytes.set(bytes);
            packets.push_back(packet);
        }
        drop(packets);
        self.wake();
    }

    /// Reports that the peer sent its request again.
    pub(crate) fn post_repeat(&self) {
        self.repeated.set(true);
        self.wake();
    }

    /// Reports that the endpoint has closed the transfer, and why.
    pub(crate) fn post_closed(&self, why: CloseReason) {
        self.unreachable.set(why == CloseReason::Unreachable);
        self.closed.set(Some(why));
        self.wake();
    }

    /// Whether the peer's port is closed, as ICMP has said.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.unreachable.get()
    }

    /// Reports that the deadline has passed.
    pub(crate) fn post_timeout(&self) {
        self.expired.set(true);
        self.wake();
    }

    /// Takes a timeout back: the transfer has a new deadline.
    pub(crate) fn forget_timeout(&self) {
        self.expired.set(false);
    }

    /// Reports that the server stops.
    pub(crate) fn post_stop(&self) {
        self.stopped.set(true);
        self.wake();
    }

    /// The next event, if there is one. A timeout comes last: a peer whose packet has arrived is not late.
    pub(crate) fn take(&self) -> Option<Event> {
        if let Some(packet) = self.packets.borrow_mut().pop_front() {
            self.bytes.set(self.bytes.get() - payload_len(&packet));
            return Some(Event::Packet(packet));
        }
        if let Some(why) = self.closed.take() {
            return Some(match why {
                CloseReason::Unreachable => Event::Unreachable,
                CloseReason::Server => Event::Failed(Refusal::silent().because(why.reason())),
                CloseReason::Replaced | CloseReason::Evicted => Event::Replaced(why.reason()),
            });
        }
        if self.stopped.take() {
            return Some(Event::Stop);
        }
        if self.repeated.take() {
            return Some(Event::Repeat);
        }
        self.expired.take().then_some(Event::Timeout)
    }

    /// Registers the task to be woken by the next event. `awaits_handler`: whether the task waits for the source or
    /// sink too.
    pub(crate) fn register(&self, cx: &Context<'_>, awaits_handler: bool) {
        self.awaits_handler.set(awaits_handler);
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    #[cfg(feature = "sim")]
    pub(crate) fn awaits_handler(&self) -> bool {
        self.awaits_handler.get()
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

fn payload_len(packet: &Packet) -> usize {
    if let Packet::Data { payload, .. } = packet { payload.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_many_packets_nor_long_ones_fill_the_memory() {
        for (len, kept) in [(0, MOST), (512, MOST), (65464, MOST_BYTES / 65464)] {
            let mailbox = Mailbox::default();
            let data = Packet::Data { block: 1, payload: vec![0; len].into() };
            for round in 0..2 {
                (0..1000).for_each(|_| mailbox.post(data.clone()));
                assert_eq!(std::iter::from_fn(|| mailbox.take()).count(), kept, "{len} {round}");
            }
        }
    }

    #[test]
    fn a_peer_whose_packet_has_arrived_is_not_late() {
        let mailbox = Mailbox::default();
        mailbox.post_timeout();
        mailbox.post(Packet::Ack(1));
        assert!(matches!(mailbox.take(), Some(Event::Packet(Packet::Ack(1)))));
        mailbox.forget_timeout();
        assert!(mailbox.take().is_none(), "the new deadline took the old timeout back");
    }
}
