//! Each connection carries one request. A client that sends no request, or reads no answer, blocks no other client:
//! when there are too many such connections, the oldest one is closed.

use std::{cell::OnceCell, convert::Infallible, net::TcpListener, rc::Rc, sync::Arc, time::Duration};

use hyper::service::service_fn;
use smol::{
    Async, LocalExecutor, Timer,
    future::or,
    lock::{Semaphore, SemaphoreGuardArc},
};
use smol_hyper::rt::FuturesIo;

use super::site::Site;
use crate::{
    http1::{self, Busy, Connections},
    within::within,
};

/// The most connections at once. Each takes a descriptor and some 10 KiB.
const CONNECTIONS: usize = 64;
/// The most connections with a running answer. Each may hold an answer with the whole history.
const ANSWERS: usize = 8;
/// How long an answer waits for the end of another, before the oldest connection is closed.
const GRACE: Duration = Duration::from_millis(250);
/// The time limit for a request and its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time limit for the head of a request.
const HEAD: Duration = Duration::from_secs(2);
/// The most bytes of a request's head; hyper takes no less.
const LONGEST: usize = 8192;

pub(super) async fn serve(listener: Async<TcpListener>, site: Site) {
    let (executor, site) = (LocalExecutor::new(), Rc::new(site));
    let connections = Connections::new(CONNECTIONS, {
        let site = site.clone();
        move || site.want_room()
    });
    let answers = Arc::new(Semaphore::new(ANSWERS));
    let converse = |stream, _, busy| {
        let places = Places { answers: answers.clone(), connections: connections.clone(), busy };
        Some(converse(stream, site.clone(), places))
    };
    let accept = connections.accept(&listener, &executor, converse);
    executor.run(or(accept, site.watch())).await
}

/// The places of running answers, as one connection sees them.
struct Places {
    answers: Arc<Semaphore>,
    connections: Rc<Connections>,
    busy: Busy,
}

impl Places {
    async fn enter(&self) -> SemaphoreGuardArc {
        let free = self.answers.acquire_arc();
        let forced = async {
            Timer::after(GRACE).await;
            self.connections.close_oldest(true);
            self.answers.acquire_arc().await
        };
        let place = or(free, forced).await;
        self.busy.set(true);
        place
    }
}

async fn converse(stream: Async<std::net::TcpStream>, site: Rc<Site>, places: Places) {
    // The place is held from the request to the end of the connection.
    let place = OnceCell::new();
    let service = service_fn(|request| {
        let (site, places, place) = (&site, &places, &place);
        async move {
            // Each connection has one request.
            let _ = place.set(places.enter().await);
            Ok::<_, Infallible>(site.answer(&request))
        }
    });
    let mut protocol = http1::protocol(HEAD, LONGEST);
    let connection = protocol.keep_alive(false).serve_connection(FuturesIo::new(stream), service);
    if let Some(Err(error)) = within(PATIENCE, connection).await {
        log::debug!("status: {error}");
    }
}
