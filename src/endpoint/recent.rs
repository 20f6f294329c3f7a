//! The endpoint's memory of transfers that have ended.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Key, Map, RequestKey};

/// Long enough for the last packets of a transfer to arrive, and for a patient client to repeat its last packet.
const MEMORY: Duration = Duration::from_secs(90);
/// How many ended transfers the endpoint remembers. More than these within [`MEMORY`] displace the oldest.
const MOST: usize = 4096;

/// Transfers that ended a moment ago. Their late packets cause no ERROR. An upload whose last ACK was lost gets it
/// again. A late copy of their request does not replace the next transfer.
#[derive(Default)]
pub(super) struct Recent {
    ended: Map<Key, (Instant, Option<u16>)>,
    requests: Map<RequestKey, (Instant, u64)>,
    order: VecDeque<(Instant, Key, RequestKey)>,
    /// When an entry was last forgotten before its time.
    overflowed: Option<Instant>,
}

impl Recent {
    /// `request`: the hash of the request.
    pub(super) fn insert(
        &mut self,
        key: Key,
        request_key: RequestKey,
        request: u64,
        last_ack: Option<u16>,
        now: Instant,
    ) {
        while self.order.len() >= MOST || self.order.front().is_some_and(|(at, ..)| *at + MEMORY <= now) {
            let Some((at, key, request_key)) = self.order.pop_front() else { break };
            if at + MEMORY > now {
                self.overflowed = Some(now);
            }
            // The same port may have ended another transfer since then.
            if self.ended.get(&key).is_some_and(|(ended, _)| *ended == at) {
                self.ended.remove(&key);
            }
            if self.requests.get(&request_key).is_some_and(|(ended, _)| *ended == at) {
                self.requests.remove(&request_key);
            }
        }
        self.order.push_back((now, key, request_key));
        self.ended.insert(key, (now, last_ack));
        self.requests.insert(request_key, (now, request));
    }

    pub(super) fn ended_at(&self, key: &Key) -> Option<Instant> {
        self.ended.get(key).map(|(at, _)| *at)
    }

    /// When the transfer of this request ended, if it was the last one of its port and sender.
    pub(super) fn request_ended_at(&self, request_key: &RequestKey, request: u64) -> Option<Instant> {
        self.requests.get(request_key).filter(|(_, ended)| *ended == request).map(|(at, _)| *at)
    }

    /// Whether a peer without an entry may still have ended a transfer lately.
    pub(super) fn may_have_forgotten(&self, now: Instant) -> bool {
        self.overflowed.is_some_and(|at| at + MEMORY > now)
    }

    /// The entry of an ended transfer, with the last ACK if it was a complete upload.
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
        let request_key = |n: usize| (n, "10.0.0.1:1".parse().unwrap(), None);
        let mut insert = |n, last_ack, now| recent.insert(key(n), request_key(n), n as u64, last_ack, now);
        for n in 0..2 * MOST {
            insert(n, None, start);
        }
        insert(1, Some(7), start);
        assert_eq!((recent.ended.len(), recent.requests.len(), recent.order.len()), (MOST, MOST, MOST));
        assert!(recent.may_have_forgotten(start) && !recent.may_have_forgotten(start + MEMORY));
        assert_eq!(recent.find(&key(1), start), Some(Some(7)));
        assert_eq!(recent.find(&key(1), start + MEMORY), None);
        assert_eq!(
            (recent.request_ended_at(&request_key(1), 1), recent.request_ended_at(&request_key(1), 2)),
            (Some(start), None)
        );
        recent.insert(key(2), request_key(2), 2, None, start + MEMORY);
        assert_eq!((recent.ended.len(), recent.requests.len()), (1, 1));
    }
}
