//! What became of each transfer: one [`Record`] at its end, a [`Snapshot`] while it runs.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use crate::{
    hint::Hint,
    options::Direction,
    packet::Options,
    transfer::{Outcome, Progress},
};

/// One transfer that has ended.
///
/// It displays as one line: `10.0.0.7:2070 read pxelinux.0 complete 42430 bytes 0.013 s retransmits 0 tsize=42430`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// The other end.
    pub peer: SocketAddr,
    /// The address of ours that it asked; for a client, the one it asked from.
    pub local: SocketAddr,
    /// The name of the file, made comparable.
    pub path: String,
    /// RRQ or WRQ.
    pub direction: Direction,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes of the file that the receiving side has, as they travelled.
    pub bytes: u64,
    /// When the request came.
    pub started: SystemTime,
    /// From the request to the end.
    pub duration: Duration,
    /// The options that were asked for.
    pub asked: Options,
    /// The options that were granted: what stood in the OACK.
    pub granted: Options,
    /// Packets sent, retransmits included.
    pub sent: u64,
    /// DATA or ACK packets received that brought the transfer forward.
    pub acked: u64,
    /// Packets sent again.
    pub retransmits: u64,
    /// Bytes in a full block.
    pub blksize: u16,
    /// What may help where it failed in a way that is known. Always `None` on a client.
    pub hint: Option<Hint>,
}

/// One transfer that is running.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Unique among the transfers of this process.
    pub id: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// The name of the file, made comparable.
    pub path: String,
    /// RRQ or WRQ.
    pub direction: Direction,
    /// Bytes of the file that the receiving side has so far.
    pub bytes: u64,
    /// The size of the file, if it is known.
    pub size: Option<u64>,
    /// Time since the request.
    pub since: Duration,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, path, direction, outcome, bytes, retransmits, .. } = self;
        let seconds = self.duration.as_secs_f64();
        write!(f, "{peer} {direction} {} {outcome} {bytes} bytes {seconds:.3} s", path.escape_debug())?;
        write!(f, " retransmits {retransmits}")?;
        if !self.granted.is_empty() {
            write!(f, " {}", self.granted)?;
        }
        Ok(())
    }
}

/// The transfers that run, for those who want to watch them. The transfer itself touches two atomics and no lock.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    running: Mutex<BTreeMap<u64, Arc<Live>>>,
    next: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Live {
    peer: SocketAddr,
    path: String,
    direction: Direction,
    began: Instant,
    bytes: AtomicU64,
    /// `u64::MAX` while it is not known.
    size: AtomicU64,
}

/// Keeps a transfer in the registry until it is dropped.
pub(crate) struct Registered {
    registry: Arc<Registry>,
    id: u64,
    live: Arc<Live>,
}

impl Registry {
    pub(crate) fn register(
        self: &Arc<Self>,
        peer: SocketAddr,
        path: String,
        direction: Direction,
        began: Instant,
    ) -> Registered {
        let (bytes, size) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        let live = Arc::new(Live { peer, path, direction, began, bytes, size });
        let id = self.next.fetch_add(1, Relaxed);
        self.lock().insert(id, live.clone());
        Registered { registry: self.clone(), id, live }
    }

    pub(crate) fn snapshots(&self) -> Vec<Snapshot> {
        let running = self.lock();
        let snapshot = |(id, live): (&u64, &Arc<Live>)| Snapshot {
            id: *id,
            peer: live.peer,
            path: live.path.clone(),
            direction: live.direction,
            bytes: live.bytes.load(Relaxed),
            size: Some(live.size.load(Relaxed)).filter(|&size| size != u64::MAX),
            since: live.began.elapsed(),
        };
        running.iter().map(snapshot).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Live>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    pub(crate) fn set_size(&self, size: Option<u64>) {
        self.live.size.store(size.unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn set_progress(&self, progress: &Progress) {
        self.live.bytes.store(progress.bytes, Relaxed);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.id);
    }
}
