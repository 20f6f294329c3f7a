//! Answers to a peer that has no transfer.

use std::{net::SocketAddr, time::Instant};

use super::{Action, DropReason, Endpoint, Envelope, Key, Pool, admission};
use crate::{error::Refusal, packet::Packet};

impl Endpoint {
    /// Answers a packet that belongs to no transfer (RFC 1350 section 4), or to one that has just ended.
    pub(super) fn answer_unknown_tid(
        &mut self,
        now: Instant,
        key: Key,
        envelope: &Envelope,
        packet: &Packet,
    ) -> Action {
        match (self.recent.find(&key, now), packet) {
            (Some(Some(last_ack)), Packet::Data { block, .. }) if *block == last_ack => {
                return Action::Reply(Packet::Ack(last_ack));
            }
            (Some(_), _) => return Action::Drop(DropReason::Late),
            (None, _) => self.counts.unknown_tids += 1,
        }
        let is_block = matches!(packet, Packet::Data { .. } | Packet::Ack(_));
        let pool = self.pools.iter().find(|pool| pool.ports.contains(&key.0));
        // In a storm the memory is too small to tell an unknown client from one whose last ACK comes late. A client
        // with a transfer on another port may have copies of an earlier transfer's packets on the way.
        match pool.filter(|_| is_block && !self.recent.may_have_forgotten(now)) {
            Some(pool) if !self.is_known(now, pool, key.1) => {
                self.answer_with_error(now, envelope, &Refusal::unknown_tid(), DropReason::UnknownTid)
            }
            _ => Action::Drop(DropReason::UnknownTid),
        }
    }

    /// Whether this peer has a transfer, or had one a moment ago.
    fn is_known(&self, now: Instant, pool: &Pool, peer: SocketAddr) -> bool {
        let has = |port: &usize| {
            let key = (*port, peer);
            self.transfers.find(&key).is_some() || self.recent.find(&key, now).is_some()
        };
        pool.ports.iter().any(has)
    }

    pub(super) fn refuse_bad_request(&mut self, now: Instant, envelope: &Envelope) -> Action {
        self.answer_with_error(now, envelope, &Refusal::bad_request(), DropReason::Malformed)
    }

    pub(super) fn answer_with_error(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        refusal: &Refusal,
        silently: DropReason,
    ) -> Action {
        let allowed = if !admission::is_client(envelope.peer, envelope.local, &self.own) {
            Err(DropReason::Source)
        } else if envelope.broadcast {
            Err(DropReason::Broadcast)
        } else if !self.policy.admit(envelope.peer.ip()) {
            Err(DropReason::Denied)
        } else {
            self.admission.stray_error(now)
        };
        match (allowed, refusal.packet()) {
            (Ok(()), Some(error)) => Action::Reply(error),
            (Ok(()), None) => Action::Drop(silently),
            (Err(dropped), _) => Action::Drop(dropped),
        }
    }
}
