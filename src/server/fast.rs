//! The loop of a shard on Linux, on an epoll of its own.
//!
//! With one client it makes three system calls a block: wait, receive, send. With many, the tasks of all transfers that
//! a batch woke run before anything is sent, so these three serve them all. What goes on in other threads (smol's
//! reactor, a pool that reads files, a download) wakes its task, and the executor rings the bell.

use std::{future::pending, io::ErrorKind, pin::pin, rc::Rc, task::Context};

use smol::LocalExecutor;

use super::shard::{Next, Shard};
use crate::{
    error::Error,
    socket::{
        Inbox,
        epoll::{Reactor, Ready},
    },
};

/// Batches received from one port before the transfers get their turn.
const BATCHES: usize = 4;

pub(super) fn run(shard: &Rc<Shard>, executor: &LocalExecutor<'static>, mut reactor: Reactor) -> Result<(), Error> {
    let waker = reactor.waker();
    shard.shared.tell_of_phases(&waker);
    *shard.waker.borrow_mut() = Some(waker.clone());
    let mut cx = Context::from_waker(&waker);
    let mut tasks = pin!(executor.run(pending::<()>()));
    let (mut inbox, mut last_call, mut ready) = (Inbox::new(), None, Vec::new());
    loop {
        if reactor.was_rung() {
            let _ = tasks.as_mut().poll(&mut cx);
            flush(shard, &reactor)?;
        }
        match shard.next(&mut last_call) {
            Next::Serve => {}
            Next::Leave => return Ok(()),
            Next::SayGoodbye => {
                shard.say_goodbye();
                for _ in 0..100 {
                    let _ = tasks.as_mut().poll(&mut cx);
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
                shard.wake();
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
