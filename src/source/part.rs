//! Other ways to the bytes of a source than to take all its chunks: from a position on, or from an open file.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{Chunks, Source};
use crate::{error::Refusal, sync::AtomicU64};

/// An open file that holds exactly the bytes of a source. A sender can have the kernel send the file, without reading
/// it. [`check`](Self::check) then tells whether the file has changed meanwhile.
pub(crate) trait Plain: Send + Sync {
    fn file(&self) -> &std::fs::File;

    fn check(&self) -> Result<(), Refusal>;
}

/// Where the first chunk begins. The maker of the chunks reads it when the first of them is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start(Arc<AtomicU64>);

impl Start {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl<C: Chunks> Source<C> {
    /// Lets the chunks begin anywhere.
    pub(crate) fn with_start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// Sets the file that holds exactly the bytes of this source.
    pub(crate) fn with_plain(mut self, plain: Arc<dyn Plain>) -> Self {
        self.plain = Some(plain);
        self
    }

    /// The file that holds exactly the bytes of this source, if there is one.
    pub(crate) fn plain(&self) -> Option<&Arc<dyn Plain>> {
        self.plain.as_ref()
    }

    /// Leaves out the bytes before this one. Returns whether it can: no chunk has been made yet, and the source allows
    /// it.
    pub(crate) fn begin_at(&mut self, first: u64) -> bool {
        let untouched = self.given == 0 && self.ahead.is_empty() && self.beyond.is_none() && !self.ended;
        let Some(start) = self.start.take().filter(|_| untouched) else { return first == 0 };
        start.0.store(first, Relaxed);
        self.given = first;
        true
    }
}
