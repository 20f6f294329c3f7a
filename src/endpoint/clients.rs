//! The endpoint's knowledge of client addresses: their running transfers, and the path as earlier ones measured it.

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    Id, Map,
    transfers::{TransferEntry, Transfers},
};
use crate::options::{DEFAULT_BLKSIZE, Direction, TUNNEL_BLKSIZE};

/// How many addresses the endpoint remembers.
const MOST: usize = 4096;
/// How long it remembers the measurements of a transfer.
const MEMORY: Duration = Duration::from_secs(600);
/// The blksizes that a client gets, one after the other, after it has never acknowledged a full block.
const FALLBACK_BLKSIZES: [u16; 2] = [TUNNEL_BLKSIZE, DEFAULT_BLKSIZE];

#[derive(Default)]
pub(super) struct Clients {
    running: Map<IpAddr, Running>,
    paths: Map<IpAddr, PathMetrics>,
    order: VecDeque<(Instant, IpAddr)>,
}

struct Running {
    count: usize,
    last: Id,
}

/// The measurements of an address by its transfers.
#[derive(Clone, Copy)]
struct PathMetrics {
    at: Instant,
    round_trip: Option<Duration>,
    /// The largest blksize whose blocks may arrive, and when a larger block was last lost.
    blksize: Option<(u16, Instant)>,
}

impl Clients {
    pub(super) fn running(&self, client: IpAddr) -> usize {
        self.running.get(&client).map_or(0, |running| running.count)
    }

    pub(super) fn began(&mut self, client: IpAddr, id: Id) {
        let running = self.running.entry(client).or_insert(Running { count: 0, last: id });
        running.count += 1;
        running.last = id;
    }

    pub(super) fn closed(&mut self, client: IpAddr) {
        if let Some(running) = self.running.get_mut(&client) {
            running.count -= 1;
            if running.count == 0 {
                self.running.remove(&client);
            }
        }
    }

    /// Learns from a transfer that has ended, or that still runs while its client begins another.
    pub(super) fn learn(&mut self, now: Instant, entry: &TransferEntry, round_trip: Option<Duration>) {
        let client = entry.client();
        let before = self.path(now, client);
        let lost = entry.has_lost_its_first_block();
        let smaller = FALLBACK_BLKSIZES.into_iter().find(|&smaller| lost && smaller < entry.blksize);
        let path = PathMetrics {
            at: now,
            round_trip: round_trip.or(before.and_then(|path| path.round_trip)),
            blksize: smaller.map(|smaller| (smaller, now)).or(before.and_then(|path| path.blksize)),
        };
        if (path.round_trip, path.blksize) != (None, None) {
            self.insert(now, client, path);
        }
    }

    /// The largest blksize whose blocks may arrive at this client, if larger ones did not.
    pub(super) fn blksize(&mut self, now: Instant, client: IpAddr, transfers: &Transfers) -> Option<u16> {
        // A client that begins a new transfer may not have ended the previous one.
        let last = self.running.get(&client).and_then(|running| transfers.get(running.last));
        if let Some(last) = last.filter(|last| last.client() == client && last.has_lost_its_first_block()) {
            self.learn(now, last, None);
        }
        self.path(now, client)?.blksize.map(|(blksize, _)| blksize)
    }

    pub(super) fn round_trip(&self, now: Instant, client: IpAddr) -> Option<Duration> {
        self.path(now, client)?.round_trip
    }

    fn path(&self, now: Instant, client: IpAddr) -> Option<PathMetrics> {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < MEMORY;
        let path = self.paths.get(&client).copied().filter(|path| is_fresh(path.at))?;
        // A client that comes often gets large blocks again too, after a line was down for a moment.
        Some(PathMetrics { blksize: path.blksize.filter(|(_, lost)| is_fresh(*lost)), ..path })
    }

    fn insert(&mut self, now: Instant, client: IpAddr, path: PathMetrics) {
        if self.paths.insert(client, path).is_none() {
            self.order.push_back((now, client));
        }
        while self.order.len() > MOST {
            let Some((_, client)) = self.order.pop_front() else { break };
            self.paths.remove(&client);
        }
    }
}

impl TransferEntry {
    /// Whether the client has acknowledged the OACK, but not the first block, which was full and was sent again.
    fn has_lost_its_first_block(&self) -> bool {
        let is_large = self.direction == Direction::Read && self.blksize > DEFAULT_BLKSIZE;
        is_large && self.last_packet_at.is_some() && !self.in_data_phase && self.first_blocks > 1
    }
}
