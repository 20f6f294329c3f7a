//! The reports of the driver to the endpoint, and the deadlines of transfers.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{CloseReason, Counts, DropReason, Ended, Endpoint, Id};
use crate::packet::Options;

/// How many transfers of silent clients are evicted at once, because the parts of a server that need descriptors come
/// together.
const SOME: usize = 8;

impl Endpoint {
    /// Reports that the transfer answers its client, the blksize that it grants, and its OACK, which is empty if it
    /// sends none.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// endpoint.granted(now, start.id, 512, &Options::new());
    /// // ACK 0 is no answer to DATA 1, but a server's answer to a WRQ: somebody sets two servers against each other.
    /// let _ = endpoint.handle(now, start.port, &client, &Packet::Ack(0).encode());
    /// assert_eq!(endpoint.closed(), Some((start.id, CloseReason::Server)));
    /// ```
    pub fn granted(&mut self, now: Instant, id: Id, blksize: u16, oack: &Options) {
        self.transfers.answer(now, id, blksize, !oack.is_empty());
    }

    /// Reports that the first block of the transfer goes out, for the first time or again.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// endpoint.granted(now, start.id, 1468, &Options::from_iter([("blksize", "1468")]));
    /// let _ = endpoint.handle(now, start.port, &client, &Packet::Ack(0).encode());
    /// // The block goes out twice and never arrives. So the client gets smaller ones next time.
    /// endpoint.first_block(start.id);
    /// endpoint.first_block(start.id);
    /// endpoint.end(now, start.id, Ended::default());
    /// let Action::Begin(next) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// assert!(next.blksize < 1468);
    /// ```
    pub fn first_block(&mut self, id: Id) {
        if let Some(entry) = self.transfers.get_mut(id) {
            entry.first_blocks = entry.first_blocks.saturating_add(1);
        }
    }

    /// Whether the driver may answer the request of this transfer with an ERROR.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// assert_eq!(endpoint.refuse(now, start.id), Ok(()), "the file does not exist, and the client may be told so");
    /// endpoint.end(now, start.id, Ended::default());
    /// let broadcast = Envelope { broadcast: true, ..client };
    /// let Action::Begin(start) = endpoint.handle(now, 0, &broadcast, rrq) else { panic!() };
    /// assert_eq!(endpoint.refuse(now, start.id), Err(DropReason::Broadcast));
    /// ```
    ///
    /// # Errors
    /// The reason why not.
    pub fn refuse(&mut self, now: Instant, id: Id) -> Result<(), DropReason> {
        let entry = self.transfers.get(id);
        if entry.is_some_and(|entry| entry.broadcast) {
            return Err(DropReason::Broadcast);
        }
        // A flood of forged requests for missing files should not slow down a machine that is booting.
        let was_served = entry.is_some_and(|entry| self.clients.round_trip(now, entry.client()).is_some());
        if was_served { Ok(()) } else { self.admission.refusal(now) }
    }

    /// Reports that the transfer has ended.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// endpoint.end(now, start.id, Ended::default());
    /// let late = endpoint.handle(now, start.port, &client, &Packet::Ack(1).encode());
    /// assert!(endpoint.is_empty() && matches!(late, Action::Drop(DropReason::Late)));
    /// ```
    pub fn end(&mut self, now: Instant, id: Id, ended: Ended) {
        self.retire(now, id, ended.last_ack);
        let Some(entry) = self.transfers.get(id) else { return };
        self.clients.learn(now, entry, ended.round_trip);
        self.tids.ended(now, entry.key.0);
        self.deadlines.release(id);
        self.transfers.remove(id);
    }

    /// Reports that ICMP says that the peer's port is closed.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// endpoint.unreachable(now, start.port, client.peer);
    /// assert_eq!(endpoint.closed(), Some((start.id, CloseReason::Unreachable)));
    /// ```
    pub fn unreachable(&mut self, now: Instant, port: usize, peer: SocketAddr) {
        if let Some(id) = self.transfers.find(&(port, peer)) {
            self.close(now, id, CloseReason::Unreachable);
        }
    }

    /// Makes room when resources such as descriptors are used up: evicts some transfers of silent clients, or else an
    /// eighth of those whose clients have sent nothing but their requests.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// endpoint.granted(now, start.id, 512, &Options::new());
    /// endpoint.make_room(now);
    /// assert_eq!(endpoint.closed(), Some((start.id, CloseReason::Evicted)), "its client has not answered yet");
    /// ```
    pub fn make_room(&mut self, now: Instant) {
        let half_open = (self.transfers.half_open() / 8).max(1);
        let silent =
            (0..half_open.max(SOME)).take_while(|_| self.evict(now, |transfers| transfers.silent(now))).count();
        for _ in silent..half_open {
            self.evict(now, |transfers| transfers.oldest_half_open(now, Duration::ZERO));
        }
    }

    /// Sets the only deadline of this transfer.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// let at = now + Duration::from_secs(1);
    /// endpoint.set_deadline(start.id, at);
    /// assert_eq!((endpoint.expired(now), endpoint.expired(at)), (None, Some(start.id)));
    /// ```
    pub fn set_deadline(&mut self, id: Id, at: Instant) {
        self.deadlines.set(id, at);
    }

    /// When to call [`expired`](Self::expired) next.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// assert_eq!(endpoint.deadline(), None);
    /// endpoint.set_deadline(start.id, now + Duration::from_secs(1));
    /// assert!(endpoint.deadline().is_some_and(|at| at > now));
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Returns a transfer whose deadline has passed. Call it until it returns `None`.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// endpoint.set_deadline(start.id, now);
    /// assert_eq!((endpoint.expired(now), endpoint.expired(now)), (Some(start.id), None));
    /// ```
    pub fn expired(&mut self, now: Instant) -> Option<Id> {
        self.deadlines.expire(now)
    }

    /// A port of a pool that was used for ten minutes and has no transfers. The driver may put another port in its
    /// place, under the same number. Call it now and then.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// let later = now + Duration::from_secs(3600);
    /// assert_eq!(endpoint.stale_port(later), None, "its transfer runs");
    /// endpoint.end(now, start.id, Ended::default());
    /// assert_eq!(endpoint.stale_port(later), Some(start.port));
    /// ```
    pub fn stale_port(&mut self, now: Instant) -> Option<usize> {
        self.tids.stale_port(now, &mut self.pools)
    }

    /// The counts since the previous call.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// let _ = endpoint.handle(now, 0, &client, b"hello");
    /// assert_eq!((endpoint.counts().malformed, endpoint.counts().malformed), (1, 0));
    /// ```
    pub fn counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}
