//! Segments of files, the least recently used given up first.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::Bytes;

/// How much of a file is kept or given up at once. A transfer may hold two of them beyond the budget.
pub(super) const SEGMENT: usize = 32 << 10;

/// What a segment costs beside its bytes, about: the two maps and the allocations.
const OVERHEAD: usize = 256;

pub(super) struct Cache {
    budget: usize,
    state: Mutex<State>,
}

/// An object, and a position in it.
type Place = (u64, u64);

#[derive(Default)]
struct State {
    used: usize,
    clock: u64,
    segments: BTreeMap<Place, Segment>,
    /// The same by the time of their last use.
    order: BTreeMap<u64, Place>,
}

struct Segment {
    bytes: Bytes,
    used_at: u64,
}

impl Cache {
    pub(super) fn new(budget: usize) -> Self {
        Self { budget, state: Mutex::default() }
    }

    /// Bytes that it holds.
    pub(super) fn used(&self) -> usize {
        self.state().used
    }

    /// What there is of this object from this position on: the rest of a segment.
    pub(super) fn find(&self, object: u64, position: u64) -> Option<Bytes> {
        let mut state = self.state();
        let state = &mut *state;
        let (&place, segment) = state.segments.range_mut((object, 0)..=(object, position)).next_back()?;
        let had = usize::try_from(position - place.1).ok()?;
        if had >= segment.bytes.len() {
            return None;
        }
        state.order.remove(&segment.used_at);
        state.clock += 1;
        segment.used_at = state.clock;
        state.order.insert(state.clock, place);
        Some(segment.bytes.slice(had..))
    }

    pub(super) fn insert(&self, object: u64, position: u64, bytes: Bytes) {
        let (mut state, place) = (self.state(), (object, position));
        state.remove(place);
        state.used += cost(&bytes);
        state.clock += 1;
        let used_at = state.clock;
        state.order.insert(used_at, place);
        state.segments.insert(place, Segment { bytes, used_at });
        while state.used > self.budget
            && let Some((_, place)) = state.order.pop_first()
        {
            state.remove(place);
        }
    }

    /// Gives up all of an object.
    pub(super) fn forget(&self, object: u64) {
        let mut state = self.state();
        let places: Vec<_> = state.segments.range((object, 0)..=(object, u64::MAX)).map(|(place, _)| *place).collect();
        for place in places {
            state.remove(place);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, place: Place) {
        if let Some(segment) = self.segments.remove(&place) {
            self.order.remove(&segment.used_at);
            self.used -= cost(&segment.bytes);
        }
    }
}

fn cost(bytes: &Bytes) -> usize {
    bytes.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_found_by_any_of_its_bytes() {
        let cache = Cache::new(10_000);
        cache.insert(1, 100, Bytes::from_static(b"hello"));
        cache.insert(2, 0, Bytes::from_static(b"other"));
        assert_eq!(cache.find(1, 100).unwrap(), "hello");
        assert_eq!(cache.find(1, 104).unwrap(), "o");
        for (object, position) in [(1, 99), (1, 105), (0, 100), (2, 100), (3, 0)] {
            assert_eq!(cache.find(object, position), None, "{object} {position}");
        }
        cache.forget(1);
        assert_eq!((cache.find(1, 100), cache.used()), (None, 5 + OVERHEAD));
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let cache = Cache::new(3 * (1000 + OVERHEAD));
        for position in [0, 1000, 2000] {
            cache.insert(1, position, vec![0; 1000].into());
        }
        cache.find(1, 0).unwrap();
        cache.insert(1, 0, vec![1; 1000].into());
        cache.insert(1, 3000, vec![0; 1000].into());
        assert_eq!([0, 1000, 2000, 3000].map(|position| cache.find(1, position).is_some()), [true, false, true, true]);
        assert_eq!(cache.used(), cache.budget);
        cache.insert(1, 0, vec![0; 10_000].into());
        assert_eq!(cache.used(), 0);
    }
}
