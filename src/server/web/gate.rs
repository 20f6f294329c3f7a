//! The limits of a shard, for clients of HTTP.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use super::super::{Shared, settings::Terms};
use crate::{
    endpoint::{Admission, DropReason, Policy},
    stats::Tally,
};

pub(super) struct Gate {
    shared: Arc<Shared>,
    tally: Arc<Tally>,
    admission: RefCell<Admission>,
    /// The number of transfers for each client address.
    clients: RefCell<HashMap<IpAddr, usize>>,
    running: Cell<usize>,
    /// How many transfers the file descriptors allow.
    most: usize,
}

/// A transfer's permit under the limits, until this is dropped.
pub(super) struct Permit {
    gate: Rc<Gate>,
    client: IpAddr,
}

impl Gate {
    pub(super) fn new(shared: Arc<Shared>, most: usize) -> Rc<Self> {
        let admission = Admission::new(&shared.current.terms().settings.policy).into();
        let (tally, clients, running) = (shared.registry.tally(), RefCell::default(), Cell::new(0));
        Rc::new(Self { shared, tally, admission, clients, running, most })
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

    /// Admits a request, which may begin a transfer.
    pub(super) fn enter(self: &Rc<Self>, terms: &Terms, peer: SocketAddr) -> Result<Permit, DropReason> {
        self.tally.requests.add(1);
        let client = peer.ip().to_canonical();
        let allowed = self.check_limits(&terms.settings.policy, client);
        allowed.inspect_err(|dropped| self.note_unanswered(client, *dropped))?;
        *self.clients.borrow_mut().entry(client).or_default() += 1;
        self.running.set(self.running.get() + 1);
        Ok(Permit { gate: self.clone(), client })
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
        let transfers_per_client = Policy { max_transfers: most, ..policy.clone() }.transfers_per_client();
        if self.clients.borrow().get(&client).is_some_and(|count| *count >= transfers_per_client) {
            Err(DropReason::Client)
        } else if self.running.get() >= most {
            Err(DropReason::Full)
        } else {
            Ok(())
        }
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
        self.gate.running.set(self.gate.running.get() - 1);
        let mut clients = self.gate.clients.borrow_mut();
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}
