//! The loop of a shard on smol's reactor, for every system.
//!
//! After a batch, every transfer that it woke runs once, and then all their packets go out together.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use async_io::Timer;

use super::{
    super::{settings::FixedSettings, shard::Shard, tasks::Tasks},
    deliver, replace_stale_port,
};
use crate::{
    error::Error,
    socket::{Inbox, Port},
};

pub(super) fn run(
    shard: &Rc<Shard>,
    tasks: &Rc<Tasks>,
    ports: &mut [Port],
    fixed: &FixedSettings,
) -> Result<(), Error> {
    smol::block_on(pump(shard, tasks, ports, fixed))
}

async fn pump(shard: &Rc<Shard>, tasks: &Rc<Tasks>, ports: &mut [Port], fixed: &FixedSettings) -> Result<(), Error> {
    let (mut inbox, mut alarm) = (Inbox::new(), Alarm::default());
    poll_fn(|cx| {
        shard.shared.register_waker(cx.waker());
        tasks.set_waker(cx.waker().clone());
        Poll::Ready(())
    })
    .await;
    loop {
        poll_fn(|cx| poll_work(shard, tasks, ports, cx, &mut inbox, &mut alarm)).await?;
        tasks.run();
        replace_stale_port(shard, ports, fixed);
        let flush = || shard.flush(|port, queue| ports[port].send(queue));
        flush();
        if shard.end_turn(tasks, flush) {
            return Ok(());
        }
    }
}

/// Ready when a transfer has something to do or to send.
fn poll_work(
    shard: &Rc<Shard>,
    tasks: &Rc<Tasks>,
    ports: &[Port],
    cx: &mut Context<'_>,
    inbox: &mut Inbox,
    alarm: &mut Alarm,
) -> Poll<io::Result<()>> {
    let mut work = tasks.are_woken();
    // The listeners come first in the list and are read last: a client may end one transfer and begin the next within
    // one batch, and it sent its last ACK before its request.
    for (i, port) in ports.iter().enumerate().rev() {
        if let Poll::Ready(received) = port.poll_receive(cx, inbox) {
            received?;
            shard.read_clock();
            deliver(shard, tasks, i, inbox);
            work = true;
        }
        if shard.outboxes.is_blocked(i) && port.poll_writable(cx)?.is_ready() {
            shard.outboxes.unblock(i);
        }
    }
    while alarm.poll(shard.deadline(), cx).is_ready() {
        shard.read_clock();
        // The reactor may not have noticed a datagram yet, so only the socket knows.
        shard.emptied(|listener| ports[listener].is_empty());
        if shard.expire() {
            work = true;
            break;
        }
        if shard.has_work() {
            break;
        }
    }
    if work || shard.has_work() { Poll::Ready(Ok(())) } else { Poll::Pending }
}

/// A timer of the reactor. It is set anew only if it must go off sooner.
#[derive(Default)]
struct Alarm {
    timer: Option<Timer>,
    at: Option<Instant>,
}

impl Alarm {
    fn poll(&mut self, next: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(next) = next else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(Timer::never);
        if self.at.is_none_or(|at| next < at) {
            timer.set_at(next);
            self.at = Some(next);
        }
        Pin::new(timer).poll(cx).map(|_| self.at = None)
    }
}
