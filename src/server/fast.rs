//! The loop of a shard on Linux, on an epoll of its own.
//!
//! With one client it makes three system calls a block: wait, receive, send. With many, the tasks of all transfers that
//! a batch woke run before anything is sent, so these three serve them all. What goes on in other threads (smol's
//! reactor, a pool that reads files, a download) wakes its task, which rings the bell.

use std::{io::ErrorKind, rc::Rc};

use super::{
    shard::{Next, Shard},
    tasks::Tasks,
};
use crate::{
    error::Error,
    socket::{
        Inbox,
        epoll::{Reactor, Ready},
    },
};

/// Batches received from one port before the transfers get their turn.
const BATCHES: usize = 4;

pub(super) fn run(shard: &Rc<Shard>, tasks: &Tasks, mut reactor: Reactor) -> Result<(), Error> {
    shard.shared.tell_of_phases(&reactor.waker());
    tasks.ring(reactor.waker());
    let (mut inbox, mut last_call, mut ready) = (Inbox::new(), None, Vec::new());
    loop {
        if reactor.was_rung() {
            tasks.run();
        }
        flush(shard, &reactor)?;
        match shard.next(&mut last_call) {
            Next::Serve => {}
            Next::Leave => return Ok(()),
            Next::SayGoodbye => {
                shard.say_goodbye();
                for _ in 0..100 {
                    tasks.run();
                    shard.flush();
                    if shard.is_idle() {
                        break;
                    }
                }
                return Ok(());
            }
        }
        ready.clear();
        ready.extend(reactor.wait(shard.deadline(last_call))?);
        // The listeners, which come first, are asked last: a client may end one transfer and begin the next within one
        // batch, and its last ACK was sent before its request.
        ready.sort_unstable_by(|a, b| b.cmp(a));
        shard.read_clock();
        for Ready { port, readable, writable } in ready.drain(..) {
            if writable {
                shard.outboxes[port].full.set(false);
            }
            if readable {
                receive(shard, port, &mut inbox)?;
            }
        }
        shard.expire();
    }
}

fn receive(shard: &Rc<Shard>, port: usize, inbox: &mut Inbox) -> Result<(), Error> {
    for _ in 0..BATCHES {
        match shard.ports[port].receive(inbox) {
            Ok(()) => shard.deliver(port, inbox),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
        if !inbox.is_full() {
            break;
        }
    }
    Ok(())
}

fn flush(shard: &Shard, reactor: &Reactor) -> Result<(), Error> {
    shard.flush();
    for (i, outbox) in shard.outboxes.iter().enumerate() {
        let full = outbox.full.get();
        if outbox.watched.replace(full) != full {
            reactor.watch_writable(&shard.ports, i, full)?;
        }
    }
    Ok(())
}
