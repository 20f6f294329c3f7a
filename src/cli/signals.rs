//! Ctrl-C, SIGTERM and SIGHUP.

use std::{
    future::pending,
    io::{self, IsTerminal},
    process, thread,
    time::Duration,
};

use async_signal::{Signal, Signals};
use log::{info, warn};
use smol::stream::StreamExt;
use tuffet::ServerHandle;

use super::{format::count, service};

#[cfg(unix)]
const ENDING: [Signal; 2] = [Signal::Int, Signal::Term];
#[cfg(not(unix))]
const ENDING: [Signal; 1] = [Signal::Int];

/// The first signal stops the server, the second aborts its transfers, and the third does not wait for anything.
/// SIGHUP reloads; but it ends a server whose terminal has gone.
///
/// A reload returns how long running transfers may take from then on.
pub fn obey(
    server: ServerHandle,
    #[cfg_attr(not(unix), allow(unused_mut, reason = "nothing reloads there"))] mut drain: Duration,
    mut reload: impl FnMut() -> Duration + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new(ENDING)?;
    #[cfg(unix)]
    signals.add_signals([Signal::Hup, Signal::Xfsz])?;
    let had_terminal = io::stderr().is_terminal();
    let mut endings = 0;
    let mut obey = move |signal| {
        // An upload or a log grew beyond the process's limit for files (ulimit -f). With this handler the writer gets
        // an error; by default the system would end the process.
        #[cfg(unix)]
        if signal == Signal::Xfsz {
            return;
        }
        #[cfg(unix)]
        if signal == Signal::Hup && (!had_terminal || io::stderr().is_terminal()) {
            info!("reloading");
            return service::reload(|| drain = reload());
        }
        _ = (signal, &mut reload, had_terminal);
        endings += 1;
        match endings {
            1 => stop(&server, drain),
            2 => {
                warn!("stopping at once");
                server.abort();
            }
            _ => process::exit(1),
        }
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        smol::block_on(async {
            while let Some(signal) = signals.next().await {
                signal.into_iter().for_each(&mut obey);
            }
        });
    })?;
    Ok(())
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

/// A number of transfers, with its verb.
pub fn have(transfers: usize) -> String {
    format!("{} {}", count(transfers as u64, "transfer"), if transfers == 1 { "has" } else { "have" })
}

/// Waits for a signal that ends the program.
pub async fn ending() {
    match Signals::new(ENDING) {
        Ok(mut signals) => _ = signals.next().await,
        // Then a signal ends the program in the system's own way.
        Err(_) => pending().await,
    }
}
