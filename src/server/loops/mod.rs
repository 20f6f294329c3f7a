//! The loops of a shard: they own its sockets and the clock. A third loop is that of the simulator.

#[cfg(target_os = "linux")]
mod epoll;
mod portable;

use std::{rc::Rc, sync::Arc};

use super::{
    Shared, clock,
    listen::{self, Listener, Ports},
    session::receive,
    settings::FixedSettings,
    shard::Shard,
    tasks::Tasks,
};
#[cfg(target_os = "linux")]
use crate::socket::epoll::Reactor;
use crate::{
    endpoint::Pool,
    error::Error,
    socket::{Inbox, Port, mtu::Mtus},
};

/// Serves on this thread until the server is stopped.
pub(super) fn run(ports: Ports, shared: Arc<Shared>) -> Result<(), Error> {
    let Ports { mut ports, listeners } = ports;
    let pools = listeners.into_iter().map(|Listener { port, pool }| Pool { listener: port, ports: pool }).collect();
    let fixed = shared.fixed.clone();
    let tasks = Rc::new(Tasks::default());
    let locals = ports.iter().map(Port::local).collect();
    let shard = Shard::new(shared, &tasks, locals, pools, secret(), Box::new(clock::System));
    let mut mtus = Mtus::default();
    shard.set_mtu(move |interface, peer| mtus.blksize(interface, peer));
    #[cfg(target_os = "linux")]
    if fixed.batched {
        match Reactor::new(&ports) {
            Ok(reactor) => return epoll::run(&shard, &tasks, &mut ports, reactor, &fixed),
            Err(error) => log::debug!("epoll is not available, so smol's reactor waits: {error}"),
        }
    }
    portable::run(&shard, &tasks, &mut ports, &fixed)
}

/// Binds a new port in the place of a worn-out one, if there is one. Returns its number.
fn replace_stale_port(shard: &Shard, ports: &mut [Port], fixed: &FixedSettings) -> Option<usize> {
    let number = shard.stale_port()?;
    match listen::bind_another(&ports[number], fixed) {
        Ok(port) => {
            // Closing the old socket loses its count of dropped datagrams.
            shard.shared.registry.dropped();
            shard.shared.registry.bound(port.drops());
            log::debug!("port {} takes the place of {}", port.local(), ports[number].local());
            shard.port_replaced(number, port.local());
            ports[number] = port;
            Some(number)
        }
        Err(error) => {
            log::debug!("port {} stays: {error}", ports[number].local());
            None
        }
    }
}

/// A random number: the system seeds the hashers of the standard library.
fn secret() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let half = || u128::from(RandomState::new().hash_one(0_u8));
    half() << 64 | half()
}

/// Hands the datagrams that a port has received to the shard.
fn deliver(shard: &Rc<Shard>, tasks: &Rc<Tasks>, port: usize, inbox: &Inbox) {
    shard.received(inbox.len());
    for (envelope, datagram) in inbox.datagrams() {
        receive(shard, tasks, port, &envelope, datagram);
    }
    for peer in inbox.closed_ports() {
        shard.unreachable(port, *peer);
    }
}
