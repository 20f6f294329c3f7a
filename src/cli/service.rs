//! The service manager: sockets from it, and words to it, as sd_listen_fds(3) and sd_notify(3) have them.
//!
//! Without one, nothing here does anything.

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
use tuffet::{Handle, stats::Counters};

use super::{bars::BinaryBytes, signals};

/// Longest time between two looks at what is to be said.
const INTERVAL: Duration = Duration::from_secs(5);
/// What it takes to leave after the drain.
const GOODBYE: Duration = Duration::from_secs(5);

/// From then on, that is what is shown of the state.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// The sockets that were handed over. To be called before there are threads, and once.
pub fn sockets() -> super::Result<Vec<UdpSocket>> {
    let mut handed = ListenFd::from_env();
    let explain = |error| format!("cannot serve on what was handed over: {error}; ListenDatagram= makes UDP sockets");
    let sockets = (0..handed.len()).filter_map(|n| handed.take_udp_socket(n).transpose());
    Ok(sockets.collect::<io::Result<_>>().map_err(explain)?)
}

/// What `systemctl status` shows of the transfers.
fn status(counters: &Counters) -> String {
    let both = [&counters.reads, &counters.writes];
    let ended: u64 = both.iter().map(|outcomes| outcomes.total()).sum();
    let arrived: u64 = both.iter().map(|outcomes| outcomes.complete + outcomes.probably_complete).sum();
    let bytes = BinaryBytes(counters.bytes_read + counters.bytes_written);
    let transfers = if counters.running == 1 { "transfer" } else { "transfers" };
    format!("{} {transfers} running; {arrived} of {ended} arrived, {bytes}", counters.running)
}

/// The sockets are bound: what comes from now on waits there.
pub fn ready() {
    say(&[NotifyState::Ready]);
}

/// Reloads, between the words that frame it.
pub fn reload(work: impl FnOnce()) {
    let mut words = vec![NotifyState::Reloading];
    words.extend(NotifyState::monotonic_usec_now());
    say(&words);
    work();
    ready();
}

/// No more requests; the transfers that run may take this time.
pub fn stopping(running: usize, drain: Duration) {
    STOPPING.store(true, Relaxed);
    let time = u32::try_from(drain.saturating_add(GOODBYE).as_micros()).unwrap_or(u32::MAX);
    let status = format!("stopping when {} ended", signals::have(running));
    say(&[NotifyState::Stopping, NotifyState::Status(&status), NotifyState::ExtendTimeoutUsec(time)]);
}

/// Tells of the transfers, and feeds the watchdog for as long as the server goes round: a timer alone would feed it
/// while a handler blocks everything.
pub fn watch(server: Handle) -> io::Result<()> {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let watchdog = sd_notify::watchdog_enabled();
    // A pause and the time for an answer, and that again if one word is lost.
    let pause = watchdog.map_or(INTERVAL, |limit| (limit / 4).min(INTERVAL));
    let tell = move || {
        let mut last = String::new();
        loop {
            let mut words = Vec::new();
            if watchdog.is_some() {
                match server.responds(pause) {
                    true => words.push(NotifyState::Watchdog),
                    false => warn!("nothing was served for {pause:?}: a source blocks its thread"),
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
