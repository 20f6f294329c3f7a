//! The client for programs without async.

use std::io::Write;

use super::Client;
use crate::{error::Error, source::IntoSource, stats::Record};

/// A [`Client`] whose calls block their thread until the transfer is over. Do not use it in async code.
///
/// ```
/// use tuffet::{Client, Server, handlers::Memory};
///
/// let server = Server::builder().listen("127.0.0.1:0").handler(Memory::new()).bind()?.spawn()?;
/// let client = Client::new(server.addrs()[0]).blocking();
/// client.put("switch.cfg", "hostname lab\n")?;
/// let mut saved = Vec::new();
/// client.get("switch.cfg", &mut saved)?;
/// assert_eq!(saved, b"hostname lab\n");
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockingClient(Client);

impl Client {
    /// This client, for a program without async.
    ///
    /// ```
    /// use tuffet::{Client, Server, read};
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").handler(read(|_| "hello\n")).bind()?.spawn()?;
    /// let mut motd = Vec::new();
    /// Client::new(server.addrs()[0]).blocking().get("motd", &mut motd)?;
    /// assert_eq!(motd, b"hello\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn blocking(self) -> BlockingClient {
        BlockingClient(self)
    }
}

impl BlockingClient {
    /// Gets a file. Its bytes go to this writer as they arrive. A writer is a file or a `&mut Vec<u8>`, for example.
    ///
    /// ```
    /// use tuffet::{Client, Error, ErrorCode, Server};
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").bind()?.spawn()?;
    /// let error = Client::new(server.addrs()[0]).blocking().get("none", std::io::sink()).unwrap_err();
    /// assert!(matches!(error, Error::Peer { code: ErrorCode::FILE_NOT_FOUND, .. }));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::get`]; [`Error::Refused`] holds the writer's error.
    pub fn get(&self, name: &(impl AsRef<[u8]> + ?Sized), mut to: impl Write) -> Result<Record, Error> {
        smol::block_on(self.0.get(name, async |mut data| {
            while let Some(chunk) = data.next().await {
                to.write_all(&chunk?)?;
            }
            Ok(to.flush()?)
        }))
    }

    /// Puts a file. The source is text, bytes, a [`File`](std::fs::File) or any other source.
    ///
    /// ```no_run
    /// let client = tuffet::Client::new(([192, 0, 2, 1], 69).into()).blocking();
    /// client.put("switch.cfg", std::fs::File::open("switch.cfg")?)?;
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::put`].
    pub fn put(&self, name: &(impl AsRef<[u8]> + ?Sized), source: impl IntoSource) -> Result<Record, Error> {
        smol::block_on(self.0.put(name, source))
    }
}
