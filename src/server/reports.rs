//! Reports the beginning and the end of a transfer to all observers, whatever its protocol is.

use std::{net::SocketAddr, time::Instant};

use super::{Shared, trace::Trace};
use crate::{
    driver::feed::catch_panic_now,
    handler::Request,
    options::Direction,
    stats::{Protocol, Record, Registered},
    transfer::Outcome,
};

impl Shared {
    /// Reports that a transfer begins.
    pub(super) fn begin(
        &self,
        peer: SocketAddr,
        path: String,
        kind: (Direction, Protocol),
        began: Instant,
    ) -> Registered {
        let live = self.registry.register(peer, path, kind, began);
        for hook in &self.on_begin {
            let _ = catch_panic_now(|| hook(&live.snapshot()));
        }
        live
    }

    /// Reports that a transfer has ended, with its record.
    pub(super) fn end(&self, live: Registered, record: &Record, request: Option<&Request>, trace: &Trace) {
        let level = if record.outcome == Outcome::Probe { log::Level::Debug } else { log::Level::Info };
        log::log!(target: "tuffet::transfers", level, "{record}");
        trace.end(record);
        // A hook that panics is logged. The other hooks and the counters still get the record.
        for hook in request.into_iter().flat_map(Request::take_hooks) {
            let _ = catch_panic_now(|| hook(record));
        }
        for hook in &self.on_end {
            let _ = catch_panic_now(|| hook(record));
        }
        live.end(record);
    }
}
