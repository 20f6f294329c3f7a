//! A server that runs in threads of its own.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    thread::{self, JoinHandle},
};

use futures_lite::future;
use smol::channel::{Receiver, bounded};

use super::{Server, ServerHandle};
use crate::error::Error;

/// A server that runs in threads of its own. [`Server::spawn`] makes one.
///
/// When it is dropped, it ends all transfers with an ERROR and waits for its threads, so that its ports are free.
/// [`stop`](Self::stop) lets the transfers end first. `Running` is the right form for a test.
///
/// ```
/// use tuffet::{Client, Server, read};
///
/// let handler = read(|_| "hello\n");
/// let server = Server::builder().listen("127.0.0.1:0").handler(handler).bind()?.spawn()?;
/// let client = Client::new(server.addrs()[0]);
/// let record = smol::block_on(client.get("motd", async |data| data.collect(100).await.map(drop)))?;
/// assert_eq!(record.bytes, 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "it serves until this is dropped"]
pub struct Running {
    addrs: Vec<SocketAddr>,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
    ended: Receiver<Result<(), Error>>,
}

impl Server {
    /// Serves in threads of its own, one for each shard, until the server is stopped.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?.spawn()?;
    /// assert_eq!(server.handle().counters().running, 0);
    /// smol::block_on(server.stop())?;
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if a thread cannot be started.
    pub fn spawn(self) -> Result<Running, Error> {
        let (addrs, handle, (end, ended)) = (self.addrs().to_vec(), self.handle(), bounded(1));
        let work = move || drop(end.try_send(self.run()));
        let thread = thread::Builder::new().name("tuffet-1".into()).spawn(work)?;
        Ok(Running { addrs, handle, thread: Some(thread), ended })
    }

    /// Serves in threads of its own until this future is ready, or the server is stopped otherwise. Then it lets
    /// transfers end as [`Running::stop`] does. It blocks no thread, so it is the right form for an async program, in
    /// any runtime. If the future is dropped, the server ends as a [`Running`] that is dropped.
    ///
    /// ```no_run
    /// use tuffet::{Server, read};
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<(), tuffet::Error> {
    ///     // The feature `tokio` lets a handler await tokio's futures.
    ///     Server::builder()
    ///         .handler(read(async |request: tuffet::Request| tokio::fs::read(request.path().to_owned()).await))
    ///         .bind()?
    ///         .run_until(tokio::signal::ctrl_c())
    ///         .await
    /// }
    /// ```
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub async fn run_until(self, stop: impl Future) -> Result<(), Error> {
        let mut running = self.spawn()?;
        let stopped = async {
            let _ = stop.await;
            None
        };
        match future::or(stopped, async { Some(running.ended.recv().await) }).await {
            None => running.stop().await,
            Some(ended) => running.take(ended.ok()),
        }
    }
}

impl Running {
    /// The addresses that the server listens on. An address with port 0 shows the port that the system chose.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?.spawn()?;
    /// assert_ne!(server.addrs()[0].port(), 0);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The handle, which stops the server and shows its state.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?.spawn()?;
    /// let handle = server.handle().clone();
    /// std::thread::spawn(move || handle.stop());
    /// assert!(server.join().is_ok());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// Refuses further requests, lets the transfers continue for as long as
    /// [`ServerBuilder::drain`](crate::ServerBuilder::drain) says, and waits for the threads.
    ///
    /// ```
    /// # smol::block_on(async {
    /// let running = tuffet::Server::builder().listen("127.0.0.1:0").bind()?.spawn()?;
    /// running.stop().await?;
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`Server::run`].
    pub async fn stop(mut self) -> Result<(), Error> {
        self.handle.stop();
        let ended = self.ended.recv().await;
        self.take(ended.ok())
    }

    /// Waits until the server is stopped through its [`handle`](Self::handle). Blocks this thread.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?.spawn()?;
    /// server.handle().stop();
    /// assert!(server.join().is_ok());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Server::run`].
    pub fn join(mut self) -> Result<(), Error> {
        let ended = self.ended.recv_blocking();
        self.take(ended.ok())
    }

    /// The result of a server that has ended; its thread ends in a moment. A panic leaves no result.
    fn take(&mut self, ended: Option<Result<(), Error>>) -> Result<(), Error> {
        let joined = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        ended.filter(|_| joined).unwrap_or_else(|| Err(io::Error::other("a shard panicked").into()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.abort();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
