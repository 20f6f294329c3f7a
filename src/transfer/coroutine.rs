//! The one place where a transfer is a coroutine: a future that yields steps and is resumed with events.
//!
//! The user's generators are those of genawaiter (see `source`). A transfer differs: it takes arguments with each
//! resume, must cost little, and must be `Send`, so that the futures of a client are `Send`. genawaiter's `rc` stays
//! on its thread, and its `sync` makes a block about 300 ns dearer. So the body and the driver share nothing here.
//! The events and steps that pass between them are in an [`Exchange`], which they hand to each other through a
//! thread-local variable.
//!
//! A body may await only [`Co::step`]: there is no executor behind it.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use super::{Event, Outcome, Progress, Step};

thread_local! {
    /// The exchange while it is handed over: by the driver, which resumes a body, or by the body, which yields or ends.
    static HANDED: Cell<Option<Box<Exchange>>> = const { Cell::new(None) };
}

/// The data that belongs to a body while it runs, and to its driver otherwise.
struct Exchange {
    step: Option<Step>,
    resumed: Option<Resumed>,
    progress: Progress,
}

/// A body's handle to its driver. [`step`](Self::step) is the only future that a body awaits.
pub(super) struct Co(Option<Box<Exchange>>);

/// The event with which a body is resumed, and its time.
///
/// The tag of the event also tells whether there is an event, so it comes first. The tag of a step is as wide as a
/// word (`repr(u64)`). So both types take 64 bytes at most, and they are moved by whole words, without a loop.
#[repr(C)]
pub(super) struct Resumed {
    pub(super) event: Event,
    pub(super) now: Instant,
}

#[cfg(all(test, target_pointer_width = "64"))]
const _: () = assert!(size_of::<Step>() <= 56 && size_of::<Resumed>() <= 64);

type Body = Pin<Box<dyn Future<Output = Outcome> + Send>>;

pub(super) struct Coroutine {
    state: State,
    /// The exchange, except while the body runs.
    exchange: Option<Box<Exchange>>,
}

enum State {
    /// The body has not run yet, because the time is still unknown.
    Fresh(Option<Box<dyn FnOnce(Co, Instant) -> Body + Send>>),
    Running(Body),
    Over(Outcome),
}

const RUNS: &str = "a body has the exchange while it runs";

impl Co {
    /// Await the result at once. This is no `async fn`, which would move the step once more, into its future.
    pub(super) fn step(&mut self, step: Step) -> impl Future<Output = Resumed> {
        self.exchange().step = Some(step);
        poll_fn(|_| match self.0.take() {
            Some(exchange) => {
                HANDED.set(Some(exchange));
                Poll::Pending
            }
            None => {
                self.0 = HANDED.take();
                Poll::Ready(self.exchange().resumed.take().expect("a body is resumed with something"))
            }
        })
    }

    /// What the transfer has done so far.
    pub(super) fn progress(&self) -> &Progress {
        &self.0.as_ref().expect(RUNS).progress
    }

    pub(super) fn progress_mut(&mut self) -> &mut Progress {
        &mut self.exchange().progress
    }

    fn exchange(&mut self) -> &mut Exchange {
        self.0.as_mut().expect(RUNS)
    }
}

/// Hands the exchange back when the body has ended.
impl Drop for Co {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take() {
            HANDED.set(Some(exchange));
        }
    }
}

impl Coroutine {
    pub(super) fn new<F: Future<Output = Outcome> + Send + 'static>(
        progress: Progress,
        body: impl FnOnce(Co, Instant) -> F + Send + 'static,
    ) -> Self {
        let state = State::Fresh(Some(Box::new(|co, now| Box::pin(body(co, now)))));
        Self { state, exchange: Some(Box::new(Exchange { step: None, resumed: None, progress })) }
    }

    pub(super) fn resume(&mut self, now: Instant, event: Event) -> Step {
        let mut exchange = self.exchange.take();
        // No body awaits the first event: a body gets the first time when it is made.
        let fresh = match &mut self.state {
            State::Fresh(body) => body.take(),
            _ => None,
        };
        if let Some(body) = fresh {
            self.state = State::Running(body(Co(exchange), now));
        } else {
            if let Some(exchange) = &mut exchange {
                exchange.resumed = Some(Resumed { event, now });
            }
            HANDED.set(exchange);
        }
        let polled = match &mut self.state {
            State::Running(body) => body.as_mut().poll(&mut Context::from_waker(Waker::noop())),
            State::Over(outcome) => Poll::Ready(outcome.clone()),
            State::Fresh(_) => unreachable!("a fresh body was made to run above"),
        };
        self.exchange = HANDED.take();
        match polled {
            Poll::Pending => {
                let step = self.exchange.as_mut().and_then(|exchange| exchange.step.take());
                step.expect("a body awaits its steps alone")
            }
            Poll::Ready(outcome) => {
                self.state = State::Over(outcome.clone());
                Step::Done(outcome)
            }
        }
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.exchange.as_ref().expect("the driver has the exchange while the body does not run").progress
    }
}
