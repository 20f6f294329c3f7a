//! Warns of datagrams that the system drops because it has no buffers (`ENOBUFS`).

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::sync::Mutex;

/// The least time between two warnings.
const PERIOD: Duration = Duration::from_secs(60);

/// Warns now and then, if the error is `ENOBUFS`. A flood of forged addresses of the same link fills the kernel's
/// neighbour table. Then datagrams reach only machines that are still in it.
pub(super) fn warn(error: &io::Error, to: SocketAddr) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    if error.raw_os_error() != Some(libc::ENOBUFS) {
        return;
    }
    if is_due(&mut LAST.lock(), Instant::now()) {
        let family = if to.is_ipv6() { "ipv6" } else { "ipv4" };
        log::warn!(
            "the system drops datagrams, such as one to {}: the queue of a network card is full, or the neighbour \
             table is, by a flood or by many machines (sysctl net.{family}.neigh.default.gc_thresh3 is its size)",
            to.ip()
        );
    }
}

fn is_due(last: &mut Option<Instant>, now: Instant) -> bool {
    let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= PERIOD);
    if is_due {
        *last = Some(now);
    }
    is_due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_worth_a_line_a_minute() {
        let (mut last, start) = (None, Instant::now());
        let lines = (0..180_000).filter(|&ms| is_due(&mut last, start + Duration::from_millis(ms))).count();
        assert_eq!(lines, 3);
    }
}
