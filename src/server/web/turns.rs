//! Uploads with conditions take turns, so that no other one replaces the file between the check and the replacement.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Weak},
};

use smol::lock::{Mutex, MutexGuardArc};

/// An upload's turn, which ends when this is dropped.
pub(super) type Turn = MutexGuardArc<()>;

/// The turns of each file, by its path.
#[derive(Default)]
pub(super) struct Turns(RefCell<HashMap<String, Weak<Mutex<()>>>>);

impl Turns {
    /// Waits for the turn of an upload to this path.
    pub(super) async fn wait(&self, path: &str) -> Turn {
        let turn = self.of(path);
        turn.lock_arc().await
    }

    fn of(&self, path: &str) -> Arc<Mutex<()>> {
        let mut turns = self.0.borrow_mut();
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = turns.get(path).and_then(Weak::upgrade).unwrap_or_default();
        turns.insert(path.into(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn uploads_to_one_path_take_turns_and_others_do_not_wait() {
        let turns = Turns::default();
        block_on(async {
            let first = turns.wait("a").await;
            assert!(poll_once(turns.wait("a")).await.is_none());
            let other = poll_once(turns.wait("b")).await;
            assert!(other.is_some());
            drop(first);
            assert!(poll_once(turns.wait("a")).await.is_some());
        });
        drop(turns.of("c"));
        assert_eq!(turns.0.borrow().len(), 1, "of those that have ended, nothing stays");
    }
}
