//! What is remembered of those who have no transfer any more.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Key, Map};

/// Long enough for the last packets of a transfer to arrive, and for a client to repeat its last packet for as long as it
/// is patient.
const MEMORY: Duration = Duration::from_secs(30);
const MOST: usize = 4096;

/// Transfers that ended a moment ago. Their late packets are no reason for an ERROR, and an upload whose last ACK was
/// lost gets it again.
#[derive(Default)]
pub(super) struct Recent {
    ended: Map<Key, (Instant, Option<u16>)>,
    order: VecDeque<(Instant, Key)>,
    /// When something was last forgotten before its time.
    overflowed: Option<Instant>,
}

impl Recent {
    pub(super) fn insert(&mut self, key: Key, last_ack: Option<u16>, now: Instant) {
        while self.order.len() >= MOST || self.order.front().is_some_and(|(at, _)| *at + MEMORY <= now) {
            let Some((at, key)) = self.order.pop_front() else { break };
            if at + MEMORY > now {
                self.overflowed = Some(now);
            }
            // The same port may have ended another transfer since.
            if self.ended.get(&key).is_some_and(|(ended, _)| *ended == at) {
                self.ended.remove(&key);
            }
        }
        self.order.push_back((now, key));
        self.ended.insert(key, (now, last_ack));
    }

    pub(super) fn ended_at(&self, key: &Key) -> Option<Instant> {
        self.ended.get(key).map(|(at, _)| *at)
    }

    /// Whether who is not found may have ended a transfer all the same.
    pub(super) fn may_have_forgotten(&self, now: Instant) -> bool {
        self.overflowed.is_some_and(|at| at + MEMORY > now)
    }

    /// The last ACK, if it was an upload that ended well.
    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Option<u16>> {
        self.ended.get(key).filter(|(at, _)| *at + MEMORY > now).map(|(_, last_ack)| *last_ack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_and_bounded() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let key = |n: usize| (n, "10.0.0.1:1".parse().unwrap());
        for n in 0..2 * MOST {
            recent.insert(key(n), None, start);
        }
        assert_eq!((recent.ended.len(), recent.order.len()), (MOST, MOST));
        assert!(recent.may_have_forgotten(start) && !recent.may_have_forgotten(start + MEMORY));
        recent.insert(key(1), Some(7), start);
        assert_eq!(recent.find(&key(1), start), Some(Some(7)));
        assert_eq!(recent.find(&key(1), start + MEMORY), None);
        recent.insert(key(2), None, start + MEMORY);
        assert_eq!(recent.ended.len(), 1);
    }
}
