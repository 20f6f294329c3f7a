//! Ctrl-C and SIGTERM.

use std::{future::pending, io, process, thread};

use async_signal::{Signal, Signals};
use log::{info, warn};
use smol::stream::StreamExt;
use tuffet::Handle;

#[cfg(unix)]
const ENDING: [Signal; 2] = [Signal::Int, Signal::Term];
#[cfg(not(unix))]
const ENDING: [Signal; 1] = [Signal::Int];

/// The first signal stops the server, the second aborts its transfers, and the third does not wait for anything.
pub fn stop_server(handle: Handle) -> io::Result<()> {
    let mut signals = Signals::new(ENDING)?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        smol::block_on(async {
            signals.next().await;
            match handle.transfers().len() {
                0 => info!("stopping"),
                running => info!("stopping when {running} transfers have ended; again to stop at once"),
            }
            handle.stop();
            signals.next().await;
            warn!("stopping at once");
            handle.abort();
            signals.next().await;
            process::exit(1);
        });
    })?;
    Ok(())
}

/// Waits for a signal that asks for the end.
pub async fn ending() {
    match Signals::new(ENDING) {
        Ok(mut signals) => _ = signals.next().await,
        // Then a signal ends the program in the system's way.
        Err(_) => pending().await,
    }
}
