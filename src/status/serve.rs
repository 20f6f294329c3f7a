//! HTTP/1.1 over smol. Each connection carries one request. Who connects and says nothing, or asks and reads nothing, keeps
//! nobody waiting: when there are too many of either, the one that has been there for longest gives way.

use std::{
    cell::{OnceCell, RefCell},
    convert::Infallible,
    net::TcpListener,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use smol::{
    Async, LocalExecutor, Task, Timer,
    future::or,
    lock::{Semaphore, SemaphoreGuardArc},
};
use smol_hyper::rt::{FuturesIo, SmolTimer};

use super::site::Site;

/// Connections at once. Each takes a descriptor and some 10 KiB.
const CONNECTIONS: usize = 64;
/// Of them, those that are being answered. Each may hold an answer with the whole history.
const ANSWERS: usize = 8;
/// How long an answer waits for the end of another, before the oldest gives way.
const GRACE: Duration = Duration::from_millis(250);
/// For all of a request and its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// For the head of the request.
const HEAD: Duration = Duration::from_secs(2);
/// What a request may be long, in bytes; hyper takes no less.
const LONGEST: usize = 8192;

pub(super) async fn serve(listener: Async<TcpListener>, site: Site) {
    let (executor, site) = (LocalExecutor::new(), Rc::new(site));
    let connections = Rc::new(Connections::default());
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (place, site, all) = (Place::default(), site.clone(), connections.clone());
                    let task = executor.spawn(converse(stream, site, all, place.clone()));
                    connections.add(Connection { task, place });
                }
                Err(error) => {
                    log::debug!("status: cannot accept a connection: {error}");
                    Timer::after(Duration::from_millis(100)).await;
                }
            }
        }
    };
    executor.run(or(accept, site.watch())).await
}

/// In the order in which they came.
struct Connections {
    all: RefCell<Vec<Connection>>,
    answers: Arc<Semaphore>,
}

/// It is closed when this is dropped.
struct Connection {
    task: Task<()>,
    place: Place,
}

/// A place among the answers, from the moment that the request is there to the end of the connection.
type Place = Rc<OnceCell<SemaphoreGuardArc>>;

impl Default for Connections {
    fn default() -> Self {
        Self { all: RefCell::default(), answers: Arc::new(Semaphore::new(ANSWERS)) }
    }
}

impl Connections {
    fn add(&self, connection: Connection) {
        let mut all = self.all.borrow_mut();
        all.retain(|connection| !connection.task.is_finished());
        if all.len() >= CONNECTIONS {
            let oldest = all.iter().position(|connection| connection.place.get().is_none()).unwrap_or(0);
            all.remove(oldest);
        }
        all.push(connection);
    }

    fn close_oldest_answer(&self) {
        let mut all = self.all.borrow_mut();
        if let Some(oldest) = all.iter().position(|connection| connection.place.get().is_some()) {
            all.remove(oldest);
        }
    }

    async fn enter(&self, place: &Place) {
        let free = self.answers.acquire_arc();
        let forced = async {
            Timer::after(GRACE).await;
            self.close_oldest_answer();
            self.answers.acquire_arc().await
        };
        // There is one request in a connection.
        let _ = place.set(or(free, forced).await);
    }
}

async fn converse(stream: Async<std::net::TcpStream>, site: Rc<Site>, connections: Rc<Connections>, place: Place) {
    let service = service_fn(|request| {
        let (site, connections, place) = (&site, &connections, &place);
        async move {
            connections.enter(place).await;
            Ok::<_, Infallible>(site.answer(&request))
        }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(SmolTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LONGEST)
        .serve_connection(FuturesIo::new(stream), service);
    let too_long = async {
        Timer::after(PATIENCE).await;
        Ok(())
    };
    if let Err(error) = or(connection, too_long).await {
        log::debug!("status: {error}");
    }
}
