//! The hook around the threads that run the user's code.

use std::{fmt, sync::Arc};

use crate::error::Error;

/// Runs the work that it is given, inside the context that the user's code needs.
type Hook = dyn Fn(Box<dyn FnOnce() + '_>) + Send + Sync;

/// By default there is no hook.
#[derive(Clone, Default)]
pub(super) struct Around(Option<Arc<Hook>>);

impl Around {
    pub(super) fn new(hook: impl Fn(Box<dyn FnOnce() + '_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    /// As [`new`](Self::new), for the tokio runtime of the current thread, if the thread is in one.
    #[cfg(feature = "tokio")]
    pub(super) fn or_tokio(self) -> Self {
        match (self.0, tokio::runtime::Handle::try_current()) {
            (None, Ok(tokio)) => Self::new(move |thread| {
                let _entered = tokio.enter();
                thread();
            }),
            (hook, _) => Self(hook),
        }
    }

    /// Runs this work inside the hook and returns its result.
    pub(super) fn run<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let Some(hook) = &self.0 else { return work() };
        let mut result = None;
        hook(Box::new(|| result = Some(work())));
        result.unwrap_or_else(|| Err(Error::Config("the hook around threads did not run its thread".into())))
    }
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Around").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_has_to_run_its_thread() {
        assert_eq!(Around::default().run(|| Ok(1)).unwrap(), 1);
        assert_eq!(Around::new(|thread| thread()).run(|| Ok(1)).unwrap(), 1);
        assert!(matches!(Around::new(|_| ()).run(|| Ok(1)), Err(Error::Config(_))));
    }
}
