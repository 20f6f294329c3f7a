//! The deadlines of all transfers.
//!
//! A deadline moves with each ACK. Moving it later costs only a store: the heap keeps the earlier time. When that time
//! comes, the transfer goes back into the heap with its new deadline.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

use super::Id;

#[derive(Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, Id)>>,
    /// Indexed by the number of the transfer.
    of: Vec<Deadline>,
    /// Upper bound of the useless entries in the heap.
    stale: usize,
}

#[derive(Clone, Copy, Default)]
struct Deadline {
    at: Option<Instant>,
    /// The time of its valid entry in the heap.
    armed: Option<Instant>,
}

impl Deadlines {
    /// Sets the only deadline of this transfer.
    pub(super) fn set(&mut self, id: Id, at: Instant) {
        if id.0 >= self.of.len() {
            self.of.resize(id.0 + 1, Deadline::default());
        }
        let deadline = &mut self.of[id.0];
        deadline.at = Some(at);
        if deadline.armed.is_none_or(|armed| at < armed) {
            let before = deadline.armed.replace(at);
            self.heap.push(Reverse((at, id)));
            if before.is_some() {
                self.leave_behind();
            }
        }
    }

    /// The time of the next entry in the heap.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Returns a transfer whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Id> {
        while self.next().is_some_and(|at| at <= now) {
            let Reverse((at, id)) = self.heap.pop()?;
            let Some(deadline) = self.of.get_mut(id.0).filter(|deadline| deadline.armed == Some(at)) else {
                // A sooner entry has replaced this one.
                self.stale = self.stale.saturating_sub(1);
                continue;
            };
            deadline.armed = None;
            match deadline.at {
                Some(due) if due <= now => {
                    deadline.at = None;
                    return Some(id);
                }
                Some(due) => {
                    deadline.armed = Some(due);
                    self.heap.push(Reverse((due, id)));
                }
                None => {}
            }
        }
        None
    }

    /// Forgets the deadline of a transfer that is over.
    pub(super) fn release(&mut self, id: Id) {
        if let Some(deadline) = self.of.get_mut(id.0) {
            let before = std::mem::take(deadline);
            if before.armed.is_some() {
                self.leave_behind();
            }
        }
    }

    /// Counts an entry of the heap that has become useless. Short transfers leave such entries behind faster than
    /// their times pass. So do transfers that wait for the peer and for the source in turns. So the heap is swept when
    /// half of it may be stale.
    fn leave_behind(&mut self) {
        self.stale += 1;
        if self.stale * 2 > self.heap.len() {
            self.heap.retain(|Reverse((at, id))| self.of[id.0].armed == Some(*at));
            self.stale = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_that_moves_later_does_not_touch_the_heap() {
        let (mut deadlines, id, start) = (Deadlines::default(), Id(3), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for ms in 10..100 {
            deadlines.set(id, at(ms));
        }
        assert_eq!(deadlines.heap.len(), 1);
        assert_eq!(deadlines.expire(at(50)), None, "it was moved to 99 ms meanwhile");
        assert_eq!(deadlines.next(), Some(at(99)));
        deadlines.set(id, at(60));
        assert_eq!(deadlines.expire(at(60)), Some(id), "an earlier one counts at once");
        assert_eq!(deadlines.expire(at(200)), None, "and only once");
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn transfers_that_are_over_leave_nothing_behind() {
        let (mut deadlines, start) = (Deadlines::default(), Instant::now());
        deadlines.set(Id(0), start);
        for n in 0..1000 {
            deadlines.set(Id(1 + n % 2), start + Duration::from_secs(1));
            deadlines.release(Id(1 + n % 2));
        }
        assert!(deadlines.heap.len() < 8, "{}", deadlines.heap.len());
        assert_eq!(deadlines.expire(start), Some(Id(0)));
    }

    #[test]
    fn deadlines_near_and_far_by_turns_leave_nothing_behind() {
        let (mut deadlines, start) = (Deadlines::default(), Instant::now());
        for ms in 0..1000 {
            let now = start + Duration::from_millis(ms);
            deadlines.set(Id(0), now + Duration::from_secs(30));
            deadlines.set(Id(0), now);
            assert_eq!(deadlines.expire(now), Some(Id(0)));
        }
        assert!(deadlines.heap.len() < 8, "{}", deadlines.heap.len());
    }
}
