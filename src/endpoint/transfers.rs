//! All transfers of an endpoint, with the maps and queues that find one.

use std::{
    collections::VecDeque,
    hash::Hash,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use slab::Slab;

use super::{Id, Key, Map, RequestKey};
use crate::{
    options::Direction,
    packet::{self, Packet},
};

#[derive(Default)]
pub(super) struct Transfers {
    all: Slab<TransferEntry>,
    by_key: Map<Key, Id>,
    by_request: Map<RequestKey, Id>,
    /// Transfers that are not closed and whose clients have sent nothing but their requests.
    half_open: usize,
    /// The transfers that the server has yet to answer, oldest first, and some stale tickets of others.
    awaiting_server: VecDeque<Ticket>,
    /// As `awaiting_server`, for the transfers that the client has yet to answer.
    awaiting_client: VecDeque<Ticket>,
    /// As `awaiting_server`, for the transfers that the client has answered.
    answered: VecDeque<Ticket>,
    /// The number of the last ticket in a queue. Each ticket has a number of its own.
    tickets: u64,
}

struct Ticket {
    id: Id,
    number: u64,
    since: Instant,
}

/// How long a transfer may wait for its handler before it may be evicted. A repeated request starts the time again.
/// U-Boot waits for 10 s.
const HANDLER_TIME: Duration = Duration::from_secs(10);
/// A client that has sent fewer packets than this may be a forged address: the forger must send each packet to all
/// ports.
const FEW_PACKETS: u8 = 16;
/// How long a client that has sent few packets may be silent before its transfer may be evicted.
const SILENCE_AT_FIRST: Duration = Duration::from_secs(1);
/// The same for any other client. GRUB is silent for seconds in the middle of a file.
const SILENCE: Duration = Duration::from_secs(10);
/// How many transfers are looked at, to find one to evict.
const LOOKS: usize = 16;

/// The endpoint's record of a transfer.
pub(super) struct TransferEntry {
    pub(super) key: Key,
    pub(super) request_key: RequestKey,
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
    pub(super) last_packet_at: Option<Instant>,
    /// How many packets the client has sent to the transfer, up to [`FEW_PACKETS`].
    packets: u8,
    /// Whether the client has sent DATA or acknowledged a block.
    pub(super) in_data_phase: bool,
    /// Whether the endpoint has closed the transfer.
    pub(super) closed: bool,
    /// Its ticket in one of the queues.
    ticket: u64,
}

impl TransferEntry {
    pub(super) fn new(
        key: Key,
        request_key: RequestKey,
        direction: Direction,
        request: Arc<packet::Request>,
        hash: u64,
        broadcast: bool,
    ) -> Self {
        Self {
            key,
            request_key,
            direction,
            request,
            hash,
            broadcast,
            blksize: 0,
            oack: false,
            first_blocks: 0,
            last_packet_at: None,
            packets: 0,
            in_data_phase: false,
            closed: false,
            ticket: 0,
        }
    }

    /// Whether a server sends this packet. No client sends an OACK, nor ACK 0 if it got no OACK: the server of a WRQ
    /// does.
    pub(super) fn is_answered_by_a_server(&self, packet: &Packet) -> bool {
        match packet {
            Packet::Oack(_) => true,
            Packet::Ack(0) => {
                self.direction == Direction::Read && self.blksize > 0 && !self.oack && !self.in_data_phase
            }
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
    pub(super) fn open(&self) -> usize {
        self.by_key.len()
    }

    #[cfg(test)]
    pub(super) fn tickets(&self) -> usize {
        self.awaiting_server.len() + self.awaiting_client.len() + self.answered.len()
    }

    pub(super) fn half_open(&self) -> usize {
        self.half_open
    }

    pub(super) fn get(&self, id: Id) -> Option<&TransferEntry> {
        self.all.get(id.0)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut TransferEntry> {
        self.all.get_mut(id.0)
    }

    pub(super) fn find(&self, key: &Key) -> Option<Id> {
        self.by_key.get(key).copied()
    }

    pub(super) fn find_request(&self, request_key: &RequestKey) -> Option<Id> {
        self.by_request.get(request_key).copied()
    }

    pub(super) fn insert(&mut self, now: Instant, entry: TransferEntry) -> Id {
        let (key, request_key) = (entry.key, entry.request_key);
        let id = Id(self.all.insert(entry));
        self.by_key.insert(key, id);
        self.by_request.insert(request_key, id);
        self.half_open += 1;
        self.refresh(now, id);
        id
    }

    /// Notes that a packet has come for a transfer.
    pub(super) fn note_packet(&mut self, key: &Key, now: Instant, packet: &Packet) -> Option<Id> {
        let id = *self.by_key.get(key)?;
        let entry = self.all.get_mut(id.0)?;
        let is_first = entry.last_packet_at.replace(now).is_none();
        entry.packets = entry.packets.saturating_add(1).min(FEW_PACKETS);
        entry.in_data_phase |= matches!(packet, Packet::Data { .. } | Packet::Ack(1..));
        if is_first {
            self.half_open -= 1;
            self.refresh(now, id);
        }
        Some(id)
    }

    /// Notes that the server answers the client.
    pub(super) fn answer(&mut self, now: Instant, id: Id, blksize: u16, oack: bool) {
        if let Some(entry) = self.all.get_mut(id.0) {
            (entry.blksize, entry.oack) = (blksize, oack);
            self.refresh(now, id);
        }
    }

    /// Moves the transfer to the end of its queue.
    pub(super) fn refresh(&mut self, now: Instant, id: Id) {
        let Some(entry) = self.all.get_mut(id.0) else { return };
        self.tickets += 1;
        entry.ticket = self.tickets;
        let (queue, used) = match (entry.last_packet_at, entry.blksize) {
            (Some(_), _) => (&mut self.answered, self.by_key.len().saturating_sub(self.half_open)),
            (None, 0) => (&mut self.awaiting_server, self.half_open),
            (None, _) => (&mut self.awaiting_client, self.half_open),
        };
        queue.push_back(Ticket { id, number: self.tickets, since: now });
        if queue.len() > 2 * used + 64 {
            queue.retain(|ticket| self.all.get(ticket.id.0).is_some_and(|entry| entry.is_at(ticket)));
        }
    }

    /// A transfer to evict. A new client needs some milliseconds for its first answer, so all others that are silent go
    /// first.
    pub(super) fn victim(&mut self, now: Instant) -> Option<Id> {
        self.silent(now).or_else(|| self.oldest_half_open(now, Duration::ZERO))
    }

    /// A transfer to evict because its client is silent.
    pub(super) fn silent(&mut self, now: Instant) -> Option<Id> {
        self.oldest_half_open(now, SILENCE_AT_FIRST).or_else(|| self.answered_and_silent(now))
    }

    /// The half-open transfer to evict. It is the oldest whose client has not answered for this time, or else one
    /// whose handler takes long.
    pub(super) fn oldest_half_open(&mut self, now: Instant, patience: Duration) -> Option<Id> {
        for (queue, patience) in
            [(&mut self.awaiting_client, patience), (&mut self.awaiting_server, patience.max(HANDLER_TIME))]
        {
            while let Some(ticket) = queue.front() {
                let waits = self.all.get(ticket.id.0).is_some_and(|entry| entry.is_at(ticket));
                if waits && now.saturating_duration_since(ticket.since) < patience {
                    break;
                }
                let id = ticket.id;
                queue.pop_front();
                if waits {
                    return Some(id);
                }
            }
        }
        None
    }

    /// A transfer to evict because its client has answered, and is silent now.
    fn answered_and_silent(&mut self, now: Instant) -> Option<Id> {
        for _ in 0..LOOKS {
            let ticket = self.answered.pop_front()?;
            let Some(entry) = self.all.get(ticket.id.0).filter(|entry| entry.is_at(&ticket)) else { continue };
            if entry.is_silent(now) {
                return Some(ticket.id);
            }
            self.answered.push_back(ticket);
        }
        None
    }

    /// Takes packets and requests away from this transfer.
    pub(super) fn close(&mut self, id: Id) -> Option<&TransferEntry> {
        let entry = self.all.get_mut(id.0).filter(|entry| !entry.closed)?;
        entry.closed = true;
        self.half_open -= usize::from(entry.last_packet_at.is_none());
        remove(&mut self.by_key, &entry.key, id);
        remove(&mut self.by_request, &entry.request_key, id);
        Some(entry)
    }

    pub(super) fn remove(&mut self, id: Id) {
        self.all.try_remove(id.0);
    }
}

impl TransferEntry {
    fn is_at(&self, ticket: &Ticket) -> bool {
        self.ticket == ticket.number && !self.closed
    }

    fn is_silent(&self, now: Instant) -> bool {
        let silence = self.last_packet_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        silence >= if self.packets < FEW_PACKETS { SILENCE_AT_FIRST } else { SILENCE }
    }
}

/// Removes the entry, unless it belongs to another transfer by now.
fn remove<K: Hash + Eq>(map: &mut Map<K, Id>, key: &K, id: Id) {
    if map.get(key) == Some(&id) {
        map.remove(key);
    }
}
