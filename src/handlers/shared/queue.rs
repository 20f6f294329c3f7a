//! The queue of requests for new files to one upstream.

use std::{future::Future, pin::pin, time::Duration};

use smol::{
    Timer,
    lock::{Semaphore, SemaphoreGuard},
};

use crate::within::within;

/// How many of these requests await their answers at once. A room of machines asks for as many files as it has
/// machines, and small web servers drop connections that they cannot accept at once: that of Python has room for five.
const AT_ONCE: usize = 16;
/// After this time a request without an answer makes room for the next one. An upstream that makes its files up may
/// take seconds for each, and serve hundreds at once.
const SLOW: Duration = Duration::from_millis(250);

pub(super) struct Queue(Semaphore);

impl Default for Queue {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Queue {
    /// The result of this future, which is first polled when its turn has come, and its place in the queue, unless it
    /// was slow.
    pub(super) async fn wait<T>(&self, answer: impl Future<Output = T>) -> (T, Option<SemaphoreGuard<'_>>) {
        let place = self.0.acquire().await;
        let mut answer = pin!(answer);
        match within(SLOW, answer.as_mut()).await {
            Some(answer) => (answer, Some(place)),
            None => {
                drop(place);
                (answer.await, None)
            }
        }
    }

    /// Pauses before the next try of a request whose upstream is busy. It keeps its place meanwhile, but no longer than
    /// a slow request does: the upstream has to refuse fewer others, and a busy path does not keep them waiting.
    pub(super) async fn pause(place: Option<SemaphoreGuard<'_>>, time: Duration) {
        Timer::after(time.min(SLOW)).await;
        drop(place);
        Timer::after(time.saturating_sub(SLOW)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, pin::Pin};

    use smol::future;

    use super::*;

    fn poll<T>(request: &mut Pin<Box<impl Future<Output = T>>>) {
        assert!(future::block_on(future::poll_once(request)).is_none());
    }

    #[test]
    fn a_request_waits_until_an_earlier_one_is_over_or_slow() {
        let (queue, asked) = (Queue::default(), Cell::new(0));
        let silent = || {
            queue.wait(async {
                asked.set(asked.get() + 1);
                future::pending::<()>().await
            })
        };
        let mut requests: Vec<_> = (0..AT_ONCE + 2).map(|_| Box::pin(silent())).collect();
        requests.iter_mut().for_each(poll);
        assert_eq!(asked.get(), AT_ONCE);
        drop(requests.remove(0));
        requests[AT_ONCE - 1..].iter_mut().for_each(poll);
        assert_eq!(asked.get(), AT_ONCE + 1, "the client of the first has left");
        while asked.get() < AT_ONCE + 2 {
            requests.iter_mut().for_each(poll);
        }
    }
}
