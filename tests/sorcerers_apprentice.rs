//! The Sorcerer's Apprentice: one packet too many must not bring another one with each block, to the end of the file.
#![cfg(feature = "sim")]

mod sim;

use std::time::Duration;

use tuffet::options::Direction;

use sim::{Fault, LinkConditions, Ran, Setup, Side, Trying, ms};

const DIRECTIONS: [Direction; 2] = [Direction::Read, Direction::Write];
const LATENCY: Duration = ms(10);

/// The file is long enough to show a fault that repeats with each block.
fn setup(direction: Direction, windowsize: usize) -> Setup {
    let options = format!("blksize=8 windowsize={windowsize}");
    let conditions = LinkConditions::lossless(LATENCY);
    Setup { direction, options, size: 8 * 12 * windowsize.max(4), conditions, ..Setup::default() }
}

fn run(setup: Setup) -> Ran {
    let _trying = Trying(setup.clone());
    let ran = setup.run();
    ran.assert_arrived();
    ran
}

/// Runs it once for each packet of a clean run and each fault, with that fault on that packet.
fn with_each(setup: &Setup, faults: &[Fault], check: impl Fn(&Ran)) {
    let clean = run(setup.clone());
    for side in [Side::Client, Side::Server] {
        for index in 0..clean.report.sent_by(side) {
            for fault in faults {
                let ran = run(Setup { fault: Some((side, index, *fault)), ..setup.clone() });
                let _trying = Trying(&ran.setup);
                check(&ran);
            }
        }
    }
}

/// At once, inside a round trip of 20 ms, after it, and after the first retransmit is due.
fn doubles() -> [Fault; 9] {
    [0, 1, 9, 10, 15, 20, 25, 45, 90].map(|millis| Fault::Double(ms(millis)))
}

#[test]
fn one_doubled_packet_costs_two_windows_at_most_and_three_packets_in_lock_step() {
    for direction in DIRECTIONS {
        for (windowsize, most) in [(1, 3), (2, 6), (4, 10), (16, 34)] {
            with_each(&setup(direction, windowsize), &doubles(), |ran| {
                let extra = ran.sent() - ran.necessary();
                assert!(extra <= most, "{extra} more");
            });
        }
    }
}

#[test]
fn one_lost_packet_costs_a_window_and_a_moment() {
    for direction in DIRECTIONS {
        for windowsize in [1, 2, 4, 16] {
            let setup = setup(direction, windowsize);
            let clean = run(setup.clone()).report.elapsed;
            with_each(&setup, &[Fault::Lose], |ran| {
                let extra = ran.sent() - ran.necessary();
                let last_ack = ran.setup.fault.is_some_and(|(side, index, _)| {
                    direction == Direction::Read && side == Side::Client && index + 1 == ran.report.sent_by(side)
                });
                if !last_ack {
                    assert!(extra <= windowsize + 3, "{extra} more");
                    let late = ran.report.elapsed.saturating_sub(clean);
                    assert!(late <= ms(1100), "{late:?} later");
                }
            });
        }
    }
}

#[test]
fn a_round_trip_that_grows_is_measured_again() {
    for direction in DIRECTIONS {
        // The opening takes 2 ms, each block 202 ms.
        let ran = run(Setup { sink_busy: ms(200), size: 100 * 512, direction, ..Setup::default() });
        let extra = ran.sent() - ran.necessary();
        assert!(extra <= 10, "{extra} more for {direction:?}");
    }
}

#[test]
fn a_round_trip_above_the_first_timeout_is_measured() {
    for direction in DIRECTIONS {
        for (options, windowsize) in [("", 1), ("blksize=512", 1), ("blksize=512 windowsize=8", 8)] {
            for latency in [600, 800, 1500, 2400] {
                let conditions = LinkConditions::lossless(ms(latency));
                let options = options.into();
                let ran = run(Setup { size: 100 * 512, direction, conditions, options, ..Setup::default() });
                let _trying = Trying(&ran.setup);
                let extra = ran.sent() - ran.necessary();
                assert!(extra <= 24 + 2 * windowsize, "{extra} more");
            }
        }
    }
}

#[test]
fn a_timeout_below_the_round_trip_costs_copies_and_no_avalanche() {
    for direction in DIRECTIONS {
        for latency in [500, 600, 750, 900, 1200] {
            for jitter in [0, 100] {
                let conditions = LinkConditions { jitter: ms(jitter), ..LinkConditions::lossless(ms(latency)) };
                let options = "timeout=1".into();
                let ran = run(Setup { size: 60 * 512, direction, conditions, options, ..Setup::default() });
                let _trying = Trying(&ran.setup);
                let copies = ran.sent() as f64 / ran.necessary() as f64;
                // The timeout was agreed; nothing but it makes copies.
                let explained = (2 * (latency + jitter)).div_ceil(1000) as f64 + 0.6;
                assert!(copies <= explained, "each packet went out {copies} times");
            }
        }
    }
}
