//! The limits of a shard, for clients of HTTP.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    super::{Shared, settings::Terms},
    client_wait::ClientWait,
};
use crate::{
    endpoint::{Admission, DropReason, Policy},
    stats::Tally,
};

/// A client that has kept the server waiting for this long may be evicted. A client that reads slowly is seen to read
/// only when a third of the socket's buffer has become free.
const SILENCE: Duration = Duration::from_secs(5);

pub(super) struct Gate {
    shared: Arc<Shared>,
    tally: Arc<Tally>,
    admission: RefCell<Admission>,
    /// The running transfers by number, in the order in which they came.
    running: RefCell<BTreeMap<u64, Running>>,
    begun: Cell<u64>,
    /// How many transfers the file descriptors allow.
    most: usize,
}

struct Running {
    client: IpAddr,
    wait: Weak<ClientWait>,
}

/// A transfer's permit under the limits, until this is dropped.
pub(super) struct Permit {
    gate: Rc<Gate>,
    number: u64,
}

impl Gate {
    pub(super) fn new(shared: Arc<Shared>, most: usize) -> Rc<Self> {
        let admission = Admission::new(&shared.current.terms().settings.policy).into();
        let (tally, running) = (shared.registry.tally(), RefCell::default());
        Rc::new(Self { shared, tally, admission, running, begun: Cell::default(), most })
    }

    /// Whether this client may connect.
    pub(super) fn admits(&self, peer: SocketAddr) -> bool {
        let client = peer.ip().to_canonical();
        let admits = self.shared.current.terms().settings.policy.admit(client);
        if !admits {
            self.tally.requests.add(1);
            self.note_unanswered(client, DropReason::Denied);
        }
        admits
    }

    /// Admits a request, which may begin a transfer. `wait` is that of its connection.
    pub(super) fn enter(
        self: &Rc<Self>,
        terms: &Terms,
        peer: SocketAddr,
        wait: &Rc<ClientWait>,
    ) -> Result<Permit, DropReason> {
        self.tally.requests.add(1);
        let client = peer.ip().to_canonical();
        let allowed = self.check_limits(&terms.settings.policy, client);
        allowed.inspect_err(|dropped| self.note_unanswered(client, *dropped))?;
        let number = self.begun.get();
        self.begun.set(number + 1);
        self.running.borrow_mut().insert(number, Running { client, wait: Rc::downgrade(wait) });
        Ok(Permit { gate: self.clone(), number })
    }

    /// Notes a malformed request, or bytes that are no request.
    pub(super) fn note_malformed(&self) {
        self.tally.malformed.add(1);
    }

    fn check_limits(&self, policy: &Policy, client: IpAddr) -> Result<(), DropReason> {
        // A reload may have changed the policy since the client connected.
        if !policy.admit(client) {
            return Err(DropReason::Denied);
        }
        let mut admission = self.admission.borrow_mut();
        admission.set_policy(policy);
        admission.request(client, Instant::now())?;
        let most = policy.max_transfers.min(self.most);
        let most_of_client = Policy { max_transfers: most, ..policy.clone() }.transfers_per_client();
        let running = self.running.borrow().len();
        if running >= most_of_client && self.transfers_of(client) >= most_of_client {
            Err(DropReason::Client)
        } else if running >= most && !self.evict() {
            Err(DropReason::Full)
        } else {
            Ok(())
        }
    }

    fn transfers_of(&self, client: IpAddr) -> usize {
        self.running.borrow().values().filter(|transfer| transfer.client == client).count()
    }

    /// Evicts the transfer whose client has kept the server waiting for longest. Returns whether there is one.
    fn evict(&self) -> bool {
        let longest = {
            let running = self.running.borrow();
            let waited_for = running.iter().filter_map(|(number, transfer)| {
                let wait = transfer.wait.upgrade()?;
                Some((wait.since()?, *number, wait))
            });
            waited_for.min_by_key(|(since, ..)| *since)
        };
        let Some((_, number, wait)) = longest.filter(|(since, ..)| since.elapsed() >= SILENCE) else {
            return false;
        };
        self.running.borrow_mut().remove(&number);
        wait.evict();
        true
    }

    fn note_unanswered(&self, client: IpAddr, dropped: DropReason) {
        log::debug!("{client}: no transfer over HTTP: {dropped}");
        let counted = if dropped == DropReason::Denied { &self.tally.unanswered } else { &self.tally.over_limit };
        counted.add(1);
        self.shared.registry.note_unanswered(client, dropped.reason(), Instant::now());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The entry of an evicted transfer is removed already.
        self.gate.running.borrow_mut().remove(&self.number);
    }
}
