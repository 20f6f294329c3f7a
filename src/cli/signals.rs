//! Ctrl-C, SIGTERM and SIGHUP.

use std::{
    cell::Cell,
    future::pending,
    io::{self, IsTerminal},
    process, thread,
    time::Duration,
};

use async_signal::{Signal, Signals};
use log::{info, warn};
use smol::{
    channel::{self, Receiver},
    future::or,
    stream::StreamExt,
    unblock,
};
use tuffet::ServerHandle;

use super::{format::have, service};

#[cfg(unix)]
const ENDING: [Signal; 2] = [Signal::Int, Signal::Term];
#[cfg(not(unix))]
const ENDING: [Signal; 1] = [Signal::Int];

/// The first signal stops the server, the second aborts its transfers, and the third does not wait for anything.
/// SIGHUP reloads; but it ends a server whose terminal has gone.
///
/// A reload returns how long running transfers may take from then on. It may wait for a disk, and no other signal waits
/// for it.
pub fn obey(
    server: ServerHandle,
    drain: Duration,
    reload: impl FnMut() -> Duration + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new(ENDING)?;
    #[cfg(unix)]
    signals.add_signals([Signal::Hup, Signal::Xfsz])?;
    let had_terminal = io::stderr().is_terminal();
    thread::Builder::new().name("signals".into()).spawn(move || {
        let drain = Cell::new(drain);
        // Signals that arrive during a reload ask for one more.
        let (ask, asked) = channel::bounded(1);
        let mut endings = 0;
        let mut obey = |signal| {
            // An upload or a log grew beyond the process's limit for files (ulimit -f). With this handler the writer
            // gets an error; by default the system would end the process.
            #[cfg(unix)]
            if signal == Signal::Xfsz {
                return;
            }
            #[cfg(unix)]
            if signal == Signal::Hup && (!had_terminal || io::stderr().is_terminal()) {
                _ = ask.try_send(());
                return;
            }
            _ = (signal, &ask, had_terminal);
            endings += 1;
            match endings {
                1 => stop(&server, drain.get()),
                2 => {
                    warn!("stopping at once");
                    server.abort();
                }
                _ => process::exit(1),
            }
        };
        let obeying = async {
            while let Some(signal) = signals.next().await {
                signal.into_iter().for_each(&mut obey);
            }
        };
        smol::block_on(or(obeying, reload_when_asked(reload, &drain, asked)));
    })?;
    Ok(())
}

async fn reload_when_asked(
    mut reload: impl FnMut() -> Duration + Send + 'static,
    drain: &Cell<Duration>,
    asked: Receiver<()>,
) {
    while asked.recv().await.is_ok() {
        info!("reloading");
        let new;
        (reload, new) = unblock(move || {
            let new = service::reload(&mut reload);
            (reload, new)
        })
        .await;
        drain.set(new);
    }
}

fn stop(server: &ServerHandle, drain: Duration) {
    let running = server.transfers().len();
    match running {
        0 => info!("stopping"),
        _ => info!("stopping when {} ended; a second signal stops the server at once", have(running)),
    }
    service::stopping(running, drain);
    server.stop();
}

/// Waits for a signal that ends the program.
pub async fn ending() {
    match Signals::new(ENDING) {
        Ok(mut signals) => _ = signals.next().await,
        // Then a signal ends the program in the system's own way.
        Err(_) => pending().await,
    }
}
