//! All transfers of an endpoint, with the maps and queues that find one.

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
    /// Transfers that are not closed and whose clients have sent nothing but their requests.
    unheard: usize,
    /// The transfers that the server has yet to answer, oldest first, and some stale places of others.
    working: VecDeque<Place>,
    /// As `working`, for the transfers that the client has yet to answer.
    waiting: VecDeque<Place>,
    /// The number of the last place in a queue. Each place has a number of its own.
    places: u64,
}

struct Place {
    id: Id,
    number: u64,
    since: Instant,
}

/// How long a transfer may wait for its handler before it gives way to others. A repeated request starts the time
/// again. U-Boot waits for 10 s.
const WORK: Duration = Duration::from_secs(10);

/// The endpoint's record of a transfer.
pub(super) struct Known {
    pub(super) key: Key,
    pub(super) asked: Asked,
    pub(super) direction: Direction,
    pub(super) request: Arc<packet::Request>,
    /// The hash of the request.
    pub(super) hash: u64,
    pub(super) broadcast: bool,
    /// The blksize that the server granted; 0 before.
    pub(super) blksize: u16,
    /// Whether the server answered with an OACK.
    oack: bool,
    /// How often the first block went out.
    pub(super) first_blocks: u8,
    /// When the client last sent a packet to the transfer.
    pub(super) heard: Option<Instant>,
    /// Whether the client has sent DATA or acknowledged a block.
    pub(super) moved: bool,
    /// Whether the endpoint has closed the transfer.
    pub(super) closed: bool,
    /// Its place in the queue of the transfers whose clients have sent nothing but their requests.
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

    /// Whether a server sends this packet. No client sends an OACK, nor ACK 0 if it got no OACK: the server of a WRQ
    /// does.
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
    /// The number of transfers that have not ended.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The number of transfers that are not closed.
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

    /// Notes that a packet has come for a transfer.
    pub(super) fn hear(&mut self, key: &Key, now: Instant, packet: &Packet) -> Option<Id> {
        let id = *self.by_key.get(key)?;
        let known = self.all.get_mut(id.0)?;
        self.unheard -= usize::from(known.heard.is_none());
        known.heard = Some(now);
        known.moved |= matches!(packet, Packet::Data { .. } | Packet::Ack(1..));
        Some(id)
    }

    /// Notes that the server answers the client.
    pub(super) fn answer(&mut self, now: Instant, id: Id, blksize: u16, oack: bool) {
        if let Some(known) = self.all.get_mut(id.0) {
            (known.blksize, known.oack) = (blksize, oack);
            self.refresh(now, id);
        }
    }

    /// Moves the transfer to the end of its queue.
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

    /// The transfer that gives way. It is the oldest whose client has not answered, or else one whose handler takes
    /// long.
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

    /// Takes packets and requests away from this transfer.
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

/// Removes the entry, unless it belongs to another transfer by now.
fn remove<K: Hash + Eq>(map: &mut Map<K, Id>, key: &K, id: Id) {
    if map.get(key) == Some(&id) {
        map.remove(key);
    }
}
