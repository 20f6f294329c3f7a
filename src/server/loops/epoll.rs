//! The loop of a shard on Linux, on an epoll of its own.
//!
//! With one client it makes three system calls a block: wait, receive, send. With many clients, the tasks of all
//! transfers that a batch woke run before anything is sent. Work in other threads (smol's reactor, a pool that reads
//! files, a download) wakes its task, which rings the bell.

use std::{io::ErrorKind, rc::Rc};

use super::{
    super::{settings::FixedSettings, shard::Shard, tasks::Tasks},
    deliver, replace_stale_port,
};
use crate::{
    error::Error,
    socket::{
        Inbox, Port,
        epoll::{Reactor, Ready},
    },
};

/// Batches that are received from one port before the transfers run.
const BATCHES: usize = 4;

pub(super) fn run(
    shard: &Rc<Shard>,
    tasks: &Rc<Tasks>,
    ports: &mut [Port],
    mut reactor: Reactor,
    fixed: &FixedSettings,
) -> Result<(), Error> {
    shard.shared.register_waker(&reactor.waker());
    tasks.set_waker(reactor.waker());
    let (mut inbox, mut ready) = (Inbox::new(), Vec::new());
    loop {
        if reactor.was_rung() {
            tasks.run();
        }
        flush(shard, ports, &reactor)?;
        if shard.end_turn(tasks, || drop(flush(shard, ports, &reactor))) {
            return Ok(());
        }
        ready.clear();
        ready.extend(reactor.wait(shard.deadline())?);
        // The listeners come first in the list and are read last: a client may end one transfer and begin the next
        // within one batch, and it sent its last ACK before its request.
        ready.sort_unstable_by(|a, b| b.cmp(a));
        shard.read_clock();
        shard.emptied(|port| !ready.iter().any(|ready| ready.port == port && ready.readable));
        for Ready { port, readable, writable, failed } in ready.drain(..) {
            if writable {
                reactor.watch_writable(ports, port, false)?;
                shard.outboxes.unblock(port);
            }
            if readable {
                receive(shard, tasks, ports, (port, failed), &mut inbox)?;
            }
        }
        shard.expire();
        if let Some(port) = replace_stale_port(shard, ports, fixed) {
            reactor.watch(ports, port)?;
        }
    }
}

fn receive(
    shard: &Rc<Shard>,
    tasks: &Rc<Tasks>,
    ports: &[Port],
    (port, mut failed): (usize, bool),
    inbox: &mut Inbox,
) -> Result<(), Error> {
    for _ in 0..BATCHES {
        match ports[port].receive(inbox, std::mem::take(&mut failed)) {
            Ok(()) => deliver(shard, tasks, port, inbox),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
        if !inbox.is_full() {
            shard.emptied(|emptied| emptied == port);
            break;
        }
    }
    Ok(())
}

fn flush(shard: &Shard, ports: &[Port], reactor: &Reactor) -> Result<(), Error> {
    let mut watched = Ok(());
    shard.flush(|port, queue| {
        ports[port].send(queue);
        if !queue.is_empty() {
            watched = reactor.watch_writable(ports, port, true);
        }
    });
    Ok(watched?)
}
