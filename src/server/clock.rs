//! The time, as a shard sees it.

use std::time::{Instant, SystemTime};

/// The system's clocks, or those of a simulation.
pub(crate) trait Clock {
    fn now(&self) -> Instant;
    fn date(&self) -> SystemTime;
}

pub(crate) struct System;

impl Clock for System {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn date(&self) -> SystemTime {
        SystemTime::now()
    }
}
