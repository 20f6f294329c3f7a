//! Records of transfers: one [`Record`] at the end of each, a [`Snapshot`] while it runs, and [`Counters`] of all.
//!
//! Every transfer ends with exactly one record and counts under exactly one outcome. (A transfer that the server cuts
//! off when it stops counts as stopped and has no record.)
//!
//! With the feature `serde`, all of them can be serialized; [`Record`] shows the form.

mod counters;
mod record;
mod registry;
#[cfg(feature = "serde")]
mod serial;
mod unanswered;

use std::time::{Duration, SystemTime};

#[cfg(feature = "http")]
pub use crate::handlers::http::webhook::{NotTaken, Webhook};
pub use counters::{Counter, Counters, Outcomes};
pub use record::{Protocol, Record, Snapshot};
pub(crate) use registry::{Drops, Registered, Registry, Tally};
pub use unanswered::Unanswered;

/// The nearest time that RFC 3339 can write, from 1970 to 9999: the clock of a board without a battery may show any
/// time.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
/// assert_eq!(tuffet::stats::nearest_rfc3339(before), SystemTime::UNIX_EPOCH);
/// ```
pub fn nearest_rfc3339(time: SystemTime) -> SystemTime {
    time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799))
}
