//! The hook that is called once in a period with the counts of that period.

use std::{
    fmt, io,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
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
    /// Nothing is ever sent. The thread ends when the channel is closed.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Period {
    pub(super) fn new(every: Duration, hook: impl Fn(&Counters) + Send + 'static) -> Self {
        Self { every: every.max(Duration::from_millis(1)), hook: Box::new(hook) }
    }

    pub(super) fn begin(self, registry: Arc<Registry>, around: Around) -> io::Result<PeriodThread> {
        let (running, over) = mpsc::channel();
        let periods = move || {
            let mut then = Counters::default();
            loop {
                let is_over = over.recv_timeout(self.every) != Err(RecvTimeoutError::Timeout);
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
        Ok(PeriodThread { running: Some(running), thread: Some(thread) })
    }
}

impl Drop for PeriodThread {
    fn drop(&mut self) {
        self.running = None;
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
