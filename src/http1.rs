//! HTTP/1.1 over smol, for all that is served so: who is connected, and for how long.
//!
//! Whoever connects and asks nothing keeps nobody waiting: when there are too many connections, the oldest of those that are
//! not being answered gives way.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    net::{SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    time::Duration,
};

use hyper::server::conn::http1;
use smol::{Async, LocalExecutor, Task, Timer};
use smol_hyper::rt::SmolTimer;

/// How long to wait when the system has no more descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a connection is being answered. The connection and the list of all have it together.
pub(crate) type Busy = Rc<Cell<bool>>;

/// All that are connected, by their numbers, in the order in which they came.
pub(crate) struct Connections {
    all: RefCell<BTreeMap<u64, Connection>>,
    begun: Cell<u64>,
    /// So many at once.
    most: usize,
}

/// It is closed when this is dropped.
struct Connection {
    task: Task<()>,
    busy: Busy,
}

/// What is the same for every connection. `head`: how long the head of a request may take, counted from the end of the
/// answer before. `longest`: bytes of a head, at least 8192; so many are buffered in each direction.
pub(crate) fn protocol(head: Duration, longest: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // GRUB and U-Boot look for `Content-Length` as it is written here.
    builder.timer(SmolTimer::new()).header_read_timeout(head).max_buf_size(longest).title_case_headers(true);
    builder
}

impl Connections {
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self { all: RefCell::default(), begun: Cell::new(0), most })
    }

    #[cfg(feature = "web")]
    pub(crate) fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Closes the oldest that is being answered, or the oldest that is not, if there is one.
    pub(crate) fn close_oldest(&self, busy: bool) -> bool {
        let mut all = self.all.borrow_mut();
        let oldest = all.iter().find(|(_, connection)| connection.busy.get() == busy).map(|(number, _)| *number);
        let closed = oldest.and_then(|number| all.remove(&number));
        drop(all);
        // What its end sets off may look at the others.
        closed.is_some()
    }

    /// Makes room for one more.
    fn make_room(&self) -> bool {
        self.all.borrow().len() < self.most || self.close_oldest(false)
    }

    /// Has those who connect served, each by a task of its own. It never ends.
    pub(crate) async fn accept<'a, F: Future<Output = ()> + 'a>(
        self: &Rc<Self>,
        listener: &Async<TcpListener>,
        executor: &LocalExecutor<'a>,
        converse: impl Fn(Async<TcpStream>, SocketAddr, Busy) -> Option<F>,
    ) {
        loop {
            match listener.accept().await {
                // Without a place, it is closed.
                Ok((stream, peer)) if self.make_room() => {
                    let busy = Busy::default();
                    if let Some(serving) = converse(stream, peer, busy.clone()) {
                        self.add(executor, serving, busy);
                    }
                }
                Ok((_, peer)) => log::debug!("{peer}: too many connections"),
                Err(error) => {
                    log::debug!("cannot accept a connection: {error}");
                    // It may have been the last descriptor.
                    self.close_oldest(false);
                    Timer::after(PAUSE).await;
                }
            }
        }
    }

    fn add<'a>(self: &Rc<Self>, executor: &LocalExecutor<'a>, serving: impl Future<Output = ()> + 'a, busy: Busy) {
        let number = self.begun.get();
        self.begun.set(number + 1);
        let all = Rc::downgrade(self);
        let task = executor.spawn(async move {
            serving.await;
            let ended = all.upgrade().and_then(|all: Rc<Self>| all.all.borrow_mut().remove(&number));
            // It is this task, which has nothing more to do.
            if let Some(Connection { task, .. }) = ended {
                task.detach();
            }
        });
        self.all.borrow_mut().insert(number, Connection { task, busy });
    }
}
