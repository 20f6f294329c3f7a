//! The ports that serve transfers. The port of a transfer is its TID (RFC 1350 section 4).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::packet::headers;

/// For each byte that a forger sends, at most this many bytes reach the address that it names. The forger must try all
/// ports. IP and UDP headers count.
pub const AMPLIFICATION: u32 = 50;
/// As [`AMPLIFICATION`], for a single port, which everybody knows.
pub const AMPLIFICATION_SINGLE_PORT: u32 = 150;

/// The largest windowsize of a single port by default, in blocks.
pub(crate) const WINDOWSIZE_SINGLE_PORT: u16 = 4;
/// Blocks that an ACK pays for in addition to its window.
const SPARE: u32 = 4;
/// The least number of ports for a transfer in lock-step.
pub(super) const LEAST: usize = 4;
/// After this time in use, many may know a port.
const STALE: Duration = Duration::from_secs(600);
/// How long a port stays open after its last transfer has ended. Late packets then do not reach another program as a
/// stranger's.
const QUIET: Duration = Duration::from_secs(10);
/// One port of this many may drain. A forger does not try ports that drain, so while they do, windows are paid for by
/// ACKs to the others only.
const DRAINING: usize = 16;
/// Ports that are drawn for a new transfer. Its client gets the one that it has not had for longest.
const DRAWS: usize = 8;

/// The ports of one address. The driver numbers the ports.
///
/// ```
/// use tuffet::endpoint::Pool;
///
/// let as_rfc_1350_says = Pool { listener: 0, ports: (1..=64).collect() };
/// let single_port = Pool { listener: 0, ports: vec![0] };
/// assert!(!as_rfc_1350_says.ports.contains(&0) && single_port.ports == [single_port.listener]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The port that receives requests.
    pub listener: usize,
    /// The ports that serve the transfers: several random ports, or the listener alone.
    pub ports: Vec<usize>,
}

/// Chooses the port of each transfer.
pub(super) struct Tids {
    secret: u128,
    /// How many ports were drawn.
    drawn: u64,
    ports: Vec<Port>,
}

#[derive(Clone, Default)]
struct Port {
    running: usize,
    /// When the port was first used.
    since: Option<Instant>,
    ended: Option<Instant>,
    /// Whether the port gets no more transfers. Then it is one of the last in its pool.
    drains: bool,
}

/// The ports of a pool that new transfers may get: all but those that drain.
pub(super) struct LivePorts<'a> {
    ports: &'a [usize],
    is_single: bool,
}

impl<'a> LivePorts<'a> {
    pub(super) fn all(&self) -> &'a [usize] {
        self.ports
    }

    /// The ports that a transfer may get, never fewer than [`LEAST`]. There are so many of them that an ACK sent to
    /// each pays for a window and some blocks that are sent again. Few ports make large batches, and large batches
    /// need few system calls.
    pub(super) fn of(&self, peer: &SocketAddr, blksize: u16, windowsize: u16) -> &'a [usize] {
        let window = block(peer, blksize).saturating_mul(u32::from(windowsize) + SPARE);
        let enough = window.div_ceil(headers(peer) * AMPLIFICATION) as usize;
        &self.ports[..enough.max(LEAST).min(self.ports.len())]
    }

    /// How many bytes a transfer on this many ports may send for each byte from its client. A forger must send every
    /// packet to every port.
    pub(super) fn amplification(&self, ports: usize) -> u32 {
        match self.is_single {
            true => AMPLIFICATION_SINGLE_PORT,
            false => AMPLIFICATION.saturating_mul(ports as u32),
        }
    }

    /// The largest window that one ACK pays for, in blocks.
    pub(super) fn windowsize(&self, peer: &SocketAddr, blksize: u16) -> u16 {
        let most = self.amplification(self.ports.len()).saturating_mul(headers(peer)) / block(peer, blksize);
        let most = if self.is_single { most.min(WINDOWSIZE_SINGLE_PORT.into()) } else { most };
        most.clamp(1, u16::MAX.into()) as u16
    }
}

/// The size of a DATA packet on the wire, IP and UDP headers included.
fn block(peer: &SocketAddr, blksize: u16) -> u32 {
    u32::from(blksize) + headers(peer)
}

impl Tids {
    /// `ports`: the greatest port number plus one.
    pub(super) fn new(secret: u128, ports: usize) -> Self {
        Self { secret, drawn: 0, ports: vec![Port::default(); ports] }
    }

    /// The ports that new transfers of a pool may get.
    pub(super) fn live<'a>(&self, pool: &'a Pool) -> LivePorts<'a> {
        let draining = pool.ports.iter().rev().take_while(|port| self.ports[**port].drains).count();
        let ports = &pool.ports[..pool.ports.len() - draining];
        LivePorts { ports, is_single: pool.ports == [pool.listener] }
    }

    /// Draws a port for a new transfer. It is one that this peer has not had lately, so that no packet of the previous
    /// transfer can be taken for one of this transfer. Otherwise it is the one that the peer has not had for longest.
    pub(super) fn draw(
        &mut self,
        now: Instant,
        ports: &[usize],
        peer: SocketAddr,
        last_use: impl Fn(usize) -> Option<Instant>,
    ) -> usize {
        if let [only] = *ports {
            return self.begin(now, only);
        }
        let first = self.next(ports, peer);
        let (mut port, mut oldest) = (first, None);
        for _ in 0..DRAWS {
            match last_use(port) {
                None => return self.begin(now, port),
                Some(at) if oldest.is_none_or(|(earlier, _)| at < earlier) => oldest = Some((at, port)),
                Some(_) => {}
            }
            port = self.next(ports, peer);
        }
        self.begin(now, oldest.map_or(first, |(_, port)| port))
    }

    /// SipHash with a secret in front: other ports tell nothing about this one.
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

    /// Returns a port that has been used for long and has no transfers any more. Few ports drain at a time, so that
    /// there are always many to draw from, and a transfer that never ends does not keep the others.
    pub(super) fn stale_port(&mut self, now: Instant, pools: &mut [Pool]) -> Option<usize> {
        pools.iter_mut().find_map(|pool| {
            self.drain_oldest(now, pool);
            self.renew_quiet(now, pool)
        })
    }

    /// Lets the oldest port of a pool drain, if it has been used for long.
    fn drain_oldest(&mut self, now: Instant, pool: &mut Pool) {
        let live = self.live(pool).all().len();
        let may_drain = live > 1 && pool.ports.len() - live < (pool.ports.len() / DRAINING).max(1);
        let age = |at: &usize| {
            let since = self.ports[pool.ports[*at]].since;
            since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
        };
        if let Some(at) = (0..live).max_by_key(age).filter(|at| may_drain && age(at) >= STALE) {
            self.ports[pool.ports[at]].drains = true;
            pool.ports[at..].rotate_left(1);
        }
    }

    /// Puts a port that drains back among the others, as a new one, once its transfers have ended and no late packets
    /// come.
    fn renew_quiet(&mut self, now: Instant, pool: &mut Pool) -> Option<usize> {
        let live = self.live(pool).all().len();
        let is_quiet = |at: &usize| {
            let Port { running, ended, .. } = self.ports[pool.ports[*at]];
            running == 0 && ended.is_none_or(|at| now.saturating_duration_since(at) >= QUIET)
        };
        let at = (live..pool.ports.len()).find(is_quiet)?;
        pool.ports[live..=at].rotate_right(1);
        let port = pool.ports[live];
        self.ports[port] = Port::default();
        Some(port)
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
    fn a_draw_does_not_predict_the_next_draw() {
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
        // Two draws in a row for one peer are as often the same as chance makes them.
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
        let windowsize =
            |pool: &Pool, peer: &SocketAddr, blksize| Tids::new(1, 65).live(pool).windowsize(peer, blksize);
        let (v4, v6) = (peer(1), "[fe80::1]:1".parse().unwrap());
        // So many are left while others drain.
        assert!(windowsize(&pool(60), &v4, 1468) >= 64 && windowsize(&pool(60), &v6, 1448) >= 64);
        for ports in [2, 16, 64] {
            for blksize in [512, 1428, 1468, 8968] {
                let (pool, headers) = (pool(ports), headers(&v4));
                let window = u32::from(windowsize(&pool, &v4, blksize)) * (u32::from(blksize) + headers);
                let paid = headers * ports as u32;
                assert!(window <= AMPLIFICATION * paid || windowsize(&pool, &v4, blksize) == 1, "{ports} {blksize}");
            }
        }
        let single = Pool { listener: 3, ports: vec![3] };
        assert_eq!([512, 1408, 1468].map(|blksize| windowsize(&single, &v4, blksize)), [4, 3, 3]);
        assert_eq!(windowsize(&single, &v6, 1448), 4);
    }

    #[test]
    fn a_port_that_is_worn_out_drains_first() {
        // So many ports that no processor's hash draws one of them eight times in a row.
        let (mut pools, start) = ([pool(8)], Instant::now());
        let mut tids = Tids::new(1, 9);
        let draw = |tids: &mut Tids, pool: &Pool, at, n| tids.draw(at, tids.live(pool).all(), peer(n), |_| None);
        let worn = draw(&mut tids, &pools[0], start, 1);
        assert_eq!(tids.stale_port(start, &mut pools), None);
        let later = start + STALE;
        assert_eq!(tids.stale_port(later, &mut pools), None, "its transfer runs");
        for n in 0..100 {
            assert_ne!(draw(&mut tids, &pools[0], later, n), worn);
        }
        tids.ended(later, worn);
        assert_eq!(tids.stale_port(later, &mut pools), None, "late packets may come");
        assert_eq!(tids.stale_port(later + QUIET, &mut pools), Some(worn));
        assert!((0..100).any(|n| draw(&mut tids, &pools[0], later, n) == worn), "it is as new");
    }

    /// A forger does not try a port that drains, so an ACK to the others must pay for a window.
    #[test]
    fn ports_that_drain_count_for_nothing() {
        let mut pools = [1..=64, 65..=68, 69..=70].map(|ports| Pool { listener: 0, ports: ports.collect() });
        let (mut tids, start) = (Tids::new(1, 71), Instant::now());
        for port in 1..=70 {
            tids.draw(start, &[port], peer(1), |_| None);
        }
        for seconds in 0..100 {
            assert_eq!(tids.stale_port(start + STALE + Duration::from_secs(seconds), &mut pools), None, "all are used");
        }
        let left = |pool| tids.live(pool).all().len();
        assert_eq!(pools.each_ref().map(left), [60, 3, 1]);
        for (pool, blksize, windowsize) in [(0, 512, 1), (0, 1468, 16), (0, 1468, 64), (1, 1468, 64), (2, 512, 4)] {
            let (live, pool) = (tids.live(&pools[pool]), &pools[pool]);
            let ports = live.of(&peer(1), blksize, windowsize);
            assert!(ports.iter().all(|port| !tids.ports[*port].drains), "{pool:?} {ports:?}");
            let worth = live.amplification(ports.len());
            assert_eq!(worth, AMPLIFICATION * ports.len() as u32);
            let window = u32::from(windowsize.min(live.windowsize(&peer(1), blksize))) * (32 + u32::from(blksize));
            assert!(window <= worth * 32, "{pool:?}");
        }
    }

    /// One transfer that never ends keeps its own port only.
    #[test]
    fn a_transfer_that_never_ends_keeps_no_other_port() {
        let (mut pools, start) = ([pool(64)], Instant::now());
        let mut tids = Tids::new(1, 65);
        for port in 1..=64 {
            tids.draw(start, &[port], peer(1), |_| None);
        }
        (2..=64).for_each(|port| tids.ended(start, port));
        let replaced = (0..200).filter_map(|n| tids.stale_port(start + STALE + Duration::from_secs(n), &mut pools));
        let replaced: std::collections::BTreeSet<usize> = replaced.collect();
        assert_eq!(replaced, (2..=64).collect());
        let mut ports = pools[0].ports.clone();
        ports.sort_unstable();
        assert_eq!(ports, pool(64).ports);
    }
}
