//! The files of the server over HTTP/1.1 (RFC 9110, RFC 9112): the same handler, limits, records and hooks.
//!
//! It runs on a thread of its own, beside those of the shards, and counts its transfers separately, as each shard does.

mod answer;
mod body;
mod client_wait;
mod conditions;
mod connection;
mod gate;
mod head;
mod kind;
mod path_locks;
#[cfg(target_os = "linux")]
mod placeholder;
mod put;
mod range;
mod response;
mod serve;
mod state;
mod transfer;
mod wire;

use std::{
    cell::Cell,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::{Shared, around::Around};
use crate::{error::Error, socket};
use gate::Gate;
use path_locks::PathLocks;

/// The bound addresses for HTTP clients, before they are served.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    listeners: Vec<TcpListener>,
    addrs: Vec<SocketAddr>,
}

/// The parts of the HTTP server that all its connections share.
struct Site {
    shared: Arc<Shared>,
    gate: Rc<Gate>,
    locks: PathLocks,
    /// Whether the running transfers are cut off.
    is_over: Cell<bool>,
}

impl Listeners {
    pub(super) fn bind(addresses: &[SocketAddr], interface: Option<&str>) -> Result<Self, Error> {
        let mut all = Self::default();
        for &address in addresses {
            let bound =
                socket::listen(address, interface, true).and_then(|listener| Ok((listener.local_addr()?, listener)));
            let (addr, listener) = bound.map_err(|error| Error::Bind(address, error))?;
            all.addrs.push(addr);
            all.listeners.push(listener);
        }
        Ok(all)
    }

    pub(super) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Serves on a thread of its own until the server stops, if there is an address to listen on.
    pub(super) fn open(self, shared: Arc<Shared>, around: Around) -> io::Result<Option<JoinHandle<Result<(), Error>>>> {
        if self.listeners.is_empty() {
            return Ok(None);
        }
        let work = move || around.run(|| serve::run(self.listeners, shared));
        thread::Builder::new().name("tuffet-http".into()).spawn(work).map(Some)
    }
}
