//! A hall of machines that boot at once, with attackers among them, in virtual time. The tests run the whole server,
//! with its handlers, limits and counters.
//!
//! `CROWD=100000 cargo test --release --test crowd all_faults -- --nocapture` is the long run.
#![cfg(feature = "sim")]

mod hall;

use std::{env, time::Duration};

use hall::{Attack, Forged, Hall};
use tuffet::ServerBuilder;

fn machines() -> usize {
    env::var("CROWD").ok().and_then(|count| count.parse().ok()).unwrap_or(400)
}

fn storm(forged: Forged) -> Attack {
    Attack { forged, per_second: 20_000, time: Duration::from_secs(3) }
}

#[test]
fn every_machine_of_a_hall_boots() {
    let mut hall = Hall::new(ServerBuilder::default, machines(), 1);
    hall.boot();
}

#[test]
fn every_machine_boots_over_a_bad_network() {
    for seed in 0..4 {
        let mut hall = Hall::new(ServerBuilder::default, machines() / 4, seed);
        hall.loss = 0.02;
        hall.duplicates = 0.01;
        hall.boot();
    }
}

#[test]
fn every_machine_boots_while_the_server_is_reloaded() {
    let mut hall = Hall::new(ServerBuilder::default, machines() / 2, 5);
    hall.reloads = 20;
    hall.boot();
}

#[test]
fn machines_that_are_reset_boot_from_the_same_ports() {
    let mut hall = Hall::new(ServerBuilder::default, machines() / 2, 6);
    hall.resets = 0.3;
    hall.loss = 0.005;
    hall.boot();
}

#[test]
fn every_machine_boots_in_a_storm_of_forged_requests() {
    for single_port in [false, true] {
        // The storm fills this table of transfers in a quarter of a second.
        let builder = move || ServerBuilder::default().single_port(single_port).max_transfers(5000);
        let mut hall = Hall::new(builder, machines() / 10, 7);
        hall.attacks = vec![storm(Forged::Requests)];
        hall.boot();
    }
}

/// These transfers have clients that answer, so the server takes them for real ones.
#[test]
fn every_machine_boots_while_somebody_answers_forged_requests() {
    let builder = || ServerBuilder::default().max_transfers(5000);
    let mut hall = Hall::new(builder, machines() / 10, 11);
    let time = Duration::from_secs(5);
    hall.attacks = vec![Attack { forged: Forged::AnsweredRequests, per_second: 4000, time }];
    hall.boot();
    // Patience would end the forged transfers after 30 s.
    assert!(hall.booted_after() < Duration::from_secs(20), "{:?}", hall.booted_after());
}

#[test]
fn a_server_that_is_stopped_ends_what_runs() {
    let mut hall = Hall::new(ServerBuilder::default, machines(), 8);
    hall.stop_after = Some(Duration::from_millis(1500));
    hall.run();
    assert!(hall.server.is_over());
}

#[test]
fn every_machine_boots_while_somebody_guesses_their_acks() {
    let mut hall = Hall::new(ServerBuilder::default, machines() / 10, 9);
    hall.attacks = vec![storm(Forged::Acks)];
    hall.boot();
}

/// All faults and attacks happen at once, and another server takes over in the middle.
#[test]
fn every_machine_boots_under_all_faults_and_attacks_at_once() {
    let mut hall = Hall::new(ServerBuilder::default, machines(), 10);
    (hall.loss, hall.duplicates, hall.resets, hall.reloads) = (0.005, 0.005, 0.05, 5);
    hall.attacks = vec![storm(Forged::Requests), storm(Forged::Acks)];
    (hall.stop_after, hall.restarts) = (Some(Duration::from_millis(1500)), true);
    hall.boot();
}
