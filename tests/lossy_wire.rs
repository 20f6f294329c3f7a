//! Whole transfers, client against server, over every kind of wire.
#![cfg(feature = "sim")]

mod sim;

use tuffet::{options::Direction, packet::Mode, transfer::Outcome};

use sim::{LinkConditions, Ran, Setup, Trying, ms, secs};

const DIRECTIONS: [Direction; 2] = [Direction::Read, Direction::Write];
const MODES: [Mode; 2] = [Mode::Octet, Mode::Netascii];

/// The random transfers, and the most blocks that each of them has. Miri is slow.
const SEEDS: u64 = if cfg!(miri) { 8 } else { 3000 };
const MOST_BLOCKS: usize = if cfg!(miri) { 10 } else { 100 };

fn run(setup: Setup) -> Ran {
    let _trying = Trying(setup.clone());
    let ran = setup.run();
    ran.assert_arrived();
    ran
}

/// Sizes at which something could be off by one.
fn sizes(blksize: usize) -> [usize; 9] {
    [0, 1, blksize - 1, blksize, blksize + 1, 4 * blksize - 1, 4 * blksize, 4 * blksize + 1, 9 * blksize]
}

#[test]
fn a_clean_wire_carries_exactly_the_necessary_packets() {
    for direction in DIRECTIONS {
        for mode in MODES {
            for options in [
                "",
                "msftwindow=31416",
                "tsize=0",
                "blksize=8",
                "blksize=8 windowsize=3",
                "blksize=8 windowsize=4 rollover=1",
            ] {
                let blksize = if options.contains("blksize") { 8 } else { 512 };
                for size in sizes(blksize) {
                    // In netascii the size is unknown, so a lone tsize gets no OACK.
                    if options == "tsize=0" && mode == Mode::Netascii {
                        continue;
                    }
                    let options = options.to_string();
                    let ran = run(Setup { direction, mode, options, size, ..Setup::default() });
                    assert_eq!(ran.sent(), ran.necessary(), "{:?} {:#?}", ran.setup, ran.report.trace);
                    assert_eq!(ran.sender().outcome, Some(Outcome::Complete));
                    assert!(ran.report.elapsed <= ms(2) * ran.sent() as u32);
                }
            }
        }
    }
}

#[test]
fn every_windowsize_carries_exactly_the_necessary_packets() {
    for direction in DIRECTIONS {
        for windowsize in 1..=64 {
            for size in [1000, 1024, 8 * windowsize, 8 * windowsize - 1, 8 * windowsize + 1] {
                let options = format!("blksize=8 windowsize={windowsize}");
                let ran = run(Setup { direction, options, size, chunks: 100, ..Setup::default() });
                assert_eq!(ran.sent(), ran.necessary(), "{:?}", ran.setup);
            }
        }
    }
}

#[test]
fn block_numbers_roll_over() {
    for (direction, rollover, windowsize, loss) in [
        (Direction::Read, "", 1, 0.0),
        (Direction::Read, "rollover=1", 16, 0.01),
        (Direction::Read, "rollover=0", 64, 0.001),
        (Direction::Write, "rollover=1", 1, 0.0),
        (Direction::Write, "", 16, 0.01),
    ] {
        let options = format!("blksize=8 windowsize={windowsize} {rollover}");
        let conditions = LinkConditions::lossy(ms(1), loss);
        let size = 8 * (2 * 65536 + 10) / if windowsize == 1 { 2 } else { 1 } + 4;
        let ran = run(Setup { direction, options, size, conditions, ..Setup::default() });
        assert!(ran.blocks() > 65536);
        if loss == 0.0 {
            assert_eq!(ran.sent(), ran.necessary());
        }
    }
}

#[test]
fn the_widest_windows_are_not_ambiguous() {
    for rollover in [0, 1] {
        for direction in DIRECTIONS {
            let options = format!("blksize=8 windowsize=65535 rollover={rollover}");
            let conditions = LinkConditions::lossless(ms(1));
            let limit = 65535;
            let ran = run(Setup { direction, options, size: 8 * 70_000, conditions, limit, ..Setup::default() });
            assert_eq!((ran.agreed().windowsize(), ran.sent()), (32767, ran.necessary()));
        }
    }
}

fn random_setup(seed: u64) -> Setup {
    let mut random = fastrand::Rng::with_seed(seed);
    let blksize = *random.choice(&[8, 9, 64, 512, 1432]).unwrap();
    let windowsize = if random.bool() { 1 } else { random.usize(1..=64) };
    let edge = random.choice(sizes(blksize)).unwrap();
    let mut options = String::new();
    for (name, value) in [
        ("blksize", blksize as u64),
        ("windowsize", windowsize as u64),
        ("rollover", random.u64(0..=1)),
        ("tsize", 0),
        ("timeout", random.u64(1..=10)),
    ] {
        if name != "tsize" && random.u8(0..4) > 0 {
            options += &format!("{name}={value} ");
        }
    }
    let latency = *random.choice(&[ms(0), ms(1), ms(20), ms(100)]).unwrap();
    Setup {
        seed,
        direction: DIRECTIONS[random.usize(..2)],
        mode: MODES[random.usize(..2)],
        options,
        size: if random.bool() { edge } else { random.usize(..blksize * MOST_BLOCKS) },
        chunks: random.usize(1..=3 * blksize * windowsize),
        source_delay: *random.choice(&[ms(0), ms(0), ms(1), ms(300)]).unwrap(),
        sink_busy: *random.choice(&[ms(0), ms(0), ms(3), ms(200)]).unwrap(),
        conditions: LinkConditions {
            loss: random.f64() * 0.1,
            duplicate: random.f64() * 0.05,
            reorder: random.f64() * 0.05,
            latency,
            jitter: latency.mul_f64(random.f64()),
        },
        ..Setup::default()
    }
}

#[test]
fn random_transfers_over_a_bad_wire_arrive() {
    for seed in 0..SEEDS {
        let ran = run(random_setup(seed));
        let window = usize::from(ran.agreed().windowsize());
        // Each incident may cost a window and the ACKs around it; the end, if the last ACK is lost, a minute of timers.
        let explained = ran.incidents() * (window + 4) + 24;
        let waits = ran.setup.sink_busy + ran.setup.source_delay;
        let impatience = if waits >= ms(200) { ran.necessary() / 2 + 16 } else { 0 };
        assert!(
            ran.sent() <= ran.necessary() + explained + impatience,
            "{seed} {} of {} and {explained} {impatience}",
            ran.sent(),
            ran.necessary()
        );
        assert!(ran.report.elapsed < secs(600));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..50 {
        let (one, two) = (run(random_setup(seed)), run(random_setup(seed)));
        assert_eq!(one.report.trace, two.report.trace);
        assert_eq!(one.report.elapsed, two.report.elapsed);
    }
}
