//! The one place where a transfer meets genawaiter. (The user's generators do so in `source`.)
//!
//! `rc`, not `sync`: a resume costs 3 ns instead of 86, and a transfer never leaves its thread. A body that is resumed
//! with arguments may await nothing but [`Co::step`]: there is no executor behind it.

use std::{future::Future, pin::Pin, time::Instant};

use genawaiter::{GeneratorState, rc};

use super::{Event, Outcome, Step};

/// What a body yields to. [`step`](Self::step) is the only thing that a body awaits.
pub(super) struct Co(rc::Co<Step, Resumed>);

type Resumed = (Instant, Event);
type Body = Pin<Box<dyn Future<Output = Outcome>>>;

pub(super) struct Coroutine(State);

enum State {
    /// Made, with the clock still unknown.
    Fresh(Option<Box<dyn FnOnce(Co, Instant) -> Body>>),
    Running(rc::Gen<Step, Resumed, Body>),
    Over(Outcome),
}

impl Co {
    /// To be awaited at once. No `async fn`, which would move the step once more, into its future.
    pub(super) fn step(&mut self, step: Step) -> impl Future<Output = Resumed> {
        self.0.yield_(step)
    }
}

impl Coroutine {
    pub(super) fn new<F: Future<Output = Outcome> + 'static>(body: impl FnOnce(Co, Instant) -> F + 'static) -> Self {
        Self(State::Fresh(Some(Box::new(|co, now| Box::pin(body(co, now))))))
    }

    pub(super) fn resume(&mut self, now: Instant, event: Event) -> Step {
        // A generator drops its first argument unseen; the body gets the time with its birth instead.
        if let State::Fresh(body) = &mut self.0
            && let Some(body) = body.take()
        {
            self.0 = State::Running(rc::Gen::new(|co| body(Co(co), now)));
        }
        let state = match &mut self.0 {
            State::Running(running) => running.resume_with((now, event)),
            State::Over(outcome) => GeneratorState::Complete(outcome.clone()),
            State::Fresh(_) => unreachable!("a fresh body was made to run above"),
        };
        match state {
            GeneratorState::Yielded(step) => step,
            GeneratorState::Complete(outcome) => {
                self.0 = State::Over(outcome.clone());
                Step::Done(outcome)
            }
        }
    }
}
