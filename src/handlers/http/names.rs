//! What is known of each name, and for how long. Those who ask for the same name at the same time ask once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use reqwest::Url;
use tokio::sync::Notify;

use super::object::Object;
use crate::Refusal;

/// Names beyond this many push out those that nobody uses.
const MOST: usize = 1024;

#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<Url, Arc<Name>>>);

#[derive(Default)]
pub(super) struct Name {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    asking: bool,
    /// How often it was asked for.
    asked: u64,
    /// What those are told who waited for this asking.
    failed: Option<(u64, Refusal)>,
    known: Option<Known>,
    until: Option<Instant>,
}

#[derive(Clone)]
pub(super) enum Known {
    Object(Arc<Object>),
    Refused(Refusal),
    /// Its answers may not be shared, so each transfer asks for itself.
    Alone,
}

/// The duty to ask for all who wait. If it is dropped, another one of them has it.
pub(super) struct Turn {
    name: Arc<Name>,
    /// What is there, but has to be asked about.
    pub(super) stale: Option<Arc<Object>>,
}

impl Names {
    pub(super) fn name(&self, url: &Url) -> Arc<Name> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(url) {
            return name.clone();
        }
        if names.len() >= MOST {
            // What nobody reads is an object with no other owner, in a name with no other owner.
            let now = Instant::now();
            names.retain(|_, name| Arc::strong_count(name) > 1 || name.is_fresh(now));
            let unused = names.iter().find(|(_, name)| Arc::strong_count(name) == 1).map(|(url, _)| url.clone());
            if names.len() >= MOST
                && let Some(url) = unused
            {
                names.remove(&url);
            }
        }
        names.entry(url.clone()).or_default().clone()
    }
}

impl Name {
    /// What is known, or the duty to find out.
    pub(super) async fn known(self: &Arc<Self>) -> Result<Known, Turn> {
        let mut waited = None;
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
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
                    return Err(Turn { name: self.clone(), stale });
                }
                waited = Some(state.asked);
            }
            changed.await;
        }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.state().is_fresh(now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_fresh(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

impl Known {
    /// What has to be fetched from its beginning is as well asked for anew.
    fn can_begin(&self) -> bool {
        !matches!(self, Self::Object(object) if !object.has_beginning())
    }

    fn is_usable(&self) -> bool {
        !matches!(self, Self::Object(object) if object.has_failed())
    }
}

impl Turn {
    /// Tells all who wait.
    pub(super) fn found(self, known: Known, fresh: Duration) {
        let mut state = self.name.state();
        state.until = Instant::now().checked_add(fresh);
        state.known = Some(known);
    }

    /// Tells those who wait now, and nobody who asks later.
    pub(super) fn refused(self, refusal: Refusal) {
        let mut state = self.name.state();
        state.failed = Some((state.asked, refusal));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.name.state().asking = false;
        self.name.changed.notify_waiters();
    }
}
