//! What becomes of transfers: one [`Record`] at the end of each, a [`Snapshot`] while it runs, and [`Counters`] of all.
//!
//! Every transfer ends with exactly one record and counts under exactly one outcome.
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
pub(crate) use registry::{Registered, Registry, Tally};
pub use unanswered::Unanswered;
