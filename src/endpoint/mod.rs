//! The other half of a server: which datagram belongs to which transfer, and whose request begins one.
//!
//! As [`Transfer`](crate::transfer::Transfer), it does no I/O and reads no clock. Whoever drives it
//!
//! 1. calls [`Endpoint::handle`] with each datagram, where it came from and the time;
//! 2. ends the transfers that [`Endpoint::closed`] names, which have to give way, and then does what the [`Action`] says;
//! 3. tells it of each transfer what it cannot see: what was [`granted`](Endpoint::granted), that the
//!    [first block](Endpoint::first_block) goes out, its [`end`](Endpoint::end), an ICMP
//!    [`unreachable`](Endpoint::unreachable);
//! 4. keeps the deadlines of all transfers in it, and wakes those that are [`expired`](Endpoint::expired).
//!
//! The loops of the server drive it with sockets and the system's clock, the simulator in virtual time.
//!
//! # What goes to an address that may be forged
//!
//! A client proves that it has its address when it sends a packet to the port of its transfer, its TID: a forger, who
//! does not get the server's packets, must try all ports (RFC 1350 section 4: TIDs are chosen at random). So
//!
//! - ports are drawn by a keyed hash from [`Pool::ports`], a pool of random ports;
//! - a transfer whose client was never heard gives way to others when places are wanted;
//! - a [`Start`] says how much its transfer may send for each byte that came from the client's address:
//!   [`AMPLIFICATION`] times as much as a forger has to send, who tries all ports.
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
//! let client = Envelope::from("192.0.2.7:1069".parse()?);
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
mod stranger;
#[cfg(test)]
mod tests;
mod transfers;

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::Refusal,
    options::Direction,
    packet::{self, Malformed, Packet},
};
#[cfg_attr(not(feature = "web"), allow(unused_imports, reason = "who serves HTTP uses it"))]
pub(crate) use admission::Admission;
use clients::Clients;
use deadlines::Deadlines;
#[cfg(test)]
use pool::LEAST;
use pool::Tids;
use recent::Recent;
use transfers::Transfers;

pub use policy::{Admits, Dropped, Policy};
pub use pool::{AMPLIFICATION, AMPLIFICATION_SINGLE_PORT, Pool};
pub use request::LONGEST_NAME;

/// The longest text of a client's ERROR that is kept, in bytes.
const LONGEST_TEXT: usize = 512;

/// Looked into for each datagram, where the standard hash would be a seventh of the work of a short transfer. This one
/// has a random seed too, and the limits bound what a flood of chosen addresses could put in.
type Map<K, V> = HashMap<K, V, foldhash::quality::RandomState>;

/// What datagrams of a transfer are known by: the port and the peer.
type Key = (usize, SocketAddr);

/// A repeated request is known by the port that it came to, its sender, and the address that it was sent to.
type Asked = (usize, SocketAddr, Option<IpAddr>);

/// A running transfer. The number is used again when the transfer has [ended](Endpoint::end).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub usize);

/// Where a datagram came from, and where it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The sender.
    pub peer: SocketAddr,
    /// The address of ours to answer from; `None` where the system does not tell, or was not asked.
    pub local: Option<IpAddr>,
    /// Index of the interface that it came in by; 0 where the system does not tell, or was not asked.
    pub interface: u32,
    /// Whether it was sent to a broadcast or multicast address.
    pub broadcast: bool,
}

/// What is to be done about a datagram.
#[derive(Debug)]
#[must_use = "a datagram that is not acted on is lost"]
pub enum Action {
    /// Hand this packet to the transfer.
    Deliver(Id, Packet),
    /// The client of this transfer has sent its request again.
    Repeat(Id),
    /// Begin a transfer.
    Begin(Box<Start>),
    /// Answer this from the port and the address that the datagram came to.
    Reply(Packet),
    /// A request that is not answered.
    TurnAway(Dropped),
    /// Nothing.
    Drop(Dropped),
}

/// A transfer that begins.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Start {
    /// What the endpoint knows it by.
    pub id: Id,
    /// The port that it is served from.
    pub port: usize,
    /// The port that the request came to.
    pub listener: usize,
    /// The client, and the address that it asked.
    pub envelope: Envelope,
    /// RRQ or WRQ.
    pub direction: Direction,
    /// What it asks for.
    pub request: Arc<packet::Request>,
    /// Largest blksize for this client, in bytes.
    pub blksize: u16,
    /// Largest windowsize for this transfer, in blocks.
    pub windowsize: u16,
    /// How many bytes may be sent for each byte that came from the client's address, IP and UDP headers counted.
    pub amplification: u32,
    /// The round trip that was last measured to this client's address.
    pub round_trip: Option<Duration>,
    /// When the request came.
    pub began: Instant,
}

/// Why a transfer has to end that has not ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The same client has sent another request.
    Replaced,
    /// Its client was never heard, and others want its place.
    GaveWay,
    /// ICMP says that nobody is there.
    Unreachable,
    /// It answers as a server does: somebody sets two servers against each other.
    Server,
}

/// What a transfer leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The ACK that ended an upload, to be repeated if it was lost.
    pub last_ack: Option<u16>,
    /// The round trip that it measured.
    pub round_trip: Option<Duration>,
}

/// Datagrams that were handled, by what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "they are those of `Counters`")]
pub struct Counts {
    pub requests: u64,
    pub repeated: u64,
    pub over_limit: u64,
    pub unanswered: u64,
    pub malformed: u64,
    pub strangers: u64,
}

/// Which transfers there are, and what has just been. It stays on its thread (`!Send`), as a shard does.
pub struct Endpoint {
    policy: Policy,
    pools: Vec<Pool>,
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
    closed: VecDeque<(Id, Closed)>,
    counts: Counts,
    hasher: foldhash::quality::RandomState,
}

/// Largest blksize by the interface that a request came in by, and its sender.
type Mtu = Box<dyn FnMut(u32, &SocketAddr) -> u16>;

/// Whether a datagram is a request. Before it is [handled](Endpoint::handle), the transfers should have acted on what was
/// delivered to them: a client may end one transfer and begin the next at once, from the same port.
pub fn is_request(datagram: &[u8]) -> bool {
    matches!(datagram, [0, 1 | 2, ..])
}

impl Endpoint {
    /// `secret`: a random number, by which ports are drawn.
    pub fn new(policy: Policy, pools: Vec<Pool>, secret: u128) -> Self {
        let ports = pools.iter().flat_map(|pool| &pool.ports).max().map_or(0, |most| most + 1);
        Self {
            admission: Admission::new(&policy),
            policy,
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

    /// Tells the largest blksize that travels in one piece, by the index of the interface and the client. Defaults to
    /// all that there is.
    pub fn set_mtu(&mut self, mtu: impl FnMut(u32, &SocketAddr) -> u16 + 'static) {
        self.mtu = Box::new(mtu);
    }

    /// The addresses of all sockets of the server, so that a forged request cannot have it talk to itself.
    pub fn set_own(&mut self, own: Vec<SocketAddr>) {
        self.own = own;
    }

    /// Requests that come from now on are admitted by this policy.
    pub fn set_policy(&mut self, policy: Policy) {
        self.admission.follow(&policy);
        self.policy = policy;
    }

    /// Takes no more requests.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Transfers that have not [ended](Self::end).
    pub fn len(&self) -> usize {
        self.transfers.len()
    }

    /// Whether there are no transfers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is to be done about a datagram that came to this port.
    pub fn handle(&mut self, now: Instant, port: usize, envelope: &Envelope, datagram: &[u8]) -> Action {
        let pool = self.pools.iter().position(|pool| pool.listener == port);
        match (Packet::decode(datagram), pool) {
            (Ok(Packet::Rrq(_) | Packet::Wrq(_)), None) => {
                self.counts.strangers += 1;
                Action::Drop(Dropped::Misdirected)
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
                    _ => Action::Drop(Dropped::Malformed),
                }
            }
        }
    }

    /// A transfer that has to end as if its client had left, for this reason. To be asked after whatever the endpoint
    /// was told, until there is none.
    pub fn closed(&mut self) -> Option<(Id, Closed)> {
        self.closed.pop_front()
    }

    /// The transfer is about to answer its client, to which it grants this blksize, and whether by an OACK.
    pub fn granted(&mut self, now: Instant, id: Id, blksize: u16, oack: bool) {
        self.transfers.answer(now, id, blksize, oack);
    }

    /// The first block of the transfer goes out, or goes out again.
    pub fn first_block(&mut self, id: Id) {
        if let Some(known) = self.transfers.get_mut(id) {
            known.first_blocks = known.first_blocks.saturating_add(1);
        }
    }

    /// Whether the request of this transfer may be answered with an ERROR.
    ///
    /// # Errors
    /// Why not.
    pub fn refuse(&mut self, now: Instant, id: Id) -> Result<(), Dropped> {
        if self.transfers.get(id).is_some_and(|known| known.broadcast) {
            return Err(Dropped::Broadcast);
        }
        self.admission.refusal(now)
    }

    /// The transfer has ended.
    pub fn end(&mut self, now: Instant, id: Id, ended: Ended) {
        self.retire(now, id, ended.last_ack);
        let Some(known) = self.transfers.get(id) else { return };
        self.clients.learn(now, known, ended.round_trip);
        self.tids.ended(now, known.key.0);
        self.deadlines.release(id);
        self.transfers.remove(id);
    }

    /// ICMP says that the peer of a transfer does not listen there.
    pub fn unreachable(&mut self, now: Instant, port: usize, peer: SocketAddr) {
        if let Some(id) = self.transfers.find(&(port, peer)) {
            self.close(now, id, Closed::Unreachable);
        }
    }

    /// There are no means for one more transfer, such as descriptors: an eighth of those whose clients were never heard
    /// give way.
    pub fn make_room(&mut self, now: Instant) {
        for _ in 0..(self.transfers.unheard() / 8).max(1) {
            if !self.evict(now) {
                break;
            }
        }
    }

    /// Sets the only deadline of this transfer.
    pub fn set_deadline(&mut self, id: Id, at: Instant) {
        self.deadlines.set(id, at);
    }

    /// When to ask for those that are [`expired`](Self::expired).
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// A transfer whose deadline has passed; to be asked until there is none.
    pub fn expired(&mut self, now: Instant) -> Option<Id> {
        self.deadlines.expire(now)
    }

    /// A port of a pool that was used for ten minutes and has no transfers: another one may take its place, under the
    /// same number. To be asked now and then.
    pub fn worn_out(&mut self, now: Instant) -> Option<usize> {
        self.tids.worn_out(now, &self.pools)
    }

    /// What was counted since this was last asked.
    pub fn counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    fn packet(&mut self, now: Instant, key: Key, envelope: &Envelope, mut packet: Packet) -> Action {
        let Some(id) = self.transfers.hear(&key, now, &packet) else {
            return self.answer_stranger(now, key, envelope, &packet);
        };
        if let Packet::Error { message, .. } = &mut packet {
            cut(message, LONGEST_TEXT);
        } else if self.transfers.get(id).is_some_and(|known| known.is_answered_by_a_server(&packet)) {
            self.close(now, id, Closed::Server);
            return self.refuse_stranger(now, envelope, &Refusal::bad_request(), Dropped::Stranger);
        }
        Action::Deliver(id, packet)
    }

    /// Has the transfer give way that has been answered and not heard for longest.
    fn evict(&mut self, now: Instant) -> bool {
        let oldest = self.transfers.oldest_unheard(now);
        if let Some(id) = oldest {
            self.close(now, id, Closed::GaveWay);
        }
        oldest.is_some()
    }

    /// To this transfer it is as if its client had left.
    fn close(&mut self, now: Instant, id: Id, why: Closed) {
        if self.retire(now, id, None) {
            self.closed.push_back((id, why));
        }
    }

    /// What comes from now on is not this transfer's, and what is still on its way is no stranger's.
    fn retire(&mut self, now: Instant, id: Id, last_ack: Option<u16>) -> bool {
        let retired = self.transfers.close(id);
        if let Some(known) = retired {
            self.recent.insert(known.key, known.asked, known.hash, last_ack, now);
            self.clients.closed(known.client());
        }
        retired.is_some()
    }
}

impl Closed {
    /// The reason, in a few words.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Replaced => "the same client began anew",
            Self::GaveWay => "nobody has answered, and others wait",
            Self::Unreachable => "the client's port is closed",
            Self::Server => "the client is a server itself",
        }
    }
}

impl Envelope {
    /// Of a datagram of this sender, of which nothing else is known.
    pub const fn from(peer: SocketAddr) -> Self {
        Self { peer, local: None, interface: 0, broadcast: false }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("policy", &self.policy).field("transfers", &self.len()).finish_non_exhaustive()
    }
}

fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let at = (0..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(at);
        text.shrink_to_fit();
    }
}
