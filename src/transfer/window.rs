//! The window of blocks on their way: cut from the source's chunks and kept until they are acknowledged.
//!
//! A block is a slice of its chunk. Only a block that spans two chunks is copied together.

use std::{collections::VecDeque, time::Instant};

use bytes::{Bytes, BytesMut};

use crate::{
    netascii,
    options::{Agreed, Rollover},
    packet::Mode,
};

pub(super) struct Window {
    blksize: usize,
    windowsize: usize,
    rollover: Rollover,
    text: Option<netascii::Encoder>,
    /// The blocks from `acked` + 1 on; never more than the windowsize.
    blocks: VecDeque<BufferedBlock>,
    /// Index of the last block that was acknowledged. Indices count from 1 and do not roll over.
    acked: u64,
    /// Index of the last block that was sent since the last rewind.
    sent: u64,
    /// Index of the last block that was ever sent.
    highest: u64,
    /// Index of the last block that had been sent when blocks were last sent again.
    copied: u64,
    /// Index of the last block whose ACK measures no round trip: it may answer one of several copies (Karn), or only
    /// the client's own silence after them.
    untimed: u64,
    /// Whether the first block goes out again, alone.
    retransmit_first: bool,
    /// The rest of the last chunk, which is not cut yet.
    chunk: Bytes,
    /// The beginning of a block that ends in a later chunk.
    partial_block: BytesMut,
    ended: bool,
    /// Index of the block that ends the file, once it is cut.
    last: Option<u64>,
}

struct BufferedBlock {
    payload: Bytes,
    /// When the block was last sent, if its ACK measures the round trip.
    sent_at: Option<Instant>,
}

/// The blocks on their way that are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyOf {
    First,
    Last,
    /// The first and the last.
    Ends,
    /// All of them.
    Window,
}

/// A block that is to be sent.
pub(super) struct Block {
    pub(super) number: u16,
    pub(super) payload: Bytes,
    pub(super) is_retransmit: bool,
}

/// The blocks that an ACK acknowledges.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    pub(super) blocks: u64,
    pub(super) bytes: usize,
    /// When the last of these blocks was sent, if that measures the round trip.
    pub(super) sent_at: Option<Instant>,
    /// Whether more blocks are on their way.
    pub(super) is_partial: bool,
}

/// A number up to so many blocks back is an old one. A number further back was never sent.
const OLD: u64 = 32768;

impl Window {
    pub(super) fn new(agreed: &Agreed) -> Self {
        Self {
            blksize: agreed.blksize().into(),
            windowsize: agreed.windowsize().into(),
            rollover: agreed.rollover(),
            text: (agreed.mode() == Mode::Netascii).then(netascii::Encoder::default),
            blocks: VecDeque::with_capacity(1),
            acked: 0,
            sent: 0,
            highest: 0,
            copied: 0,
            untimed: 0,
            retransmit_first: false,
            chunk: Bytes::new(),
            partial_block: BytesMut::new(),
            ended: false,
            last: None,
        }
    }

    /// Whether the window has room for more of the source.
    pub(super) fn wants_more(&self) -> bool {
        !self.ended && self.blocks.len() < self.windowsize
    }

    /// Adds the next chunk of the source.
    pub(super) fn fill(&mut self, chunk: Bytes) {
        let rest = std::mem::replace(
            &mut self.chunk,
            match &mut self.text {
                Some(encoder) => encoder.encode(&chunk),
                None => chunk,
            },
        );
        if !rest.is_empty() {
            self.partial_block.reserve(self.blksize);
            self.partial_block.extend_from_slice(&rest);
        }
        self.cut();
    }

    /// Notes that the source has ended.
    pub(super) fn finish(&mut self) {
        self.ended = true;
        self.cut();
    }

    fn cut(&mut self) {
        while self.blocks.len() < self.windowsize && self.last.is_none() {
            // Zero, if the source gave more than the window wanted.
            let missing = self.blksize.saturating_sub(self.partial_block.len());
            if self.chunk.len() < missing && !self.ended {
                break;
            }
            let piece = self.chunk.split_to(missing.min(self.chunk.len()));
            let block = if self.partial_block.is_empty() {
                piece
            } else {
                self.partial_block.extend_from_slice(&piece);
                self.partial_block.split_to(self.blksize.min(self.partial_block.len())).freeze()
            };
            if block.len() < self.blksize {
                self.last = Some(self.acked + self.blocks.len() as u64 + 1);
            }
            self.blocks.push_back(BufferedBlock { payload: block, sent_at: None });
        }
    }

    /// The next block that the window allows to send.
    pub(super) fn next(&mut self, now: Instant) -> Option<Block> {
        let first = std::mem::take(&mut self.retransmit_first);
        let index = if first { self.acked } else { self.sent } + 1;
        let kept = self.blocks.get_mut((index - self.acked - 1) as usize)?;
        let is_retransmit = index <= self.highest;
        kept.sent_at = (index > self.untimed).then_some(now);
        self.sent = self.sent.max(index);
        self.highest = self.highest.max(index);
        Some(Block { number: self.rollover.number(index), payload: kept.payload.clone(), is_retransmit })
    }

    /// Sends blocks again which the peer may lack. No ACK of a block that is on its way measures the round trip then.
    pub(super) fn send_again(&mut self, copy: CopyOf) {
        match copy {
            CopyOf::First => self.retransmit_first = true,
            CopyOf::Last => self.sent = self.highest - 1,
            CopyOf::Ends => (self.retransmit_first, self.sent) = (self.in_flight() > 1, self.highest - 1),
            CopyOf::Window => self.sent = self.acked,
        }
        (self.copied, self.untimed) = (self.highest, self.highest);
    }

    /// How many blocks and bytes a copy has, at most.
    pub(super) fn size(&self, copy: CopyOf) -> (u64, usize) {
        let blocks = match copy {
            CopyOf::First | CopyOf::Last => 1,
            CopyOf::Ends => self.in_flight().min(2),
            CopyOf::Window => return (self.in_flight(), self.bytes_in_flight()),
        };
        (blocks, blocks as usize * self.blksize)
    }

    /// Sends the window again. The peer has reported that it lacks the first block, so it has dropped the others.
    pub(super) fn go_back(&mut self) {
        (self.sent, self.copied, self.untimed) = (self.acked, self.highest, self.acked);
    }

    /// Whether the peer has all repeated blocks and nothing after them.
    pub(super) fn is_acked_up_to_the_copies(&self) -> bool {
        self.acked == self.copied
    }

    /// Acknowledges all blocks up to this number. `None` for a number that is not on its way: an old one, or a false
    /// one.
    pub(super) fn acknowledge(&mut self, number: u16) -> Option<Acknowledged> {
        let blocks = self.rollover.distance(self.acked, number);
        if blocks > self.highest - self.acked {
            return None;
        }
        let (mut bytes, mut sent_at) = (0, None);
        for block in (0..blocks).filter_map(|_| self.blocks.pop_front()) {
            bytes += block.payload.len();
            sent_at = block.sent_at;
        }
        self.acked += blocks;
        let sent_at = sent_at.filter(|_| self.acked > self.untimed);
        self.sent = self.sent.max(self.acked);
        self.cut();
        Some(Acknowledged { blocks, bytes, sent_at, is_partial: self.has_in_flight() })
    }

    /// Whether a block with this number was sent and acknowledged.
    pub(super) fn is_old(&self, number: u16) -> bool {
        let oldest = self.acked.saturating_sub(OLD);
        self.rollover.distance(oldest, number) <= self.acked - oldest
    }

    /// How many blocks are on their way.
    pub(super) fn in_flight(&self) -> u64 {
        self.highest - self.acked
    }

    /// Whether any block is on its way.
    pub(super) fn has_in_flight(&self) -> bool {
        self.in_flight() > 0
    }

    /// How many bytes are on their way.
    pub(super) fn bytes_in_flight(&self) -> usize {
        self.blocks.iter().take(self.in_flight() as usize).map(|block| block.payload.len()).sum()
    }

    /// Whether the file was acknowledged to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.last == Some(self.acked)
    }

    /// Whether any block was acknowledged.
    pub(super) fn has_begun(&self) -> bool {
        self.acked > 0
    }

    /// Whether every block of the file was sent.
    pub(super) fn is_all_sent(&self) -> bool {
        self.last == Some(self.highest)
    }

    /// Whether the blocks sent so far are all full and hold this many bytes.
    pub(super) fn has_sent(&self, bytes: u64) -> bool {
        self.last.is_none_or(|last| last > self.highest) && self.highest * self.blksize as u64 == bytes
    }

    pub(super) fn windowsize(&self) -> usize {
        self.windowsize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        options::{Direction, Limits, answer},
        packet::Options,
    };

    fn window(options: &[(&str, &str)], mode: Mode) -> Window {
        let asked: Options = options.iter().copied().collect();
        Window::new(&answer(&asked, Direction::Read, mode, &Limits::default(), None).0)
    }

    /// Sends all blocks, with one ACK for each window.
    fn all(window: &mut Window, chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut chunks, mut blocks) = (chunks.iter(), Vec::new());
        while !window.is_complete() {
            while window.wants_more() {
                match chunks.next() {
                    Some(chunk) => window.fill(Bytes::copy_from_slice(chunk)),
                    None => window.finish(),
                }
            }
            let mut number = 0;
            while let Some(block) = window.next(Instant::now()) {
                number = block.number;
                blocks.push(block.payload.to_vec());
            }
            assert!(window.acknowledge(number).is_some());
        }
        blocks
    }

    #[test]
    fn blocks_are_cut_across_chunks_of_any_size() {
        let file: Vec<u8> = (0..100u8).collect();
        for size in (1..40).step_by(if cfg!(miri) { 13 } else { 1 }) {
            for windowsize in ["1", "3", "64"] {
                let chunks: Vec<&[u8]> = file.chunks(size).collect();
                let blocks = all(&mut window(&[("blksize", "10"), ("windowsize", windowsize)], Mode::Octet), &chunks);
                assert_eq!(blocks.len(), 11, "ten full blocks and an empty one");
                assert_eq!(blocks.concat(), file);
            }
        }
        assert_eq!(all(&mut window(&[], Mode::Octet), &[]), [[0_u8; 0]; 1], "an empty file is one empty block");
        assert_eq!(all(&mut window(&[], Mode::Octet), &[b"", b"ab", b""]), [b"ab"]);
        assert_eq!(all(&mut window(&[], Mode::Netascii), &[b"a\n", b"\r"]), [b"a\r\n\r\0"]);
    }

    #[test]
    fn a_block_inside_a_chunk_is_not_copied() {
        let chunk = Bytes::from(vec![7; 4096]);
        let mut window = window(&[("windowsize", "8")], Mode::Octet);
        window.fill(chunk.clone());
        let blocks: Vec<Block> = std::iter::from_fn(|| window.next(Instant::now())).collect();
        assert_eq!(blocks.len(), 8);
        for (block, expected) in blocks.iter().zip(chunk.chunks(512)) {
            assert_eq!(block.payload.as_ptr(), expected.as_ptr());
        }
    }

    #[test]
    fn only_numbers_on_their_way_count() {
        let mut window = window(&[("windowsize", "4")], Mode::Octet);
        window.fill(Bytes::from(vec![0; 2048]));
        assert_eq!(window.acknowledge(1), None, "not sent yet");
        while window.next(Instant::now()).is_some() {}
        assert_eq!(window.acknowledge(5), None);
        assert!(window.is_old(0) && !window.is_old(5) && !window.is_old(65535), "never sent");
        let mut acknowledge = |number| window.acknowledge(number).map(|ack| (ack.blocks, ack.bytes, ack.is_partial));
        assert_eq!(acknowledge(0), Some((0, 0, true)));
        assert_eq!(acknowledge(3), Some((3, 1536, true)));
        assert_eq!(acknowledge(2), None, "old");
        assert!(window.is_old(2) && !window.is_old(77));
        window.send_again(CopyOf::Window);
        assert!(window.next(Instant::now()).is_some_and(|block| block.is_retransmit && block.number == 4));
    }
}
