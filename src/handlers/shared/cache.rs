//! Segments of files. The cache first drops the segments that few or no readers still need.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use crate::{Bytes, sync::Mutex};

/// The size of a segment, which is kept or dropped as a whole. A transfer may hold two of them beyond the budget.
pub(super) const SEGMENT: usize = 32 << 10;

/// The first bytes of a file up to here are kept while it has a reader, for readers that begin later.
pub(super) const BEGINNING: u64 = 8 * SEGMENT as u64;

/// The memory of a segment besides its bytes, about: its entries here and the allocations.
const OVERHEAD: usize = 256;

/// How many segments are compared to find the one to drop. To compare all of them would cost more than it gains.
const SAMPLE: usize = 16;

/// From this many readers behind it on, a segment counts as equally useful.
const MANY: usize = 4;

pub(super) struct Cache {
    budget: usize,
    state: Mutex<State>,
}

/// An object's number, and a position in it.
type Place = (u64, u64);

struct State {
    used: usize,
    clock: u64,
    segments: BTreeMap<Place, Segment>,
    /// The same places in no order, for random draws.
    places: Vec<Place>,
    /// The positions of the readers, with the reader's number, because several may be in one place.
    readers: BTreeSet<(Place, u64)>,
    random: fastrand::Rng,
}

struct Segment {
    bytes: Bytes,
    used_at: u64,
    /// Its index in `places`.
    index: usize,
}

/// How useful a segment is. The least useful one is dropped first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    /// How many readers are before it, no farther away than the cache could ever span; at most [`MANY`].
    readers: usize,
    /// How far the nearest of all readers before it has to go.
    distance: Reverse<u64>,
    used_at: u64,
}

impl Cache {
    pub(super) fn new(budget: usize) -> Self {
        let (segments, places, readers, random) = Default::default();
        Self { budget, state: Mutex::new(State { used: 0, clock: 0, segments, places, readers, random }) }
    }

    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// The bytes that the cache holds.
    pub(super) fn used(&self) -> usize {
        self.state.lock().used
    }

    /// The cached bytes of this object from this position on: the rest of a segment.
    pub(super) fn find(&self, object: u64, position: u64) -> Option<Bytes> {
        let mut state = self.state.lock();
        state.clock += 1;
        let clock = state.clock;
        let (place, segment) = state.segments.range_mut((object, 0)..=(object, position)).next_back()?;
        let had = usize::try_from(position - place.1).ok().filter(|had| *had < segment.bytes.len())?;
        segment.used_at = clock;
        Some(segment.bytes.slice(had..))
    }

    pub(super) fn insert(&self, object: u64, position: u64, bytes: Bytes) {
        let (mut state, place) = (self.state.lock(), (object, position));
        state.remove(place);
        state.used += cost(&bytes);
        state.clock += 1;
        let segment = Segment { bytes, used_at: state.clock, index: state.places.len() };
        state.segments.insert(place, segment);
        state.places.push(place);
        while state.used > self.budget {
            let Some(victim) = state.least_useful(place, self.budget) else { break };
            state.remove(victim);
        }
    }

    /// Whether a new segment at this place would evict one that readers still need: a segment of the same object,
    /// unless it is `near`, or one of another object if several readers would use the new one.
    pub(super) fn evicts_needed(&self, place: Place, near: u64) -> bool {
        let mut state = self.state.lock();
        if state.used + SEGMENT + OVERHEAD <= self.budget {
            return false;
        }
        let Some(victim) = state.least_useful(place, self.budget) else { return false };
        state.use_of(victim, self.budget).readers > 0
            && match victim.0 == place.0 {
                true => victim.1.abs_diff(place.1) > near,
                false => state.use_at(place, place.1 + 1, self.budget).readers > 1,
            }
    }

    /// The position of the object's next cached segment after this position.
    pub(super) fn next_after(&self, object: u64, position: u64) -> Option<u64> {
        let state = self.state.lock();
        state.segments.range((object, position + 1)..=(object, u64::MAX)).next().map(|(place, _)| place.1)
    }

    /// The position of the object's next cached run of at least this many bytes after this position.
    pub(super) fn next_run_after(&self, object: u64, position: u64, least: u64) -> Option<u64> {
        let state = self.state.lock();
        let (mut start, mut end) = (0, 0);
        let mut segments = state.segments.range((object, position + 1)..=(object, u64::MAX));
        let reached = segments.any(|(place, segment)| {
            if place.1 != end {
                start = place.1;
            }
            end = place.1 + segment.bytes.len() as u64;
            end - start >= least
        });
        reached.then_some(start)
    }

    /// The position of the object's first gap.
    pub(super) fn first_gap(&self, object: u64) -> u64 {
        let state = self.state.lock();
        let segments = state.segments.range((object, 0)..=(object, u64::MAX));
        segments.fold(
            0,
            |end, (place, segment)| if place.1 <= end { end.max(place.1 + segment.bytes.len() as u64) } else { end },
        )
    }

    /// Moves a reader. `from` is `None` for a new reader, and `to` for one that leaves.
    pub(super) fn moved(&self, object: u64, reader: u64, from: Option<u64>, to: Option<u64>) {
        let mut state = self.state.lock();
        if let Some(from) = from {
            state.readers.remove(&((object, from), reader));
        }
        if let Some(to) = to {
            state.readers.insert(((object, to), reader));
        }
    }

    /// Drops all segments of an object.
    pub(super) fn forget(&self, object: u64) {
        let mut state = self.state.lock();
        let places: Vec<_> = state.segments.range((object, 0)..=(object, u64::MAX)).map(|(place, _)| *place).collect();
        for place in places {
            state.remove(place);
        }
    }
}

impl State {
    /// The least useful of a random sample, the newest segment, and the first one of its object, where the last readers
    /// are.
    fn least_useful(&mut self, newest: Place, budget: usize) -> Option<Place> {
        let most = self.places.len();
        let drawn = (0..SAMPLE.min(most)).map(|n| if most <= SAMPLE { n } else { self.random.usize(..most) });
        let drawn: Vec<_> = drawn.map(|n| self.places[n]).collect();
        let first = self.segments.range((newest.0, 0)..=newest).next().map(|(place, _)| *place);
        let newest = Some(newest).filter(|place| self.segments.contains_key(place));
        drawn.into_iter().chain(first).chain(newest).min_by_key(|place| self.use_of(*place, budget))
    }

    fn use_of(&self, place: Place, budget: usize) -> Use {
        let segment = self.segments.get(&place);
        let end = place.1 + segment.map_or(0, |segment| segment.bytes.len() as u64);
        Use { used_at: segment.map_or(0, |segment| segment.used_at), ..self.use_at(place, end, budget) }
    }

    /// The use of a segment that is now brought to this place.
    fn use_at(&self, (object, position): Place, end: u64, budget: usize) -> Use {
        let is_read = || self.readers.range(((object, 0), 0)..((object, u64::MAX), 0)).next().is_some();
        if position < BEGINNING && budget as u64 > 4 * BEGINNING && is_read() {
            return Use { readers: MANY, distance: Reverse(0), used_at: u64::MAX };
        }
        let from = end.saturating_sub(budget as u64);
        let readers = self.readers.range(((object, from), 0)..((object, end), 0)).take(MANY).count();
        let behind = self.readers.range(((object, 0), 0)..((object, end), 0)).next_back();
        let distance = Reverse(behind.map_or(u64::MAX, |((_, reader), _)| end - reader));
        Use { readers, distance, used_at: u64::MAX }
    }

    fn remove(&mut self, place: Place) {
        let Some(segment) = self.segments.remove(&place) else { return };
        self.used -= cost(&segment.bytes);
        self.places.swap_remove(segment.index);
        if let Some(moved) = self.places.get(segment.index).and_then(|moved| self.segments.get_mut(moved)) {
            moved.index = segment.index;
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
        cache.insert(2, 5, Bytes::from_static(b"s"));
        cache.insert(2, 7, Bytes::from_static(b"behind a gap"));
        assert_eq!([1, 2, 3].map(|object| cache.first_gap(object)), [0, 6, 0]);
        cache.insert(2, 19, Bytes::from_static(b"in a row"));
        let run = |position, least| cache.next_run_after(2, position, least);
        assert_eq!(
            [run(0, 1), run(0, 2), run(0, 20), run(0, 21), run(7, 1)],
            [Some(5), Some(7), Some(7), None, Some(19)]
        );
        cache.forget(2);
        cache.insert(2, 0, Bytes::from_static(b"other"));
        cache.forget(1);
        assert_eq!((cache.find(1, 100), cache.used()), (None, 5 + OVERHEAD));
    }

    fn cache_of(segments: usize) -> Cache {
        let cache = Cache::new(segments * (1000 + OVERHEAD));
        (0..segments).for_each(|n| insert(&cache, n));
        cache
    }

    fn insert(cache: &Cache, n: usize) {
        cache.insert(1, 1000 * n as u64, vec![0; 1000].into());
    }

    fn kept(cache: &Cache) -> Vec<u64> {
        cache.state.lock().segments.keys().map(|(_, position)| position / 1000).collect()
    }

    #[test]
    fn without_readers_the_oldest_segment_is_dropped_first() {
        let cache = cache_of(3);
        cache.find(1, 0).unwrap();
        insert(&cache, 3);
        assert_eq!(kept(&cache), [0, 2, 3]);
        assert_eq!(cache.used(), cache.budget);
        cache.insert(1, 0, vec![0; 10_000].into());
        assert_eq!(cache.used(), 0);
    }

    #[test]
    fn segments_ahead_of_readers_are_kept() {
        let cache = cache_of(6);
        cache.moved(1, 1, None, Some(2500));
        insert(&cache, 6);
        insert(&cache, 7);
        assert_eq!(kept(&cache), [2, 3, 4, 5, 6, 7]);
        insert(&cache, 8);
        assert_eq!(kept(&cache), [2, 3, 4, 5, 6, 7], "the farthest goes, and not what is wanted next");
        cache.moved(1, 2, None, Some(0));
        cache.moved(1, 1, Some(2500), Some(8000));
        insert(&cache, 8);
        assert_eq!(kept(&cache), [2, 3, 4, 5, 6, 8]);
        cache.moved(1, 2, Some(0), None);
        insert(&cache, 9);
        assert_eq!(kept(&cache), [3, 4, 5, 6, 8, 9]);
    }

    #[test]
    fn segments_ahead_of_few_readers_are_dropped_first() {
        let cache = cache_of(6);
        (0..3).for_each(|reader| cache.moved(1, reader, None, Some(1500)));
        cache.moved(1, 3, None, Some(500));
        assert!(cache.evicts_needed((1, 6000), 0), "the last reader would lose what it comes to");
        assert!(!cache.evicts_needed((1, 6000), 6000), "all of this is near");
        assert!(!cache.evicts_needed((2, 0), 0), "nobody reads the other");
        insert(&cache, 6);
        assert_eq!(kept(&cache), [1, 2, 3, 4, 5, 6]);
        cache.moved(1, 3, Some(500), None);
        (0..3).for_each(|reader| cache.moved(1, reader, Some(1500), Some(2500)));
        assert!(!cache.evicts_needed((1, 7000), 0), "the first is past");
    }

    #[test]
    fn the_beginning_is_kept_while_a_reader_is_there() {
        let size = 16 * BEGINNING;
        let fill = |reader: bool| {
            let cache = Cache::new(size as usize / 2);
            if reader {
                cache.moved(1, 1, None, Some(0));
            }
            for n in 0..size / SEGMENT as u64 {
                let position = n * SEGMENT as u64;
                cache.insert(1, position, vec![0; SEGMENT].into());
                if reader {
                    cache.moved(1, 1, Some(position), Some(position + SEGMENT as u64));
                }
            }
            (0..8).filter(|n| cache.find(1, n * SEGMENT as u64).is_some()).count()
        };
        assert_eq!((fill(true), fill(false)), (8, 0));
    }

    #[test]
    fn many_come_and_go() {
        let (cache, mut random) = (Cache::new(20 * (1000 + OVERHEAD)), fastrand::Rng::with_seed(1));
        for _ in 0..10_000 {
            match random.u8(..20) {
                0 => cache.forget(random.u64(..5)),
                1..=5 => _ = cache.find(random.u64(..5), random.u64(..50_000)),
                _ => cache.insert(random.u64(..5), random.u64(..50_000), vec![0; random.usize(1..1000)].into()),
            }
            let state = cache.state.lock();
            assert!(state.used <= cache.budget && state.places.len() == state.segments.len());
            assert_eq!(state.used, state.segments.values().map(|segment| cost(&segment.bytes)).sum::<usize>());
            assert!(state.segments.iter().all(|(place, segment)| state.places[segment.index] == *place));
        }
    }
}
