//! How long to wait for an answer: RFC 6298, on a scale that fits a LAN.

use std::time::Duration;

/// Below this a busy client looks like a lost packet.
const FLOOR: Duration = Duration::from_millis(50);
/// Before anything was measured (RFC 6298 section 2.1). A second OACK within the first round trip ends atftp.
const FIRST: Duration = Duration::from_secs(1);
/// The same for a peer that was near in an earlier transfer: it may be busy now.
const NEAR: Duration = Duration::from_millis(250);
/// The same where the peer has said already that it misses something.
const SHORT_FLOOR: Duration = Duration::from_millis(5);
/// Whoever repeats its ACK gets a copy once in this time at most, and once in a round trip.
const COPY_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Rto {
    measured: Option<Measured>,
    /// How long to wait before anything was measured.
    first: Duration,
    /// Never wait longer than this.
    ceiling: Duration,
    /// Timeouts since the last measurement. Mere progress does not end them: if each packet goes out twice because
    /// the round trip has grown, nothing else would ever measure it again.
    backoff: u32,
}

#[derive(Debug)]
struct Measured {
    smoothed: Duration,
    variation: Duration,
}

impl Rto {
    /// `round_trip`: what an earlier transfer measured, if one did.
    pub(super) fn new(ceiling: Duration, round_trip: Option<Duration>) -> Self {
        let first = round_trip.map_or(FIRST, |trip| trip.saturating_mul(3).max(NEAR));
        Self { measured: None, first, ceiling, backoff: 0 }
    }

    pub(super) fn set_ceiling(&mut self, ceiling: Duration) {
        self.ceiling = ceiling;
    }

    /// A round trip was measured, on a packet that was sent once (Karn).
    pub(super) fn sample(&mut self, trip: Duration) {
        self.measured = Some(match &self.measured {
            None => Measured::first(trip),
            Some(old) => Measured {
                smoothed: (old.smoothed * 7 + trip) / 8,
                variation: (old.variation * 3 + old.smoothed.abs_diff(trip)) / 4,
            },
        });
        self.backoff = 0;
    }

    pub(super) fn timed_out(&mut self) {
        self.backoff = (self.backoff + 1).min(16);
    }

    /// How long to wait for an answer.
    pub(super) fn timeout(&self) -> Duration {
        self.backed_off(|measured| (measured.smoothed + measured.variation * 4).max(FLOOR))
    }

    /// How long to wait for more from a peer that may have said that it misses something.
    pub(super) fn short_timeout(&self) -> Duration {
        self.backed_off(|measured| measured.smoothed + (measured.variation * 4).max(SHORT_FLOOR)).min(self.timeout())
    }

    fn backed_off(&self, base: impl FnOnce(&Measured) -> Duration) -> Duration {
        self.measured.as_ref().map_or(self.first, base).saturating_mul(1 << self.backoff).min(self.ceiling)
    }

    /// The measured round trip.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.measured.as_ref().map(|measured| measured.smoothed)
    }

    /// The least time between two windows that ACKs bring back.
    pub(super) fn between_rewinds(&self) -> Duration {
        self.round_trip().unwrap_or(self.first).max(SHORT_FLOOR)
    }

    /// The least time between two copies of one block that ACKs bring back.
    pub(super) fn between_copies(&self) -> Duration {
        self.round_trip().unwrap_or(self.first).max(COPY_EVERY)
    }
}

impl Measured {
    fn first(trip: Duration) -> Self {
        Self { smoothed: trip, variation: trip / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapts_backs_off_and_stays_below_what_was_agreed() {
        let ms = Duration::from_millis;
        let mut rto = Rto::new(ms(5000), None);
        assert_eq!(rto.timeout(), FIRST);
        for _ in 0..50 {
            rto.sample(Duration::from_micros(200));
        }
        assert_eq!(rto.timeout(), FLOOR);
        for expected in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            rto.timed_out();
            assert_eq!(rto.timeout(), ms(expected));
        }
        rto.sample(Duration::from_micros(200));
        assert_eq!(rto.timeout(), FLOOR);
        rto.sample(ms(400));
        assert!(rto.timeout() > ms(300), "{rto:?}");
        assert_eq!(Rto::new(ms(5000), Some(ms(320))).timeout(), ms(960), "what is known of the peer counts at once");
        assert_eq!(Rto::new(ms(5000), Some(ms(1))).timeout(), NEAR, "it may be busy");
    }
}
