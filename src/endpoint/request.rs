//! Decides which request begins a transfer.

use std::{
    hash::BuildHasher,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Action, CloseReason, DropReason, Endpoint, Envelope, Id, Policy, Start, admission, transfers::TransferEntry,
};
use crate::{
    options::{AskedOptions, Direction, Limits, OptionName},
    packet::{self, Options},
};

/// The longest file name, in bytes. Longer ones get ERROR 4. No client sends more than 255.
pub const LONGEST_NAME: usize = 1024;
/// The longest request whose options are all kept, in bytes (RFC 2347). No client was seen to send more than 110.
const LONGEST_REQUEST: usize = 512;
/// How many bytes of option names and values are kept of a longer request: once for the options that the server
/// understands and once for the others.
const LONGEST_OPTIONS: usize = 512;
/// A client whose packet came a moment ago was not reset: its request is an old one. A client that was reset asks
/// again.
const QUIET: Duration = Duration::from_secs(1);

impl Endpoint {
    /// `len`: the length of the datagram.
    pub(super) fn request(
        &mut self,
        now: Instant,
        pool: usize,
        envelope: &Envelope,
        direction: Direction,
        mut request: Box<packet::Request>,
        len: usize,
    ) -> Action {
        if request.filename.len() > LONGEST_NAME {
            self.counts.malformed += 1;
            return self.refuse_bad_request(now, envelope);
        }
        if len > LONGEST_REQUEST {
            request.options = shortened(&request.options);
        }
        self.counts.requests += 1;
        if let Err(dropped) = self.check_sender(now, envelope) {
            return self.leave_unanswered(dropped);
        }
        let request_key = (self.pools[pool].listener, envelope.peer, envelope.local);
        let hash = self.hasher.hash_one((direction, &*request));
        if let Some(earlier) = self.transfers.find_request(&request_key) {
            if self.is_repeated(now, pool, earlier, direction, &request) {
                self.counts.repeated += 1;
                return Action::Repeat(earlier);
            }
            // This is a late copy of the request before the one that the server answers.
            let ended = self.recent.request_ended_at(&request_key, hash);
            if ended.is_some_and(|at| self.may_be_older(now, pool, at)) {
                self.counts.repeated += 1;
                return Action::Drop(DropReason::Late);
            }
            self.close(now, earlier, CloseReason::Replaced);
        }
        match self.admit_transfer(now, envelope.peer.ip()) {
            Ok(()) => Action::Begin(self.start(now, pool, envelope, direction, request.into(), hash).into()),
            Err(dropped) => self.leave_unanswered(dropped),
        }
    }

    fn leave_unanswered(&mut self, dropped: DropReason) -> Action {
        match dropped {
            DropReason::Source | DropReason::Stopping | DropReason::Denied => self.counts.unanswered += 1,
            _ => self.counts.over_limit += 1,
        }
        Action::LeaveUnanswered(dropped)
    }

    fn check_sender(&mut self, now: Instant, envelope: &Envelope) -> Result<(), DropReason> {
        if !admission::is_client(envelope.peer, envelope.local, &self.own) {
            return Err(DropReason::Source);
        }
        if !self.policy.admit(envelope.peer.ip()) {
            return Err(DropReason::Denied);
        }
        self.admission.request(envelope.peer.ip(), now)
    }

    /// Whether this is a copy of the request that the transfer answers.
    fn is_repeated(
        &mut self,
        now: Instant,
        pool: usize,
        earlier: Id,
        direction: Direction,
        request: &packet::Request,
    ) -> bool {
        let Some(entry) = self.transfers.get(earlier) else { return false };
        if entry.direction != direction || *entry.request != *request {
            return false;
        }
        match entry.last_packet_at {
            // A client that repeats its request is there. It keeps its place longer than a silent one.
            None => {
                self.transfers.refresh(now, earlier);
                true
            }
            // The client sent this copy before its first ACK, and the copy waited longer in the queue of its socket.
            Some(at) => self.may_be_older(now, pool, at),
        }
    }

    /// Whether a request may have been sent before the packet of its client that was handled at this time: it waited in
    /// the listener's queue, which was not empty since then, or the network delivered it late.
    fn may_be_older(&self, now: Instant, pool: usize, packet_at: Instant) -> bool {
        self.emptied[pool].is_none_or(|emptied| emptied <= packet_at)
            || now.saturating_duration_since(packet_at) < QUIET
    }

    fn admit_transfer(&mut self, now: Instant, client: IpAddr) -> Result<(), DropReason> {
        let Policy { max_transfers, max_half_open, .. } = self.policy;
        if self.stopping {
            Err(DropReason::Stopping)
        } else if self.clients.running(client) >= self.policy.transfers_per_client() {
            Err(DropReason::Client)
        } else {
            let has_room = (self.transfers.half_open() < max_half_open
                || self.evict(now, |transfers| transfers.oldest_half_open(now, Duration::ZERO)))
                && (self.transfers.open() < max_transfers || self.evict(now, |transfers| transfers.victim(now)));
            has_room.then_some(()).ok_or(DropReason::Full)
        }
    }

    fn start(
        &mut self,
        now: Instant,
        pool: usize,
        envelope: &Envelope,
        direction: Direction,
        request: Arc<packet::Request>,
        hash: u64,
    ) -> Start {
        let (peer, pool) = (envelope.peer, &self.pools[pool]);
        let live = self.tids.live(pool);
        let most = self.policy.blksize.unwrap_or_else(|| (self.mtu)(envelope.interface, &peer));
        let blksize = self.clients.blksize(now, peer.ip(), &self.transfers).map_or(most, |smaller| smaller.min(most));
        let limits = Limits { blksize, windowsize: self.policy.windowsize.unwrap_or(u16::MAX), ..Limits::default() };
        let asked_options = AskedOptions::of(&request.options);
        let agreed = asked_options.agree(direction, request.mode, &limits, None);
        let windowsize = match (self.policy.windowsize, direction) {
            (Some(most), _) => most,
            (None, Direction::Read) => live.windowsize(&peer, agreed.blksize()).min(Limits::default().windowsize),
            (None, Direction::Write) => Limits::default().windowsize,
        };
        let ports = match direction {
            Direction::Read => live.of(&peer, agreed.blksize(), agreed.windowsize().min(windowsize)),
            // A forger that sets two servers against each other could make one of them write any bytes.
            Direction::Write => live.all(),
        };
        let port = self.tids.draw(now, ports, peer, |port| match (port, peer) {
            key if self.transfers.find(&key).is_some() => Some(now),
            key => self.recent.ended_at(&key),
        });
        let (listener, amplification) = (pool.listener, live.amplification(ports.len()));
        let (key, request_key) = ((port, peer), (listener, peer, envelope.local));
        // The same client has sent a request to another address of this server, and drew the same port.
        if let Some(other) = self.transfers.find(&key) {
            self.close(now, other, CloseReason::Replaced);
        }
        let id = self
            .transfers
            .insert(now, TransferEntry::new(key, request_key, direction, request.clone(), hash, envelope.broadcast));
        self.clients.began(peer.ip(), id);
        Start {
            id,
            port,
            listener,
            envelope: *envelope,
            direction,
            request,
            asked: asked_options,
            blksize,
            windowsize,
            amplification,
            round_trip: self.clients.round_trip(now, peer.ip()),
            began: now,
        }
    }
}

/// Shortens the options of a request that is longer than any client's. Options that the server understands have room
/// of their own. Each option is kept only once.
fn shortened(options: &Options) -> Options {
    let (mut kept, mut room) = (Options::new(), [LONGEST_OPTIONS; 2]);
    for (name, value) in options.iter() {
        let is_understood = OptionName::of(name).is_some();
        let room = &mut room[usize::from(is_understood)];
        match room.checked_sub(name.len() + value.len()) {
            Some(left) if kept.iter().all(|pair| pair != (name, value)) => {
                *room = left;
                kept.push(name, value);
            }
            _ => {}
        }
    }
    kept
}
