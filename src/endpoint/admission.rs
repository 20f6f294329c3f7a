//! Limits for each client address and in total. All of them use bounded memory.
//!
//! Over a limit the server is silent. Clients ask again, and an answer could go to the victim of a forged address.

use std::{
    hash::BuildHasher,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use foldhash::quality::RandomState;

use super::{DropReason, Policy};

/// Buckets in each of the two rows. An address has one bucket in each row, and it is over its limit when both are
/// empty. A client that shares one bucket with a flood is served by the other. No number of forged addresses takes
/// more memory than this.
const BUCKETS: usize = 2048;
/// How many seconds' worth of requests may come at once: a room of machines behind one address, each of which asks for
/// ten files that do not exist.
const BURST: f32 = 10.0;
/// ERRORs that answer requests: at once, and in a second. Each answers one request and is about as long.
const REFUSALS: (f64, f64) = (20_000.0, 5_000.0);
/// ERRORs to peers without a transfer: at once, and in a second.
const STRAY_ERRORS: (f64, f64) = (100.0, 50.0);

pub(crate) struct Admission {
    requests: Option<Rates>,
    per_client: u32,
    refusals: Bucket,
    stray_errors: Bucket,
}

impl Admission {
    pub(crate) fn new(policy: &Policy) -> Self {
        let per_client = policy.max_requests_per_client;
        let (refusals, stray_errors) = (Bucket::new(REFUSALS), Bucket::new(STRAY_ERRORS));
        Self { requests: rates(per_client), per_client, refusals, stray_errors }
    }

    /// Adopts the limits of this policy, which may have changed.
    pub(crate) fn set_policy(&mut self, policy: &Policy) {
        if self.per_client != policy.max_requests_per_client {
            self.per_client = policy.max_requests_per_client;
            self.requests = rates(self.per_client);
        }
    }

    /// Whether the server may look at a request from this address.
    pub(crate) fn request(&mut self, peer: IpAddr, now: Instant) -> Result<(), DropReason> {
        let is_within = self.requests.as_mut().is_none_or(|rates| rates.take(peer, now));
        is_within.then_some(()).ok_or(DropReason::Requests)
    }

    /// Whether the server may answer a request with an ERROR. Each address gets no more of them than it may send
    /// requests.
    pub(super) fn refusal(&mut self, now: Instant) -> Result<(), DropReason> {
        self.refusals.take(now).then_some(()).ok_or(DropReason::Errors)
    }

    /// Whether the server may send an ERROR to a peer that has no transfer.
    pub(super) fn stray_error(&mut self, now: Instant) -> Result<(), DropReason> {
        self.stray_errors.take(now).then_some(()).ok_or(DropReason::Errors)
    }
}

fn rates(per_second: u32) -> Option<Rates> {
    (per_second > 0).then(|| Rates::new(per_second))
}

/// Whether a client can have this address. The broadcast address of a subnet passes: only the system knows it, and the
/// system does not send there. A request with the forged address of one of our own sockets would make the server talk
/// to itself. `own`: their addresses, by port.
pub(super) fn is_client(peer: SocketAddr, asked: Option<IpAddr>, own: &[SocketAddr]) -> bool {
    let ip = peer.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let of_port = own[own.partition_point(|own| own.port() < peer.port())..].iter();
    let is_own = of_port
        .take_while(|own| own.port() == peer.port())
        .any(|own| own.ip() == peer.ip() || own.ip().is_unspecified() && asked == Some(peer.ip()));
    peer.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast && !is_own
}

/// A token bucket: it holds `size` tokens and gains `per_second` in a second.
pub(crate) struct Bucket {
    spent: f64,
    at: Option<Instant>,
    size: f64,
    per_second: f64,
}

impl Bucket {
    pub(crate) fn new((size, per_second): (f64, f64)) -> Self {
        Self { spent: 0.0, at: None, size, per_second }
    }

    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = self.at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.spent = (self.spent - since.as_secs_f64() * self.per_second).max(0.0);
        let any = self.spent + 1.0 <= self.size;
        if any {
            self.spent += 1.0;
        }
        any
    }
}

/// Token buckets for all addresses, in two rows with different hashes.
struct Rates {
    per_ms: f32,
    size: f32,
    /// For each bucket, the tokens spent and the time of that figure, in milliseconds since `began`. Zeros are a full
    /// bucket.
    rows: [Vec<(f32, u32)>; 2],
    hashers: [RandomState; 2],
    began: Option<Instant>,
}

impl Rates {
    fn new(per_second: u32) -> Self {
        let rows = [vec![(0.0, 0); BUCKETS], vec![(0.0, 0); BUCKETS]];
        let (per_ms, size) = (per_second as f32 / 1000.0, per_second as f32 * BURST);
        Self { per_ms, size, rows, hashers: Default::default(), began: None }
    }

    fn take(&mut self, peer: IpAddr, now: Instant) -> bool {
        let began = *self.began.get_or_insert(now);
        let now = now.saturating_duration_since(began).as_millis() as u32;
        let mut any = false;
        // An address takes a token from both rows, so that each row counts all its requests.
        for (row, hasher) in self.rows.iter_mut().zip(&self.hashers) {
            let (spent, at) = &mut row[hasher.hash_one(peer) as usize % BUCKETS];
            *spent = (*spent - now.wrapping_sub(*at) as f32 * self.per_ms).max(0.0);
            *at = now;
            if *spent + 1.0 <= self.size {
                *spent += 1.0;
                any = true;
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let (mut bucket, start) = (Bucket::new((100.0, 50.0)), Instant::now());
        assert_eq!((0..1000).filter(|_| bucket.take(start)).count(), 100);
        assert_eq!((0..1000).filter(|_| bucket.take(start + Duration::from_secs(1))).count(), 50);
    }

    #[test]
    fn errors_are_bounded_and_recover() {
        let (mut admission, start) = (Admission::new(&Policy::default()), Instant::now());
        let mut had = |now| {
            let refusals = (0..100_000).filter(|_| admission.refusal(now).is_ok()).count();
            (refusals, (0..100_000).filter(|_| admission.stray_error(now).is_ok()).count())
        };
        assert_eq!(had(start), (20_000, 100));
        assert_eq!(had(start + Duration::from_secs(1)), (5_000, 50));
    }

    #[test]
    fn a_flood_of_one_address_hurts_nobody_else() {
        let (mut rates, start) = (Rates::new(10), Instant::now());
        assert_eq!((0..5000).filter(|_| rates.take(ip(1), start)).count(), 100);
        // One address in 4 million shares both buckets with the flood, and the hashers have random seeds. Three of a
        // thousand addresses do so once in 10^11 runs.
        let hurt = (2..1002).filter(|&n| !(0..10).all(|_| rates.take(ip(n), start))).count();
        assert!(hurt < 3, "{hurt} of a thousand others");
        let later = start + Duration::from_secs(1);
        assert_eq!((0..5000).filter(|_| rates.take(ip(1), later)).count(), 10);
    }

    #[test]
    fn forged_addresses_take_no_memory() {
        let (mut rates, start) = (Rates::new(1000), Instant::now());
        for n in 0..1_000_000 {
            rates.take(ip(n), start + Duration::from_micros(n.into()));
        }
        assert!(rates.rows.iter().all(|row| row.len() == BUCKETS && row.capacity() == BUCKETS));
        assert_eq!(size_of_val(&*rates.rows[0]) + size_of_val(&*rates.rows[1]), 32 << 10);
        let now = start + Duration::from_secs(1);
        assert!((0..100).all(|_| rates.take(ip(u32::MAX), now)), "a million a second leave enough for a client");
    }

    #[test]
    fn addresses_that_no_client_can_have() {
        let own = ["10.0.0.1:69", "[::]:69", "0.0.0.0:70"].map(|own| own.parse().unwrap());
        let is_client = |peer: &str, asked: &str| is_client(peer.parse().unwrap(), asked.parse().ok(), &own);
        for (peer, asked) in [
            ("10.0.0.2:0", "10.0.0.1"),
            ("0.0.0.0:5", "10.0.0.1"),
            ("255.255.255.255:5", "10.0.0.1"),
            ("224.0.0.1:5", "10.0.0.1"),
            ("[ff02::1]:5", "::1"),
            ("[::ffff:224.0.0.1]:5", "::1"),
            ("10.0.0.1:69", "10.0.0.1"),
            ("10.0.0.1:69", ""),
            ("10.0.0.9:70", "10.0.0.9"),
            ("[fe80::1]:69", "fe80::1"),
        ] {
            assert!(!is_client(peer, asked), "{peer} asks {asked}");
        }
        // A client on the server's machine, and a client that is a server itself.
        for (peer, asked) in [("10.0.0.1:5", "10.0.0.1"), ("10.0.0.2:69", "10.0.0.1"), ("10.0.0.8:70", "10.0.0.9")] {
            assert!(is_client(peer, asked), "{peer} asks {asked}");
        }
    }
}
