//! The known answer for each name, and how long it is fresh. Simultaneous requests for one name ask the upstream once.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{Upstream, object::Object};
use crate::{Refusal, sync::Mutex};

/// The most names. Further names push out unused ones.
const MOST: usize = 1024;
/// The longest freshness: some ten years can be added to any time without an overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

pub(super) struct Names<U: Upstream>(Mutex<HashMap<String, Arc<Name<U>>>>);

pub(super) struct Name<U: Upstream> {
    state: Mutex<State<U>>,
    changed: Notify,
}

struct State<U: Upstream> {
    asking: bool,
    /// How many times the upstream was asked.
    asked: u64,
    /// The refusal for the requests that waited for the question with this number.
    failed: Option<(u64, Refusal)>,
    known: Option<Known<U>>,
    until: Option<Instant>,
}

pub(super) enum Known<U: Upstream> {
    Object(Arc<Object<U>>),
    Refused(Refusal),
    /// The answers may not be shared, so each transfer asks for itself.
    Alone,
}

/// The duty to ask for all waiting requests. If it is dropped, another of them gets it.
pub(super) struct Lookup<U: Upstream> {
    name: Arc<Name<U>>,
    /// The cached object, which may have changed.
    pub(super) stale: Option<Arc<Object<U>>>,
}

impl<U: Upstream> Names<U> {
    pub(super) fn name(&self, name: &str) -> Arc<Name<U>> {
        let mut names = self.0.lock();
        if let Some(name) = names.get(name) {
            return name.clone();
        }
        if names.len() >= MOST {
            let now = Instant::now();
            names.retain(|_, name| Arc::strong_count(name) > 1 || name.is_fresh(now) || name.owners() > 0);
        }
        if names.len() >= MOST {
            // Clients make up names, so missing names are dropped before files, and a file with readers stays.
            let unused = names.iter().filter(|(_, name)| Arc::strong_count(name) == 1);
            let unread = unused.map(|(text, name)| (name.owners(), text)).filter(|(owners, _)| *owners <= 1);
            if let Some(text) = unread.min().map(|(_, text)| text.clone()) {
                names.remove(&text);
            }
        }
        names.entry(name.to_owned()).or_default().clone()
    }
}

#[cfg(feature = "object-store")]
impl<U: Upstream> Names<U> {
    /// Forgets the answer for this name.
    pub(super) fn forget(&self, name: &str) {
        self.0.lock().remove(name);
    }
}

impl<U: Upstream> Name<U> {
    /// The known answer, or the duty to ask.
    pub(super) async fn known(self: &Arc<Self>) -> Result<Known<U>, Lookup<U>> {
        let mut waited = None;
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock();
                if let Some((_, refusal)) = state.failed.as_ref().filter(|(asking, _)| Some(*asking) == waited) {
                    return Ok(Known::Refused(refusal.clone()));
                }
                let known = state.known.clone().filter(Known::is_usable);
                if let Some(known) = known.clone().filter(|known| known.can_begin() && state.is_fresh(Instant::now())) {
                    return Ok(known);
                }
                if !state.asking {
                    state.asking = true;
                    state.asked += 1;
                    let stale =
                        known.and_then(|known| if let Known::Object(object) = known { Some(object) } else { None });
                    return Err(Lookup { name: self.clone(), stale });
                }
                waited = Some(state.asked);
            }
            changed.await;
        }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.state.lock().is_fresh(now)
    }

    /// The owners of this name's file: this name, and its readers. 0 if there is no file.
    fn owners(&self) -> usize {
        match &self.state.lock().known {
            Some(Known::Object(object)) => Arc::strong_count(object),
            _ => 0,
        }
    }
}

impl<U: Upstream> State<U> {
    fn is_fresh(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

impl<U: Upstream> Known<U> {
    /// Whether a reader can begin with it. If the whole file must be fetched, it is better to ask again.
    fn can_begin(&self) -> bool {
        !matches!(self, Self::Object(object) if !object.has_beginning())
    }

    fn is_usable(&self) -> bool {
        !matches!(self, Self::Object(object) if object.has_failed())
    }
}

impl<U: Upstream> Lookup<U> {
    /// Gives the answer to all waiting requests, and to later ones while it is fresh.
    pub(super) fn found(self, known: Known<U>, fresh: Duration) {
        let mut state = self.name.state.lock();
        state.until = Instant::now().checked_add(fresh.min(LONGEST));
        state.known = Some(known);
    }

    /// Gives the refusal to the requests that wait now, and to no later ones.
    pub(super) fn refused(self, refusal: Refusal) {
        let mut state = self.name.state.lock();
        state.failed = Some((state.asked, refusal));
    }
}

impl<U: Upstream> Drop for Lookup<U> {
    fn drop(&mut self) {
        self.name.state.lock().asking = false;
        self.name.changed.notify_waiters();
    }
}

impl<U: Upstream> Default for Names<U> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<U: Upstream> Default for Name<U> {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: Notify::new() }
    }
}

impl<U: Upstream> Default for State<U> {
    fn default() -> Self {
        Self { asking: false, asked: 0, failed: None, known: None, until: None }
    }
}

impl<U: Upstream> Clone for Known<U> {
    fn clone(&self) -> Self {
        match self {
            Self::Object(object) => Self::Object(object.clone()),
            Self::Refused(refusal) => Self::Refused(refusal.clone()),
            Self::Alone => Self::Alone,
        }
    }
}
