//! The last chunks that were read of a file, for the readers behind.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::sync::Mutex;

/// The most bytes that are kept of one file.
const MOST: usize = 1 << 20;

/// Machines that boot from one file at the same time read it side by side. A chunk that one of them has read is found
/// here by the others, so it is read once, and lies once in memory and in the caches of the processor.
#[derive(Debug, Default)]
pub(super) struct Chunks(Mutex<VecDeque<(u64, Bytes)>>);

impl Chunks {
    /// The kept bytes from this position on: whole windows, or all to the end of the file, which is `size` bytes long.
    pub(super) fn find(&self, at: u64, window: usize, size: u64) -> Option<Bytes> {
        self.0.lock().iter().rev().find_map(|(start, chunk)| {
            let skip = usize::try_from(at.checked_sub(*start)?).ok()?;
            let mut len = chunk.len().checked_sub(skip)?;
            if at + (len as u64) < size {
                len -= len % window;
            }
            (len > 0).then(|| chunk.slice(skip..skip + len))
        })
    }

    /// Keeps the chunk that was read at this position, and at most `count` chunks.
    pub(super) fn keep(&self, at: u64, chunk: &Bytes, count: usize) {
        let mut list = self.0.lock();
        if list.iter().any(|(start, kept)| *start == at && kept.len() >= chunk.len()) {
            return;
        }
        list.push_back((at, chunk.clone()));
        while list.len() > count || list.iter().map(|(_, chunk)| chunk.len()).sum::<usize>() > MOST {
            list.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_chunks_are_whole_windows_or_the_end() {
        let (chunks, chunk) = (Chunks::default(), Bytes::from_static(b"0123456789"));
        chunks.keep(100, &chunk, 2);
        let find = |at, window, size| chunks.find(at, window, size);
        assert_eq!(find(100, 4, 200).unwrap(), "01234567");
        assert_eq!(find(106, 4, 200).unwrap(), "6789");
        assert_eq!(find(107, 4, 110).unwrap(), "789");
        for (at, window) in [(99, 1), (107, 4), (110, 1), (111, 1), (100, 11)] {
            assert_eq!(find(at, window, 200), None, "{at} {window}");
        }
    }

    #[test]
    fn the_oldest_go_first() {
        let (chunks, chunk) = (Chunks::default(), Bytes::from(vec![0; MOST / 4]));
        let kept = || (0..10).filter(|&at| chunks.find(at << 20, 1, u64::MAX).is_some()).collect::<Vec<_>>();
        for at in 0..3 {
            chunks.keep(at << 20, &chunk, 2);
            chunks.keep(at << 20, &chunk, 2);
        }
        assert_eq!(kept(), [1, 2], "as many as there are readers");
        for at in 3..9 {
            chunks.keep(at << 20, &chunk, 100);
        }
        assert_eq!(kept(), [5, 6, 7, 8], "and as many as there is room for");
    }
}
