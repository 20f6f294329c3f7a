//! Where the datagrams of one transfer wait for its task, and when it wants to be woken without any.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    rc::Rc,
    task::{Context, Waker},
    time::Instant,
};

use crate::{error::ErrorCode, packet::Packet, transfer::Event};

/// More than this of one peer are dropped, as a full socket would: it sends again.
const MOST: usize = 256;

#[derive(Default)]
pub(crate) struct Mailbox {
    packets: RefCell<VecDeque<Packet>>,
    repeated: Cell<bool>,
    closed: Cell<Option<&'static str>>,
    stopped: Cell<bool>,
    expired: Cell<bool>,
    /// When the task wants a timeout.
    deadline: Cell<Option<Instant>>,
    /// The earliest time at which the timers will look at this mailbox.
    armed: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

impl Mailbox {
    pub(crate) fn post(&self, packet: Packet) {
        let mut packets = self.packets.borrow_mut();
        if packets.capacity() == 0 {
            // In lock-step there is never a second one.
            packets.reserve_exact(1);
        }
        if packets.len() < MOST {
            packets.push_back(packet);
        }
        drop(packets);
        self.wake();
    }

    /// The peer sent its request again.
    pub(crate) fn post_repeat(&self) {
        self.repeated.set(true);
        self.wake();
    }

    /// As if the peer had left, for this reason.
    pub(crate) fn post_closed(&self, why: &'static str) {
        self.closed.set(Some(why));
        self.wake();
    }

    /// The server ends.
    pub(crate) fn post_stop(&self) {
        self.stopped.set(true);
        self.wake();
    }

    /// What happened, if anything did. A timeout comes last: who has been heard is not late.
    pub(crate) fn take(&self) -> Option<Event> {
        if let Some(packet) = self.packets.borrow_mut().pop_front() {
            return Some(Event::Packet(packet));
        }
        if let Some(why) = self.closed.take() {
            return Some(Event::Packet(Packet::Error { code: ErrorCode::NOT_DEFINED, message: why.into() }));
        }
        if self.stopped.take() {
            return Some(Event::Stop);
        }
        if self.repeated.take() {
            return Some(Event::Repeat);
        }
        self.expired.take().then_some(Event::Timeout)
    }

    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// The deadlines of all transfers of a shard.
///
/// A deadline moves with each ACK, so moving it later costs a store and no more: the heap holds an earlier time, and
/// when that comes, the mailbox is put back with the time that it has by then.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
    /// Entries that have lost their use, at most.
    stale: usize,
}

struct Timer {
    at: Instant,
    mailbox: Rc<Mailbox>,
}

impl Timers {
    /// Sets the only deadline of this mailbox.
    pub(crate) fn set(&mut self, mailbox: &Rc<Mailbox>, deadline: Instant) {
        mailbox.deadline.set(Some(deadline));
        mailbox.expired.set(false);
        let armed = mailbox.armed.get();
        if armed.is_none_or(|armed| deadline < armed) {
            self.arm(mailbox.clone(), deadline);
            if armed.is_some() {
                self.leave_behind();
            }
        }
    }

    /// When to come back.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(timer)| timer.at)
    }

    /// Posts the timeouts that are due. Returns whether there were any.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let mut any = false;
        while self.next().is_some_and(|at| at <= now) {
            let Some(Reverse(Timer { at, mailbox })) = self.heap.pop() else { break };
            // An entry that a sooner one has overtaken is not the one that counts.
            if mailbox.armed.get() != Some(at) {
                self.stale = self.stale.saturating_sub(1);
                continue;
            }
            mailbox.armed.set(None);
            match mailbox.deadline.get() {
                Some(deadline) if deadline <= now => {
                    mailbox.deadline.set(None);
                    mailbox.expired.set(true);
                    mailbox.wake();
                    any = true;
                }
                Some(deadline) => self.arm(mailbox, deadline),
                None => {}
            }
        }
        any
    }

    /// The transfer of this mailbox is over.
    pub(crate) fn release(&mut self, mailbox: &Mailbox) {
        mailbox.deadline.set(None);
        if mailbox.armed.take().is_some() {
            self.leave_behind();
        }
    }

    /// An entry in the heap has lost its use. Short transfers, and those that wait now for the peer and now for the
    /// source, leave entries behind faster than time comes by to collect them, so the heap is swept when half of it may
    /// be stale.
    fn leave_behind(&mut self) {
        self.stale += 1;
        if self.stale * 2 > self.heap.len() {
            self.heap.retain(|Reverse(timer)| timer.mailbox.armed.get() == Some(timer.at));
            self.stale = 0;
        }
    }

    fn arm(&mut self, mailbox: Rc<Mailbox>, at: Instant) {
        mailbox.armed.set(Some(at));
        self.heap.push(Reverse(Timer { at, mailbox }));
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Timer {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_that_moves_later_does_not_touch_the_heap() {
        let (mut timers, mailbox, start) = (Timers::default(), Rc::new(Mailbox::default()), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for ms in 10..100 {
            timers.set(&mailbox, at(ms));
        }
        assert_eq!(timers.heap.len(), 1);
        assert!(!timers.expire(at(50)), "it was moved to 99 ms meanwhile");
        assert_eq!(timers.next(), Some(at(99)));
        timers.set(&mailbox, at(60));
        assert!(timers.expire(at(60)), "an earlier one counts at once");
        assert!(matches!(mailbox.take(), Some(Event::Timeout)));
        assert!(!timers.expire(at(200)), "and only once");
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn transfers_that_are_over_leave_nothing_behind() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        let running = Rc::new(Mailbox::default());
        timers.set(&running, start);
        for _ in 0..1000 {
            let short = Rc::new(Mailbox::default());
            timers.set(&short, start + Duration::from_secs(1));
            timers.release(&short);
        }
        assert!(timers.heap.len() < 8, "{}", timers.heap.len());
        assert!(timers.expire(start));
    }

    #[test]
    fn deadlines_near_and_far_by_turns_leave_nothing_behind() {
        let (mut timers, mailbox, start) = (Timers::default(), Rc::new(Mailbox::default()), Instant::now());
        for ms in 0..1000 {
            let now = start + Duration::from_millis(ms);
            timers.set(&mailbox, now + Duration::from_secs(30));
            timers.set(&mailbox, now);
            assert!(timers.expire(now));
        }
        assert!(timers.heap.len() < 8, "{}", timers.heap.len());
    }

    #[test]
    fn who_was_heard_is_not_late() {
        let (mut timers, mailbox, now) = (Timers::default(), Rc::new(Mailbox::default()), Instant::now());
        timers.set(&mailbox, now);
        timers.expire(now);
        mailbox.post(Packet::Ack(1));
        assert!(matches!(mailbox.take(), Some(Event::Packet(Packet::Ack(1)))));
        timers.set(&mailbox, now + Duration::from_secs(1));
        assert!(mailbox.take().is_none(), "the new deadline took the old timeout back");
    }
}
