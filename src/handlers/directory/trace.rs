//! A checksum of the sent bytes, to tell them from others.

use std::{fs::File, io};

use super::system::read_waiting;

/// In a settled file, one word in eight counts: a word for each 64 bytes.
const SPARSE: u64 = 64;
const EACH: u64 = 8;
/// How many bytes one read fetches for the second check.
const PIECE: usize = 128 << 10;

/// Two sums over the words of a file. If the file was just written to, so that it may well grow, all words count.
/// Otherwise one in eight counts, because each transfer pays for it. This is no defence against an attacker: a user
/// with the right to write to the file can write anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    step: u64,
    /// The position where it began.
    from: u64,
    /// The position that it has reached.
    at: u64,
    /// The bytes of an incomplete word.
    word: u64,
    sums: (u64, u64),
}

impl Trace {
    /// `from`: the position of the first bytes in the file.
    pub(super) fn new(is_settled: bool, from: u64) -> Self {
        Self { step: if is_settled { SPARSE } else { EACH }, from, at: from, word: 0, sums: (0, 0) }
    }

    /// A new trace of the same kind, without bytes.
    pub(super) fn again(&self) -> Self {
        Self { at: self.from, word: 0, sums: (0, 0), ..*self }
    }

    /// Adds these bytes.
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        // The rest of a word or a gap that the last chunk cut goes first.
        while self.within() != 0 && !bytes.is_empty() {
            bytes = self.add_some(bytes);
        }
        let step = self.step as usize;
        let whole = bytes.chunks_exact(step);
        bytes = whole.remainder();
        let (mut a, mut b) = self.sums;
        for piece in whole {
            let word = piece.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
            a = a.wrapping_add(word);
            b = b.wrapping_add(a);
            self.at += self.step;
        }
        self.sums = (a, b);
        while !bytes.is_empty() {
            bytes = self.add_some(bytes);
        }
    }

    /// The distance from the beginning of the current step, which is a word and the bytes that are left out after it.
    fn within(&self) -> u64 {
        self.at % self.step
    }

    /// Adds one byte of a word, or skips all bytes up to the next word.
    fn add_some<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let within = self.within();
        if within >= 8 {
            let skipped = bytes.len().min((self.step - within) as usize);
            self.at += skipped as u64;
            return &bytes[skipped..];
        }
        self.word |= u64::from(bytes[0]) << (8 * within);
        self.at += 1;
        if within == 7 {
            self.sums.0 = self.sums.0.wrapping_add(std::mem::take(&mut self.word));
            self.sums.1 = self.sums.1.wrapping_add(self.sums.0);
        }
        &bytes[1..]
    }

    /// The trace of a file of this size, read now. It waits for the disk.
    pub(super) fn of_file(mut self, file: &File, size: u64) -> io::Result<Self> {
        let mut piece = vec![0; PIECE];
        while self.at < size {
            let length = usize::try_from(size - self.at).map_or(PIECE, |rest| rest.min(PIECE));
            read_waiting(file, self.at, &mut piece[..length])?;
            self.add(&piece[..length]);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(bytes: &[u8], is_settled: bool, pieces: &[usize]) -> Trace {
        let (mut trace, mut rest) = (Trace::new(is_settled, 0), bytes);
        for piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*piece));
            trace.add(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(trace.at, bytes.len() as u64);
        trace
    }

    #[test]
    fn a_trace_does_not_depend_on_the_pieces() {
        let bytes: Vec<u8> = (0..10_007u32).map(|n| ((n * n) >> 3) as u8).collect();
        for is_settled in [false, true] {
            let whole = trace(&bytes, is_settled, &[bytes.len()]);
            for pieces in [&[1][..], &[7, 64, 3], &[1468], &[511, 1, 2000], &[8], &[65]] {
                assert_eq!(trace(&bytes, is_settled, pieces), whole, "{pieces:?}");
            }
        }
    }

    #[test]
    fn other_bytes_have_another_trace() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
        for at in 0..bytes.len() - 71 {
            let changed = |length| {
                let mut other = bytes.clone();
                other[at..at + length].iter_mut().for_each(|byte| *byte ^= 1);
                other
            };
            assert_ne!(trace(&changed(1), false, &[100]), trace(&bytes, false, &[100]), "{at}");
            assert_ne!(trace(&changed(71), true, &[100]), trace(&bytes, true, &[100]), "{at}");
        }
    }
}
