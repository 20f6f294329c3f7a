//! The part of a server that knows all transfers: which transfer a datagram belongs to, and which request begins one.
//!
//! Like [`Transfer`](crate::transfer::Transfer), it does no I/O and reads no clock. The driver
//!
//! 1. calls [`Endpoint::handle`] with each datagram, its envelope and the time;
//! 2. ends the transfers that [`Endpoint::closed`] returns, and then does what the [`Action`] says;
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
//! - a transfer whose client has sent nothing but its request gives way when the endpoint needs the place;
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
mod request;
#[cfg(test)]
mod tests;
mod transfers;
mod unknown_tid;

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::Refusal,
    options::{AskedOptions, Direction},
    packet::{self, Malformed, Options, Packet},
};
#[cfg_attr(not(feature = "web"), allow(unused_imports, reason = "only the HTTP server uses it"))]
pub(crate) use admission::Admission;
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

/// The endpoint keeps this many bytes of the text in a client's ERROR.
const LONGEST_TEXT: usize = 512;

/// The endpoint looks into these maps for each datagram. The standard hash would be a seventh of the work of a short
/// transfer. This hash has a random seed too, and the limits bound what a flood of chosen addresses could put in.
type Map<K, V> = HashMap<K, V, foldhash::quality::RandomState>;

/// Identifies the transfer of a packet: the port that the packet came to, and the peer.
type Key = (usize, SocketAddr);

/// Recognizes a repeated request: the port that it came to, its sender, and the address that it was sent to.
type RequestKey = (usize, SocketAddr, Option<IpAddr>);

/// The number of a running transfer. It is used again when the transfer has [ended](Endpoint::end).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub usize);

/// Where a datagram came from, and where it was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The sender.
    pub peer: SocketAddr,
    /// The server's address that the answer comes from; `None` where the system does not tell, or was not asked.
    pub local: Option<IpAddr>,
    /// The index of the interface that the datagram came in by; 0 where the system does not tell, or was not asked.
    pub interface: u32,
    /// Whether the datagram was sent to a broadcast or multicast address.
    pub broadcast: bool,
}

/// The action that the driver takes for a datagram.
#[derive(Debug)]
#[must_use = "a datagram that is not acted on is lost"]
pub enum Action {
    /// Hand this packet to the transfer.
    Deliver(Id, Packet),
    /// The client of this transfer has sent its request again.
    Repeat(Id),
    /// Begin a transfer.
    Begin(Box<Start>),
    /// Send this packet from the port and the address that the datagram came to.
    Reply(Packet),
    /// Leave this request without an answer.
    LeaveUnanswered(DropReason),
    /// Ignore this datagram.
    Drop(DropReason),
}

/// A transfer that begins.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Start {
    /// The endpoint's number of the transfer.
    pub id: Id,
    /// The port that serves the transfer.
    pub port: usize,
    /// The port that the request came to.
    pub listener: usize,
    /// The client, and the address that it sent its request to.
    pub envelope: Envelope,
    /// RRQ or WRQ.
    pub direction: Direction,
    /// The client's request.
    pub request: Arc<packet::Request>,
    /// Its options, read once.
    pub(crate) asked: AskedOptions,
    /// The largest blksize for this client, in bytes.
    pub blksize: u16,
    /// The largest windowsize for this transfer, in blocks.
    pub windowsize: u16,
    /// How many bytes the transfer may send for each byte from the client's address, IP and UDP headers included.
    pub amplification: u32,
    /// The last round trip measured to this client's address.
    pub round_trip: Option<Duration>,
    /// When the request arrived.
    pub began: Instant,
}

/// Why the endpoint ends a transfer that has not ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The same client has sent another request.
    Replaced,
    /// The client has sent nothing but its request, and the endpoint needs the place for another.
    GaveWay,
    /// ICMP says that the client's port is closed.
    Unreachable,
    /// The client answers as a server does: a forger sets two servers against each other.
    Server,
}

/// What a transfer leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The last ACK of a complete upload. The endpoint repeats it if it was lost.
    pub last_ack: Option<u16>,
    /// The round trip that the transfer measured.
    pub round_trip: Option<Duration>,
}

/// Counts of datagrams, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "they are those of `Counters`")]
pub struct Counts {
    pub requests: u64,
    pub repeated: u64,
    pub over_limit: u64,
    pub unanswered: u64,
    pub malformed: u64,
    pub unknown_tids: u64,
}

/// All running transfers, and what the endpoint remembers of past ones. It stays on its thread (`!Send`), like a
/// shard.
pub struct Endpoint {
    policy: Policy,
    pools: Vec<Pool>,
    /// When each listener was last found empty.
    emptied: Vec<Option<Instant>>,
    /// The addresses of the server itself.
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
pub fn is_request(datagram: &[u8]) -> bool {
    matches!(datagram, [0, 1 | 2, ..])
}

impl Endpoint {
    /// `secret` is a random number, the key of the hash that draws ports.
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
    pub fn set_mtu(&mut self, mtu: impl FnMut(u32, &SocketAddr) -> u16 + 'static) {
        self.mtu = Box::new(mtu);
    }

    /// Sets the addresses of all sockets of the server, so that a forged request cannot make the server talk to
    /// itself.
    pub fn set_own(&mut self, own: Vec<SocketAddr>) {
        self.own = own;
    }

    /// Sets the policy for requests that arrive from now on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.admission.set_policy(&policy);
        self.policy = policy;
    }

    /// Refuses all further requests, silently.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// The number of transfers that have not [ended](Self::end).
    pub fn len(&self) -> usize {
        self.transfers.len()
    }

    /// Whether there are no transfers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reports at which ports no datagram waits. Without this report, a request like that of a running transfer always
    /// counts as a copy, which may have waited. So a driver without queues reports all ports before each datagram.
    pub fn emptied(&mut self, now: Instant, is_empty: impl Fn(usize) -> bool) {
        for (pool, emptied) in self.pools.iter().zip(&mut self.emptied) {
            if is_empty(pool.listener) {
                *emptied = Some(now);
            }
        }
    }

    /// Says what the driver does about a datagram that came to this port.
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
    pub fn closed(&mut self) -> Option<(Id, CloseReason)> {
        self.closed.pop_front()
    }

    /// Reports that the transfer answers its client, the blksize that it grants, and its OACK, which is empty if it sends
    /// none.
    pub fn granted(&mut self, now: Instant, id: Id, blksize: u16, oack: &Options) {
        self.transfers.answer(now, id, blksize, !oack.is_empty());
    }

    /// Reports that the first block of the transfer goes out, for the first time or again.
    pub fn first_block(&mut self, id: Id) {
        if let Some(entry) = self.transfers.get_mut(id) {
            entry.first_blocks = entry.first_blocks.saturating_add(1);
        }
    }

    /// Whether the driver may answer the request of this transfer with an ERROR.
    ///
    /// # Errors
    /// The reason why not.
    pub fn refuse(&mut self, now: Instant, id: Id) -> Result<(), DropReason> {
        if self.transfers.get(id).is_some_and(|entry| entry.broadcast) {
            return Err(DropReason::Broadcast);
        }
        self.admission.refusal(now)
    }

    /// Reports that the transfer has ended.
    pub fn end(&mut self, now: Instant, id: Id, ended: Ended) {
        self.retire(now, id, ended.last_ack);
        let Some(entry) = self.transfers.get(id) else { return };
        self.clients.learn(now, entry, ended.round_trip);
        self.tids.ended(now, entry.key.0);
        self.deadlines.release(id);
        self.transfers.remove(id);
    }

    /// Reports that ICMP says that the peer's port is closed.
    pub fn unreachable(&mut self, now: Instant, port: usize, peer: SocketAddr) {
        if let Some(id) = self.transfers.find(&(port, peer)) {
            self.close(now, id, CloseReason::Unreachable);
        }
    }

    /// Makes room when resources such as descriptors are used up. An eighth of the transfers whose clients have sent
    /// nothing but their requests give way.
    pub fn make_room(&mut self, now: Instant) {
        for _ in 0..(self.transfers.half_open() / 8).max(1) {
            if !self.evict(now) {
                break;
            }
        }
    }

    /// Sets the only deadline of this transfer.
    pub fn set_deadline(&mut self, id: Id, at: Instant) {
        self.deadlines.set(id, at);
    }

    /// When to call [`expired`](Self::expired) next.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Returns a transfer whose deadline has passed. Call it until it returns `None`.
    pub fn expired(&mut self, now: Instant) -> Option<Id> {
        self.deadlines.expire(now)
    }

    /// A port of a pool that was used for ten minutes and has no transfers. The driver may put another port in its
    /// place, under the same number. Call it now and then.
    pub fn stale_port(&mut self, now: Instant) -> Option<usize> {
        self.tids.stale_port(now, &self.pools)
    }

    /// The counts since the previous call.
    pub fn counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
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

    /// Makes a transfer give way, the oldest whose client has sent nothing but its request.
    fn evict(&mut self, now: Instant) -> bool {
        let oldest = self.transfers.oldest_half_open(now);
        if let Some(id) = oldest {
            self.close(now, id, CloseReason::GaveWay);
        }
        oldest.is_some()
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

impl CloseReason {
    /// The reason, in a few words.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Replaced => "the same client began anew",
            Self::GaveWay => "the client has not answered, and other requests wait",
            Self::Unreachable => "the client's port is closed",
            Self::Server => "the client is a server itself",
        }
    }
}

impl Envelope {
    /// The envelope of a datagram of which only the sender is known.
    pub const fn new(peer: SocketAddr) -> Self {
        Self { peer, local: None, interface: 0, broadcast: false }
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
