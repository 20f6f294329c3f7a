//! The running transfers, and the counts of those that have ended.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use super::{Counter, Counters, Protocol, Record, Snapshot, Unanswered, unanswered::UnansweredClients};
use crate::{
    endpoint::Counts,
    options::Direction,
    shown,
    sync::{AtomicU64, Mutex},
};

/// The data of a server's shards for observers. A transfer takes the lock at its beginning and at its end. In between
/// it touches two atomics of its own.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
    tallies: Mutex<Vec<Arc<Tally>>>,
    drops: Mutex<Dropped>,
    own: Vec<Counter>,
    unanswered_clients: UnansweredClients,
}

/// How many datagrams for a socket the system has dropped.
pub(crate) trait Drops: std::fmt::Debug + Send {
    fn count(&mut self) -> u64;
    /// Whether the socket is closed, so that its count is final.
    fn is_final(&self) -> bool;
}

/// The drops of all sockets, open and closed.
#[derive(Debug, Default)]
struct Dropped {
    open: Vec<Box<dyn Drops>>,
    before: u64,
}

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<u64, Arc<Live>>,
    ended: Counters,
    /// How many transfers have begun.
    begun: u64,
}

#[derive(Debug)]
struct Live {
    id: u64,
    peer: SocketAddr,
    /// The name as it is shown. It is cut, because a thousand names may be long ones.
    path: Box<str>,
    direction: Direction,
    protocol: Protocol,
    began: Instant,
    bytes: AtomicU64,
    /// The size of the file; `u64::MAX` while it is not known.
    size: AtomicU64,
}

/// A transfer in the registry, until its end is reported or this is dropped.
pub(crate) struct Registered {
    registry: Arc<Registry>,
    live: Arc<Live>,
}

/// The counts of one shard. No other thread writes to them, so counting costs no more than adding.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: Tallied,
    pub(crate) repeated: Tallied,
    pub(crate) over_limit: Tallied,
    pub(crate) unanswered: Tallied,
    pub(crate) received: Tallied,
    pub(crate) sent: Tallied,
    pub(crate) malformed: Tallied,
    pub(crate) unknown_tids: Tallied,
}

#[derive(Debug, Default)]
pub(crate) struct Tallied(AtomicU64);

impl Registry {
    pub(crate) fn new(own: Vec<Counter>, drops: Vec<Box<dyn Drops>>) -> Self {
        Self { own, drops: Mutex::new(Dropped { open: drops, before: 0 }), ..Self::default() }
    }

    /// Adds the drop count of a new socket.
    pub(crate) fn bound(&self, drops: Box<dyn Drops>) {
        let mut dropped = self.drops.lock();
        let mut open = std::mem::take(&mut dropped.open);
        open.retain_mut(|drops| {
            let is_final = drops.is_final();
            dropped.before += if is_final { drops.count() } else { 0 };
            !is_final
        });
        open.push(drops);
        dropped.open = open;
    }

    /// Adds the counts of a new shard.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        let tally = Arc::<Tally>::default();
        self.tallies.lock().push(tally.clone());
        tally
    }

    pub(crate) fn register(
        self: &Arc<Self>,
        peer: SocketAddr,
        path: String,
        (direction, protocol): (Direction, Protocol),
        began: Instant,
    ) -> Registered {
        let (bytes, size) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        let mut state = self.state.lock();
        state.begun += 1;
        let path = shown::cut(&path, shown::NAME).into();
        let live = Arc::new(Live { id: state.begun, peer, path, direction, protocol, began, bytes, size });
        state.running.insert(live.id, live.clone());
        Registered { registry: self.clone(), live }
    }

    pub(crate) fn snapshots(&self) -> Vec<Snapshot> {
        // Copying thousands of names under the lock would keep the shards from their work.
        let running: Vec<_> = self.state.lock().running.values().cloned().collect();
        running.iter().map(|live| live.snapshot()).collect()
    }

    /// Asks the system for the drop counts. Call it before a socket is closed too, because its count is lost then.
    pub(crate) fn dropped(&self) -> u64 {
        let mut dropped = self.drops.lock();
        dropped.before + dropped.open.iter_mut().map(|drops| drops.count()).sum::<u64>()
    }

    pub(crate) fn note_unanswered(&self, client: IpAddr, reason: &'static str, now: Instant) {
        self.unanswered_clients.insert(client, reason, now);
    }

    pub(crate) fn unanswered(&self) -> Vec<Unanswered> {
        self.unanswered_clients.all()
    }

    pub(crate) fn own(&self) -> &[Counter] {
        &self.own
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut counters = {
            let state = self.state.lock();
            let mut counters = state.ended.clone();
            counters.running = state.running.len() as u64;
            for live in state.running.values() {
                counters.add_bytes(live.direction, live.bytes.load(Relaxed));
            }
            counters
        };
        for tally in self.tallies.lock().iter() {
            tally.add_to(&mut counters);
        }
        counters.dropped = self.dropped();
        for counter in &self.own {
            *counters.own.entry(counter.name()).or_default() += counter.value();
        }
        counters
    }
}

impl Live {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            id: self.id,
            peer: self.peer,
            path: self.path.to_string(),
            direction: self.direction,
            bytes: self.bytes.load(Relaxed),
            size: self.size(),
            since: self.began.elapsed(),
            protocol: self.protocol,
        }
    }

    fn size(&self) -> Option<u64> {
        Some(self.size.load(Relaxed)).filter(|&size| size != u64::MAX)
    }
}

impl Registered {
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.live.snapshot()
    }

    pub(crate) fn id(&self) -> u64 {
        self.live.id
    }

    pub(crate) fn size(&self) -> Option<u64> {
        self.live.size()
    }

    pub(crate) fn set_size(&self, size: Option<u64>) {
        self.live.size.store(size.unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.live.bytes.load(Relaxed)
    }

    pub(crate) fn set_bytes(&self, bytes: u64) {
        self.live.bytes.store(bytes, Relaxed);
    }

    /// Moves a transfer from the running to the ended ones, in one step.
    pub(crate) fn end(self, record: &Record) {
        let mut state = self.registry.state.lock();
        state.running.remove(&self.live.id);
        state.ended.count(record);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut state = self.registry.state.lock();
        // The transfer was cut off with its shard, so nobody is left to make its record.
        if state.running.remove(&self.live.id).is_some() {
            state.ended.count_cut_off(self.live.direction, self.live.bytes.load(Relaxed));
        }
    }
}

impl Tallied {
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed) + count, Relaxed);
    }
}

impl Tally {
    pub(crate) fn take(&self, counts: Counts) {
        for (tallied, count) in [
            (&self.requests, counts.requests),
            (&self.repeated, counts.repeated),
            (&self.over_limit, counts.over_limit),
            (&self.unanswered, counts.unanswered),
            (&self.malformed, counts.malformed),
            (&self.unknown_tids, counts.unknown_tids),
        ] {
            if count > 0 {
                tallied.add(count);
            }
        }
    }

    fn add_to(&self, counters: &mut Counters) {
        for (sum, tallied) in [
            (&mut counters.requests, &self.requests),
            (&mut counters.repeated, &self.repeated),
            (&mut counters.over_limit, &self.over_limit),
            (&mut counters.unanswered, &self.unanswered),
            (&mut counters.received, &self.received),
            (&mut counters.sent, &self.sent),
            (&mut counters.malformed, &self.malformed),
            (&mut counters.unknown_tids, &self.unknown_tids),
        ] {
            *sum += tallied.0.load(Relaxed);
        }
    }
}
