//! How long to wait for an answer: RFC 6298, on a scale that fits a LAN.

use std::time::Duration;

/// Below this a busy client looks like a lost packet.
const FLOOR: Duration = Duration::from_millis(50);
/// Before anything was measured. Less than the second of RFC 6298: who boots is near, and a lost OACK is a short packet.
const FIRST: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Rto {
    measured: Option<Measured>,
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
    pub(super) fn new(ceiling: Duration) -> Self {
        Self { measured: None, ceiling, backoff: 0 }
    }

    pub(super) fn set_ceiling(&mut self, ceiling: Duration) {
        self.ceiling = ceiling;
    }

    /// A round trip was measured, on a packet that was sent once (Karn).
    pub(super) fn sample(&mut self, trip: Duration) {
        self.measured = Some(match &self.measured {
            None => Measured { smoothed: trip, variation: trip / 2 },
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

    pub(super) fn timeout(&self) -> Duration {
        let base = match &self.measured {
            None => FIRST,
            Some(measured) => (measured.smoothed + measured.variation * 4).max(FLOOR),
        };
        base.saturating_mul(1 << self.backoff).min(self.ceiling)
    }

    /// The measured round trip.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.measured.as_ref().map(|measured| measured.smoothed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapts_backs_off_and_stays_below_what_was_agreed() {
        let ms = Duration::from_millis;
        let mut rto = Rto::new(ms(5000));
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
    }
}
