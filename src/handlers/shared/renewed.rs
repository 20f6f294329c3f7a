use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::sync::Mutex;

/// How long connections to an upstream are kept, however busy they are.
const LONGEST: Duration = Duration::from_secs(300);

/// A client with its kept connections, which is replaced after [`LONGEST`]: the name of an upstream that moves is
/// looked up for new connections only, and the old address may answer for a long time. Answers that are on their way
/// then still arrive.
pub(in crate::handlers) struct Renewed<T> {
    make: Box<dyn Fn() -> reqwest::Result<T> + Send + Sync>,
    current: Mutex<(T, Instant)>,
}

impl<T: Clone> Renewed<T> {
    pub(in crate::handlers) fn new(
        make: impl Fn() -> reqwest::Result<T> + Send + Sync + 'static,
    ) -> reqwest::Result<Self> {
        let current = Mutex::new((make()?, Instant::now()));
        Ok(Self { make: Box::new(make), current })
    }

    /// The client for a request. If no other can be made, it is the old one.
    pub(in crate::handlers) fn at(&self, now: Instant) -> T {
        let mut current = self.current.lock();
        if now.saturating_duration_since(current.1) >= LONGEST {
            let client = (self.make)().unwrap_or_else(|_| current.0.clone());
            *current = (client, now);
        }
        current.0.clone()
    }
}

impl<T> fmt::Debug for Renewed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn a_client_is_renewed_when_it_is_old_and_not_sooner() {
        let made = AtomicUsize::new(0);
        let renewed = Renewed::new(move || Ok(made.fetch_add(1, Relaxed))).unwrap();
        let start = Instant::now();
        let just = Duration::from_secs(1);
        for (age, client) in [(Duration::ZERO, 0), (LONGEST - just, 0), (LONGEST, 1), (LONGEST * 2 - just, 1)] {
            assert_eq!(renewed.at(start + age), client, "{age:?}");
        }
        assert_eq!(renewed.at(start + 3 * LONGEST), 2);
    }
}
