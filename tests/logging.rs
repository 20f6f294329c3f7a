//! The log of the program: how it shows the bytes of clients, and that it never delays a transfer.
#![cfg(all(feature = "cli", unix))]

mod common;
#[path = "common/program.rs"]
mod program;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, UdpSocket},
};

use common::{LONG, Link as _, SHORT, eventually};
use program::Server;

/// Requests a missing file from a new port, and receives ERROR 1.
fn miss(address: &str, name: &[u8]) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&[b"\0\x01", name, b"\0octet\0"].concat(), address).unwrap();
    let (_, answer) = socket.receive_within(LONG).expect("an answer");
    assert!(answer.starts_with(b"\0\x05\0\x01"), "{answer:?}");
}

fn refusals(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.contains(" refused: ")).collect()
}

#[test]
fn names_are_shown_escaped_and_short() {
    let directory = tempfile::tempdir().unwrap();
    for format in ["text", "json"] {
        let server = Server::start(&["-v", "--log-format", format, directory.path().to_str().unwrap()]);
        let long = [b"\x1b[2J\n\xff\xc2\x9b\xe2\x80\xae".repeat(40), b"x/../the-end".to_vec()].concat();
        miss(&server.address, b"netboot.xyz.efi\xff");
        miss(&server.address, &long);
        let said = server.stop("-TERM");
        assert!(!said.chars().any(|char| char != '\n' && char.is_control() || char == '\u{202e}'), "{said}");
        assert!(said.replace(r"\\", r"\").contains(r"netboot.xyz.efi\xff"), "{said}");
        assert!(said.contains("the-end") && said.lines().all(|line| line.len() < 4096), "{said}");
        let of_transfers = said.lines().filter(|line| line.contains("the-end") && line.contains("refused"));
        assert_eq!(of_transfers.count(), 1, "one request, one line: {said}");
    }
}

/// A boot is logged, a client in a loop is summed up.
#[test]
fn floods_of_misses_are_summed_up() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let args = ["--log-file", log.to_str().unwrap(), "/"];
    let server = Server::start(&args);
    (0..400).for_each(|n| miss(&server.address, format!("missing-{n}").as_bytes()));
    let said = server.stop("-TERM");
    for said in [said, fs::read_to_string(log).unwrap()] {
        let (each, sums) = (said.matches(" read missing-").count(), said.matches(" more requests refused: ERROR 1 "));
        assert!((50..100).contains(&each) && (1..10).contains(&sums.count()), "{said}");
        let summed = said.lines().filter_map(|line| line.split_once(" more request")?.0.split(' ').next_back());
        assert_eq!(each + summed.map(|count| count.parse::<usize>().unwrap()).sum::<usize>(), 400, "{said}");
        assert!(said.contains(" from 127.0.0.1; the last was for missing-399"), "{said}");
    }
}

/// A client that acknowledges something and leaves, again and again. A forger can do that for many clients.
#[test]
fn floods_of_clients_that_leave_early_are_summed_up() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("linux"), [7; 5000]).unwrap();
    let server = Server::start(&[directory.path().to_str().unwrap()]);
    for _ in 0..200 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"\0\x01linux\0octet\0", &server.address).unwrap();
        for answer in [&b"\0\x04\0\x01"[..], b"\0\x05\0\0bye\0"] {
            let (tid, _) = socket.receive_within(LONG).expect("a block");
            socket.send_to(answer, tid).unwrap();
        }
    }
    // It is handled after all others.
    miss(&server.address, b"missing");
    let said = server.stop("-TERM");
    let each = said.matches(" read linux aborted").count();
    let sums =
        said.lines().filter_map(|line| line.split_once(" more requests whose client left early, from 127.0.0.1"));
    let summed: usize = sums.map(|(before, _)| before.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum();
    assert!((50..100).contains(&each), "{said}");
    assert_eq!(each + summed, 200, "{said}");
}

/// No kind of flood fills the disk of an operator who watches a boot with `-v`.
#[test]
fn floods_of_garbage_are_summed_up() {
    let server = Server::start(&["-v", "/"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..3000 {
        socket.send_to(b"\0\x09garbage", &server.address).unwrap();
        // The server has read those before it, and the queue of its socket does not overflow.
        if n % 50 == 0 {
            miss(&server.address, b"missing");
        }
    }
    miss(&server.address, b"missing");
    let said = server.stop("-TERM");
    let each = said.lines().filter(|line| line.contains(": not answered: ") && !line.contains("such as: ")).count();
    let sums = said.lines().filter(|line| line.contains("such as: ") && line.contains(": not answered: "));
    let counts = sums.map(|line| line.split_once(" more line").unwrap().0.rsplit(' ').next().unwrap());
    let summed: usize = counts.map(|count| count.parse::<usize>().unwrap()).sum();
    // A slow machine has time for more lines.
    assert!(each >= 1000 && summed > 0, "{each} lines, {summed} without");
    assert_eq!(each + summed, 3000);
}

/// Otherwise the log would be silent about a machine that does not boot for this reason.
#[cfg(target_os = "linux")]
#[test]
fn clients_without_an_answer_are_named_with_the_option() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let server = Server::start(&["--deny", "127.0.0.2/31", "--log-file", log.to_str().unwrap(), "/"]);
    for (client, requests) in [("127.0.0.2:0", 2), ("127.0.0.3:0", 3)] {
        let denied = UdpSocket::bind(client).unwrap();
        (0..requests).for_each(|_| _ = denied.send_to(b"\0\x01menu\0octet\0", &server.address).unwrap());
    }
    // It is handled after all others.
    miss(&server.address, b"missing");
    let said = server.stop("-TERM");
    for said in [said, fs::read_to_string(log).unwrap()] {
        let lines = said.lines().filter(|line| line.contains(" without an answer, from "));
        let of_each = lines.map(|line| {
            assert!(line.ends_with(": the client is not admitted (see --allow and --deny)"), "{said}");
            line.split_once(" request").unwrap().0.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
        });
        assert_eq!(of_each.sum::<usize>(), 5, "{said}");
    }
}

/// A storm that finds a busy server would otherwise look like a bad network.
#[cfg(target_os = "linux")]
#[test]
fn datagrams_that_the_system_dropped_are_told_of() {
    let server = Server::start(&["/"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.child.signal("-STOP");
    // The buffer has 8 MiB at most, and each datagram takes more than 512 bytes of it.
    (0..20_000).for_each(|_| _ = socket.send_to(b"\0\x09", &server.address).unwrap());
    server.child.signal("-CONT");
    eventually("the server has read them", || {
        socket.send_to(b"\0\x01missing\0octet\0", &server.address).unwrap();
        socket.receive_within(SHORT).is_some()
    });
    let said = server.stop("-TERM");
    assert!(said.contains("the system dropped ") && said.contains("net.core.rmem_max"), "{said}");
}

#[test]
fn a_log_that_nobody_reads_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&["-v", directory.path().to_str().unwrap()]);
    // A pipe takes 64 KiB.
    let name = [b'x'; 250];
    (0..2000).for_each(|_| miss(&server.address, &name));
    // It ends as well, although no reader takes its last lines.
    server.child.signal("-TERM");
    eventually("it has ended", || server.child.try_wait().unwrap().is_some_and(|status| status.success()));
}

#[test]
fn a_reader_that_goes_away_is_survived() {
    let mut server = Server::start(&["-v", "/"]);
    drop(server.child.stderr.take());
    (0..20).for_each(|_| miss(&server.address, b"missing"));
    server.child.signal("-TERM");
    eventually("it has ended", || server.child.try_wait().unwrap().is_some_and(|status| status.success()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_of_and_survived() {
    let server = Server::start(&["--log-file", "/dev/full", "/"]);
    (0..3).for_each(|_| miss(&server.address, b"missing"));
    let said = server.stop("-TERM");
    assert_eq!(refusals(&said).len(), 3, "{said}");
    assert_eq!(said.matches("cannot write to the log file /dev/full: No space left").count(), 1, "{said}");
}

/// All lines that were logged before the end are written, to standard error and to the file.
#[test]
fn no_log_line_is_lost_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    for _ in 0..5 {
        let server = Server::start(&["--log-file", log.to_str().unwrap(), "/"]);
        (0..40).for_each(|n| miss(&server.address, format!("missing-{n}").as_bytes()));
        let said = server.stop("-TERM");
        assert_eq!(refusals(&said).len(), 40, "{said}");
    }
    assert_eq!(refusals(&fs::read_to_string(log).unwrap()).len(), 200);
}

/// A log collector may start after the server, and again.
#[test]
fn a_fifo_needs_no_reader_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    // The server becomes another user, and opens it again.
    assert!(std::process::Command::new("mkfifo").args(["-m", "666"]).arg(&fifo).status().unwrap().success());
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let server = Server::start(&["--log-file", fifo.to_str().unwrap(), "/"]);
    for name in ["first", "second"] {
        miss(&server.address, name.as_bytes());
        let mut line = String::new();
        BufReader::new(fs::File::open(&fifo).unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains(name), "{line}");
        server.child.signal("-HUP");
    }
    let said = server.stop("-TERM");
    assert!(!said.contains("log file"), "{said}");
}

/// Each of its clients has an address of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_fifo_that_nobody_reads_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut server = Server::start(&["--log-file", fifo.to_str().unwrap(), "/"]);
    // The FIFO takes 64 KiB. The lines of one client would be summed up.
    let name = [b'x'; 250];
    for n in 0..400u16 {
        let [high, low] = n.to_be_bytes();
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 9, high, low), 0)).unwrap();
        socket.send_to(&[b"\0\x01", &name[..], b"\0octet\0"].concat(), &server.address).unwrap();
        socket.receive_within(LONG).expect("an answer");
    }
    let mut said = BufReader::new(server.child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("no program reads the log file")));
    server.child.signal("-TERM");
    eventually("it has ended", || server.child.try_wait().unwrap().is_some_and(|status| status.success()));
}
