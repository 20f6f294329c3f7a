//! One connection, and its requests one after the other.

use std::{
    future::{Future, poll_fn},
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use futures_lite::AsyncReadExt;
use hyper::service::service_fn;
use smol::{Async, channel::Receiver, future::or};

use super::{
    Site, answer,
    head::{BUFFER, HEAD},
    state::State,
    transfer::{Addresses, Transfer},
    wire::Wire,
};
use crate::{
    http1::{self, Busy},
    transfer::Outcome,
    within::within,
};

/// How many bytes of a refused request are read, so that the client sees the answer: a socket that is closed with
/// unread bytes drops the answer.
const UNREAD_BYTES: u64 = 1 << 20;
/// How long they are read.
const UNREAD_TIME: Duration = Duration::from_secs(2);

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
    let addresses = Addresses { peer, local };
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
        or(talk, async { Err(Broken::Stalled(or(state.stalled(), state.client.eviction()).await)) }).await
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
    if matches!(why, Outcome::TimedOut | Outcome::Failed(_) | Outcome::Replaced(_)) || failed && state.undelimited.get()
    {
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
        let (mut stream, mut left, mut buffer) = (stream, UNREAD_BYTES, vec![0; 8192]);
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
