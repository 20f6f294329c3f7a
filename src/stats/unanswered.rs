//! Clients whose requests were not answered. They have no transfer and no record.

use std::{collections::VecDeque, net::IpAddr, time::Instant};

use crate::sync::Mutex;

/// How many addresses are remembered.
const MOST: usize = 32;

/// A client whose request was not answered: because of a limit, because the server does not admit the client, or
/// because the server is stopping. See [`ServerHandle::unanswered`](crate::ServerHandle::unanswered).
///
/// Serialized (feature `serde`): `{"client": "10.0.0.7", "reason": "too many transfers", "requests": 3, "last": 0.5}`,
/// where `last` is in seconds ago.
///
/// ```
/// # #[cfg(feature = "sim")] {
/// use tuffet::{ServerBuilder, sim};
///
/// let mut server = sim::Server::new(ServerBuilder::default().admit(|client| client.is_ipv6()), 7);
/// server.deliver(([192, 0, 2, 7], 1069).into(), server.addr(), b"\0\x01menu\0octet\0");
/// let unanswered = server.handle().unanswered();
/// assert_eq!((unanswered[0].reason, unanswered[0].requests), ("the client is not admitted", 1));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unanswered {
    /// The client's address. It may be forged.
    pub client: IpAddr,
    /// Why its last request was not answered.
    pub reason: &'static str,
    /// How many of its requests were not answered.
    pub requests: u64,
    /// When its last request arrived.
    pub last: Instant,
}

/// The last clients without an answer. When thousands are turned away, there is neither room nor time for each.
#[derive(Debug, Default)]
pub(crate) struct UnansweredClients(Mutex<VecDeque<Unanswered>>);

impl UnansweredClients {
    /// Never waits: while another shard holds the lock, the client is left out.
    pub(super) fn insert(&self, client: IpAddr, reason: &'static str, now: Instant) {
        let Some(mut all) = self.0.try_lock() else { return };
        let client = client.to_canonical();
        let known = all.iter().position(|found| found.client == client).and_then(|at| all.remove(at));
        if all.len() == MOST {
            all.pop_front();
        }
        let requests = known.map_or(0, |known| known.requests) + 1;
        all.push_back(Unanswered { client, reason, requests, last: now });
    }

    /// All clients, the last one first.
    pub(super) fn all(&self) -> Vec<Unanswered> {
        self.0.lock().iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_are_remembered() {
        let (unanswered_clients, start) = (UnansweredClients::default(), Instant::now());
        for n in 0..100_u32 {
            unanswered_clients.insert(n.to_be_bytes().into(), "a", start + Duration::from_secs(n.into()));
        }
        unanswered_clients.insert(70_u32.to_be_bytes().into(), "b", start + Duration::from_secs(1000));
        let all = unanswered_clients.all();
        assert_eq!(all.len(), MOST);
        assert_eq!((all[0].client, all[0].reason, all[0].requests), (70_u32.to_be_bytes().into(), "b", 2));
        assert_eq!(all[1].client, IpAddr::from(99_u32.to_be_bytes()));
        for n in 0..MOST as u32 - 1 {
            unanswered_clients.insert(n.to_be_bytes().into(), "c", start + Duration::from_secs(2000));
        }
        let last = unanswered_clients.all().pop().unwrap();
        assert_eq!((last.client, last.requests), (70_u32.to_be_bytes().into(), 2), "who comes again counts as new");
    }
}
