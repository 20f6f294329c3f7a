//! The one place where a transfer meets genawaiter. (The user's generators do so in `source`.)
//!
//! `rc`, not `sync`: a resume costs 3 ns instead of 86, and a transfer never leaves its thread. A body that is resumed
//! with arguments may await nothing but [`Co::step`]: there is no executor behind it.

use std::{future::Future, pin::Pin, time::Instant};

use genawaiter::{GeneratorState, rc};

use super::{Event, Outcome, Step};

/// What a body yields to. [`step`](Self::step) is the only thing that a body awaits.
pub(super) struct Co(rc::Co<Step, Resumed>);

/// What a body is resumed with.
///
/// Each resume moves it and the step some eight times, through genawaiter's hands, so they are laid out for that. The
/// event comes first because its tag has room to say as well whether there is a step or an event between the two: so
/// both take 64 bytes at most, which is what a compiler moves without a loop. And the tag of a step is as wide as a word
/// (`repr(u64)`), so that what follows is moved by whole words: a word of which the halves were moved apart waits for
/// both. Together that is a fifth of the cost of a block in here.
#[repr(C)]
pub(super) struct Resumed {
    pub(super) event: Event,
    pub(super) now: Instant,
}

#[cfg(all(test, target_pointer_width = "64"))]
const _: () = assert!(size_of::<Step>() <= 56 && size_of::<Resumed>() <= 64);

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
            State::Running(running) => running.resume_with(Resumed { event, now }),
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
