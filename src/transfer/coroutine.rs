//! The one place where a transfer meets genawaiter. (The user's generators do so in `source`.)
//!
//! It is genawaiter's `sync`, so that the futures of a client are `Send`. What its locks cost grows with what is moved
//! through them, so what goes to and fro lies on a desk in a box: the body yields the desk with a step on it, and is resumed
//! with the desk and what happened. A body may await nothing but [`Co::step`]: there is no executor behind it.

use std::{future::Future, pin::Pin, time::Instant};

use genawaiter::{GeneratorState, sync};

use super::{Event, Outcome, Progress, Step};

/// What belongs to a body while it runs, and to its driver while it does not.
struct Desk {
    step: Option<Step>,
    resumed: Option<Resumed>,
    progress: Progress,
}

/// What a body yields to. [`step`](Self::step) is the only thing that a body awaits.
pub(super) struct Co {
    co: sync::Co<Box<Desk>, Option<Box<Desk>>>,
    /// Here, but while a step is taken.
    desk: Option<Box<Desk>>,
}

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

/// It ends with [`Co::done`].
type Body = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct Coroutine {
    state: State,
    /// Here, but while the body runs.
    desk: Option<Box<Desk>>,
}

enum State {
    /// Made, with the clock still unknown.
    Fresh(Option<Box<dyn FnOnce(Co, Instant) -> Body + Send>>),
    Running(sync::Gen<Box<Desk>, Option<Box<Desk>>, Body>),
    Over(Outcome),
}

const RUNS: &str = "a body has the desk while it runs";

impl Co {
    /// To be awaited at once. No `async fn`, which would move the step once more, into its future.
    pub(super) fn step(&mut self, step: Step) -> impl Future<Output = Resumed> {
        self.desk().step = Some(step);
        async {
            let mut desk =
                self.co.yield_(self.desk.take().expect(RUNS)).await.expect("a body is resumed with its desk");
            let resumed = desk.resumed.take().expect("a body is resumed with something");
            self.desk = Some(desk);
            resumed
        }
    }

    /// The last step. It is never resumed.
    pub(super) async fn done(mut self, outcome: Outcome) {
        self.step(Step::Done(outcome)).await;
    }

    /// What was done so far.
    pub(super) fn progress(&self) -> &Progress {
        &self.desk.as_ref().expect(RUNS).progress
    }

    pub(super) fn progress_mut(&mut self) -> &mut Progress {
        &mut self.desk().progress
    }

    fn desk(&mut self) -> &mut Desk {
        self.desk.as_mut().expect(RUNS)
    }
}

impl Coroutine {
    pub(super) fn new<F: Future<Output = ()> + Send + 'static>(
        progress: Progress,
        body: impl FnOnce(Co, Instant) -> F + Send + 'static,
    ) -> Self {
        let state = State::Fresh(Some(Box::new(|co, now| Box::pin(body(co, now)))));
        Self { state, desk: Some(Box::new(Desk { step: None, resumed: None, progress })) }
    }

    pub(super) fn resume(&mut self, now: Instant, event: Event) -> Step {
        if let State::Fresh(body) = &mut self.state {
            let (body, desk) = (body.take(), self.desk.take());
            let body = body.expect("a fresh body is made to run once");
            self.state = State::Running(sync::Gen::new(|co| body(Co { co, desk }, now)));
        }
        let body = match &mut self.state {
            State::Running(body) => body,
            State::Over(outcome) => return Step::Done(outcome.clone()),
            State::Fresh(_) => unreachable!("it was made to run above"),
        };
        // A generator drops its first argument unseen; the body has got desk and time with its birth instead.
        if let Some(desk) = &mut self.desk {
            desk.resumed = Some(Resumed { event, now });
        }
        let GeneratorState::Yielded(desk) = body.resume_with(self.desk.take()) else {
            unreachable!("a body ends with a step");
        };
        let step = self.desk.insert(desk).step.take().expect("a body awaits its steps alone");
        if let Step::Done(outcome) = &step {
            self.state = State::Over(outcome.clone());
        }
        step
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.desk.as_ref().expect("the driver has the desk while the body does not run").progress
    }
}
