//! A lock for each path: no upload with conditions replaces a file between the check and the replacement of another.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Weak},
};

use smol::lock::{Mutex, MutexGuardArc};

/// The lock on a path, until this is dropped.
pub(super) type PathLock = MutexGuardArc<()>;

#[derive(Default)]
pub(super) struct PathLocks(RefCell<HashMap<String, Weak<Mutex<()>>>>);

impl PathLocks {
    pub(super) async fn lock(&self, path: &str) -> PathLock {
        let mutex = self.of(path);
        mutex.lock_arc().await
    }

    fn of(&self, path: &str) -> Arc<Mutex<()>> {
        let mut mutexes = self.0.borrow_mut();
        mutexes.retain(|_, mutex| mutex.strong_count() > 0);
        let mutex = mutexes.get(path).and_then(Weak::upgrade).unwrap_or_default();
        mutexes.insert(path.into(), Arc::downgrade(&mutex));
        mutex
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn one_upload_at_a_time_has_the_lock_of_a_path() {
        let locks = PathLocks::default();
        block_on(async {
            let first = locks.lock("a").await;
            assert!(poll_once(locks.lock("a")).await.is_none());
            let other = poll_once(locks.lock("b")).await;
            assert!(other.is_some());
            drop(first);
            assert!(poll_once(locks.lock("a")).await.is_some());
        });
        drop(locks.of("c"));
        assert_eq!(locks.0.borrow().len(), 1, "a lock without a holder is forgotten");
    }
}
