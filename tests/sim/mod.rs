//! Two peers in virtual time, and between them a wire that loses, doubles and delays from a seed.
//!
//! The clock is read once, for a time to begin at, and the same seed gives the same [`Trace`] to the last packet.
#![allow(dead_code, unused_imports, reason = "each test crate uses its part of it")]

pub mod any;
mod client;
mod end;
mod pair;
mod script;
mod served;

use std::time::{Duration, Instant};

use tuffet::packet::{Options, Packet};

pub use any::Dice;
pub use client::{ALL as ALL_CLIENTS, Client, EDK2, GRUB, Habits, IPXE, PXELINUX, UBOOT, UBOOT_WINDOWS};
pub use end::{End, Source};
pub use pair::{Ran, Setup};
pub use script::{Script, blocks, decoded_options};
pub use served::Server;
pub use tuffet::sim::{Fault, LinkConditions, Wire};

/// A peer: a transfer of this crate, or the model of a client.
pub trait Peer {
    /// The packets that the peer sends upon this cue.
    fn act(&mut self, now: Instant, cue: Cue) -> Vec<Packet>;
    /// When it wants to be woken if no packet comes.
    fn wake_at(&self) -> Option<Instant>;
}

pub enum Cue {
    /// The first one, once. A server has nothing to say yet.
    Begin,
    Packet(Packet),
    Wake,
}

/// Each sent packet: its time, its sender, and its fate.
pub type Trace = Vec<Sent>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub at: Duration,
    pub by: Side,
    /// Opcode and block number, or opcode and the first two letters.
    pub head: Vec<u8>,
    pub len: usize,
    /// How many copies will arrive.
    pub copies: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// The result of a run.
pub struct Report {
    /// From the first packet until neither side had anything left to do.
    pub elapsed: Duration,
    pub trace: Trace,
}

impl Report {
    pub fn sent_by(&self, side: Side) -> usize {
        self.trace.iter().filter(|sent| sent.by == side).count()
    }
}

/// Runs until both sides are silent and the wire is empty.
///
/// # Panics
/// If that takes longer than `limit`, in virtual time.
pub fn run(client: &mut dyn Peer, server: &mut dyn Peer, up: &mut Wire, down: &mut Wire, limit: Duration) -> Report {
    let start = Instant::now();
    let mut now = start;
    let mut trace = Trace::new();
    let mut log = |now: Instant, by: Side, wire: &mut Wire, packets: Vec<Packet>| {
        for packet in packets {
            let datagram = packet.encode();
            let (head, len) = (datagram[..datagram.len().min(4)].to_vec(), datagram.len());
            let copies = wire.send(now, datagram);
            trace.push(Sent { at: now - start, by, head, len, copies });
        }
    };
    log(now, Side::Client, up, client.act(now, Cue::Begin));
    log(now, Side::Server, down, server.act(now, Cue::Begin));
    loop {
        let whens = [up.next_at(), down.next_at(), client.wake_at(), server.wake_at()];
        let Some((who, at)) = whens.iter().enumerate().filter_map(|(who, at)| Some((who, (*at)?))).min_by_key(|x| x.1)
        else {
            return Report { elapsed: now - start, trace };
        };
        now = now.max(at);
        assert!(now - start <= limit, "not over after {limit:?}");
        match who {
            0 => log(now, Side::Server, down, server.act(now, decoded(up))),
            1 => log(now, Side::Client, up, client.act(now, decoded(down))),
            2 => log(now, Side::Client, up, client.act(now, Cue::Wake)),
            _ => log(now, Side::Server, down, server.act(now, Cue::Wake)),
        }
    }
}

/// The cue of a datagram that has arrived. Both peers encode by this crate, so each datagram decodes and encodes to the
/// same bytes.
fn decoded(wire: &mut Wire) -> Cue {
    let datagram = wire.receive().expect("it has arrived");
    let packet = Packet::decode(&datagram).expect("a packet of ours");
    assert_eq!(packet.encode(), datagram, "{packet:?}");
    Cue::Packet(packet)
}

/// Prints the case at hand when a test fails in the middle of it.
pub struct Trying<T: std::fmt::Debug>(pub T);

impl<T: std::fmt::Debug> Drop for Trying<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with {:?}", self.0);
        }
    }
}

/// `options("blksize=1432 tsize=0")`
pub fn options(text: &str) -> Options {
    text.split_whitespace().map(|pair| pair.split_once('=').expect("name=value")).collect()
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
