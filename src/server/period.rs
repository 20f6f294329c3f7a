//! The hook that is called once in a period with the counts of that period.

use std::{
    fmt, io,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
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

/// The running periods. They end when this is dropped, which waits for the last call.
pub(super) struct Going {
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Period {
    pub(super) fn new(every: Duration, hook: impl Fn(&Counters) + Send + 'static) -> Self {
        Self { every: every.max(Duration::from_millis(1)), hook: Box::new(hook) }
    }

    pub(super) fn begin(self, registry: Arc<Registry>, around: Around) -> io::Result<Going> {
        let (over, is_over) = channel();
        let periods = move || {
            let mut then = Counters::default();
            loop {
                let ended = is_over.recv_timeout(self.every);
                let now = registry.counters();
                (self.hook)(&now.since(&then));
                then = now;
                if ended != Err(RecvTimeoutError::Timeout) {
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
        Ok(Going { over: Some(over), thread: Some(thread) })
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.over = None;
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
