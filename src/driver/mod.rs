//! Runs one [`Transfer`] as one task: its steps become datagrams, timers and chunks, by the
//! [contract](crate::transfer#the-drivers-contract).

pub(crate) mod feed;
pub(crate) mod mailbox;

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Instant,
};

use futures_lite::ready;

use crate::{
    packet::Packet,
    transfer::{Event, Outcome, Step, Transfer, Want},
};
use feed::Feed;
use mailbox::Mailbox;

/// Events in a row that a transfer handles without waiting before other tasks run. A source that always has a chunk
/// causes such events.
const EVENTS_PER_POLL: usize = 256;

/// The services of the shard for a driver.
pub(crate) trait Wire {
    /// Puts a packet into the next batch to the peer.
    fn send(&self, packet: Packet);
    /// Sets the only deadline of the transfer; its mailbox gets a timeout then.
    fn set_deadline(&self, deadline: Instant);
    fn mailbox(&self) -> &Mailbox;
    /// The current time, read from the clock: the source may have taken long since the batch.
    fn now(&self) -> Instant;
    /// The time of the last batch, which is exact enough for the packets of that batch.
    fn batch_time(&self) -> Instant;
    /// Reports how many bytes have been transferred, after each step that may have transferred some.
    fn progressed(&self, bytes: u64);
}

/// Runs the transfer to its end. Returns the outcome and the number of the last ACK that was sent.
///
/// It is one future without inner futures: an event passes from the mailbox to the transfer without being stored
/// between.
pub(crate) async fn run(wire: &impl Wire, transfer: &mut Transfer, feed: &mut impl Feed) -> (Outcome, Option<u16>) {
    let (mut wanted, mut last_ack) = (None, None);
    poll_fn(|cx| {
        let (mut now, mut event) = match wanted {
            None => (wire.batch_time(), Event::Continue),
            Some(want) => ready!(poll_event(wire, feed, want, cx)),
        };
        for events in 0.. {
            let want = loop {
                match transfer.resume(now, event) {
                    Step::Send(packet) => {
                        if let Packet::Ack(number) = packet {
                            last_ack = Some(number);
                        }
                        wire.send(packet);
                    }
                    Step::Push(chunk) => feed.push(chunk),
                    Step::Wait(want, deadline) => {
                        wire.set_deadline(deadline);
                        break want;
                    }
                    Step::Done(outcome) => {
                        wire.progressed(transfer.progress().bytes);
                        return Poll::Ready((outcome, last_ack));
                    }
                }
                event = Event::Continue;
            };
            wire.progressed(transfer.progress().bytes);
            wanted = Some(want);
            if events == EVENTS_PER_POLL {
                break;
            }
            (now, event) = ready!(poll_event(wire, feed, want, cx));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

fn poll_event(wire: &impl Wire, feed: &mut impl Feed, want: Want, cx: &mut Context<'_>) -> Poll<(Instant, Event)> {
    if let Some(event) = wire.mailbox().take() {
        return Poll::Ready((wire.batch_time(), event));
    }
    if let Poll::Ready(event) = feed.poll(want, cx) {
        return Poll::Ready((wire.now(), event));
    }
    wire.mailbox().register(cx, want != Want::Packet);
    Poll::Pending
}
