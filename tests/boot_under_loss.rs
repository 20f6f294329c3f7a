//! The boot clients, each with its own way to report a loss, over a bad wire.
#![cfg(feature = "sim")]

mod sim;

use std::time::Duration;

use tuffet::transfer::{Outcome, Timing};

use sim::{ALL_CLIENTS, Client, Fault, GRUB, Habits, PXELINUX, Server, Side, Source, UBOOT, UBOOT_WINDOWS};
use sim::{LinkConditions, Trying, Wire, ms, run, secs};

/// Some hundred blocks of any client, and no multiple of a blksize.
const SIZE: usize = 400_001;
const LATENCY: Duration = Duration::from_micros(200);

struct Boot {
    client: Client,
    server: Server,
    /// From the first answer until the client had the file.
    took: Duration,
    sent: usize,
    incidents: usize,
}

fn boot(habits: Habits, size: usize, conditions: LinkConditions, seed: u64) -> Boot {
    let _trying = Trying((habits, conditions, seed));
    boot_over(habits, size, Wire::new(conditions, seed * 2), Wire::new(conditions, seed * 2 + 1))
}

fn boot_over(habits: Habits, size: usize, mut up: Wire, mut down: Wire) -> Boot {
    let file: Vec<u8> = (0..size).map(|i| (i / 7) as u8).collect();
    let mut client = Client::new(habits);
    let mut server = Server::new(Source::of(&file), Some(size as u64), Timing::default());
    let report = run(&mut client, &mut server, &mut up, &mut down, secs(600));
    let took = client.took().unwrap_or_else(|| panic!("it gave up after {} timeouts", client.timeouts()));
    assert!(client.file == file, "the file changed on its way");
    let outcome = server.outcome().expect("it is over");
    assert!(outcome.is_success(), "{outcome:?}");
    let incidents = up.incidents() + down.incidents();
    Boot { client, server, took, sent: report.sent_by(Side::Server), incidents }
}

#[test]
fn every_client_boots_on_a_clean_wire_without_a_single_copy() {
    for habits in ALL_CLIENTS {
        let boot = boot(habits, SIZE, LinkConditions::lossless(LATENCY), 0);
        assert_eq!(boot.server.outcome(), Some(&Outcome::Complete));
        if habits.pause.is_none() {
            assert_eq!((boot.client.timeouts(), boot.server.record().unwrap().retransmits), (0, 0), "{habits:?}");
        }
    }
}

#[test]
fn every_client_boots_at_one_percent_loss_without_long_stops() {
    for habits in ALL_CLIENTS {
        let clean = boot(habits, SIZE, LinkConditions::lossless(LATENCY), 0);
        for seed in 0..40 {
            let boot = boot(habits, SIZE, LinkConditions::lossy(LATENCY, 0.01), seed);
            let _trying = Trying((habits.name, seed));
            // Some clients ignore whatever the server repeats and wait for their own timer.
            let own_fault = habits.patience * boot.client.timeouts() as u32;
            let late = boot.took.saturating_sub(clean.took);
            assert!(late <= ms(250) * boot.incidents as u32 + secs(1) + own_fault, "{late:?} later");
            // If the last ACK is lost, the last window goes out until patience ends.
            let tail = if boot.server.outcome() == Some(&Outcome::Complete) { 6 } else { 24 * 8 };
            let (extra, most) = (boot.sent.saturating_sub(clean.sent), boot.incidents * 6 + tail);
            assert!(extra <= most, "{extra} packets more, not {most} for {} incidents", boot.incidents);
        }
    }
}

#[test]
fn one_fault_anywhere_does_not_double_the_rest_for_any_client() {
    let fine = || Wire::new(LinkConditions::lossless(LATENCY), 0);
    for habits in ALL_CLIENTS.into_iter().filter(|habits| habits.pause.is_none()) {
        let clean = boot(habits, SIZE / 8, LinkConditions::lossless(LATENCY), 0);
        for index in 1..clean.sent.min(48) - 1 {
            for fault in [Fault::Lose, Fault::Double(ms(0)), Fault::Double(LATENCY), Fault::Double(LATENCY * 3)] {
                let _trying = Trying((habits.name, index, fault));
                let up = boot_over(habits, SIZE / 8, fine().with_fault(index, fault), fine());
                let down = boot_over(habits, SIZE / 8, fine(), fine().with_fault(index, fault));
                for boot in [up, down] {
                    let extra = boot.sent - clean.sent;
                    assert!(extra <= 10 || boot.server.outcome() != Some(&Outcome::Complete), "{extra} packets more");
                }
            }
        }
    }
}

#[test]
fn uboot_survives_a_wire_that_costs_it_more_than_ten_packets() {
    for habits in [UBOOT, UBOOT_WINDOWS] {
        for seed in 0..40 {
            let boot = boot(habits, SIZE, LinkConditions::lossy(ms(1), 0.05), seed);
            assert!(boot.incidents > 10 && boot.client.timeouts() <= 6, "{} of 10 timeouts", boot.client.timeouts());
        }
    }
}

#[test]
fn every_client_waits_for_a_slow_upstream() {
    for habits in ALL_CLIENTS {
        for delay in [ms(20), ms(150), secs(2)] {
            let size = SIZE / 20;
            let mut random = fastrand::Rng::with_seed(1);
            let source = Source::cut(&vec![7; size], 2000, delay, &mut random);
            let chunks = size / 1000 + 20;
            let mut client = Client::new(habits);
            let mut server = Server::new(source, Some(size as u64), Timing::default());
            let fine = || Wire::new(LinkConditions::lossless(LATENCY), 0);
            let report = run(&mut client, &mut server, &mut fine(), &mut fine(), secs(600));
            let _trying = Trying((habits.name, delay));
            assert_eq!((client.file.len(), server.outcome()), (size, Some(&Outcome::Complete)));
            let took = client.took().expect("it is done");
            assert!(took <= delay * chunks as u32 + secs(6), "{took:?}");
            let sent = report.sent_by(Side::Server);
            assert!(sent <= size / 512 + 6, "{sent} packets");
        }
    }
}

#[test]
fn grub_in_its_pauses_is_not_flooded() {
    let boot = boot(GRUB, SIZE, LinkConditions::lossless(LATENCY), 0);
    let (blocks, pauses) = (SIZE / 1024 + 1, SIZE / 1024 / 50);
    let copies = boot.sent - blocks - 1;
    assert!(copies <= 8 * pauses, "{copies} copies in {pauses} pauses of 3 s");
    assert_eq!(boot.client.timeouts(), 0);
}

#[test]
fn pxelinux_gets_a_multiple_of_its_blksize_over_any_wire() {
    for seed in 0..200 {
        boot(PXELINUX, 1408 * 20, LinkConditions::lossy(LATENCY, 0.1), seed);
    }
}
