//! The addresses of all sockets of all shards: a forged request must not make the server talk to itself.

use std::{cell::Cell, net::SocketAddr, sync::atomic::Ordering::SeqCst};

use crate::sync::{AtomicU64, RwLock};

pub(crate) struct OwnAddresses {
    all: RwLock<Vec<SocketAddr>>,
    /// Grows with each change.
    version: AtomicU64,
}

impl OwnAddresses {
    pub(crate) fn new(all: Vec<SocketAddr>) -> Self {
        Self { all: RwLock::new(all), version: AtomicU64::new(0) }
    }

    /// All addresses, if they have changed since this version. `seen` becomes the present version.
    pub(super) fn since(&self, seen: &Cell<u64>) -> Option<Vec<SocketAddr>> {
        let version = self.version.load(SeqCst);
        (seen.replace(version) != version).then(|| self.all.read().clone())
    }

    pub(super) fn exchange(&self, before: SocketAddr, after: SocketAddr) {
        let mut all = self.all.write();
        all.iter_mut().filter(|own| **own == before).for_each(|own| *own = after);
        self.version.fetch_add(1, SeqCst);
    }
}
