//! The one place where a transfer is a coroutine: a future that yields steps and is resumed with events.
//!
//! The user's generators are genawaiter's (see `source`). A transfer has arguments with each resume, costs as little as
//! can be, and is `Send`, so that the futures of a client are. genawaiter has either: its `rc` stays in its thread, and a
//! resume of its `sync` costs 86 ns. So body and driver share nothing here. What goes from one to the other lies on a
//! desk, which is the driver's, and which the thread has for as long as it runs the body.
//!
//! A body may await nothing but [`Co::step`]: there is no executor behind it.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use super::{Event, Outcome, Progress, Step};

thread_local! {
    /// The desk of the body that runs in this thread.
    static DESK: Cell<Option<Box<Desk>>> = const { Cell::new(None) };
}

/// What lies between a body and its driver.
struct Desk {
    step: Option<Step>,
    resumed: Option<Resumed>,
    progress: Progress,
}

/// What a body yields to. [`step`](Self::step) is the only thing that a body awaits.
pub(super) struct Co(());

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

impl Co {
    /// To be awaited at once. No `async fn`, which would move the step once more, into its future.
    pub(super) fn step(&mut self, step: Step) -> impl Future<Output = Resumed> + use<> {
        at_desk(|desk| desk.step = Some(step));
        poll_fn(|_| at_desk(|desk| desk.resumed.take()).map_or(Poll::Pending, Poll::Ready))
    }

    /// Sees, or changes, what was done so far.
    pub(super) fn progress<T>(&self, see: impl FnOnce(&mut Progress) -> T) -> T {
        at_desk(|desk| see(&mut desk.progress))
    }
}

fn at_desk<T>(work: impl FnOnce(&mut Desk) -> T) -> T {
    let mut desk = DESK.take().expect("a body runs where it is resumed and nowhere else");
    let done = work(&mut desk);
    DESK.set(Some(desk));
    done
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
        let mut lent = Lent::new(&mut self.desk);
        let resumed = match &mut self.state {
            // Nobody awaits the first event: the body gets the time with its birth instead.
            State::Fresh(body) => {
                if let Some(body) = body.take() {
                    self.state = State::Running(body(Co(()), now));
                }
                None
            }
            _ => Some(Resumed { event, now }),
        };
        let polled = match &mut self.state {
            State::Running(body) => {
                at_desk(|desk| desk.resumed = resumed);
                body.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            }
            State::Over(outcome) => Poll::Ready(outcome.clone()),
            State::Fresh(_) => unreachable!("a fresh body was made to run above"),
        };
        match polled {
            Poll::Pending => lent.take_step().expect("a body awaits its steps alone"),
            Poll::Ready(outcome) => {
                drop(lent);
                self.state = State::Over(outcome.clone());
                Step::Done(outcome)
            }
        }
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.desk.as_ref().expect("the desk is here while the body does not run").progress
    }
}

/// The desk is the thread's until this is dropped. Another one that was there is there again then.
struct Lent<'a> {
    home: &'a mut Option<Box<Desk>>,
    other: Option<Box<Desk>>,
}

impl<'a> Lent<'a> {
    fn new(home: &'a mut Option<Box<Desk>>) -> Self {
        let other = DESK.replace(home.take());
        Self { home, other }
    }

    fn take_step(&mut self) -> Option<Step> {
        at_desk(|desk| desk.step.take())
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.home = DESK.replace(mem::take(&mut self.other));
    }
}
