//! The memory that chunks of a file are read into.

use std::cell::RefCell;

use bytes::Bytes;

/// How many buffers each thread keeps for later chunks.
const MOST: usize = 4;
/// The largest buffer that is kept.
const LARGEST: usize = 64 << 10;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Initialised memory, which a later chunk uses again once nobody has the bytes of this one. New memory would have to
/// be filled with zeros before each read.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// A buffer of this length. It has zeros or bytes of earlier chunks. No memory is taken that is more than twice as
    /// long: readers of small chunks would come to hold that of large ones.
    pub(super) fn new(len: usize) -> Self {
        let take = |spare: &RefCell<Vec<Vec<u8>>>| {
            let mut spare = spare.borrow_mut();
            let fits = |memory: &Vec<u8>| (len..=2 * len).contains(&memory.len());
            spare.iter().rposition(fits).map(|at| spare.remove(at))
        };
        let spare = SPARE.try_with(take).ok().flatten();
        Self { memory: spare.unwrap_or_else(|| vec![0; len]), len }
    }

    /// The first `len` bytes, which were read into it.
    pub(super) fn into_bytes(mut self, len: usize) -> Bytes {
        self.len = self.len.min(len);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if memory.len() > LARGEST {
            return;
        }
        // A thread that ends has no spare memory any more.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() == MOST {
                spare.remove(0);
            }
            spare.push(memory);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_when_nobody_has_its_bytes() {
        let mut buffer = Buffer::new(100);
        buffer.as_mut().fill(7);
        let memory = buffer.as_ref().as_ptr();
        let bytes = buffer.into_bytes(60);
        assert_eq!((bytes.as_ptr(), &bytes[..]), (memory, &[7; 60][..]));
        let tail = bytes.slice(50..);
        drop(bytes);
        assert_ne!(Buffer::new(100).as_ref().as_ptr(), memory, "a slice of it is in use");
        drop(tail);
        let buffer = Buffer::new(80);
        assert_eq!((buffer.as_ref().as_ptr(), buffer.as_ref().len()), (memory, 80));
    }

    #[test]
    fn small_chunks_do_not_take_the_memory_of_large_ones() {
        drop(Buffer::new(1000));
        for len in [499, 1001] {
            assert_eq!(Buffer::new(len).memory.len(), len);
        }
        assert_eq!(Buffer::new(500).memory.len(), 1000);
    }

    #[test]
    fn a_thread_keeps_little() {
        drop((0..10).map(|n| Buffer::new(1000 * n)).collect::<Vec<_>>());
        drop(Buffer::new(LARGEST + 1));
        let kept: Vec<usize> = SPARE.with_borrow(|spare| spare.iter().map(Vec::len).collect());
        assert_eq!(kept, [6000, 7000, 8000, 9000], "the last ones");
    }
}
