//! A server beside the shards, on a thread of its own.

use std::{
    future::Future,
    io,
    thread::{self, JoinHandle},
};

use smol::{
    channel::{Sender, bounded},
    future::or,
};

/// A running server.
#[derive(Debug)]
pub(crate) struct Background {
    what: &'static str,
    /// Nothing is ever sent. The server ends when the channel is closed.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Runs the server that this function makes on a thread of this name. `what` names the server for people.
    pub(crate) fn spawn<F: Future<Output = ()>>(
        name: &str,
        what: &'static str,
        serve: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<Self> {
        let (running, over) = bounded(1);
        let work = move || smol::block_on(or(serve(), async { _ = over.recv().await }));
        let thread = thread::Builder::new().name(name.into()).spawn(work)?;
        Ok(Self { what, running: Some(running), thread: Some(thread) })
    }

    /// Ends the server, and waits for its thread.
    pub(crate) fn end(&mut self) {
        self.running = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("{} panicked", self.what);
        }
    }
}
