//! One state of one file, with any number of readers.
//!
//! Tasks of their own fetch the bytes for the readers, on the thread that the upstream needs anyway, so that no
//! transfer waits for the client of another. A fetch gets the bytes that some reader wants, and one segment ahead.
//! Readers behind it find the segments in the cache. For readers that find them gone, another fetch begins at their
//! position.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use smol::Timer;
use tokio::{sync::Notify, task::AbortHandle};

use super::{
    Facts, Upstream,
    cache::{BEGINNING, Cache, SEGMENT},
    fetch::Fetch,
    origin::{Origin, PIECE},
};
use crate::{
    Bytes, Refusal,
    sync::{AtomicU64, Mutex},
    within::within,
};

/// A reader waits for a fetch that is at most this far behind it, instead of beginning another.
const NEAR: u64 = 8 * SEGMENT as u64;

/// How far a fetch goes beyond its foremost reader.
const LOOK_AHEAD: u64 = SEGMENT as u64;

/// A fetch waits for readers behind it that could not use the cache otherwise: this long for each segment, which the
/// clients of its foremost readers do not notice.
const SEGMENT_PAUSE: Duration = Duration::from_secs(1);
/// A fetch waits this long in all, and no longer than [`SEGMENT_PAUSE`] for each other reader.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// If readers arrive when the middle of a file is no longer cached, their fetch waits this long at most for more
/// readers.
const GATHERING: Duration = Duration::from_secs(5);
/// How often the fetch checks whether the readers have advanced.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A fetch that no reader has needed for this long ends, if it has the whole file or there is another fetch.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

pub(super) struct Object<U: Upstream> {
    id: u64,
    ask: U::Ask,
    validator: U::Validator,
    size: u64,
    /// Whether the upstream gives ranges, and the file is large enough to use them.
    gives_pieces: bool,
    origin: Arc<Origin<U>>,
    cache: Arc<Cache>,
    state: Mutex<State>,
    /// Notified when a segment arrives or a fetch ends.
    arrived: Notify,
    /// Notified when a reader advances.
    wanted: Notify,
}

#[derive(Default)]
struct State {
    readers: usize,
    fetches: Vec<Running>,
    /// How many readers and fetches have begun, for their numbers.
    begun: u64,
    failed: Option<Refusal>,
}

struct Running {
    id: u64,
    /// The position of its next segment.
    position: u64,
    /// The position that it has to reach.
    goal: u64,
    /// How much longer its readers may wait for others: the least of their values.
    patience: Duration,
    /// Its last segments. The foremost reader finds them here even if the cache has dropped them.
    last: VecDeque<(u64, Bytes)>,
    task: AbortHandle,
}

impl<U: Upstream> Object<U> {
    pub(super) fn new(
        (origin, cache): (Arc<Origin<U>>, Arc<Cache>),
        ask: U::Ask,
        (validator, size, gives_ranges): (U::Validator, u64, bool),
    ) -> Arc<Self> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: IDS.fetch_add(1, Relaxed),
            ask,
            validator,
            size,
            gives_pieces: gives_ranges && size > PIECE,
            origin,
            cache,
            state: Mutex::default(),
            arrived: Notify::new(),
            wanted: Notify::new(),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn validator(&self) -> &U::Validator {
        &self.validator
    }

    /// Whether a reader can begin with cached bytes, with bytes that a fetch brings, or with a range.
    pub(super) fn has_beginning(&self) -> bool {
        let lacks_ranges = self.origin.lacks_ranges();
        if self.gives_pieces && !lacks_ranges {
            return true;
        }
        let state = self.state.lock();
        // Without ranges, a gap in the middle costs the whole file, so the fetch may as well begin at the start.
        let gap = if lacks_ranges { self.cache.first_gap(self.id) } else { u64::MAX };
        let is_filled = || gap >= self.size || state.fetches.iter().any(|fetch| fetch.position <= gap);
        let had = |fetch: &Running| fetch.last.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        let comes = |fetch: &Running| fetch.position == had(fetch);
        self.size == 0 || state.fetches.iter().any(comes) || (self.cache.find(self.id, 0).is_some() && is_filled())
    }

    /// Whether a fetch has failed, so that no more bytes will come.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().failed.is_some()
    }

    pub(super) fn reader(self: &Arc<Self>) -> Reader<U> {
        let mut state = self.state.lock();
        state.readers += 1;
        state.begun += 1;
        self.cache.moved(self.id, state.begun, None, Some(0));
        Reader { object: self.clone(), id: state.begun, position: 0, patience: MAX_PAUSE }
    }

    /// Takes the body of an answer with the whole file, if its beginning is not cached yet.
    pub(super) fn adopt(self: &Arc<Self>, facts: Facts<U>, body: U::Body) {
        let in_pieces = self.gives_pieces && self.origin.piece().is_some();
        let is_wanted = match self.origin.lacks_ranges() {
            true => !self.has_beginning(),
            false => self.cache.find(self.id, 0).is_none(),
        };
        if self.size > 0 && !in_pieces && is_wanted {
            let fetch = Fetch::of(self.origin.clone(), self.ask.clone(), facts, body);
            self.begin(&mut self.state.lock(), fetch, (0, 0), MAX_PAUSE);
        }
    }

    /// The cached bytes from this position on. If there are none, a fetch brings them after this call.
    fn find(self: &Arc<Self>, position: u64, patience: Duration) -> Result<Option<Bytes>, Refusal> {
        let mut state = self.state.lock();
        let last = state.fetches.iter().flat_map(|fetch| &fetch.last);
        let found = last.filter_map(|(start, bytes)| rest(*start, bytes, position)).next();
        if let Some(bytes) = found.or_else(|| self.cache.find(self.id, position)) {
            self.look_ahead(&mut state, position + bytes.len() as u64);
            return Ok(Some(bytes));
        }
        if let Some(refusal) = &state.failed {
            return Err(refusal.clone());
        }
        // Without ranges, another fetch would have to pass all the bytes that this one passes.
        let near = if self.origin.lacks_ranges() { u64::MAX } else { NEAR };
        let near = position.saturating_sub(near)..=position;
        let behind = state.fetches.iter_mut().filter(|fetch| near.contains(&fetch.position));
        match behind.max_by_key(|fetch| fetch.position) {
            Some(fetch) => {
                fetch.goal = fetch.goal.max(position + LOOK_AHEAD);
                fetch.patience = fetch.patience.min(patience);
            }
            None => {
                let (origin, ask, validator) = (self.origin.clone(), self.ask.clone(), self.validator.clone());
                let fetch = Fetch::from(origin, ask, validator, self.size, position);
                self.begin(&mut state, fetch, (position, position + LOOK_AHEAD), patience);
            }
        }
        self.wanted.notify_waiters();
        Ok(None)
    }

    /// Extends the fetch for the first reader that gets here, because it will soon want more.
    fn look_ahead(&self, state: &mut State, position: u64) {
        let goal = position + LOOK_AHEAD;
        let leading = state.fetches.iter_mut().find(|fetch| (position..goal).contains(&fetch.position));
        let is_behind = |fetch: &&mut Running| fetch.goal < goal && self.cache.find(self.id, fetch.position).is_none();
        if let Some(fetch) = leading.filter(is_behind) {
            fetch.goal = goal;
            self.wanted.notify_waiters();
        }
    }

    fn begin(self: &Arc<Self>, state: &mut State, fetch: Fetch<U>, (position, goal): (u64, u64), patience: Duration) {
        state.begun += 1;
        let id = state.begun;
        let task = tokio::spawn(run(FetchGuard { object: self.clone(), id }, fetch)).abort_handle();
        state.fetches.push(Running { id, position, goal, patience, last: VecDeque::new(), task });
    }

    /// The position where this fetch has to continue, if it has to.
    fn demand(&self, id: u64) -> Option<u64> {
        let mut state = self.state.lock();
        let fetch = state.fetch(id).filter(|fetch| fetch.position < fetch.goal.min(self.size))?;
        Some(fetch.position)
    }

    /// Waits for other readers, before a fetch that began at this time brings the segment at this position.
    async fn wait(&self, id: u64, position: u64, began: Instant) {
        let patience = self.state.lock().fetch(id).map_or(Duration::ZERO, |fetch| fetch.patience);
        let until =
            Instant::now() + SEGMENT_PAUSE.min(patience.saturating_sub(MAX_PAUSE.saturating_sub(self.max_pause())));
        while Instant::now() < until && (self.awaits_late_readers(position, began) || self.evicts_needed(position)) {
            Timer::after(POLL_INTERVAL).await;
        }
    }

    /// How long a reader may wait for the other readers of the object.
    fn max_pause(&self) -> Duration {
        let others = self.state.lock().readers.saturating_sub(1);
        MAX_PAUSE.min(SEGMENT_PAUSE.saturating_mul(u32::try_from(others).unwrap_or(u32::MAX)))
    }

    /// Whether to wait for other late readers at the beginning of a file, so that they continue together.
    fn awaits_late_readers(&self, position: u64, began: Instant) -> bool {
        position < 2 * BEGINNING
            && self.size > self.cache.budget() as u64
            && began.elapsed() < GATHERING.min(self.max_pause())
            && self.state.lock().fetches.iter().any(|fetch| fetch.position > 2 * BEGINNING)
    }

    /// Whether a segment at this position would evict one that readers still need.
    fn evicts_needed(&self, position: u64) -> bool {
        self.cache.evicts_needed((self.id, position), NEAR)
    }

    /// Stores the segment of a fetch. Returns whether the fetch continues.
    fn put(&self, id: u64, bytes: Result<Option<Bytes>, Refusal>) -> bool {
        let mut state = self.state.lock();
        let Some(fetch) = state.fetch(id) else { return false };
        let bytes = match bytes {
            Ok(Some(bytes)) => bytes,
            // A fetch is never asked for bytes after the end.
            Ok(None) => return false,
            Err(refusal) => {
                state.failed = Some(refusal);
                return false;
            }
        };
        let position = fetch.position;
        fetch.position += bytes.len() as u64;
        fetch.last.push_back((position, bytes.clone()));
        let mut kept: u64 = fetch.last.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        while kept > LOOK_AHEAD + SEGMENT as u64 {
            let Some((_, bytes)) = fetch.last.pop_front() else { break };
            kept -= bytes.len() as u64;
        }
        self.cache.insert(self.id, position, bytes);
        drop(state);
        self.arrived.notify_waiters();
        true
    }

    /// Whether the fetch is not needed: it has the whole file, or there are other fetches.
    fn is_spare(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        state.fetches.len() > 1 || state.fetch(id).is_none_or(|fetch| fetch.position == self.size)
    }

    /// Where the part of a fetch at this position ends, if no other fetch runs. It passes a few cached segments,
    /// because another request would cost a round trip.
    fn alone_until(&self, position: u64) -> Option<u64> {
        let is_alone = self.state.lock().fetches.len() == 1;
        is_alone.then(|| self.cache.next_run_after(self.id, position, NEAR).unwrap_or(self.size))
    }
}

impl State {
    fn fetch(&mut self, id: u64) -> Option<&mut Running> {
        self.fetches.iter_mut().find(|fetch| fetch.id == id)
    }
}

impl<U: Upstream> Drop for Object<U> {
    fn drop(&mut self) {
        self.cache.forget(self.id);
    }
}

/// The task of a fetch. It ends with a failure, with the last reader, or when no reader needs it any more.
async fn run<U: Upstream>(guard: FetchGuard<U>, mut fetch: Fetch<U>) {
    let object = &guard.object;
    let began = Instant::now();
    let mut useful = began;
    loop {
        let wanted = object.wanted.notified();
        if let Some(position) = object.demand(guard.id) {
            object.wait(guard.id, position, began).await;
            let until = object.cache.next_after(object.id, position).unwrap_or(object.size);
            fetch.until(until, object.alone_until(position));
            let most = usize::try_from(until.min(object.size) - position).map_or(SEGMENT, |most| most.min(SEGMENT));
            let bytes = fetch.segment(most).await;
            if !object.put(guard.id, bytes) {
                return;
            }
            useful = Instant::now();
        } else if within(LEFT_BEHIND.saturating_sub(useful.elapsed()), wanted).await.is_none() {
            if object.is_spare(guard.id) {
                return;
            }
            useful = Instant::now();
        }
    }
}

/// The rest of a segment from this position on.
fn rest(start: u64, bytes: &Bytes, position: u64) -> Option<Bytes> {
    let had = usize::try_from(position.checked_sub(start)?).ok()?;
    (had < bytes.len()).then(|| bytes.slice(had..))
}

/// The entry of a fetch in its object. Its drop removes the entry, however the task ends.
struct FetchGuard<U: Upstream> {
    object: Arc<Object<U>>,
    id: u64,
}

impl<U: Upstream> Drop for FetchGuard<U> {
    fn drop(&mut self) {
        self.object.state.lock().fetches.retain(|fetch| fetch.id != self.id);
        self.object.arrived.notify_waiters();
    }
}

/// The position of one transfer in the file.
pub(super) struct Reader<U: Upstream> {
    object: Arc<Object<U>>,
    id: u64,
    position: u64,
    /// How much longer it may wait for other readers.
    patience: Duration,
}

impl<U: Upstream> Reader<U> {
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        while self.position < self.object.size {
            let arrived = self.object.arrived.notified();
            if let Some(bytes) = self.object.find(self.position, self.patience)? {
                let from = self.position;
                self.position += bytes.len() as u64;
                self.object.cache.moved(self.object.id, self.id, Some(from), Some(self.position));
                return Ok(Some(bytes));
            }
            let began = Instant::now();
            arrived.await;
            self.patience = self.patience.saturating_sub(began.elapsed());
        }
        Ok(None)
    }

    pub(super) fn size(&self) -> u64 {
        self.object.size
    }

    pub(super) fn object(&self) -> Arc<Object<U>> {
        self.object.clone()
    }

    /// Skips the bytes before this position.
    pub(super) fn begin_at(&mut self, first: u64) {
        self.object.cache.moved(self.object.id, self.id, Some(self.position), Some(first));
        self.position = first;
    }
}

impl<U: Upstream> Drop for Reader<U> {
    fn drop(&mut self) {
        self.object.cache.moved(self.object.id, self.id, Some(self.position), None);
        let mut state = self.object.state.lock();
        state.readers -= 1;
        let unread = if state.readers == 0 { std::mem::take(&mut state.fetches) } else { Vec::new() };
        drop(state);
        unread.iter().for_each(|fetch| fetch.task.abort());
    }
}
