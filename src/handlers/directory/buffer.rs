//! The memory that chunks of a file are read into.

use std::cell::RefCell;

use bytes::Bytes;

/// How many bytes each thread keeps for later chunks.
const MOST: usize = 256 << 10;

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
    /// A buffer of this length. It has zeros or bytes of earlier chunks.
    pub(super) fn new(len: usize) -> Self {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        let memory = match spare {
            Some(mut memory) => {
                memory.resize(memory.len().max(len), 0);
                memory
            }
            None => vec![0; len],
        };
        Self { memory, len }
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
        // A thread that ends has no spare memory any more.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.iter().map(Vec::len).sum::<usize>() + memory.len() <= MOST {
                spare.push(memory);
            }
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
    fn a_thread_keeps_little() {
        drop(Buffer::new(MOST + 1));
        drop((0..10).map(|_| Buffer::new(MOST / 3)).collect::<Vec<_>>());
        SPARE.with_borrow(|spare| assert_eq!(spare.len(), 3));
    }
}
