//! The HTTP thread: it accepts connections, and lets them end when the server stops.

use std::{
    cell::Cell,
    future::{Future, pending, poll_fn},
    io,
    net::TcpListener,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use smol::{Async, LocalExecutor, Timer, channel, future::or};

use super::{
    super::{Phase, Shared, descriptors},
    Site, connection,
    gate::Gate,
    path_locks::PathLocks,
};
use crate::{error::Error, http1::Connections, transfer::FOR_EVER, within::within};

/// The most connections, if the system has enough descriptors: a quarter of them at most, because each connection may
/// have a file open, and other parts need descriptors too.
const MOST: usize = 16384;
/// How often a stopping server checks whether all connections have ended.
const MOMENT: Duration = Duration::from_millis(10);

pub(super) fn run(listeners: Vec<TcpListener>, shared: Arc<Shared>) -> Result<(), Error> {
    let listeners = listeners.into_iter().map(Async::new).collect::<io::Result<Vec<_>>>()?;
    smol::block_on(serve(listeners, shared));
    Ok(())
}

async fn serve(listeners: Vec<Async<TcpListener>>, shared: Arc<Shared>) {
    let most = most();
    // The other connections are room for clients that get a 503.
    let gate = Gate::new(shared.clone(), most - most / 4);
    let (locks, is_over) = (PathLocks::default(), Cell::new(false));
    let site = Rc::new(Site { gate, shared: shared.clone(), locks, is_over });
    let connections = Connections::new(most, {
        let shared = shared.clone();
        move || shared.want_room()
    });
    let executor = LocalExecutor::new();
    // Nothing is ever sent. The channel closes when the server stops.
    let (stop, stopping) = channel::bounded::<()>(1);
    let heartbeat = shared.heartbeats.join();
    poll_fn(|cx| {
        shared.register_waker(cx.waker());
        Poll::Ready(())
    })
    .await;
    let reached = |phase| {
        poll_fn({
            let (shared, heartbeat) = (&shared, &heartbeat);
            move |_| {
                shared.heartbeats.answer(heartbeat);
                if shared.phase() >= phase { Poll::Ready(()) } else { Poll::Pending }
            }
        })
    };
    let mut accepting: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(pending());
    for listener in &listeners {
        let serve_connection = |stream, peer, busy| {
            let admitted = site.gate.admits(peer);
            admitted.then(|| connection::serve_connection(stream, peer, busy, site.clone(), stopping.clone()))
        };
        accepting = Box::pin(or(accepting, connections.accept(listener, &executor, serve_connection)));
    }
    executor.run(or(reached(Phase::Draining), accepting)).await;
    // From now on new connections are refused.
    drop(listeners);
    drop(stop);
    // A head that does not end would hold the stop.
    while connections.close_oldest(false) {}
    let drain = shared.current.terms().settings.drain.min(FOR_EVER);
    let ended = async {
        while !connections.is_empty() {
            Timer::after(MOMENT).await;
        }
    };
    executor.run(within(drain, or(ended, reached(Phase::Over)))).await;
    site.is_over.set(true);
}

fn most() -> usize {
    (descriptors::max_open_files() / 4).clamp(16, MOST)
}
