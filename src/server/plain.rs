//! The loop of a shard on smol's reactor, for every system.
//!
//! After a batch every transfer that it woke has its turn, and all that they have to send goes out together.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use smol::Timer;

use super::{
    Phase,
    shard::{Next, Shard},
    tasks::Tasks,
};
use crate::{error::Error, socket::Inbox};

pub(super) fn run(shard: &Rc<Shard>, tasks: &Tasks) -> Result<(), Error> {
    smol::block_on(pump(shard, tasks))
}

async fn pump(shard: &Rc<Shard>, tasks: &Tasks) -> Result<(), Error> {
    let (mut inbox, mut alarm, mut last_call) = (Inbox::new(), Alarm::default(), None);
    poll_fn(|cx| {
        shard.shared.tell_of_phases(cx.waker());
        tasks.ring(cx.waker().clone());
        Poll::Ready(())
    })
    .await;
    loop {
        poll_fn(|cx| poll_work(shard, tasks, cx, &mut inbox, &mut alarm, last_call)).await?;
        tasks.run();
        shard.flush();
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
    }
}

/// Ready when a transfer may have something to do, or has something to send.
fn poll_work(
    shard: &Rc<Shard>,
    tasks: &Tasks,
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
    work |= shard.is_asked() || tasks.are_woken();
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
