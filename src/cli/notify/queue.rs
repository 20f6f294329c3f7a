//! A bounded queue of reports. Adding to it never waits.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tuffet::stats::Counter;

/// How long the waiting reports may take after the server has ended.
pub const END_LIMIT: Duration = Duration::from_secs(5);

/// Clones share the queue.
#[derive(Clone)]
pub struct Queue<T>(Arc<(Mutex<State<T>>, Condvar)>);

struct State<T> {
    waiting: VecDeque<T>,
    most: usize,
    lost: Counter,
    /// The time limit, once the end has begun.
    deadline: Option<Instant>,
    /// Whether the receiver has gone.
    has_ended: bool,
}

impl<T> Queue<T> {
    /// A queue of at most this many. Lost reports are counted.
    pub fn new(most: usize, lost: Counter) -> Self {
        let state = State { waiting: VecDeque::new(), most, lost, deadline: None, has_ended: false };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    /// Adds one. If the queue is full, the oldest is lost.
    pub fn push(&self, one: T) {
        let mut state = self.state();
        if state.has_ended {
            return state.lost.add(1);
        }
        if state.waiting.len() >= state.most {
            state.waiting.pop_front();
            state.lost.add(1);
        }
        state.waiting.push_back(one);
        self.0.1.notify_all();
    }

    /// Takes the oldest, as soon as there is one; `None` at the end.
    pub fn take(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            let is_late = state.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            match state.waiting.pop_front().filter(|_| !is_late) {
                Some(one) => return Some(one),
                None if state.deadline.is_some() => return None,
                None => state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Waits for this time, but not beyond the time limit. Returns whether the limit is not reached.
    pub fn pause(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let over = state.deadline.is_some_and(|deadline| now >= deadline);
            if over || now >= end {
                return !over;
            }
            let until = state.deadline.map_or(end, |deadline| end.min(deadline));
            state = self.0.1.wait_timeout(state, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Counts a report that failed.
    pub fn lose(&self) {
        self.state().lost.add(1);
    }

    /// Notes that the receiver has gone: waiting and later reports are lost.
    pub fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        let waiting = state.waiting.len() as u64;
        state.waiting.clear();
        state.lost.add(waiting);
        self.0.1.notify_all();
    }

    /// Sets the end of the wait of [`close`](Self::close), so that several queues can wait at the same time.
    pub fn close_by(&self, deadline: Instant) {
        self.state().deadline = Some(deadline);
        self.0.1.notify_all();
    }

    /// Closes the queue. Waits until all reports are taken and done, but no longer than [`END_LIMIT`]. Returns how many
    /// were lost in all.
    pub fn close(&self) -> u64 {
        let mut state = self.state();
        let deadline = *state.deadline.get_or_insert_with(|| Instant::now() + END_LIMIT);
        self.0.1.notify_all();
        while !state.has_ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.0.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.lost.value() + state.waiting.len() as u64
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(most: usize) -> (Queue<u32>, Counter) {
        let lost = Counter::new("lost", "Lost.");
        (Queue::new(most, lost.clone()), lost)
    }

    #[test]
    fn the_oldest_is_lost_and_counted() {
        let (queue, lost) = queue(3);
        (0..10).for_each(|n| queue.push(n));
        assert_eq!((queue.take(), queue.take(), queue.take()), (Some(7), Some(8), Some(9)));
        assert_eq!(lost.value(), 7);
    }

    #[test]
    fn waiting_reports_go_out_before_the_end() {
        let (queue, _) = queue(10);
        queue.push(1);
        let taker = queue.clone();
        let taken = std::thread::spawn(move || {
            let taken: Vec<u32> = std::iter::from_fn(|| taker.take()).collect();
            taker.end();
            taken
        });
        queue.push(2);
        assert_eq!(queue.close(), 0);
        assert_eq!(taken.join().unwrap(), [1, 2]);
        queue.push(3);
        assert_eq!(queue.close(), 1, "nobody takes any more");
    }
}
