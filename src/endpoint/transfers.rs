//! The transfers that there are, by all that they are known by.

use std::{
    collections::VecDeque,
    hash::Hash,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use slab::Slab;

use super::{Asked, Id, Key, Map};
use crate::{
    options::Direction,
    packet::{self, Packet},
};

#[derive(Default)]
pub(super) struct Transfers {
    all: Slab<Known>,
    by_key: Map<Key, Id>,
    by_asked: Map<Asked, Id>,
    /// How many were never heard, and have not been closed.
    unheard: usize,
    /// Those that the server has still to answer, oldest first, and some that have moved on since.
    working: VecDeque<Place>,
    /// As `working`: those that the client has still to answer.
    waiting: VecDeque<Place>,
    /// Each place in the queues has another number.
    places: u64,
}

struct Place {
    id: Id,
    number: u64,
    since: Instant,
}

/// How long a transfer may wait for its handler before it gives way to others, if its client has not repeated its
/// request since. U-Boot waits for 10 s.
const WORK: Duration = Duration::from_secs(10);

/// What is known of a transfer.
pub(super) struct Known {
    pub(super) key: Key,
    pub(super) asked: Asked,
    pub(super) direction: Direction,
    pub(super) request: Arc<packet::Request>,
    /// A hash of the request.
    pub(super) hash: u64,
    pub(super) broadcast: bool,
    /// What was granted to the client; 0 before.
    pub(super) blksize: u16,
    /// Whether it was answered by an OACK.
    oack: bool,
    /// How often its first block went out.
    pub(super) first_blocks: u8,
    /// When its client was last heard.
    pub(super) heard: Option<Instant>,
    /// Whether a block has arrived.
    pub(super) moved: bool,
    /// Whether it is none of the living any more.
    pub(super) closed: bool,
    /// Its place in the queue of those that were never heard.
    place: u64,
}

impl Known {
    pub(super) fn new(
        key: Key,
        asked: Asked,
        direction: Direction,
        request: Arc<packet::Request>,
        hash: u64,
        broadcast: bool,
    ) -> Self {
        let (blksize, oack, first_blocks, heard, moved, closed, place) = (0, false, 0, None, false, false, 0);
        Self {
            key,
            asked,
            direction,
            request,
            hash,
            broadcast,
            blksize,
            oack,
            first_blocks,
            heard,
            moved,
            closed,
            place,
        }
    }

    /// No client sends an OACK, nor ACK 0 where there was none: the server of a WRQ does.
    pub(super) fn is_answered_by_a_server(&self, packet: &Packet) -> bool {
        match packet {
            Packet::Oack(_) => true,
            Packet::Ack(0) => self.direction == Direction::Read && self.blksize > 0 && !self.oack && !self.moved,
            _ => false,
        }
    }

    pub(super) fn client(&self) -> IpAddr {
        self.key.1.ip()
    }
}

impl Transfers {
    /// All that have not ended.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Those that were not closed.
    pub(super) fn living(&self) -> usize {
        self.by_key.len()
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.working.len() + self.waiting.len()
    }

    pub(super) fn unheard(&self) -> usize {
        self.unheard
    }

    pub(super) fn get(&self, id: Id) -> Option<&Known> {
        self.all.get(id.0)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Known> {
        self.all.get_mut(id.0)
    }

    pub(super) fn find(&self, key: &Key) -> Option<Id> {
        self.by_key.get(key).copied()
    }

    pub(super) fn find_asked(&self, asked: &Asked) -> Option<Id> {
        self.by_asked.get(asked).copied()
    }

    pub(super) fn insert(&mut self, now: Instant, known: Known) -> Id {
        let (key, asked) = (known.key, known.asked);
        let id = Id(self.all.insert(known));
        self.by_key.insert(key, id);
        self.by_asked.insert(asked, id);
        self.unheard += 1;
        self.refresh(now, id);
        id
    }

    /// A packet has come for a transfer.
    pub(super) fn hear(&mut self, key: &Key, now: Instant, packet: &Packet) -> Option<Id> {
        let id = *self.by_key.get(key)?;
        let known = self.all.get_mut(id.0)?;
        self.unheard -= usize::from(known.heard.is_none());
        known.heard = Some(now);
        known.moved |= matches!(packet, Packet::Data { .. } | Packet::Ack(1..));
        Some(id)
    }

    /// The client is being answered.
    pub(super) fn answer(&mut self, now: Instant, id: Id, blksize: u16, oack: bool) {
        if let Some(known) = self.all.get_mut(id.0) {
            (known.blksize, known.oack) = (blksize, oack);
            self.refresh(now, id);
        }
    }

    /// The transfer goes to the end of its queue of those that were never heard.
    pub(super) fn refresh(&mut self, now: Instant, id: Id) {
        let Some(known) = self.all.get_mut(id.0) else { return };
        self.places += 1;
        known.place = self.places;
        let queue = if known.blksize == 0 { &mut self.working } else { &mut self.waiting };
        queue.push_back(Place { id, number: self.places, since: now });
        if queue.len() > 2 * self.unheard + 64 {
            queue.retain(|place| self.all.get(place.id.0).is_some_and(|known| known.is_at(place)));
        }
    }

    /// The transfer to give way: of those whose clients have not answered the oldest, or one whose handler takes long.
    pub(super) fn oldest_unheard(&mut self, now: Instant) -> Option<Id> {
        for (queue, patience) in [(&mut self.waiting, Duration::ZERO), (&mut self.working, WORK)] {
            while let Some(place) = queue.front() {
                let waits = self.all.get(place.id.0).is_some_and(|known| known.is_at(place));
                if waits && now.saturating_duration_since(place.since) < patience {
                    break;
                }
                let id = place.id;
                queue.pop_front();
                if waits {
                    return Some(id);
                }
            }
        }
        None
    }

    /// Packets and requests are not its own any more.
    pub(super) fn close(&mut self, id: Id) -> Option<&Known> {
        let known = self.all.get_mut(id.0).filter(|known| !known.closed)?;
        known.closed = true;
        self.unheard -= usize::from(known.heard.is_none());
        remove(&mut self.by_key, &known.key, id);
        remove(&mut self.by_asked, &known.asked, id);
        Some(known)
    }

    pub(super) fn remove(&mut self, id: Id) {
        self.all.try_remove(id.0);
    }
}

impl Known {
    fn is_at(&self, place: &Place) -> bool {
        self.place == place.number && self.heard.is_none() && !self.closed
    }
}

/// Unless another one has taken its place.
fn remove<K: Hash + Eq>(map: &mut Map<K, Id>, key: &K, id: Id) {
    if map.get(key) == Some(&id) {
        map.remove(key);
    }
}
