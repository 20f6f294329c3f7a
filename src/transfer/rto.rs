//! The retransmit timeout: RFC 6298, on a scale that fits a LAN.

use std::time::Duration;

/// The least timeout. Below it, a busy client looks like a lost packet.
const FLOOR: Duration = Duration::from_millis(50);
/// The timeout before a measurement (RFC 6298 section 2.1). A second OACK within the first round trip makes atftp end.
const FIRST: Duration = Duration::from_secs(1);
/// The least first timeout for a peer that an earlier transfer measured: the peer may be busy now.
const NEAR: Duration = Duration::from_millis(250);
/// The least margin of the timeout for a peer that has reported a loss.
const SHORT_FLOOR: Duration = Duration::from_millis(5);
/// A repeated ACK brings at most one copy in this time, and one in a round trip.
const COPY_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Rto {
    measured: Option<Measured>,
    /// The timeout before a measurement.
    first: Duration,
    /// The longest timeout.
    ceiling: Duration,
    /// Timeouts since the last measurement. Progress alone does not reset them: if each packet goes out twice because
    /// the round trip has grown, the round trip would never be measured again.
    backoff: u32,
}

#[derive(Debug)]
struct Measured {
    smoothed: Duration,
    variation: Duration,
}

impl Rto {
    /// `round_trip`: the measurement of an earlier transfer, if there is one.
    pub(super) fn new(ceiling: Duration, round_trip: Option<Duration>) -> Self {
        let first = round_trip.map_or(FIRST, |trip| trip.saturating_mul(3).max(NEAR));
        Self { measured: None, first, ceiling, backoff: 0 }
    }

    pub(super) fn set_ceiling(&mut self, ceiling: Duration) {
        self.ceiling = ceiling;
    }

    /// Adds a measured round trip, of a packet that was sent once (Karn).
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

    /// How long to wait for further ACKs from a peer that may have reported a loss. The peer answers, so this does not
    /// back off.
    pub(super) fn short_timeout(&self) -> Duration {
        let short = |measured: &Measured| measured.smoothed + (measured.variation * 4).max(SHORT_FLOOR);
        self.measured.as_ref().map_or(self.first, short).min(self.timeout())
    }

    fn backed_off(&self, base: impl FnOnce(&Measured) -> Duration) -> Duration {
        self.measured.as_ref().map_or(self.first, base).saturating_mul(1 << self.backoff).min(self.ceiling)
    }

    /// The measured round trip.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.measured.as_ref().map(|measured| measured.smoothed)
    }

    /// The least time between two repeated windows that ACKs bring.
    pub(super) fn between_rewinds(&self) -> Duration {
        self.round_trip().unwrap_or(self.first).max(SHORT_FLOOR)
    }

    /// The least time between two copies of one block that ACKs bring.
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
