//! The rate of all transfers together, over the last hour.

use std::collections::VecDeque;

/// Seconds between two samples.
pub(super) const EVERY: u64 = 5;
/// The number of samples in an hour.
const MOST: usize = 720;

/// Bytes per second, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Rates {
    all: VecDeque<u64>,
    /// The total at the last sample, if there was one.
    bytes: Option<u64>,
}

impl Rates {
    /// Takes the bytes transferred since the server began. Call it every [`EVERY`] seconds.
    pub(super) fn sample(&mut self, bytes: u64) {
        let before = self.bytes.replace(bytes).unwrap_or(0);
        if self.all.len() == MOST {
            self.all.pop_front();
        }
        self.all.push_back(bytes.saturating_sub(before) / EVERY);
    }

    pub(super) fn all(&self) -> Vec<u64> {
        self.all.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept() {
        let mut rates = Rates::default();
        [0, 500, 500, 1500].into_iter().for_each(|bytes| rates.sample(bytes));
        assert_eq!(rates.all(), [0, 100, 0, 200]);
        (1..=3600 / EVERY).for_each(|n| rates.sample(1500 + n * 50));
        assert_eq!(rates.all(), [10; 3600 / EVERY as usize]);
    }
}
