//! The queue of requests for new files to one upstream.

use std::{
    future::Future,
    pin::pin,
    time::{Duration, Instant},
};

use smol::{
    Timer,
    lock::{Semaphore, SemaphoreGuard},
};

use super::Failure;
use crate::{sync::Mutex, within::within};

/// How many of these requests await their answers at once, at first and at least. A room of machines asks for as many
/// files as it has machines, and small web servers drop connections that they cannot accept at once: that of Python has
/// room for five.
pub(super) const LEAST: usize = 16;
/// The most, for an upstream that is far away, and answers so many as quickly as a few.
const MOST: usize = 256;
/// An upstream that has answered sooner is near. It answers 800 requests a second, or has too much to do.
const FAR: Duration = Duration::from_millis(20);
/// A quick answer takes at most this many times as long as the quickest one: a request over a new connection with TLS
/// takes four round trips, and one over an open connection takes one.
const QUICK: u32 = 4;
/// For this time after a failure there are no more places: an upstream that limits the rate of requests answers some of
/// them quickly, and refuses the others.
const CALM: Duration = Duration::from_secs(1);
/// After this time the quickest answer no longer counts, and the next request that is alone sets it: an upstream may
/// move to another place, and months later one lucky answer means nothing.
const MEMORY: Duration = Duration::from_secs(600);
/// After this time a request without an answer makes room for the next one. An upstream that makes its files up may
/// take seconds for each, and serve hundreds at once.
const SLOW: Duration = Duration::from_millis(250);

pub(super) struct Queue {
    places: Semaphore,
    pace: Mutex<Pace>,
}

struct Pace {
    places: usize,
    /// The time of the quickest answer.
    quickest: Duration,
    /// When a request that was alone last set it.
    set: Option<Instant>,
    /// When a request last failed.
    failed: Option<Instant>,
}

#[derive(Debug, PartialEq)]
enum Change {
    More,
    None,
    Fewer,
}

impl Default for Queue {
    fn default() -> Self {
        Self { places: Semaphore::new(LEAST), pace: Mutex::new(Pace::new()) }
    }
}

impl Queue {
    /// The result of this future, which is first polled when its turn has come, and its place in the queue, unless it
    /// was slow.
    pub(super) async fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> (Result<T, Failure>, Option<SemaphoreGuard<'_>>) {
        let place = self.places.acquire().await;
        let begun = Instant::now();
        let mut answer = pin!(answer);
        let (answer, mut place) = match within(SLOW, answer.as_mut()).await {
            Some(answer) => (answer, Some(place)),
            None => {
                drop(place);
                (answer.await, None)
            }
        };
        self.adapt(begun, answer.is_ok(), &mut place);
        (answer, place)
    }

    /// Makes one place more or fewer after an answer, of which this is the place.
    fn adapt(&self, begun: Instant, is_answered: bool, place: &mut Option<SemaphoreGuard<'_>>) {
        let mut pace = self.pace.lock();
        let is_alone = self.places.available_permits() + usize::from(place.is_some()) == pace.places;
        match pace.change(Instant::now(), begun, is_answered, is_alone) {
            Change::More if pace.places < MOST && self.places.available_permits() == 0 => {
                pace.places += 1;
                drop(pace);
                self.places.add_permits(1);
            }
            Change::Fewer if pace.places > LEAST => {
                if let Some(place) = place.take().or_else(|| self.places.try_acquire()) {
                    place.forget();
                    pace.places -= 1;
                }
            }
            _ => {}
        }
    }

    /// Pauses before the next try of a request whose upstream is busy. It keeps its place meanwhile, but no longer than
    /// a slow request does: the upstream has to refuse fewer others, and a busy path does not keep them waiting.
    pub(super) async fn pause(place: Option<SemaphoreGuard<'_>>, time: Duration) {
        Timer::after(time.min(SLOW)).await;
        drop(place);
        Timer::after(time.saturating_sub(SLOW)).await;
    }
}

impl Pace {
    const fn new() -> Self {
        Self { places: LEAST, quickest: Duration::MAX, set: None, failed: None }
    }

    /// The change after the answer to a request that was sent at `begun`. `is_alone`: no other request awaits an
    /// answer.
    fn change(&mut self, now: Instant, begun: Instant, is_answered: bool, is_alone: bool) -> Change {
        if !is_answered {
            self.failed = Some(now);
            return Change::Fewer;
        }
        let time = now.duration_since(begun);
        if is_alone && self.set.is_none_or(|set| now.saturating_duration_since(set) >= MEMORY) {
            (self.quickest, self.set) = (time, Some(now));
        }
        self.quickest = self.quickest.min(time);
        match time <= self.quickest.saturating_mul(QUICK) {
            false => Change::Fewer,
            true if self.quickest < FAR || self.failed.is_some_and(|failed| now < failed + CALM) => Change::None,
            true => Change::More,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, pin::Pin};

    use smol::future::{block_on, pending, poll_once};

    use super::*;

    fn poll<T>(request: &mut Pin<Box<impl Future<Output = T>>>) {
        assert!(block_on(poll_once(request)).is_none());
    }

    #[test]
    fn a_request_waits_until_an_earlier_one_is_over_or_slow() {
        let (queue, sent) = (Queue::default(), Cell::new(0));
        let silent = || {
            queue.wait(async {
                sent.set(sent.get() + 1);
                pending::<Result<(), Failure>>().await
            })
        };
        let mut requests: Vec<_> = (0..LEAST + 2).map(|_| Box::pin(silent())).collect();
        requests.iter_mut().for_each(poll);
        assert_eq!(sent.get(), LEAST);
        drop(requests.remove(0));
        requests[LEAST - 1..].iter_mut().for_each(poll);
        assert_eq!(sent.get(), LEAST + 1, "the client of the first has left");
        while sent.get() < LEAST + 2 {
            requests.iter_mut().for_each(poll);
        }
    }

    #[test]
    fn quick_answers_make_more_places_if_all_are_taken_and_failures_fewer() {
        let queue = Queue::default();
        let mut taken: Vec<_> = (1..LEAST).map(|_| queue.places.try_acquire()).collect();
        let answer = |is_answered, place: &mut _| {
            queue.pace.lock().quickest = Duration::MAX;
            queue.adapt(Instant::now() - FAR, is_answered, place);
            queue.pace.lock().places
        };
        assert_eq!(answer(true, &mut None), LEAST, "one place is free");
        taken.push(queue.places.try_acquire());
        assert_eq!(answer(true, &mut None), LEAST + 1);
        assert_eq!(answer(false, &mut None), LEAST);
        assert_eq!(answer(false, &mut None), LEAST);
        assert!(taken.iter().all(Option::is_some) && queue.places.try_acquire().is_none());
        queue.pace.lock().failed = None;
        assert_eq!(answer(true, &mut taken[0]), LEAST + 1);
        taken.push(queue.places.try_acquire());
        assert_eq!(answer(false, &mut taken[0]), LEAST);
        assert!(taken[0].is_none() && queue.places.try_acquire().is_none(), "the place of the failure is gone");
    }

    #[test]
    fn only_quick_answers_of_a_far_upstream_long_after_a_failure_make_more_places() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        let mut at = |ms, time, is_answered| {
            let now = start + Duration::from_millis(ms);
            pace.change(now, now - Duration::from_millis(time), is_answered, false)
        };
        assert_eq!(at(1000, 100, true), Change::More);
        assert_eq!(at(1001, 400, true), Change::More);
        assert_eq!(at(1002, 401, true), Change::Fewer);
        assert_eq!(at(1003, 20, true), Change::More);
        assert_eq!(at(1004, 81, true), Change::Fewer);
        assert_eq!(at(2000, 1, false), Change::Fewer);
        assert_eq!(at(2999, 20, true), Change::None);
        assert_eq!(at(3000, 20, true), Change::More);
        assert_eq!(at(3001, 19, true), Change::None);
    }

    #[test]
    fn an_upstream_that_moves_away_gets_more_requests_at_once_again() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        let mut at = |seconds, time, is_alone| {
            let now = start + Duration::from_secs(seconds);
            pace.change(now, now - Duration::from_millis(time), true, is_alone)
        };
        assert_eq!(at(1, 5, true), Change::None);
        assert_eq!(at(600, 100, true), Change::Fewer);
        assert_eq!(at(601, 300, false), Change::Fewer, "others may have delayed it");
        assert_eq!(at(602, 100, true), Change::More);
        assert_eq!(at(603, 100, false), Change::More);
        assert_eq!(at(604, 5, true), Change::None, "a quicker one counts at once");
    }
}
