use std::time::{Duration, Instant};

use crate::{Refusal, sync::Mutex};

/// After this many failed connections in a row the upstream counts as dead.
const MOST: u32 = 3;
/// How long a dead upstream is not asked. After that one request tries it, and the others are refused until it
/// succeeds.
const PAUSE: Duration = Duration::from_secs(2);

/// Refuses requests that would fail: a room of machines should not wait for the timeout of a dead upstream one after
/// the other. Only connections count. A bad answer may concern only one file, and one client must not keep the others
/// from the rest.
#[derive(Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    failures: u32,
    until: Option<Instant>,
}

impl Breaker {
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let (mut state, now) = (self.0.lock(), Instant::now());
        if state.failures < MOST {
            return Ok(());
        }
        if state.until.is_some_and(|until| now < until) {
            let failures = state.failures;
            return Err(
                Refusal::upstream().because(format_args!("not asked, because {failures} connections in a row failed"))
            );
        }
        state.until = Some(now + PAUSE);
        Ok(())
    }

    pub(super) fn report(&self, well: bool) {
        let mut state = self.0.lock();
        *state = match well {
            true => State::default(),
            false => State { failures: state.failures.saturating_add(1), until: Some(Instant::now() + PAUSE) },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_open_it_and_one_success_closes_it() {
        let breaker = Breaker::default();
        for well in [false, false, true, false, false] {
            breaker.report(well);
            assert!(breaker.check().is_ok());
        }
        breaker.report(false);
        assert_eq!(breaker.check(), Err(Refusal::upstream()));
        breaker.report(true);
        assert!(breaker.check().is_ok());
    }

    #[test]
    fn after_the_pause_one_request_tries() {
        let breaker = Breaker(Mutex::new(State { failures: MOST, until: None }));
        assert!(breaker.check().is_ok());
        assert!(breaker.check().is_err());
    }
}
