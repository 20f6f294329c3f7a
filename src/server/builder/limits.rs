//! The limits and the times of a server.

use std::time::Duration;

use super::ServerBuilder;
use crate::options::{BLKSIZE, WINDOWSIZE, wide};

impl ServerBuilder {
    /// The largest blksize that the server grants, in bytes, 8 to 65464. Defaults to the largest that needs no IP
    /// fragments: the MTU of the interface that the request came by, without headers (1468 on Ethernet and IPv4).
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").blksize(4);
    /// assert!(server.bind().is_err(), "RFC 2348 begins at 8");
    /// ```
    pub fn blksize(mut self, most: u16) -> Self {
        self.check("blksize", most.into(), wide(BLKSIZE));
        self.settings.policy.blksize = Some(most);
        self
    }

    /// The largest windowsize that the server grants, in blocks, 1 or more. Defaults to 64, or less where one forged
    /// ACK, sent to all ports that the transfer may have, would bring more than
    /// [50 times](crate::endpoint::AMPLIFICATION) its bytes. So blocks that do not fit Ethernet get smaller windows. A
    /// [single port](Self::single_port) has 4 at most, 3 with blocks above 1168 bytes. A value that is set here holds
    /// in every case; [`Server::warnings`](crate::Server::warnings) says what it costs.
    ///
    /// ```
    /// let builder = || tuffet::Server::builder().listen("127.0.0.1:0");
    /// assert!(builder().windowsize(0).bind().is_err());
    /// let warnings = builder().single_port(true).windowsize(64).bind()?.warnings().to_vec();
    /// assert_eq!(warnings.len(), 1, "a forger may use it");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn windowsize(mut self, most: u16) -> Self {
        self.check("windowsize", most.into(), wide(WINDOWSIZE));
        self.settings.policy.windowsize = Some(most);
        self
    }

    /// The longest time between two retransmits if the client did not ask for a `timeout`. Defaults to 5 s. The actual
    /// time follows the measured round trip.
    ///
    /// ```
    /// # #[cfg(feature = "sim")]
    /// # futures_lite::future::block_on(async {
    /// use std::time::Duration;
    /// use tuffet::{read, sim};
    ///
    /// let handler = read(|_| vec![0; 50_000]);
    /// let get = || sim::get(&handler, "zeros").loss(0.3).seed(1);
    /// let quick = get().server(|builder| builder.timeout(Duration::from_millis(50))).await?;
    /// assert!(quick.elapsed < get().await?.elapsed, "lost blocks go out again sooner");
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timing.timeout = timeout;
        self
    }

    /// How long a client may be silent, a handler without an answer, or a source without a chunk, before the transfer
    /// ends. Defaults to 30 s: GRUB is silent for seconds while it unpacks.
    ///
    /// ```
    /// # #[cfg(feature = "sim")] {
    /// use std::time::Duration;
    /// use tuffet::{ServerBuilder, read, sim};
    ///
    /// let builder = ServerBuilder::default().handler(read(|_| "hello\n")).patience(Duration::from_secs(8));
    /// let mut server = sim::Server::new(builder, 7);
    /// server.deliver(([192, 0, 2, 7], 1069).into(), server.addr(), b"\0\x01motd\0octet\0");
    /// server.pass(server.now() + Duration::from_secs(8));
    /// assert_eq!(server.handle().counters().reads.timed_out, 1);
    /// # }
    /// ```
    pub fn patience(mut self, patience: Duration) -> Self {
        self.settings.timing.patience = patience;
        self
    }

    /// How many transfers may run at once, in each shard. Further requests are not answered, so that the clients try
    /// again. But if the clients of some transfers have not answered yet, the oldest of these transfers loses its
    /// place to the new request, so that forged requests cannot hold all places. Defaults to 10000.
    ///
    /// ```
    /// # #[cfg(feature = "sim")] {
    /// use tuffet::{ServerBuilder, read, sim};
    ///
    /// let builder = ServerBuilder::default().handler(read(|_| "hello\n")).max_transfers(1);
    /// let mut server = sim::Server::new(builder, 7);
    /// for n in 7..10 {
    ///     server.deliver(([192, 0, 2, n], 1069).into(), server.addr(), b"\0\x01motd\0octet\0");
    /// }
    /// assert_eq!(server.handle().transfers().len(), 1, "nobody has answered, so the last one has the place");
    /// # }
    /// ```
    pub fn max_transfers(mut self, most: usize) -> Self {
        self.settings.policy.max_transfers = most;
        self
    }

    /// How many transfers of one client address may run at once, in each shard. Further requests are not answered, so
    /// that the client tries again. Defaults to half of [`max_transfers`](Self::max_transfers), and 100 at least:
    /// behind an address translator or a container's bridge a whole room of machines has one address, and it must
    /// leave room only for the others.
    ///
    /// ```
    /// # #[cfg(feature = "sim")] {
    /// use tuffet::{ServerBuilder, read, sim};
    ///
    /// let builder = ServerBuilder::default().handler(read(|_| "hello\n")).max_transfers_per_client(1);
    /// let mut server = sim::Server::new(builder, 7);
    /// for port in 1069..1072 {
    ///     server.deliver(([192, 0, 2, 7], port).into(), server.addr(), b"\0\x01motd\0octet\0");
    /// }
    /// assert_eq!(server.handle().counters().over_limit, 2);
    /// # }
    /// ```
    pub fn max_transfers_per_client(mut self, most: usize) -> Self {
        self.settings.policy.max_transfers_per_client = Some(most);
        self
    }

    /// How many requests of one client address the server looks at in a second, in each shard; ten times as many may
    /// come at once. 0 is no limit. Further requests are not answered. Defaults to 1000, which a thousand machines
    /// behind one address reach when each asks for eleven files within a second.
    ///
    /// The limit takes a fixed 32 KiB for each shard, however many addresses there are, real or forged.
    ///
    /// ```
    /// # #[cfg(feature = "sim")] {
    /// use tuffet::{ServerBuilder, read, sim};
    ///
    /// let builder = ServerBuilder::default().handler(read(|_| "hello\n")).max_requests_per_client(1);
    /// let mut server = sim::Server::new(builder, 7);
    /// for _ in 0..11 {
    ///     server.deliver(([192, 0, 2, 7], 1069).into(), server.addr(), b"\0\x01motd\0octet\0");
    /// }
    /// assert_eq!(server.handle().counters().over_limit, 1, "ten may come at once");
    /// # }
    /// ```
    pub fn max_requests_per_client(mut self, per_second: u32) -> Self {
        self.settings.policy.max_requests_per_client = per_second;
        self
    }

    /// The largest upload, in bytes, as it travels. Defaults to 1 GiB: a client that never ends its file would fill
    /// the disk. If the client sends the size, the upload may not be larger than that either. The next byte is
    /// answered with ERROR 3.
    ///
    /// ```
    /// # #[cfg(feature = "sim")]
    /// # futures_lite::future::block_on(async {
    /// use tuffet::{Error, ErrorCode, handlers::Memory, sim};
    ///
    /// let put = sim::put(&Memory::new(), "switch.cfg", vec![0; 5000]).server(|builder| builder.max_upload(4096));
    /// assert!(matches!(put.await, Err(Error::Peer { code: ErrorCode::DISK_FULL, .. })));
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn max_upload(mut self, most: u64) -> Self {
        self.settings.max_upload = most;
        self
    }

    /// How long transfers may continue after [`ServerHandle::stop`](crate::ServerHandle::stop). Defaults to 10 s.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").drain(Duration::ZERO).bind()?.spawn()?;
    /// assert!(smol::block_on(server.stop()).is_ok());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn drain(mut self, drain: Duration) -> Self {
        self.settings.drain = drain;
        self
    }
}
