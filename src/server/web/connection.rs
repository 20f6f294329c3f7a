//! One connection, and its requests one after the other.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use futures_lite::AsyncReadExt;
use hyper::service::service_fn;
use smol::{Async, Timer, channel::Receiver, future::or};

use super::{answer, head::Head, serve::Site, transfer::Transfer, wire::Wire};
use crate::{
    error::Refusal,
    http1::{self, Busy},
    transfer::Outcome,
    within::within,
};

/// The time limit for the head of a request, from the end of the last answer. It is no longer than the server's
/// patience. Firmware unpacks between two files.
const HEAD: Duration = Duration::from_secs(30);
/// The size of hyper's buffer for each direction, which also bounds the head of a request.
pub(super) const BUFFER: usize = 16 << 10;
/// Fewer bytes than these within the server's patience are no progress. Otherwise a client that takes one byte now and
/// then would hold its place for ever.
const PROGRESS: u64 = 4096;
/// How many bytes of a refused request are read, so that the client sees the answer: a socket that is closed with
/// unread bytes drops the answer.
const UNREAD_BYTES: u64 = 1 << 20;
/// How long they are read.
const UNREAD_TIME: Duration = Duration::from_secs(2);

/// The state that the parts of a connection share.
pub(super) struct State {
    busy: Busy,
    /// The head of the next request.
    pub(super) head: Head,
    current: RefCell<Option<Rc<Transfer>>>,
    /// The bytes written since the transfer began, the head included.
    written: Cell<u64>,
    /// When the server began to wait for the client, if it does.
    client_since: Cell<Option<Instant>>,
    /// How many bytes the client has sent or received since.
    client_moved: Cell<u64>,
    /// When the server began to wait for the handler or its source, if it does.
    source_since: Cell<Option<Instant>>,
    /// The parts of files that the kernel sends.
    #[cfg(target_os = "linux")]
    pub(super) placeholders: super::placeholder::Placeholders,
    /// Whether a request has a body that is not read to its end.
    pub(super) unread: Cell<bool>,
    /// Whether only the end of the connection ends the answer.
    pub(super) undelimited: Cell<bool>,
}

impl State {
    fn new(busy: Busy) -> Rc<Self> {
        Rc::new(Self {
            busy,
            head: Head::default(),
            current: RefCell::default(),
            written: Cell::default(),
            client_since: Cell::default(),
            client_moved: Cell::default(),
            source_since: Cell::default(),
            #[cfg(target_os = "linux")]
            placeholders: super::placeholder::Placeholders::default(),
            unread: Cell::default(),
            undelimited: Cell::default(),
        })
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.get()
    }

    pub(super) fn begin(&self, transfer: Rc<Transfer>) {
        self.busy.set(true);
        self.written.set(0);
        self.client_is_done();
        self.source_since.set(None);
        self.current.replace(Some(transfer));
    }

    /// Counts written bytes.
    pub(super) fn wrote(&self, bytes: u64) {
        self.written.set(self.written.get() + bytes);
        self.note_client_progress(bytes);
    }

    pub(super) fn note_client_progress(&self, bytes: u64) {
        self.client_moved.set(self.client_moved.get() + bytes);
        if self.client_moved.get() >= PROGRESS {
            self.client_is_done();
        }
    }

    pub(super) fn wait_for_client(&self) {
        self.client_since.set(self.client_since.get().or_else(|| Some(Instant::now())));
    }

    pub(super) fn client_is_done(&self) {
        self.client_since.set(None);
        self.client_moved.set(0);
    }

    pub(super) fn wait_for_source(&self) {
        self.source_since.set(self.source_since.get().or_else(|| Some(Instant::now())));
    }

    pub(super) fn source_is_ready(&self) {
        self.source_since.set(None);
    }

    /// All written bytes have gone to the kernel.
    pub(super) fn flushed(&self) {
        let is_over = self.current.borrow().as_ref().is_some_and(|transfer| transfer.is_sent(self.written.get()));
        if is_over {
            self.client_is_done();
            self.busy.set(false);
            let over = self.current.take();
            over.iter().for_each(|transfer| transfer.finish());
        }
    }

    /// Why a connection ended that the other side did not close.
    fn failure(&self) -> Option<Refusal> {
        #[cfg(target_os = "linux")]
        return self.placeholders.failure();
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Ends the transfer with the connection.
    fn end_transfer(&self, why: Outcome) {
        let current = self.current.take();
        self.busy.set(false);
        if let Some(transfer) = current {
            transfer.cut_off(why, self.written.get());
        }
    }

    /// Waits until the transfer has made no progress for the server's patience.
    async fn stalled(&self) -> Outcome {
        loop {
            let patience = self.current.borrow().as_ref().map(|transfer| transfer.patience());
            let patience = patience.unwrap_or(HEAD);
            Timer::after((patience / 8).max(Duration::from_millis(5))).await;
            let is_late = |since: &Cell<Option<Instant>>| since.get().is_some_and(|since| since.elapsed() >= patience);
            if self.current.borrow().is_none() {
                continue;
            }
            if is_late(&self.client_since) {
                return Outcome::TimedOut;
            }
            if is_late(&self.source_since) {
                return Outcome::Failed(Refusal::internal().because("the source gave no data for too long"));
            }
        }
    }
}

pub(super) async fn serve_connection(
    stream: Async<TcpStream>,
    peer: SocketAddr,
    busy: Busy,
    site: Rc<Site>,
    stopping: Receiver<()>,
) {
    let (stream, state) = (Rc::new(stream), State::new(busy));
    let Ok(local) = stream.get_ref().local_addr() else { return };
    // Small packets should not wait for the ACK of earlier ones.
    let _ = stream.get_ref().set_nodelay(true);
    let addresses = answer::Addresses { peer, local };
    let head = HEAD.min(site.shared.current.terms().settings.timing.patience);
    let service = service_fn(|request| answer::answer(site.clone(), state.clone(), addresses, request));
    let wire = Wire::new(stream.clone(), state.clone());
    let result = {
        // A client may close its sending side after its request, and still wait for the answer.
        let mut connection = pin!(http1::protocol(head, BUFFER).half_close(true).serve_connection(wire, service));
        let (mut stop, mut has_stopped) = (pin!(stopping.recv()), false);
        let talk = poll_fn(|cx| {
            if !has_stopped && stop.as_mut().poll(cx).is_ready() {
                has_stopped = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx).map(|ended| ended.map_err(Broken::Connection))
        });
        or(talk, async { Err(Broken::Stalled(state.stalled().await)) }).await
    };
    let failed = result.is_err();
    // hyper has answered with a status of its own.
    let is_malformed = matches!(&result, Err(Broken::Connection(error)) if error.is_parse());
    if is_malformed {
        site.gate.note_malformed();
    }
    let why = match result {
        Err(Broken::Stalled(outcome)) => outcome,
        Err(Broken::Connection(error)) => {
            log::debug!("{peer}: {error}");
            state.failure().map_or_else(Transfer::closed_by_client, Outcome::Failed)
        }
        Ok(()) => Transfer::closed_by_client(),
    };
    // Drop the bytes that a slow reader has not taken, and do not let half a file pass for the whole.
    if matches!(why, Outcome::TimedOut | Outcome::Failed(_)) || failed && state.undelimited.get() {
        let _ = socket2::SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO));
    }
    state.end_transfer(why);
    if state.unread.get() && !failed || is_malformed {
        let _ = stream.get_ref().shutdown(Shutdown::Write);
        within(UNREAD_TIME, read_rest(&stream)).await;
    }
}

enum Broken {
    Connection(hyper::Error),
    Stalled(Outcome),
}

async fn read_rest(stream: &Async<TcpStream>) {
    let read = || async {
        let (mut stream, mut left, mut buffer) = (stream, UNREAD_BYTES, [0; 8192]);
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                length => left = left.saturating_sub(length as u64),
            }
        }
        io::Result::Ok(())
    };
    let _ = read().await;
}
