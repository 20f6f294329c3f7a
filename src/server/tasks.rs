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
    sync::{Arc, OnceLock},
    task::Waker,
};

use async_task::{Runnable, Task};
use slab::Slab;

use crate::sync::Mutex;

/// The tasks of a shard. They are cancelled when it is dropped.
#[derive(Default)]
pub(crate) struct Tasks {
    queue: Arc<Queue>,
    /// The tasks that have not ended.
    all: RefCell<Slab<Task<()>>>,
    /// The memory of the queue while the queue does not use it.
    spare: RefCell<Vec<Runnable>>,
}

/// The slot of a task among all tasks. The task is over when its slot is dropped.
pub(crate) struct TaskSlot {
    key: usize,
    tasks: Weak<Tasks>,
}

/// The woken tasks. Any thread may wake one.
#[derive(Default)]
struct Queue {
    woken: Mutex<Vec<Runnable>>,
    /// The waker of the loop that runs them.
    loop_waker: OnceLock<Waker>,
}

impl Tasks {
    /// Sets the waker that is woken when there is a task to run. Call it once, before anything else.
    pub(crate) fn set_waker(&self, loop_waker: Waker) {
        let _ = self.queue.loop_waker.set(loop_waker);
    }

    /// Spawns a task. Its future owns its slot. (An outer future that gives the slot back would hold the inner one
    /// twice: that is how `async` blocks are laid out.)
    pub(crate) fn spawn<F: Future<Output = ()> + 'static>(self: &Rc<Self>, future: impl FnOnce(TaskSlot) -> F) {
        let key = self.all.borrow().vacant_key();
        let future = future(TaskSlot { key, tasks: Rc::downgrade(self) });
        let queue = self.queue.clone();
        // A panic ends its task and nothing else: it goes to the owner of the handle, and no code awaits the handle.
        let builder = async_task::Builder::new().propagate_panic(true);
        let (runnable, task) = builder.spawn_local(|()| future, move |runnable| queue.push(runnable));
        self.all.borrow_mut().insert(task);
        runnable.schedule();
    }

    /// Runs all woken tasks, once.
    pub(crate) fn run(&self) {
        let mut batch = mem::replace(&mut *self.queue.woken.lock(), self.spare.take());
        for runnable in batch.drain(..) {
            runnable.run();
        }
        self.spare.replace(batch);
    }

    /// Whether there is a task to run.
    pub(crate) fn are_woken(&self) -> bool {
        !self.queue.woken.lock().is_empty()
    }

    /// Makes the loop take a turn.
    pub(crate) fn wake(&self) {
        self.queue.wake_loop();
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // Each task is woken once more, and dropped where it would have run.
        self.all.take().clear();
        while self.are_woken() {
            // The lock is free here, because a dropped task may wake others.
            let woken = mem::take(&mut *self.queue.woken.lock());
            drop(woken);
        }
    }
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        if let Some(task) = self.tasks.upgrade().and_then(|tasks| tasks.all.borrow_mut().try_remove(self.key)) {
            task.detach();
        }
    }
}

impl Queue {
    fn push(&self, runnable: Runnable) {
        let mut woken = self.woken.lock();
        woken.push(runnable);
        // The first push has woken the loop.
        if woken.len() == 1 {
            drop(woken);
            self.wake_loop();
        }
    }

    fn wake_loop(&self) {
        if let Some(loop_waker) = self.loop_waker.get() {
            loop_waker.wake_by_ref();
        }
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
    struct LoopWaker(AtomicUsize);

    impl Wake for LoopWaker {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn tasks() -> (Rc<Tasks>, Arc<LoopWaker>) {
        let (tasks, loop_waker) = (Rc::new(Tasks::default()), Arc::new(LoopWaker::default()));
        tasks.set_waker(loop_waker.clone().into());
        (tasks, loop_waker)
    }

    #[test]
    fn each_task_runs_once_and_the_loop_is_woken_once_for_all() {
        let ((tasks, loop_waker), turns) = (tasks(), Rc::new(Cell::new(0)));
        for _ in 0..10 {
            let turns = turns.clone();
            tasks.spawn(|slot| async move {
                for _ in 0..3 {
                    turns.set(turns.get() + 1);
                    yield_now().await;
                }
                drop(slot);
            });
        }
        for turn in 1..=4 {
            assert_eq!(loop_waker.0.load(SeqCst), turn);
            tasks.run();
            assert_eq!(turns.get(), 10 * turn.min(3));
        }
        assert!(tasks.all.borrow().is_empty());
        assert_eq!(loop_waker.0.load(SeqCst), 4, "nothing is left to run");
    }

    #[test]
    fn another_thread_may_wake_a_task() {
        let ((tasks, loop_waker), done) = (tasks(), Rc::new(Cell::new(false)));
        // This task ends in the other thread when it is run.
        let (elsewhere, over) = async_task::spawn(async {}, drop);
        let reports = done.clone();
        tasks.spawn(|_| async move {
            over.await;
            reports.set(true);
        });
        tasks.run();
        let woken_before = loop_waker.0.load(SeqCst);
        thread::spawn(|| elsewhere.run()).join().unwrap();
        assert_eq!(loop_waker.0.load(SeqCst), woken_before + 1);
        tasks.run();
        assert!(done.get());
    }

    #[test]
    fn waiting_tasks_are_dropped_with_the_shard() {
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
