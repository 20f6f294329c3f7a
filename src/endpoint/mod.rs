//! The part of a server that knows all transfers: which transfer a datagram belongs to, and which request begins one.
//!
//! Like [`Transfer`](crate::transfer::Transfer), it does no I/O and reads no clock. The driver
//!
//! 1. calls [`Endpoint::handle`] with each datagram, its envelope and the time;
//! 2. ends the transfers that [`Endpoint::closed`] returns, and then carries out the [`Action`];
//! 3. reports what the endpoint cannot see: that a transfer has [`granted`](Endpoint::granted) options, that its
//!    [first block](Endpoint::first_block) goes out, its [`end`](Endpoint::end), and ICMP errors by
//!    [`unreachable`](Endpoint::unreachable);
//! 4. keeps the deadlines of all transfers in the endpoint, and wakes those that have [`expired`](Endpoint::expired).
//!
//! The server's loops drive it with sockets and the system's clock. The simulator drives it in virtual time.
//!
//! # Forged addresses
//!
//! A client proves its address when it sends a packet to the port of its transfer, the server's TID. A forger does not
//! get the server's packets, so it must try all ports (RFC 1350 section 4: TIDs are chosen at random). So
//!
//! - a keyed hash draws the port of a transfer from [`Pool::ports`], a pool of random ports;
//! - a transfer whose client has sent nothing but its request is evicted when the endpoint needs the place, and so is
//!   one whose client has answered and is silent now;
//! - a [`Start`] says how many bytes its transfer may send for each byte from the client's address:
//!   [`AMPLIFICATION`] for each byte that a forger must send to try all ports.
//!
//! ```
//! use std::time::Instant;
//! use tuffet::{
//!     endpoint::{Action, Endpoint, Envelope, Policy, Pool},
//!     packet::Packet,
//! };
//!
//! // Port 0 listens, the transfers are served from ports 1 to 64.
//! let pool = Pool { listener: 0, ports: (1..=64).collect() };
//! let mut endpoint = Endpoint::new(Policy::default(), vec![pool], 0x5eed);
//! let now = Instant::now();
//! let client = Envelope::new("192.0.2.7:1069".parse()?);
//!
//! let Action::Begin(start) = endpoint.handle(now, 0, &client, b"\0\x01pxelinux.0\0octet\0") else { panic!() };
//! assert!(start.port > 0 && start.envelope == client);
//! let action = endpoint.handle(now, start.port, &client, b"\0\x04\0\x01");
//! assert!(matches!(action, Action::Deliver(id, Packet::Ack(1)) if id == start.id));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

mod admission;
mod clients;
mod deadlines;
mod policy;
mod pool;
mod recent;
mod reports;
mod request;
#[cfg(test)]
mod tests;
mod transfers;
mod types;
mod unknown_tid;

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use crate::{
    error::Refusal,
    options::Direction,
    packet::{Malformed, Packet},
};
#[cfg_attr(not(feature = "web"), allow(unused_imports, reason = "only the HTTP server uses it"))]
pub(crate) use admission::Admission;
#[cfg(feature = "dhcp")]
pub(crate) use admission::Bucket;
use clients::Clients;
use deadlines::Deadlines;
#[cfg(test)]
use pool::LEAST;
use pool::Tids;
use recent::Recent;
use transfers::Transfers;

#[cfg(feature = "net")]
pub(crate) use pool::WINDOWSIZE_SINGLE_PORT;

pub use policy::{Admits, DropReason, Policy};
pub use pool::{AMPLIFICATION, AMPLIFICATION_SINGLE_PORT, Pool};
pub use request::LONGEST_NAME;
pub use types::{Action, CloseReason, Counts, Ended, Envelope, Id, Start};

/// The endpoint keeps this many bytes of the text in a client's ERROR.
const LONGEST_TEXT: usize = 512;

/// The endpoint looks into these maps for each datagram. The standard hash would be a seventh of the work of a short
/// transfer. This hash has a random seed too, and the limits bound what a flood of chosen addresses could put in.
type Map<K, V> = HashMap<K, V, foldhash::quality::RandomState>;

/// Identifies the transfer of a packet: the port that the packet came to, and the peer.
type Key = (usize, SocketAddr);

/// Recognizes a repeated request: the port that it came to, its sender, and the address that it was sent to.
type RequestKey = (usize, SocketAddr, Option<IpAddr>);

/// All running transfers, and a memory of past ones. It stays on its thread (`!Send`), like a
/// shard.
///
/// ```
/// use std::time::Instant;
/// use tuffet::endpoint::{Action, Endpoint, Envelope, Policy, Pool};
///
/// // One port for everything, as a firewall may need it.
/// let mut endpoint = Endpoint::new(Policy::default(), vec![Pool { listener: 0, ports: vec![0] }], 0x5eed);
/// let client = Envelope::new(([192, 0, 2, 7], 1069).into());
/// let Action::Begin(start) = endpoint.handle(Instant::now(), 0, &client, b"\0\x01menu\0octet\0") else { panic!() };
/// assert_eq!((start.port, endpoint.len()), (0, 1));
/// ```
pub struct Endpoint {
    policy: Policy,
    pools: Vec<Pool>,
    /// When each listener was last found empty.
    emptied: Vec<Option<Instant>>,
    /// The addresses of the server itself, by port.
    own: Vec<SocketAddr>,
    mtu: Mtu,
    stopping: bool,
    transfers: Transfers,
    admission: Admission,
    recent: Recent,
    clients: Clients,
    tids: Tids,
    deadlines: Deadlines,
    closed: VecDeque<(Id, CloseReason)>,
    counts: Counts,
    hasher: foldhash::quality::RandomState,
}

/// Returns the largest blksize for the interface of a request and for its sender.
type Mtu = Box<dyn FnMut(u32, &SocketAddr) -> u16>;

/// Whether a datagram is a request. Before [`handle`](Endpoint::handle) gets a request, the transfers should have
/// acted on the packets delivered before: a client may end one transfer and at once begin the next from the same port.
///
/// ```
/// use tuffet::endpoint::is_request;
///
/// assert!(is_request(b"\0\x01menu\0octet\0") && !is_request(b"\0\x04\0\x01"));
/// ```
pub fn is_request(datagram: &[u8]) -> bool {
    matches!(datagram, [0, 1 | 2, ..])
}

impl Endpoint {
    /// `secret` is a random number, the key of the hash that draws ports.
    ///
    /// ```
    /// use tuffet::endpoint::{Endpoint, Policy, Pool};
    ///
    /// let ipv4 = Pool { listener: 0, ports: (2..34).collect() };
    /// let ipv6 = Pool { listener: 1, ports: (34..66).collect() };
    /// assert!(Endpoint::new(Policy::default(), vec![ipv4, ipv6], 0x5eed).is_empty());
    /// ```
    pub fn new(policy: Policy, pools: Vec<Pool>, secret: u128) -> Self {
        let ports = pools.iter().flat_map(|pool| &pool.ports).max().map_or(0, |most| most + 1);
        Self {
            admission: Admission::new(&policy),
            policy,
            emptied: vec![None; pools.len()],
            pools,
            own: Vec::new(),
            mtu: Box::new(|_, _| u16::MAX),
            stopping: false,
            transfers: Transfers::default(),
            recent: Recent::default(),
            clients: Clients::default(),
            tids: Tids::new(secret, ports),
            deadlines: Deadlines::default(),
            closed: VecDeque::new(),
            counts: Counts::default(),
            hasher: foldhash::quality::RandomState::default(),
        }
    }

    /// Sets the function that returns the largest blksize that needs no IP fragments, by the index of the interface
    /// and the client. By default every blksize is allowed.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// endpoint.set_mtu(|_, client| if client.is_ipv4() { 1468 } else { 1448 });
    /// let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// assert_eq!(start.blksize, 1468);
    /// ```
    pub fn set_mtu(&mut self, mtu: impl FnMut(u32, &SocketAddr) -> u16 + 'static) {
        self.mtu = Box::new(mtu);
    }

    /// Sets the addresses of all sockets of the server, so that a forged request cannot make the server talk to
    /// itself.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// endpoint.set_own(vec![client.peer]);
    /// let action = endpoint.handle(now, 0, &client, rrq);
    /// assert!(matches!(action, Action::LeaveUnanswered(DropReason::Source)));
    /// ```
    pub fn set_own(&mut self, mut own: Vec<SocketAddr>) {
        own.sort_unstable_by_key(SocketAddr::port);
        self.own = own;
    }

    /// Sets the policy for requests that arrive from now on.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// let mut policy = Policy::default();
    /// policy.admits = Some(std::sync::Arc::new(|client| client.is_ipv6()));
    /// endpoint.set_policy(policy);
    /// let action = endpoint.handle(now, 0, &client, rrq);
    /// assert!(matches!(action, Action::LeaveUnanswered(DropReason::Denied)));
    /// ```
    pub fn set_policy(&mut self, policy: Policy) {
        self.admission.set_policy(&policy);
        self.policy = policy;
    }

    /// Refuses all further requests, silently.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// endpoint.stop();
    /// let action = endpoint.handle(now, 0, &client, rrq);
    /// assert!(matches!(action, Action::LeaveUnanswered(DropReason::Stopping)));
    /// ```
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// The number of transfers that have not [ended](Self::end).
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// assert_eq!(endpoint.len(), 1);
    /// endpoint.end(now, start.id, Ended::default());
    /// assert_eq!(endpoint.len(), 0);
    /// ```
    pub fn len(&self) -> usize {
        self.transfers.len()
    }

    /// Whether there are no transfers.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// assert!(endpoint.is_empty());
    /// let _ = endpoint.handle(now, 0, &client, rrq);
    /// assert!(!endpoint.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reports at which ports no datagram waits. Without this report, a request like that of a running transfer always
    /// counts as a copy, which may have waited. So a driver without queues reports all ports before each datagram.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// // The client has had its first block when it is reset, and asks again.
    /// let _ = endpoint.handle(now, start.port, &client, &Packet::Ack(1).encode());
    /// let later = now + Duration::from_secs(5);
    /// endpoint.emptied(later, |_| true);
    /// assert!(matches!(endpoint.handle(later, 0, &client, rrq), Action::Begin(_)));
    /// ```
    pub fn emptied(&mut self, now: Instant, is_empty: impl Fn(usize) -> bool) {
        for (pool, emptied) in self.pools.iter().zip(&mut self.emptied) {
            if is_empty(pool.listener) {
                *emptied = Some(now);
            }
        }
    }

    /// Returns what the driver has to do about a datagram that came to this port.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// let action = endpoint.handle(now, start.port, &client, &Packet::Ack(1).encode());
    /// assert!(matches!(action, Action::Deliver(id, Packet::Ack(1)) if id == start.id));
    /// // Another client, at the port of this one's transfer.
    /// let other = Envelope::new(([192, 0, 2, 8], 1069).into());
    /// let action = endpoint.handle(now, start.port, &other, &Packet::Ack(1).encode());
    /// assert!(matches!(action, Action::Reply(Packet::Error { .. })));
    /// ```
    pub fn handle(&mut self, now: Instant, port: usize, envelope: &Envelope, datagram: &[u8]) -> Action {
        let pool = self.pools.iter().position(|pool| pool.listener == port);
        match (Packet::decode(datagram), pool) {
            (Ok(Packet::Rrq(_) | Packet::Wrq(_)), None) => {
                self.counts.unknown_tids += 1;
                Action::Drop(DropReason::Misdirected)
            }
            (Ok(Packet::Rrq(request)), Some(pool)) => {
                self.request(now, pool, envelope, Direction::Read, request, datagram.len())
            }
            (Ok(Packet::Wrq(request)), Some(pool)) => {
                self.request(now, pool, envelope, Direction::Write, request, datagram.len())
            }
            (Ok(packet), _) => self.packet(now, (port, envelope.peer), envelope, packet),
            (Err(malformed), pool) => {
                self.counts.malformed += 1;
                match (malformed, pool) {
                    (Malformed::Filename | Malformed::Mode, Some(_)) => self.refuse_bad_request(now, envelope),
                    _ => Action::Drop(DropReason::Malformed),
                }
            }
        }
    }

    /// Returns a transfer that must end as if its client had left, and the reason. Call it after every other call,
    /// until it returns `None`.
    ///
    /// ```
    #[doc = include_str!("example.md")]
    /// # let Action::Begin(start) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
    /// endpoint.unreachable(now, start.port, client.peer);
    /// assert_eq!(endpoint.closed(), Some((start.id, CloseReason::Unreachable)));
    /// assert_eq!(endpoint.closed(), None);
    /// ```
    pub fn closed(&mut self) -> Option<(Id, CloseReason)> {
        self.closed.pop_front()
    }

    fn packet(&mut self, now: Instant, key: Key, envelope: &Envelope, mut packet: Packet) -> Action {
        let Some(id) = self.transfers.note_packet(&key, now, &packet) else {
            return self.answer_unknown_tid(now, key, envelope, &packet);
        };
        if let Packet::Error { message, .. } = &mut packet {
            truncate(message, LONGEST_TEXT);
        } else if self.transfers.get(id).is_some_and(|entry| entry.is_answered_by_a_server(&packet)) {
            self.close(now, id, CloseReason::Server);
            return self.answer_with_error(now, envelope, &Refusal::bad_request(), DropReason::UnknownTid);
        }
        Action::Deliver(id, packet)
    }

    /// Ends the transfer that this chooses. Returns whether there is one.
    fn evict(&mut self, now: Instant, choose: impl FnOnce(&mut Transfers) -> Option<Id>) -> bool {
        let id = choose(&mut self.transfers);
        if let Some(id) = id {
            self.close(now, id, CloseReason::Evicted);
        }
        id.is_some()
    }

    /// Ends the transfer as if its client had left.
    fn close(&mut self, now: Instant, id: Id, why: CloseReason) {
        if self.retire(now, id, None) {
            self.closed.push_back((id, why));
        }
    }

    /// Takes packets and requests away from this transfer. Its late packets do not count as packets of an unknown TID.
    fn retire(&mut self, now: Instant, id: Id, last_ack: Option<u16>) -> bool {
        let retired = self.transfers.close(id);
        if let Some(entry) = retired {
            self.recent.insert(entry.key, entry.request_key, entry.hash, last_ack, now);
            self.clients.closed(entry.client());
        }
        retired.is_some()
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("policy", &self.policy).field("transfers", &self.len()).finish_non_exhaustive()
    }
}

fn truncate(text: &mut String, most: usize) {
    if text.len() > most {
        let at = (0..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(at);
        text.shrink_to_fit();
    }
}
