//! A bounded queue of reports. Adding to it never waits.

use std::{
    convert::Infallible,
    io,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use smol::channel::{Receiver, Sender, bounded};
use tuffet::stats::Counter;

/// How long the waiting reports may take after the server has ended.
pub const END_LIMIT: Duration = Duration::from_secs(5);

/// Clones share the queue.
#[derive(Clone)]
pub struct Queue<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    pub lost: Counter,
}

impl<T: Clone + Send + 'static> Queue<T> {
    /// A queue of at most this many. Lost reports are counted.
    pub fn new(most: usize, lost: Counter) -> Self {
        let (sender, receiver) = bounded(most);
        Self { sender, receiver, lost }
    }

    /// Adds one. If the queue is full, the oldest is lost.
    pub fn push(&self, one: T) {
        if !matches!(self.sender.force_send(one), Ok(None)) {
            self.lost.add(1);
        }
    }

    /// Starts a thread of this name that makes the reports, one after another, until one ends in an error: then all
    /// are lost. `report` returns whether the report was made.
    pub fn begin(
        self,
        thread: String,
        mut report: impl FnMut(T) -> io::Result<bool> + Send + 'static,
    ) -> io::Result<Reporting<T>> {
        let (queue, (running, ended)) = (self.clone(), mpsc::channel());
        let work = move || {
            let _running = running;
            while let Ok(one) = self.receiver.recv_blocking() {
                let result = report(one);
                self.lost.add(u64::from(!matches!(result, Ok(true))));
                if result.is_err() {
                    break;
                }
            }
            self.sender.close();
            while self.receiver.try_recv().is_ok() {
                self.lost.add(1);
            }
        };
        thread::Builder::new().name(thread).spawn(work)?;
        Ok(Reporting { queue, ended })
    }
}

/// A queue with the thread that makes its reports.
pub struct Reporting<T> {
    queue: Queue<T>,
    /// Closed when the thread has ended.
    ended: mpsc::Receiver<Infallible>,
}

impl<T> Reporting<T> {
    /// Takes no more reports.
    pub fn close(&self) {
        self.queue.sender.close();
    }

    /// Waits until all reports are made, but not beyond this time. Returns how many were lost in all.
    pub fn end(&self, deadline: Instant) -> u64 {
        let in_hand = match self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => 1,
            _ => 0,
        };
        self.queue.lost.value() + self.queue.receiver.len() as u64 + in_hand
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(most: usize) -> Queue<u32> {
        Queue::new(most, Counter::new("lost", "Lost."))
    }

    #[test]
    fn the_oldest_is_lost_and_the_rest_goes_out_before_the_end() {
        let (queue, (taker, taken)) = (queue(3), mpsc::channel());
        (0..10).for_each(|n| queue.push(n));
        assert_eq!(queue.lost.value(), 7);
        let reporting = queue.clone().begin("test".into(), move |n| Ok(taker.send(n).is_ok())).unwrap();
        reporting.close();
        assert_eq!(reporting.end(Instant::now() + END_LIMIT), 7);
        assert_eq!(taken.iter().collect::<Vec<_>>(), [7, 8, 9]);
        queue.push(10);
        assert_eq!(queue.lost.value(), 8, "nobody takes any more");
    }

    #[test]
    fn after_an_error_all_are_lost() {
        let queue = queue(10);
        (0..3).for_each(|n| queue.push(n));
        let reporting =
            queue.begin("test".into(), |n| if n == 0 { Ok(true) } else { Err(io::ErrorKind::Other.into()) });
        assert_eq!(reporting.unwrap().end(Instant::now() + END_LIMIT), 2);
    }
}
