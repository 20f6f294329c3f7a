//! The loop of a shard on smol's reactor, for every system.
//!
//! The loop is a task among the tasks of the transfers. After a batch it yields once, so that every transfer that the
//! batch woke has run when it goes on, and all that they have to send goes out together.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use futures_lite::future::yield_now;
use smol::{LocalExecutor, Timer};

use super::{
    Phase,
    shard::{Next, Shard},
};
use crate::{error::Error, socket::Inbox};

pub(super) fn run(shard: Rc<Shard>, executor: &LocalExecutor<'static>) -> Result<(), Error> {
    // A task, and not the root future: to wake that costs ten times as much, because it looks at the reactor.
    let pump = executor.spawn(pump(shard));
    smol::block_on(executor.run(pump))
}

async fn pump(shard: Rc<Shard>) -> Result<(), Error> {
    let (mut inbox, mut alarm, mut last_call) = (Inbox::new(), Alarm::default(), None);
    poll_fn(|cx| {
        shard.shared.tell_of_phases(cx.waker());
        *shard.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Ready(())
    })
    .await;
    loop {
        poll_fn(|cx| poll_work(&shard, cx, &mut inbox, &mut alarm, last_call)).await?;
        yield_now().await;
        shard.flush();
        match shard.next(&mut last_call) {
            Next::Serve => {}
            Next::Leave => return Ok(()),
            Next::SayGoodbye => {
                shard.say_goodbye();
                for _ in 0..100 {
                    yield_now().await;
                    shard.flush();
                    if shard.is_idle() {
                        break;
                    }
                }
                return Ok(());
            }
        }
    }
}

/// Ready when a transfer may have something to do, or has something to send.
fn poll_work(
    shard: &Rc<Shard>,
    cx: &mut Context<'_>,
    inbox: &mut Inbox,
    alarm: &mut Alarm,
    last_call: Option<Instant>,
) -> Poll<io::Result<()>> {
    let mut work = match shard.shared.phase() {
        Phase::Serving => false,
        Phase::Draining => last_call.is_none() || shard.is_idle(),
        Phase::Over => true,
    };
    // The listeners, which come first, are asked last: a client may end one transfer and begin the next within one
    // batch, and its last ACK was sent before its request.
    work |= shard.is_asked();
    for (i, port) in shard.ports.iter().enumerate().rev() {
        if let Poll::Ready(received) = port.poll_receive(cx, inbox) {
            received?;
            shard.read_clock();
            shard.deliver(i, inbox);
            work = true;
        }
        let outbox = &shard.outboxes[i];
        if outbox.full.get() && port.poll_writable(cx)?.is_ready() {
            outbox.full.set(false);
        }
        work |= !outbox.full.get() && !outbox.queue.borrow().is_empty();
    }
    while alarm.poll(shard.deadline(last_call), cx).is_ready() {
        shard.read_clock();
        if shard.expire() || last_call.is_some_and(|at| at <= shard.now()) {
            work = true;
            break;
        }
    }
    if work { Poll::Ready(Ok(())) } else { Poll::Pending }
}

/// One timer of the reactor, which is touched only when it must go off sooner than it would.
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
