//! The tasks of a shard: one for each transfer.
//!
//! smol's `LocalExecutor` is made of the same `async-task`, but its queue lets many threads take tasks at once, which
//! this server does not need. That queue took an eighth of the instructions of a block, and a tenth of the time of a
//! short file.

use std::{
    cell::RefCell,
    future::Future,
    mem,
    rc::{Rc, Weak},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::Waker,
};

use async_task::{Runnable, Task};
use slab::Slab;

/// The tasks of a shard. They are cancelled when it is dropped.
#[derive(Default)]
pub(crate) struct Tasks {
    queue: Arc<Queue>,
    /// The tasks that have not ended.
    all: RefCell<Slab<Task<()>>>,
    /// The memory of the queue while the queue does not use it.
    spare: RefCell<Vec<Runnable>>,
}

/// The place of a task among all tasks. The task is over when its place is dropped.
pub(crate) struct Place {
    key: usize,
    tasks: Weak<Tasks>,
}

/// The woken tasks. Any thread may wake one.
#[derive(Default)]
struct Queue {
    woken: Mutex<Vec<Runnable>>,
    /// The waker of the loop that runs them.
    bell: OnceLock<Waker>,
}

impl Tasks {
    /// Sets the waker that is woken when there is a task to run. Call it once, before anything else.
    pub(crate) fn ring(&self, bell: Waker) {
        let _ = self.queue.bell.set(bell);
    }

    /// Spawns a task. Its future owns its place. (An outer future that gives the place back would hold the inner one
    /// twice: that is how `async` blocks are laid out.)
    pub(crate) fn spawn<F: Future<Output = ()> + 'static>(self: &Rc<Self>, future: impl FnOnce(Place) -> F) {
        let key = self.all.borrow().vacant_key();
        let future = future(Place { key, tasks: Rc::downgrade(self) });
        let queue = self.queue.clone();
        // A panic ends its task and nothing else: it goes to the owner of the handle, and no code awaits the handle.
        let builder = async_task::Builder::new().propagate_panic(true);
        let (runnable, task) = builder.spawn_local(|()| future, move |runnable| queue.push(runnable));
        self.all.borrow_mut().insert(task);
        runnable.schedule();
    }

    /// Runs all woken tasks, once.
    pub(crate) fn run(&self) {
        let mut turn = mem::replace(&mut *self.queue.lock(), self.spare.take());
        for runnable in turn.drain(..) {
            runnable.run();
        }
        self.spare.replace(turn);
    }

    /// Whether there is a task to run.
    pub(crate) fn are_woken(&self) -> bool {
        !self.queue.lock().is_empty()
    }

    /// Makes the loop take a turn.
    pub(crate) fn wake(&self) {
        self.queue.ring();
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // Each task is woken once more, and dropped where it would have run.
        self.all.take().clear();
        while self.are_woken() {
            // The lock is free here, because a dropped task may wake others.
            let woken = mem::take(&mut *self.queue.lock());
            drop(woken);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(task) = self.tasks.upgrade().and_then(|tasks| tasks.all.borrow_mut().try_remove(self.key)) {
            task.detach();
        }
    }
}

impl Queue {
    fn push(&self, runnable: Runnable) {
        let mut woken = self.lock();
        woken.push(runnable);
        // The first push has rung the bell.
        if woken.len() == 1 {
            drop(woken);
            self.ring();
        }
    }

    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell.wake_by_ref();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Runnable>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        task::Wake,
        thread,
    };

    use futures_lite::future::{pending, yield_now};

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn tasks() -> (Rc<Tasks>, Arc<Bell>) {
        let (tasks, bell) = (Rc::new(Tasks::default()), Arc::new(Bell::default()));
        tasks.ring(bell.clone().into());
        (tasks, bell)
    }

    #[test]
    fn each_has_one_turn_and_the_bell_rings_once_for_all() {
        let ((tasks, bell), turns) = (tasks(), Rc::new(Cell::new(0)));
        for _ in 0..10 {
            let turns = turns.clone();
            tasks.spawn(|place| async move {
                for _ in 0..3 {
                    turns.set(turns.get() + 1);
                    yield_now().await;
                }
                drop(place);
            });
        }
        for turn in 1..=4 {
            assert_eq!(bell.0.load(SeqCst), turn);
            tasks.run();
            assert_eq!(turns.get(), 10 * turn.min(3));
        }
        assert!(tasks.all.borrow().is_empty());
        assert_eq!(bell.0.load(SeqCst), 4, "nothing is left to run");
    }

    #[test]
    fn another_thread_may_wake_one() {
        let ((tasks, bell), done) = (tasks(), Rc::new(Cell::new(false)));
        // This task ends in the other thread when it is run.
        let (elsewhere, over) = async_task::spawn(async {}, drop);
        let told = done.clone();
        tasks.spawn(|_| async move {
            over.await;
            told.set(true);
        });
        tasks.run();
        let rung = bell.0.load(SeqCst);
        thread::spawn(|| elsewhere.run()).join().unwrap();
        assert_eq!(bell.0.load(SeqCst), rung + 1);
        tasks.run();
        assert!(done.get());
    }

    #[test]
    fn what_waits_is_dropped_with_them() {
        let ((tasks, _), alive) = (tasks(), Rc::new(()));
        for started in [true, false] {
            let alive = alive.clone();
            tasks.spawn(|_| async move {
                pending::<()>().await;
                drop(alive);
            });
            if started {
                tasks.run();
            }
        }
        assert_eq!(Rc::strong_count(&alive), 3);
        drop(tasks);
        assert_eq!(Rc::strong_count(&alive), 1);
    }
}
