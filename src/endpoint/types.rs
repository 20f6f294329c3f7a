//! The types that an endpoint takes and returns.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::DropReason;
use crate::{
    options::{AskedOptions, Direction},
    packet::{self, Packet},
};

/// The number of a running transfer. It is used again when the transfer has [ended](super::Endpoint::end).
///
/// ```
/// use std::time::Instant;
/// use tuffet::endpoint::{Action, Ended, Endpoint, Envelope, Policy, Pool};
///
/// let pool = Pool { listener: 0, ports: (1..=64).collect() };
/// let (mut endpoint, now) = (Endpoint::new(Policy::default(), vec![pool], 7), Instant::now());
/// let client = Envelope::new(([192, 0, 2, 7], 1069).into());
/// let rrq = b"\0\x01menu\0octet\0";
/// let Action::Begin(first) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
/// endpoint.end(now, first.id, Ended::default());
/// let Action::Begin(second) = endpoint.handle(now, 0, &client, rrq) else { panic!() };
/// assert_eq!(first.id, second.id);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub usize);

/// Where a datagram came from, and where it was sent to.
///
/// ```
/// use tuffet::endpoint::Envelope;
///
/// let broadcast = Envelope { broadcast: true, ..Envelope::new(([192, 0, 2, 7], 1069).into()) };
/// assert_eq!((broadcast.local, broadcast.interface), (None, 0), "the system does not tell");
/// ```
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
///
/// ```
/// use std::time::Instant;
/// use tuffet::endpoint::{Action, DropReason, Endpoint, Envelope, Policy, Pool};
///
/// let pool = Pool { listener: 0, ports: (1..=64).collect() };
/// let (mut endpoint, now) = (Endpoint::new(Policy::default(), vec![pool], 7), Instant::now());
/// let client = Envelope::new(([192, 0, 2, 7], 1069).into());
/// let rrq = b"\0\x01menu\0octet\0";
/// assert!(matches!(endpoint.handle(now, 0, &client, rrq), Action::Begin(_)));
/// assert!(matches!(endpoint.handle(now, 0, &client, rrq), Action::Repeat(_)), "it waits for an answer");
/// assert!(matches!(endpoint.handle(now, 0, &client, b"hello"), Action::Drop(DropReason::Malformed)));
/// ```
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
///
/// ```
/// use std::time::Instant;
/// use tuffet::{endpoint::{Action, Endpoint, Envelope, Policy, Pool}, options::Direction};
///
/// let pool = Pool { listener: 0, ports: (1..=64).collect() };
/// let mut endpoint = Endpoint::new(Policy::default(), vec![pool], 7);
/// let client = Envelope::new(([192, 0, 2, 7], 1069).into());
/// let wrq = b"\0\x02switch.cfg\0octet\0";
/// let Action::Begin(start) = endpoint.handle(Instant::now(), 0, &client, wrq) else { panic!() };
/// assert_eq!((start.direction, &*start.request.filename), (Direction::Write, &b"switch.cfg"[..]));
/// assert!((1..=64).contains(&start.port) && start.listener == 0);
/// ```
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
///
/// ```
#[doc = include_str!("example.md")]
/// let Action::Begin(first) = endpoint.handle(now, 0, &client, b"\0\x01pxelinux.0\0octet\0") else { panic!() };
/// let Action::Begin(_) = endpoint.handle(now, 0, &client, b"\0\x01menu\0octet\0") else { panic!() };
/// assert_eq!(endpoint.closed(), Some((first.id, CloseReason::Replaced)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The same client has sent another request.
    Replaced,
    /// The client is silent, and the endpoint needs the place for another.
    Evicted,
    /// ICMP says that the client's port is closed.
    Unreachable,
    /// The client answers as a server does: a forger sets two servers against each other.
    Server,
}

/// The facts that an ended transfer leaves to the endpoint.
///
/// ```
/// let upload = tuffet::endpoint::Ended { last_ack: Some(7), ..Default::default() };
/// assert_eq!(upload.round_trip, None, "it was not measured");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The last ACK of a complete upload. The endpoint repeats it if it was lost.
    pub last_ack: Option<u16>,
    /// The round trip that the transfer measured.
    pub round_trip: Option<Duration>,
}

/// Counts of datagrams, by their fate.
///
/// ```
#[doc = include_str!("example.md")]
/// let _ = endpoint.handle(now, 0, &client, rrq);
/// let _ = endpoint.handle(now, 0, &client, rrq);
/// let counts = endpoint.counts();
/// assert_eq!((counts.requests, counts.repeated), (2, 1));
/// ```
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

impl CloseReason {
    /// The reason, in a few words.
    ///
    /// ```
    /// assert_eq!(tuffet::endpoint::CloseReason::Replaced.reason(), "the same client began anew");
    /// ```
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Replaced => "the same client began anew",
            Self::Evicted => "the client is silent, and other requests wait",
            Self::Unreachable => "the client's port is closed",
            Self::Server => "the client is a server itself",
        }
    }
}

impl Envelope {
    /// The envelope of a datagram of which only the sender is known.
    ///
    /// ```
    /// use tuffet::endpoint::Envelope;
    ///
    /// let envelope = Envelope::new(([192, 0, 2, 7], 1069).into());
    /// assert!(envelope.local.is_none() && !envelope.broadcast);
    /// ```
    pub const fn new(peer: SocketAddr) -> Self {
        Self { peer, local: None, interface: 0, broadcast: false }
    }
}
