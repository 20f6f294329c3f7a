//! The hook that is called once in a period with the counts of that period.

use std::{
    fmt, io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::around::Around;
use crate::stats::{Counters, Registry};

pub(super) struct Period {
    every: Duration,
    hook: Box<dyn Fn(&Counters) + Send>,
}

/// The thread that calls the hook. It ends when this is dropped, after a last call.
pub(super) struct PeriodThread {
    over: Arc<Over>,
    thread: Option<JoinHandle<()>>,
}

/// Whether the server has ended.
#[derive(Default)]
struct Over {
    is_over: Mutex<bool>,
    changed: Condvar,
}

impl Period {
    pub(super) fn new(every: Duration, hook: impl Fn(&Counters) + Send + 'static) -> Self {
        Self { every: every.max(Duration::from_millis(1)), hook: Box::new(hook) }
    }

    pub(super) fn begin(self, registry: Arc<Registry>, around: Around) -> io::Result<PeriodThread> {
        let over = Arc::<Over>::default();
        let ending = over.clone();
        let periods = move || {
            let mut then = Counters::default();
            loop {
                let is_over = ending.is_over_within(self.every);
                let now = registry.counters();
                (self.hook)(&now.since(&then));
                then = now;
                if is_over {
                    break Ok(());
                }
            }
        };
        let work = move || {
            if let Err(error) = around.run(periods) {
                log::error!("the hook of the period is not called: {error}");
            }
        };
        let thread = thread::Builder::new().name("tuffet-period".into()).spawn(work)?;
        Ok(PeriodThread { over, thread: Some(thread) })
    }
}

impl Over {
    fn is_over_within(&self, time: Duration) -> bool {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_over, time, |is_over| !*is_over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn end(&self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

impl Drop for PeriodThread {
    fn drop(&mut self) {
        self.over.end();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the hook of the period panicked");
        }
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Period").field(&self.every).finish()
    }
}
