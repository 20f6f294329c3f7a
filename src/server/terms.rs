//! What requests are answered by. It can be exchanged; a transfer keeps what it began with.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use super::builder::Settings;
use crate::handler::Handler;

pub(super) struct Terms {
    pub(super) settings: Settings,
    pub(super) handler: Box<dyn Handler>,
    pub(super) admits: Option<Admits>,
}

/// Whether a client is answered at all.
pub(super) type Admits = Box<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// The terms of the requests that come now. It is looked at once for each of them.
pub(super) struct Current(RwLock<Arc<Terms>>);

impl Terms {
    pub(super) fn admit(&self, client: IpAddr) -> bool {
        self.admits.as_ref().is_none_or(|admits| admits(client.to_canonical()))
    }
}

impl Current {
    pub(super) fn new(terms: Terms) -> Self {
        Self(RwLock::new(Arc::new(terms)))
    }

    pub(super) fn terms(&self) -> Arc<Terms> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the requests that come from now on answered by other terms, but for what belongs to sockets and threads.
    pub(super) fn exchange(&self, mut terms: Terms) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Settings { single_port, port_range, shards, batched, .. } = current.settings.clone();
        terms.settings = Settings { single_port, port_range, shards, batched, ..terms.settings };
        let before = std::mem::replace(&mut *current, Arc::new(terms));
        drop(current);
        // A handler of somebody else's may take its time to go.
        drop(before);
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.terms().settings.fmt(f)
    }
}
