//! The unit files, and the program under the tools of systemd itself.
#![cfg(all(target_os = "linux", feature = "cli"))]

mod common;
#[path = "common/process.rs"]
mod process;

use std::{
    fs,
    net::UdpSocket,
    process::{Command, Stdio},
};

use common::{Peer, SHORT, eventually};
use process::Process;

const UNITS: [&str; 2] = ["tuffet.service", "tuffet.socket"];

/// The units in a directory of their own, for the program that was built.
fn units() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for unit in UNITS {
        let text = fs::read_to_string(format!("{}/contrib/systemd/{unit}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let text = text.replace("/usr/bin/tuffet", env!("CARGO_BIN_EXE_tuffet"));
        fs::write(place.path().join(unit), text).unwrap();
    }
    place
}

#[test]
#[ignore = "needs systemd"]
fn the_units_are_right() {
    let place = units();
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["verify", "--man=no"]).args(UNITS.map(|unit| place.path().join(unit)));
    let output = analyze.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
#[ignore = "needs systemd"]
fn the_service_is_hardened() {
    let place = units();
    let mut analyze = Command::new("systemd-analyze");
    // The threshold counts tenths, up to 100. 20 is "OK", and the rest comes from the use of the network.
    analyze.args(["security", "--offline=true", "--no-pager", "--threshold=18"]).arg(place.path().join(UNITS[0]));
    let output = analyze.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Other promises of the units, line by line.
#[test]
fn the_units_try_for_as_long_as_it_takes_and_operators_can_read_uploads() {
    let lines = |unit: usize| {
        let text =
            fs::read_to_string(format!("{}/contrib/systemd/{}", env!("CARGO_MANIFEST_DIR"), UNITS[unit])).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let service = ["StartLimitIntervalSec=0", "Restart=on-failure", "RequiresMountsFor=/srv/tftp", "UMask=0022"];
    for (unit, expected) in [(0, &service[..]), (1, &["FreeBind=yes"])] {
        for line in expected {
            assert!(lines(unit).iter().any(|found| found == line), "{line} in {}", UNITS[unit]);
        }
    }
}

#[test]
#[ignore = "needs systemd"]
fn a_request_starts_the_server() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("file"), "as it is").unwrap();
    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--datagram", "--listen", &address.to_string(), env!("CARGO_BIN_EXE_tuffet"), "serve"]);
    let _activated = Process::start(command.current_dir(&place).stdout(Stdio::null()).stderr(Stdio::null()));
    let mut peer = Peer::new(address);
    // The bound socket answers nothing until the program listens, and the program takes time to start.
    eventually("it answers", || peer.rrq("file", &[]).receive_within(SHORT * 4).is_some());
    peer.rrq("file", &[]).expect_data(1, "as it is");
    peer.ack(1);
}
