//! HTTP/1.1 over smol, for all HTTP servers of this crate: the list of connections, and their limits.
//!
//! A client that connects and sends no request blocks no other client: when there are too many connections, the oldest
//! one without a running request is closed.
//!
//! While the machine's clock has no date that HTTP can write, all connections are closed: hyper panics then.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    task::Poll,
    time::{Duration, SystemTime},
};

use hyper::{
    header::{self, HeaderMap, HeaderValue},
    server::conn::http1,
};
use smol::{Async, LocalExecutor, Task, Timer};
use smol_hyper::rt::SmolTimer;

use crate::stats::nearest_rfc3339;

/// How long to wait when the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
/// How often others may make room, before connections without a running request are closed.
const PAUSES: u32 = 2;

/// Whether a connection has a running request. The connection and the list of connections share it.
pub(crate) type Busy = Rc<Cell<bool>>;

/// All connections by number, in the order in which they came.
pub(crate) struct Connections {
    all: RefCell<BTreeMap<u64, Connection>>,
    begun: Cell<u64>,
    /// The most connections at once.
    most: usize,
    /// Whether the log says that the clock has no date.
    told: Cell<bool>,
    /// Asks other parts of the server for descriptors.
    want_room: Box<dyn Fn()>,
}

/// A connection, which is closed when this is dropped.
struct Connection {
    task: Task<()>,
    busy: Busy,
}

/// The settings of every connection. `head`: the time limit for the head of a request, from the end of the last answer.
/// `longest`: the most bytes of a head, at least 8192; each direction has a buffer of this size.
pub(crate) fn protocol(head: Duration, longest: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // GRUB and U-Boot look for `Content-Length` in this spelling.
    builder.timer(SmolTimer::new()).header_read_timeout(head).max_buf_size(longest).title_case_headers(true);
    builder
}

impl Connections {
    /// `want_room`: asks other parts of the server for descriptors.
    pub(crate) fn new(most: usize, want_room: impl Fn() + 'static) -> Rc<Self> {
        let (all, told, want_room) = (RefCell::default(), Cell::new(false), Box::new(want_room));
        Rc::new(Self { all, begun: Cell::new(0), most, told, want_room })
    }

    #[cfg(feature = "web")]
    pub(crate) fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Closes the oldest connection with a running request (`busy`), or without one. Returns whether there was one.
    pub(crate) fn close_oldest(&self, busy: bool) -> bool {
        let mut all = self.all.borrow_mut();
        let oldest = all.iter().find(|(_, connection)| connection.busy.get() == busy).map(|(number, _)| *number);
        let closed = oldest.and_then(|number| all.remove(&number));
        drop(all);
        // Here its task is dropped, which may look at the list.
        closed.is_some()
    }

    /// Makes room for one more connection.
    fn make_room(&self) -> bool {
        self.all.borrow().len() < self.most || self.close_oldest(false)
    }

    /// Accepts connections, and serves each in a task of its own. It never ends.
    pub(crate) async fn accept<'a, F: Future<Output = ()> + 'a>(
        self: &Rc<Self>,
        listener: &Async<TcpListener>,
        executor: &LocalExecutor<'a>,
        converse: impl Fn(Async<TcpStream>, SocketAddr, Busy) -> Option<F>,
    ) {
        let mut pauses = 0;
        loop {
            let accepted = listener.accept().await;
            pauses = if accepted.is_ok() { 0 } else { pauses + 1 };
            match accepted {
                Ok(_) if !self.has_date() => {}
                // Without room, the new connection is closed.
                Ok((stream, peer)) if self.make_room() => {
                    let busy = Busy::default();
                    if let Some(serving) = converse(stream, peer, busy.clone()) {
                        self.add(executor, serving, busy);
                    }
                }
                Ok((_, peer)) => log::debug!("{peer}: too many connections"),
                Err(error) => {
                    log::debug!("cannot accept a connection: {error}");
                    (self.want_room)();
                    // If nobody else makes room, these connections may have used the last descriptors.
                    if pauses > PAUSES {
                        self.close_oldest(false);
                    }
                    Timer::after(PAUSE).await;
                }
            }
        }
    }

    /// Whether the clock has a date for HTTP. Otherwise the log says so, once until the clock is right again.
    fn has_date(&self) -> bool {
        let is_right = is_date(SystemTime::now());
        if !is_right && !self.told.get() {
            log::error!("the clock of this machine is before 1970 or after 9999: HTTP connections are closed");
        }
        self.told.set(!is_right);
        is_right
    }

    fn add<'a>(self: &Rc<Self>, executor: &LocalExecutor<'a>, serving: impl Future<Output = ()> + 'a, busy: Busy) {
        let number = self.begun.get();
        self.begun.set(number + 1);
        let all = Rc::downgrade(self);
        // A future that is captured and then pinned has its place twice.
        let mut serving = Box::pin(serving);
        let task = executor.spawn(async move {
            // The clock may be set at any time.
            poll_fn(|cx| if is_date(SystemTime::now()) { serving.as_mut().poll(cx) } else { Poll::Ready(()) }).await;
            let ended = all.upgrade().and_then(|all: Rc<Self>| all.all.borrow_mut().remove(&number));
            // This task ends here by itself.
            if let Some(Connection { task, .. }) = ended {
                task.detach();
            }
        });
        self.all.borrow_mut().insert(number, Connection { task, busy });
    }
}

/// Whether a request names its host by an address, or as localhost. A page of another site whose name was made to
/// resolve to this machine could read the answers, and send uploads. Its requests carry that name.
pub(crate) fn names_an_address(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

/// The `Date` of an answer. hyper keeps the latest date that it has written, so a clock that is set back would stay
/// wrong in its answers.
pub(crate) fn date() -> HeaderValue {
    let now = httpdate::fmt_http_date(nearest_rfc3339(SystemTime::now()));
    HeaderValue::from_str(&now).expect("a date is ASCII")
}

/// Whether HTTP can write this date (RFC 9110 section 5.6.7).
fn is_date(time: SystemTime) -> bool {
    nearest_rfc3339(time) == time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_that_http_cannot_write() {
        let after = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(
            [before, after(0), after(253_402_300_799), after(253_402_300_800)].map(is_date),
            [false, true, true, false]
        );
    }
}
