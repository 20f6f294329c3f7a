//! What becomes of transfers: one [`Record`] at the end of each, a [`Snapshot`] while it runs, and [`Counters`] of all.
//!
//! Every transfer ends with exactly one record and counts under exactly one outcome. (Those that a server cuts off, since
//! they do not end when it does, count as stopped and have no record.)
//!
//! With the feature `serde`, all of them can be serialized; see [`Record`] for what that looks like.

mod counters;
mod record;
mod registry;
#[cfg(feature = "serde")]
mod serial;
mod unanswered;

pub use counters::{Counter, Counters, Outcomes};
pub use record::{Record, Snapshot};
pub(crate) use registry::{Drops, Registered, Registry, Tally};
pub use unanswered::Unanswered;
