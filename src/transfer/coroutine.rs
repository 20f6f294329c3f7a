//! The one place where a transfer is a coroutine: a future that yields steps and is resumed with events.
//!
//! The user's generators are genawaiter's (see `source`). A transfer has arguments with each resume, costs as little as
//! can be, and is `Send`, so that the futures of a client are. genawaiter has either: its `rc` stays in its thread, and its
//! `sync` makes a block some 300 ns dearer. So body and driver share nothing here: what goes from one to the other lies on a
//! desk, which they hand to each other through a place of their thread.
//!
//! A body may await nothing but [`Co::step`]: there is no executor behind it.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use super::{Event, Outcome, Progress, Step};

thread_local! {
    /// A desk that is being handed over: by the driver, which resumes a body, or by the body, which yields or ends.
    static HANDED: Cell<Option<Box<Desk>>> = const { Cell::new(None) };
}

/// What belongs to a body while it runs, and to its driver while it does not.
struct Desk {
    step: Option<Step>,
    resumed: Option<Resumed>,
    progress: Progress,
}

/// What a body yields to. [`step`](Self::step) is the only thing that a body awaits.
pub(super) struct Co(Option<Box<Desk>>);

/// What a body is resumed with.
///
/// The tag of an event has room to say as well whether there is one, so it comes first; and the tag of a step is as wide
/// as a word (`repr(u64)`). So both take 64 bytes at most and are moved by whole words, without a loop.
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
    /// Here, but while the body runs.
    desk: Option<Box<Desk>>,
}

enum State {
    /// Made, with the clock still unknown.
    Fresh(Option<Box<dyn FnOnce(Co, Instant) -> Body + Send>>),
    Running(Body),
    Over(Outcome),
}

const RUNS: &str = "a body has the desk while it runs";

impl Co {
    /// To be awaited at once. No `async fn`, which would move the step once more, into its future.
    pub(super) fn step(&mut self, step: Step) -> impl Future<Output = Resumed> {
        self.desk().step = Some(step);
        poll_fn(|_| match self.0.take() {
            Some(desk) => {
                HANDED.set(Some(desk));
                Poll::Pending
            }
            None => {
                self.0 = HANDED.take();
                Poll::Ready(self.desk().resumed.take().expect("a body is resumed with something"))
            }
        })
    }

    /// What was done so far.
    pub(super) fn progress(&self) -> &Progress {
        &self.0.as_ref().expect(RUNS).progress
    }

    pub(super) fn progress_mut(&mut self) -> &mut Progress {
        &mut self.desk().progress
    }

    fn desk(&mut self) -> &mut Desk {
        self.0.as_mut().expect(RUNS)
    }
}

/// The body has ended.
impl Drop for Co {
    fn drop(&mut self) {
        if let Some(desk) = self.0.take() {
            HANDED.set(Some(desk));
        }
    }
}

impl Coroutine {
    pub(super) fn new<F: Future<Output = Outcome> + Send + 'static>(
        progress: Progress,
        body: impl FnOnce(Co, Instant) -> F + Send + 'static,
    ) -> Self {
        let state = State::Fresh(Some(Box::new(|co, now| Box::pin(body(co, now)))));
        Self { state, desk: Some(Box::new(Desk { step: None, resumed: None, progress })) }
    }

    pub(super) fn resume(&mut self, now: Instant, event: Event) -> Step {
        let mut desk = self.desk.take();
        // Nobody awaits the first event: the body gets the time with its birth instead.
        let fresh = match &mut self.state {
            State::Fresh(body) => body.take(),
            _ => None,
        };
        if let Some(body) = fresh {
            self.state = State::Running(body(Co(desk), now));
        } else {
            if let Some(desk) = &mut desk {
                desk.resumed = Some(Resumed { event, now });
            }
            HANDED.set(desk);
        }
        let polled = match &mut self.state {
            State::Running(body) => body.as_mut().poll(&mut Context::from_waker(Waker::noop())),
            State::Over(outcome) => Poll::Ready(outcome.clone()),
            State::Fresh(_) => unreachable!("a fresh body was made to run above"),
        };
        self.desk = HANDED.take();
        match polled {
            Poll::Pending => {
                let step = self.desk.as_mut().and_then(|desk| desk.step.take());
                step.expect("a body awaits its steps alone")
            }
            Poll::Ready(outcome) => {
                self.state = State::Over(outcome.clone());
                Step::Done(outcome)
            }
        }
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.desk.as_ref().expect("the driver has the desk while the body does not run").progress
    }
}
