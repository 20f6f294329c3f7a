//! Virtual time.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, MutexGuard},
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime},
};

use crate::{server::Clock, sync::Mutex};

/// The clock of a simulation. Handlers can sleep by it.
///
/// ```
/// use std::time::Duration;
/// use tuffet::{read, sim};
///
/// # futures_lite::future::block_on(async {
/// // A handler that takes a second, and a test that does not.
/// let time = sim::Time::new();
/// let clock = time.clone();
/// let slow = read(async move |_| {
///     clock.sleep(Duration::from_secs(1)).await;
///     "late\n"
/// });
/// let report = sim::get(&slow, "x").time(time).await?;
/// assert!(report.elapsed >= Duration::from_secs(1));
/// # Ok::<(), tuffet::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Time(Arc<Mutex<State>>);

struct State {
    begin: Instant,
    now: Instant,
    sleepers: BTreeMap<(Instant, u64), Waker>,
    /// The number for the next sleeper.
    numbers: u64,
}

impl Time {
    /// A clock that begins at the current time of the system, which is read once.
    ///
    /// ```
    /// let time = tuffet::sim::Time::new();
    /// assert_eq!(time.now(), time.clone().now(), "clones are one clock");
    /// ```
    pub fn new() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(State { begin: now, now, sleepers: BTreeMap::new(), numbers: 0 })))
    }

    /// The current virtual time.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let time = tuffet::sim::Time::new();
    /// let then = time.now();
    /// std::thread::sleep(Duration::from_millis(1));
    /// assert_eq!(time.now(), then, "real time does not count");
    /// ```
    pub fn now(&self) -> Instant {
        self.lock().now
    }

    /// Returns when this much virtual time has passed. It takes no real time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tuffet::{read, sim};
    ///
    /// # futures_lite::future::block_on(async {
    /// let time = sim::Time::new();
    /// let clock = time.clone();
    /// let dead = read(async move |_| {
    ///     clock.sleep(Duration::from_secs(3600)).await;
    ///     "late\n"
    /// });
    /// assert!(sim::get(&dead, "x").time(time).await.is_err(), "no client waits for an hour");
    /// # });
    /// ```
    pub async fn sleep(&self, time: Duration) {
        let (until, number) = {
            let mut state = self.lock();
            state.numbers += 1;
            (state.now + time, state.numbers)
        };
        Sleep { time: self, until, number }.await;
    }

    /// When the next sleeper wakes.
    pub(super) fn next(&self) -> Option<Instant> {
        self.lock().sleepers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Sets the time. It never goes back.
    pub(super) fn pass(&self, now: Instant) {
        let mut state = self.lock();
        let now = state.now.max(now);
        state.now = now;
        let later = state.sleepers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut state.sleepers, later);
        drop(state);
        due.into_values().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

struct Sleep<'a> {
    time: &'a Time,
    until: Instant,
    number: u64,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.time.lock();
        if state.now >= self.until {
            return Poll::Ready(());
        }
        state.sleepers.insert((self.until, self.number), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.time.lock().sleepers.remove(&(self.until, self.number));
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for Time {
    fn now(&self) -> Instant {
        self.now()
    }

    fn date(&self) -> SystemTime {
        let state = self.lock();
        SystemTime::UNIX_EPOCH + (state.now - state.begin)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_tuple("Time").field(&(state.now - state.begin)).finish()
    }
}
