//! HTTP/1.1 over smol. Each connection carries one request, so that a slow peer holds nothing but its connection, and
//! that not for long.

use std::{convert::Infallible, future::ready, net::TcpListener, rc::Rc, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use smol::{Async, LocalExecutor, Timer, future::or};
use smol_hyper::rt::{FuturesIo, SmolTimer};

use super::site::Site;

/// Connections at once; the next ones wait in the system's queue. Each may hold an answer with the whole history.
const CONNECTIONS: usize = 8;
/// For all of a request and its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// For the head of the request.
const HEAD: Duration = Duration::from_secs(2);
/// What a request may be long, in bytes; hyper takes no less.
const LONGEST: usize = 8192;

pub(super) async fn serve(listener: Async<TcpListener>, site: Site) {
    let (executor, site) = (LocalExecutor::new(), Rc::new(site));
    let places = Arc::new(smol::lock::Semaphore::new(CONNECTIONS));
    let accept = async {
        loop {
            let place = places.acquire_arc().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let site = site.clone();
                    let task = async move {
                        converse(stream, &site).await;
                        drop(place);
                    };
                    executor.spawn(task).detach();
                }
                Err(error) => {
                    log::debug!("status: cannot accept a connection: {error}");
                    Timer::after(Duration::from_millis(100)).await;
                }
            }
        }
    };
    executor.run(accept).await
}

async fn converse(stream: Async<std::net::TcpStream>, site: &Site) {
    let service = service_fn(|request| ready(Ok::<_, Infallible>(site.answer(&request))));
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
