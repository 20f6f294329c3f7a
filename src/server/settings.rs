//! The settings that hold until the server ends, and those that a reload may change. A transfer keeps those that it
//! began with.

use std::{fmt, net::SocketAddr, ops::RangeInclusive, sync::Arc, time::Duration};

use crate::{endpoint::Policy, handler::Handler, sync::RwLock, transfer::Timing};

/// The settings of sockets and threads.
#[derive(Clone, Debug)]
pub(crate) struct FixedSettings {
    pub(crate) single_port: bool,
    pub(crate) port_range: Option<RangeInclusive<u16>>,
    /// The number of ports for each address, in each shard.
    pub(crate) transfer_ports: usize,
    pub(crate) interface: Option<String>,
    pub(crate) shards: usize,
    pub(crate) batched: bool,
    /// How many transfers of each shard may have clients that have sent nothing but their requests. The system's
    /// resources limit it.
    pub(crate) max_half_open: usize,
}

/// The settings that a reload may change.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    pub(crate) timing: Timing,
    pub(crate) max_upload: u64,
    pub(crate) drain: Duration,
}

/// The settings and the handler by which requests are answered.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) settings: Settings,
    pub(crate) handler: Arc<dyn Handler>,
    /// The addresses of all sockets of all shards: a forged request must not make the server talk to itself.
    pub(crate) own: Vec<SocketAddr>,
}

/// The terms of new requests. Each request looks at them once.
pub(crate) struct Current(RwLock<Arc<Terms>>);

/// The defaults of settings that the program needs too.
impl super::ServerBuilder {
    /// Default of [`max_upload`](Self::max_upload), in bytes.
    pub const MAX_UPLOAD: u64 = 1 << 30;

    /// Default of [`drain`](Self::drain).
    pub const DRAIN: Duration = Duration::from_secs(10);

    /// Default of [`transfer_ports`](Self::transfer_ports).
    pub const TRANSFER_PORTS: usize = 64;
}

impl Default for FixedSettings {
    fn default() -> Self {
        Self {
            single_port: false,
            port_range: None,
            transfer_ports: super::ServerBuilder::TRANSFER_PORTS,
            interface: None,
            shards: 1,
            batched: true,
            max_half_open: usize::MAX,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            timing: Timing::default(),
            max_upload: super::ServerBuilder::MAX_UPLOAD,
            drain: super::ServerBuilder::DRAIN,
        }
    }
}

impl Current {
    pub(crate) fn new(terms: Terms) -> Self {
        Self(RwLock::new(Arc::new(terms)))
    }

    pub(crate) fn terms(&self) -> Arc<Terms> {
        self.0.read().clone()
    }

    /// Answers further requests by new terms, which the closure makes from the present ones.
    pub(crate) fn change(&self, change: impl FnOnce(&Terms) -> Terms) {
        let before = {
            let mut current = self.0.write();
            let after = Arc::new(change(&current));
            std::mem::replace(&mut *current, after)
        };
        // The user's handler may take its time to be dropped.
        drop(before);
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.terms().settings.fmt(f)
    }
}
