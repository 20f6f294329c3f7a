//! The service manager: its sockets, and messages to it, as in sd_listen_fds(3) and sd_notify(3).
//!
//! Without a service manager this does nothing.

use std::{
    env, io,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use listenfd::ListenFd;
use log::{debug, warn};
use sd_notify::NotifyState;
use tuffet::{ServerHandle, stats::Counters};

use super::{
    bars::BinaryBytes,
    format::{count, have},
};

/// The longest time between two status messages.
const INTERVAL: Duration = Duration::from_secs(5);
/// The time that the program may take to end once the transfers have ended.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Whether the server is stopping; then the status says only that.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// The sockets from the service manager. Call it once, before there are threads.
pub fn sockets() -> super::Result<Vec<UdpSocket>> {
    let mut handed = ListenFd::from_env();
    let explain =
        |error| format!("cannot use the socket of the service manager: {error}; ListenDatagram= makes UDP sockets");
    let sockets = (0..handed.len()).filter_map(|n| handed.take_udp_socket(n).transpose());
    Ok(sockets.collect::<io::Result<_>>().map_err(explain)?)
}

/// The text about the transfers for `systemctl status`.
fn status(counters: &Counters) -> String {
    let both = [&counters.reads, &counters.writes];
    let ended: u64 = both.iter().map(|outcomes| outcomes.total()).sum();
    let arrived: u64 = both.iter().map(|outcomes| outcomes.complete + outcomes.probably_complete).sum();
    let bytes = BinaryBytes(counters.bytes_read + counters.bytes_written);
    format!("{} running; {arrived} of {ended} arrived, {bytes}", count(counters.running, "transfer"))
}

/// Reports that the sockets are bound: from now on requests wait there.
pub fn ready() {
    say(&[NotifyState::Ready]);
}

/// Runs a reload, between the messages for its begin and its end.
pub fn reload<R>(work: impl FnOnce() -> R) -> R {
    let mut words = vec![NotifyState::Reloading];
    words.extend(NotifyState::monotonic_usec_now());
    say(&words);
    let result = work();
    ready();
    result
}

/// Reports that no more requests are taken, and that running transfers may take this time.
pub fn stopping(running: usize, drain: Duration) {
    STOPPING.store(true, Relaxed);
    // The crate's own message takes 71 minutes at most.
    let time = format!("EXTEND_TIMEOUT_USEC={}", drain.saturating_add(SHUTDOWN_GRACE).as_micros());
    let status = format!("stopping when {} ended", have(running));
    say(&[NotifyState::Stopping, NotifyState::Status(&status), NotifyState::Custom(&time)]);
}

/// Reports the transfers, and feeds the watchdog as long as the server's loops run: a timer alone would feed it while a
/// handler blocks everything.
pub fn watch(server: ServerHandle) -> io::Result<()> {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let watchdog = sd_notify::watchdog_enabled();
    // A pause and the time for an answer, twice, in case one message is lost.
    let pause = watchdog.map_or(INTERVAL, |limit| (limit / 4).min(INTERVAL));
    let tell = move || {
        let mut last = String::new();
        loop {
            let mut words = Vec::new();
            if watchdog.is_some() {
                match server.responds(pause) {
                    true => words.push(NotifyState::Watchdog),
                    false => warn!("the server handled nothing for {pause:?}: a source blocks its thread"),
                }
            }
            let status = status(&server.counters());
            if status != last && !STOPPING.load(Relaxed) {
                words.push(NotifyState::Status(&status));
            }
            say(&words);
            last = status;
            thread::sleep(pause);
        }
    };
    thread::Builder::new().name("notify".into()).spawn(tell).map(drop)
}

fn say(words: &[NotifyState]) {
    if !words.is_empty() {
        sd_notify::notify(words).unwrap_or_else(|error| debug!("cannot notify the service manager: {error}"));
    }
}
