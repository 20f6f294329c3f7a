//! Runs one [`Transfer`] as one task: its steps become datagrams, timers and chunks.

pub(crate) mod feed;
pub(crate) mod mailbox;

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Instant,
};

use futures_lite::future::yield_now;

use crate::{
    packet::Packet,
    transfer::{Event, Outcome, Progress, Step, Transfer, Want},
};
use feed::Feed;
use mailbox::Mailbox;

/// Events in a row that need no waiting, as those of a source that always has a chunk, before the others' turn comes.
const TURN: usize = 256;

/// What the driver needs from the shard that it runs on.
pub(crate) trait Wire {
    /// Puts a packet into the next batch to the peer.
    fn send(&self, packet: &Packet);
    /// Has the mailbox woken at this time, and at no other.
    fn set_deadline(&self, deadline: Instant);
    fn mailbox(&self) -> &Mailbox;
    /// The time of the last batch: good enough for what came with it.
    fn batch_time(&self) -> Instant;
    /// Told after each step that brought the transfer forward.
    fn progressed(&self, progress: &Progress);
}

/// Runs the transfer to its end. Returns the outcome and the number of the last ACK that was sent.
pub(crate) async fn run(wire: &impl Wire, transfer: &mut Transfer, feed: &mut Feed<'_>) -> (Outcome, Option<u16>) {
    let (mut now, mut event, mut last_ack) = (wire.batch_time(), Event::Go, None);
    let mut turn = 0;
    loop {
        event = match transfer.resume(now, event) {
            Step::Send(packet) => {
                if let Packet::Ack(number) = packet {
                    last_ack = Some(number);
                }
                wire.send(&packet);
                Event::Go
            }
            Step::Push(chunk) => {
                feed.push(chunk);
                Event::Go
            }
            Step::Wait(want, deadline) => {
                wire.progressed(&transfer.progress());
                wire.set_deadline(deadline);
                turn += 1;
                if turn > TURN {
                    turn = 0;
                    yield_now().await;
                }
                let happened = poll_fn(|cx| {
                    let happened = poll_event(wire, feed, want, cx);
                    turn = if happened.is_pending() { 0 } else { turn };
                    happened
                });
                (now, event) = happened.await;
                continue;
            }
            Step::Done(outcome) => {
                wire.progressed(&transfer.progress());
                return (outcome, last_ack);
            }
        };
    }
}

fn poll_event(wire: &impl Wire, feed: &mut Feed<'_>, want: Want, cx: &mut Context<'_>) -> Poll<(Instant, Event)> {
    if let Some(event) = wire.mailbox().take() {
        return Poll::Ready((wire.batch_time(), event));
    }
    if let Poll::Ready(event) = feed.poll(want, cx) {
        return Poll::Ready((Instant::now(), event));
    }
    wire.mailbox().register(cx);
    Poll::Pending
}
