//! Finds out whether the loops of the shards still turn.

use std::{
    sync::{Arc, Condvar, PoisonError, Weak, atomic::Ordering::SeqCst},
    time::Duration,
};

use crate::sync::{AtomicU64, Mutex};

/// A question from another thread, which each loop answers after a turn.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    asked: AtomicU64,
    /// The last answer of each running shard.
    shards: Mutex<Vec<Weak<AtomicU64>>>,
    answered: Condvar,
}

/// The part of one shard.
#[derive(Debug)]
pub(super) struct Heartbeat(Arc<AtomicU64>);

impl Heartbeats {
    pub(super) fn join(&self) -> Heartbeat {
        let heartbeat = Arc::new(AtomicU64::new(self.asked.load(SeqCst)));
        self.shards.lock().push(Arc::downgrade(&heartbeat));
        Heartbeat(heartbeat)
    }

    /// Whether a question waits for this shard.
    pub(super) fn is_asked(&self, heartbeat: &Heartbeat) -> bool {
        heartbeat.0.load(SeqCst) != self.asked.load(SeqCst)
    }

    /// Answers the question after a turn, in which everything that was ready has run.
    pub(super) fn answer(&self, heartbeat: &Heartbeat) {
        if self.is_asked(heartbeat) {
            heartbeat.0.store(self.asked.load(SeqCst), SeqCst);
            // The asking thread holds the lock until it waits.
            drop(self.shards.lock());
            self.answered.notify_all();
        }
    }

    /// Asks, wakes the loops, and waits for the answers of all running shards.
    pub(super) fn ask(&self, wake: impl FnOnce(), within: Duration) -> bool {
        let question = self.asked.fetch_add(1, SeqCst) + 1;
        wake();
        let shards = self.shards.lock();
        let owe = |shards: &mut Vec<Weak<AtomicU64>>| {
            shards.retain(|heartbeat| heartbeat.strong_count() > 0);
            shards.iter().filter_map(Weak::upgrade).any(|heartbeat| heartbeat.load(SeqCst) < question)
        };
        let waited = self.answered.wait_timeout_while(shards, within, owe).unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(10);

    #[test]
    fn every_running_shard_has_to_answer() {
        let heartbeats = Heartbeats::default();
        assert!(heartbeats.ask(|| (), SHORT), "nothing runs that could hang");
        let (one, two) = (heartbeats.join(), heartbeats.join());
        assert!(!heartbeats.ask(|| heartbeats.answer(&one), SHORT));
        assert!(
            heartbeats.ask(|| [&one, &two].map(|heartbeat| heartbeats.answer(heartbeat)).into_iter().collect(), LONG)
        );
        assert!(!heartbeats.ask(|| (), SHORT), "an old answer is none");
        drop(two);
        thread::scope(|threads| {
            let wake = || drop(threads.spawn(|| heartbeats.answer(&one)));
            assert!(heartbeats.ask(wake, LONG), "who has left owes nothing");
        });
    }
}
