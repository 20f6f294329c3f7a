use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use object_store::{PutPayload, PutPayloadMut};

use crate::Refusal;

/// Memory is allocated and counted in pieces of this size, in bytes.
const PIECE: usize = 32 << 10;

/// The bytes of an upload that are not put yet.
pub(super) struct Part {
    bytes: PutPayloadMut,
    share: Share,
}

/// Memory of an upload, counted until it is dropped.
pub(super) struct Share {
    bytes: usize,
    budget: usize,
    held: Arc<AtomicUsize>,
}

impl Part {
    pub(super) fn new(budget: usize, held: &Arc<AtomicUsize>) -> Self {
        let share = Share { bytes: 0, budget, held: held.clone() };
        Self { bytes: PutPayloadMut::new().with_block_size(PIECE), share }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.content_length()
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let pieces = (self.len() + bytes.len()).div_ceil(PIECE);
        self.share.grow(pieces * PIECE)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The bytes, and their share of the memory. Drop the two together.
    pub(super) fn freeze(self) -> (PutPayload, Share) {
        (self.bytes.freeze(), self.share)
    }
}

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let more = bytes.saturating_sub(self.bytes);
        if self.held.fetch_add(more, Relaxed) + more > self.budget {
            self.held.fetch_sub(more, Relaxed);
            let budget = self.budget;
            return Err(Refusal::internal().because(format_args!("uploads use all {budget} bytes of their memory")));
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_and_bounded() {
        let held = Arc::default();
        let mut part = Part::new(3 * PIECE, &held);
        part.append(b"a").unwrap();
        assert_eq!(held.load(Relaxed), PIECE);
        part.append(&[0; PIECE]).unwrap();
        let mut other = Part::new(3 * PIECE, &held);
        other.append(b"a").unwrap();
        assert_eq!(other.append(&[0; PIECE]), Err(Refusal::internal()));
        assert_eq!(held.load(Relaxed), 3 * PIECE);
        let (payload, share) = part.freeze();
        assert_eq!((payload.content_length(), other.len()), (PIECE + 1, 1));
        drop((share, other));
        assert_eq!(held.load(Relaxed), 0);
    }
}
