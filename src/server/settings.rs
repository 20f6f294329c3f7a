//! What is bound for good, and what a reload may change. A transfer keeps what it began with.

use std::{
    fmt,
    ops::RangeInclusive,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use crate::{endpoint::Policy, handler::Handler, transfer::Timing};

/// What belongs to sockets and threads.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) single_port: bool,
    pub(crate) port_range: Option<RangeInclusive<u16>>,
    /// For each address, in each shard.
    pub(crate) transfer_ports: usize,
    pub(crate) interface: Option<String>,
    pub(crate) shards: usize,
    pub(crate) batched: bool,
    /// Transfers whose clients were never heard, in each shard: what the system has means for.
    pub(crate) max_unheard: usize,
}

/// What a reload may change.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    pub(crate) timing: Timing,
    pub(crate) max_upload: u64,
    pub(crate) drain: Duration,
}

/// What requests are answered by.
pub(crate) struct Terms {
    pub(crate) settings: Settings,
    pub(crate) handler: Box<dyn Handler>,
}

/// The terms of the requests that come now. It is looked at once for each of them.
pub(crate) struct Current(RwLock<Arc<Terms>>);

/// Defaults of what the program lets its user set as well.
impl super::Builder {
    /// Default of [`max_upload`](Self::max_upload), in bytes.
    pub const MAX_UPLOAD: u64 = 1 << 30;

    /// Default of [`drain`](Self::drain).
    pub const DRAIN: Duration = Duration::from_secs(10);
}

impl Default for Bound {
    fn default() -> Self {
        Self {
            single_port: false,
            port_range: None,
            transfer_ports: 64,
            interface: None,
            shards: 1,
            batched: true,
            max_unheard: usize::MAX,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            timing: Timing::default(),
            max_upload: super::Builder::MAX_UPLOAD,
            drain: super::Builder::DRAIN,
        }
    }
}

impl Current {
    pub(crate) fn new(terms: Terms) -> Self {
        Self(RwLock::new(Arc::new(terms)))
    }

    pub(crate) fn terms(&self) -> Arc<Terms> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the requests that come from now on answered by other terms.
    pub(crate) fn exchange(&self, terms: Terms) {
        let before = {
            let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, Arc::new(terms))
        };
        // A handler of somebody else's may take its time to go.
        drop(before);
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.terms().settings.fmt(f)
    }
}
