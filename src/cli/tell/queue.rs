//! What waits to be told: bounded, and nobody who puts something there waits.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tuffet::stats::Counter;

/// Once the server has ended, what still waits is told for so long.
pub const GOODBYE: Duration = Duration::from_secs(5);

/// Clones are the same queue.
#[derive(Clone)]
pub struct Queue<T>(Arc<(Mutex<State<T>>, Condvar)>);

struct State<T> {
    waiting: VecDeque<T>,
    most: usize,
    lost: Counter,
    /// When it is over, once that is known.
    deadline: Option<Instant>,
    /// Whether whoever takes has gone.
    has_ended: bool,
}

impl<T> Queue<T> {
    /// So many wait at most; what is lost is counted.
    pub fn new(most: usize, lost: Counter) -> Self {
        let state = State { waiting: VecDeque::new(), most, lost, deadline: None, has_ended: false };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    /// Adds one. Where there is no room, the oldest is lost.
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

    /// The oldest, as soon as there is one; `None` when it is over.
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

    /// Waits for so long, but no longer than it all may take; whether it is not over yet.
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

    /// Counts one that could not be told.
    pub fn lose(&self) {
        self.state().lost.add(1);
    }

    /// Whoever takes has gone: what waits is lost, and what comes.
    pub fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        let waiting = state.waiting.len() as u64;
        state.waiting.clear();
        state.lost.add(waiting);
        self.0.1.notify_all();
    }

    /// Nothing will be added. Waits until all is taken and told, but no longer than [`GOODBYE`]. Returns how many were
    /// lost in all.
    pub fn close(&self) -> u64 {
        let deadline = Instant::now() + GOODBYE;
        let mut state = self.state();
        state.deadline = Some(deadline);
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
    fn what_waits_is_told_before_the_end() {
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
