//! The ports that transfers are served from. The port of a transfer is its TID (RFC 1350 section 4).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::packet::headers;

/// How many times as many bytes as a forger sends reach the address that it names, at most, if it must try all ports:
/// IP and UDP headers counted.
pub const AMPLIFICATION: u32 = 50;
/// As [`AMPLIFICATION`], with a single port, which everybody knows.
pub const AMPLIFICATION_SINGLE_PORT: u32 = 150;

/// Blocks that an ACK should pay for besides its window.
const SPARE: u32 = 4;
/// Ports that a transfer in lock-step may get, at least.
pub(super) const LEAST: usize = 4;
/// A port that was used for this long may be known to many.
const WORN: Duration = Duration::from_secs(600);
/// After the last transfer of a port has ended, before the port is given up: late packets are no stranger's to another
/// program.
const QUIET: Duration = Duration::from_secs(10);
/// Draws before it is borne that a client had the port before.
const DRAWS: usize = 8;

/// The ports of one address. Ports are numbered by the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The port that requests come to.
    pub listener: usize,
    /// The ports that its transfers are served from: several, at random, or the listener alone.
    pub ports: Vec<usize>,
}

/// Which transfer gets which port.
pub(super) struct Tids {
    secret: u128,
    /// How many were drawn.
    drawn: u64,
    ports: Vec<Port>,
}

#[derive(Clone, Default)]
struct Port {
    running: usize,
    /// When it was first used.
    since: Option<Instant>,
    ended: Option<Instant>,
    /// Whether it gets no more transfers.
    drains: bool,
}

impl Pool {
    fn is_single(&self) -> bool {
        self.ports == [self.listener]
    }

    /// The ports that a transfer may get: as many as it takes for an ACK, sent to each of them, to pay for a window and
    /// some blocks that are sent again; and never few. Few ports make for large batches, and large batches for few system
    /// calls.
    pub(super) fn ports_for(&self, peer: &SocketAddr, blksize: u16, windowsize: u16) -> &[usize] {
        let window = block(peer, blksize).saturating_mul(u32::from(windowsize) + SPARE);
        let enough = window.div_ceil(headers(peer) * AMPLIFICATION) as usize;
        &self.ports[..enough.max(LEAST).min(self.ports.len())]
    }

    /// How many bytes a transfer of these ports may send for each that its client sends. A forger sends every packet to
    /// every port.
    pub(super) fn amplification(&self, ports: usize) -> u32 {
        match self.is_single() {
            true => AMPLIFICATION_SINGLE_PORT,
            false => AMPLIFICATION.saturating_mul(ports as u32),
        }
    }

    /// The largest window that one ACK pays for, in blocks.
    pub(super) fn windowsize(&self, peer: &SocketAddr, blksize: u16) -> u16 {
        let most = self.amplification(self.ports.len()).saturating_mul(headers(peer)) / block(peer, blksize);
        let most = if self.is_single() { most.min(4) } else { most };
        most.clamp(1, u16::MAX.into()) as u16
    }
}

/// The size of a block on the wire, IP and UDP headers counted.
fn block(peer: &SocketAddr, blksize: u16) -> u32 {
    u32::from(blksize) + headers(peer)
}

impl Tids {
    /// `ports`: one more than the greatest number of a port.
    pub(super) fn new(secret: u128, ports: usize) -> Self {
        Self { secret, drawn: 0, ports: vec![Port::default(); ports] }
    }

    /// A port for a new transfer: one that this peer had not a moment ago, so that nothing of the transfer before can be
    /// taken for a part of this one; or the one that it has not had for longest.
    pub(super) fn draw(
        &mut self,
        now: Instant,
        ports: &[usize],
        peer: SocketAddr,
        last_use: impl Fn(usize) -> Option<Instant>,
    ) -> usize {
        let drawn: Vec<usize> = match ports[..] {
            [only] => return self.begin(now, only),
            _ => (0..DRAWS).map(|_| self.next(ports, peer)).collect(),
        };
        let fresh = drawn.iter().copied().filter(|&port| !self.ports[port].drains);
        let port = fresh.min_by_key(|&port| last_use(port)).unwrap_or(drawn[0]);
        self.begin(now, port)
    }

    /// SipHash with a secret in front: what is known of other ports says nothing about this one.
    fn next(&mut self, ports: &[usize], peer: SocketAddr) -> usize {
        self.drawn += 1;
        let mut hasher = DefaultHasher::new();
        (self.secret, peer, self.drawn).hash(&mut hasher);
        ports[hasher.finish() as usize % ports.len()]
    }

    fn begin(&mut self, now: Instant, number: usize) -> usize {
        let port = &mut self.ports[number];
        port.running += 1;
        port.since.get_or_insert(now);
        number
    }

    pub(super) fn ended(&mut self, now: Instant, port: usize) {
        let port = &mut self.ports[port];
        port.running -= 1;
        port.ended = Some(now);
    }

    /// A port that has been used for long and has no transfers any more. One of them after the other drains, so that
    /// there are always many to draw from.
    pub(super) fn worn_out(&mut self, now: Instant, pools: &[Pool]) -> Option<usize> {
        let age = |port: &Port| port.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let drawn = pools.iter().filter(|pool| pool.ports.len() > 1).flat_map(|pool| &pool.ports);
        let oldest = drawn.copied().max_by_key(|&port| age(&self.ports[port]))?;
        let port = &mut self.ports[oldest];
        if age(port) < WORN {
            return None;
        }
        port.drains = true;
        let is_quiet = port.ended.is_none_or(|at| now.saturating_duration_since(at) >= QUIET);
        (port.running == 0 && is_quiet).then(|| {
            *port = Port::default();
            oldest
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(ports: usize) -> Pool {
        Pool { listener: 0, ports: (1..=ports).collect() }
    }

    fn peer(n: u16) -> SocketAddr {
        ([192, 0, 2, 7], n).into()
    }

    #[test]
    fn one_draw_says_nothing_about_the_next() {
        let (pool, now) = (pool(64), Instant::now());
        let draws = |secret| {
            let mut tids = Tids::new(secret, 65);
            (0..6400).map(|n| tids.draw(now, &pool.ports, peer(n % 100), |_| None)).collect::<Vec<_>>()
        };
        let (one, two) = (draws(1), draws(2));
        let same = one.iter().zip(&two).filter(|(one, two)| one == two).count();
        assert!((50..200).contains(&same), "{same} of 6400 with another secret, 100 expected by chance");
        for port in 1..=64 {
            let count = one.iter().filter(|&&drawn| drawn == port).count();
            assert!((50..170).contains(&count), "port {port} was drawn {count} times, not about 100");
        }
        // Of two draws in a row for one peer, as many are the same as chance has it.
        let again = one.chunks(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(again < 110, "{again} of 3200");
    }

    #[test]
    fn a_client_that_comes_again_gets_another_port() {
        let (pool, now) = (pool(64), Instant::now());
        let mut tids = Tids::new(7, 65);
        for _ in 0..1000 {
            let before = tids.draw(now, &pool.ports, peer(1), |_| None);
            let port = tids.draw(now, &pool.ports, peer(1), |port| (port == before).then_some(now));
            assert_ne!(port, before);
        }
    }

    #[test]
    fn an_ack_pays_for_its_window() {
        let (v4, v6) = (peer(1), "[fe80::1]:1".parse().unwrap());
        assert!(pool(64).windowsize(&v4, 1468) >= 64 && pool(64).windowsize(&v6, 1448) >= 64);
        for ports in [2, 16, 64] {
            for blksize in [512, 1428, 1468, 8968] {
                let (pool, headers) = (pool(ports), headers(&v4));
                let window = u32::from(pool.windowsize(&v4, blksize)) * (u32::from(blksize) + headers);
                let paid = headers * ports as u32;
                assert!(window <= AMPLIFICATION * paid || pool.windowsize(&v4, blksize) == 1, "{ports} {blksize}");
            }
        }
        let single = Pool { listener: 3, ports: vec![3] };
        assert_eq!([512, 1408, 1468].map(|blksize| single.windowsize(&v4, blksize)), [4, 3, 3]);
        assert_eq!(single.windowsize(&v6, 1448), 4);
    }

    #[test]
    fn a_port_that_is_worn_out_drains_first() {
        let (pool, start) = (pool(2), Instant::now());
        let mut tids = Tids::new(1, 3);
        let worn = tids.draw(start, &pool.ports, peer(1), |_| None);
        assert_eq!(tids.worn_out(start, std::slice::from_ref(&pool)), None);
        let later = start + WORN;
        assert_eq!(tids.worn_out(later, std::slice::from_ref(&pool)), None, "its transfer runs");
        for n in 0..100 {
            assert_ne!(tids.draw(later, &pool.ports, peer(n), |_| None), worn);
        }
        tids.ended(later, worn);
        assert_eq!(tids.worn_out(later, std::slice::from_ref(&pool)), None, "late packets may come");
        assert_eq!(tids.worn_out(later + QUIET, std::slice::from_ref(&pool)), Some(worn));
        assert!((0..100).any(|n| tids.draw(later, &pool.ports, peer(n), |_| None) == worn), "it is as new");
    }
}
