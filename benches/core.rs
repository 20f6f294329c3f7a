//! The costs of the pure core, without any system call.
//!
//! Run: cargo bench --bench core            (all of it)
//!      cargo bench --bench core -- window  (benchmarks with this in their name)

use std::time::{Duration, Instant};

use divan::{Bencher, black_box, counter::ItemsCount};
use tuffet::{
    Bytes,
    netascii::{Decoder, Encoder},
    options::{self, Agreed, Direction, Limits},
    packet::{self, Mode, Options, Packet, Request},
    transfer::{Event, Outcome, Step, Timing, Transfer, Want},
};

const BLKSIZE: usize = 1468;
/// How many blocks one run moves, so that the start of the transfer has no weight.
const BLOCKS: usize = 4096;

fn main() {
    divan::main();
}

/// The request of EDK2.
fn request() -> Request {
    let options = [("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
    Request { filename: b"images/bootx64.efi".to_vec(), mode: Mode::Octet, options: options.into_iter().collect() }
}

fn data() -> Packet {
    Packet::Data { block: 7, payload: vec![0; BLKSIZE].into() }
}

mod wire {
    use super::*;

    #[divan::bench]
    fn decode_ack() -> Packet {
        Packet::decode(black_box(&[0, 4, 0, 7])).unwrap()
    }

    #[divan::bench]
    fn decode_rrq(bencher: Bencher) {
        let bytes = Packet::Rrq(request().into()).encode();
        bencher.bench(|| Packet::decode(black_box(&bytes)).unwrap());
    }

    #[divan::bench]
    fn decode_data(bencher: Bencher) {
        let bytes = data().encode();
        bencher.bench(|| Packet::decode(black_box(&bytes)).unwrap());
    }

    #[divan::bench]
    fn encode_data(bencher: Bencher) {
        let data = data();
        bencher.bench(|| black_box(&data).encode());
    }

    #[divan::bench]
    fn encode_oack(bencher: Bencher) {
        let oack = Packet::Oack(request().options);
        bencher.bench(|| black_box(&oack).encode());
    }

    /// The server's form of a block, without encoding it: a header, and one more reference to the chunk.
    #[divan::bench]
    fn gather_data(bencher: Bencher) {
        let chunk = Bytes::from(vec![0; BLKSIZE]);
        bencher.bench(|| (packet::data_header(black_box(7)), black_box(&chunk).clone()));
    }
}

#[divan::bench]
fn answer_options(bencher: Bencher) {
    let (asked, limits) = (request().options, Limits::default());
    bencher.bench(|| options::answer(black_box(&asked), Direction::Read, Mode::Octet, &limits, Some(1 << 20)));
}

mod netascii {
    use super::*;

    /// A chunk with a line end in each 64 bytes.
    fn text() -> Vec<u8> {
        (0..8192).map(|i| if i % 64 == 63 { b'\n' } else { b'x' }).collect()
    }

    #[divan::bench]
    fn encode(bencher: Bencher) {
        let text = text();
        bencher.counter(divan::counter::BytesCount::of_slice(&text)).bench(|| Encoder::default().encode(&text));
    }

    #[divan::bench]
    fn decode(bencher: Bencher) {
        let wire = Encoder::default().encode(&text());
        bencher.counter(divan::counter::BytesCount::of_slice(&wire)).bench(|| Decoder::default().decode(&wire));
    }
}

mod coroutine {
    use super::*;

    fn agreed(windowsize: u16) -> Agreed {
        let asked: Options =
            [("blksize", BLKSIZE.to_string()), ("windowsize", windowsize.to_string())].into_iter().collect();
        options::answer(&asked, Direction::Read, Mode::Octet, &Limits::default(), None).0
    }

    #[divan::bench]
    fn create() -> Transfer {
        Transfer::send(Options::new(), Agreed::plain(Mode::Octet), Timing::default())
    }

    /// A transfer created, run for a file of one block, and dropped.
    #[divan::bench]
    fn whole_small_transfer(bencher: Bencher) {
        let (agreed, now) = (Agreed::plain(Mode::Octet), Instant::now());
        bencher.bench_local(|| {
            let mut transfer = Transfer::send(Options::new(), agreed, Timing::default());
            let _ = transfer.resume(now, Event::Continue);
            let _ = transfer.resume(now, Event::Chunk(Bytes::from_static(b"small")));
            let _ = transfer.resume(now, Event::End);
            let _ = transfer.resume(now, Event::Continue);
            transfer.resume(now, Event::Packet(Packet::Ack(1)))
        });
    }

    /// Per block: all the resumes that send it, take its chunk and process its ACK.
    #[divan::bench(args = [1, 16])]
    fn send_window(bencher: Bencher, windowsize: u16) {
        let (agreed, chunk) = (agreed(windowsize), Bytes::from(vec![0; BLKSIZE * usize::from(windowsize)]));
        bencher.counter(ItemsCount::new(BLOCKS)).bench_local(|| send(agreed, &chunk));
    }

    /// Per block: all the resumes that receive it, pass it on and acknowledge it.
    #[divan::bench(args = [1, 16])]
    fn receive_window(bencher: Bencher, windowsize: u16) {
        let (agreed, payload) = (agreed(windowsize), Bytes::from(vec![0; BLKSIZE]));
        bencher.counter(ItemsCount::new(BLOCKS)).bench_local(|| receive(agreed, &payload));
    }

    fn send(agreed: Agreed, chunk: &Bytes) {
        let mut transfer = Transfer::send(Options::new(), agreed, Timing::default());
        let (mut now, mut event, mut last) = (Instant::now(), Event::Continue, 0);
        while usize::from(last) < BLOCKS {
            event = match transfer.resume(now, event) {
                Step::Send(Packet::Data { block, .. }) => {
                    last = block;
                    Event::Continue
                }
                Step::Wait(Want::Chunk, _) => Event::Chunk(chunk.clone()),
                Step::Wait(..) => {
                    now += Duration::from_micros(50);
                    Event::Packet(Packet::Ack(last))
                }
                other => panic!("{other:?}"),
            };
        }
        black_box(transfer);
    }

    fn receive(agreed: Agreed, payload: &Bytes) {
        let mut transfer = Transfer::receive(Options::new(), agreed, Timing::default());
        let (mut now, mut event, mut block) = (Instant::now(), Event::Continue, 0);
        loop {
            event = match transfer.resume(now, event) {
                Step::Send(_) | Step::Push(_) => Event::Continue,
                Step::Wait(Want::Packet, _) => {
                    block += 1;
                    now += Duration::from_micros(50);
                    let payload = if usize::from(block) < BLOCKS { payload.clone() } else { Bytes::new() };
                    Event::Packet(Packet::Data { block, payload })
                }
                Step::Wait(..) => Event::Ready,
                Step::Done(outcome) => break assert_eq!(outcome, Outcome::Complete),
            };
        }
    }
}
