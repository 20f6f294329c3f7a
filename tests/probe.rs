//! Probes of servers: good ones, and servers with known faults.
#![cfg(all(feature = "net", feature = "probe"))]

mod common;

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use common::{Link as _, SHORT, Serving, closed_port, files, within_any_time};
use tuffet::{
    packet::{Options, Packet},
    probe::{Ending, Fault, Faults, Probe, Report, Warning, Way, habits},
    transfer::Outcome,
};

const TIME: Duration = Duration::from_secs(20);

fn probe(server: SocketAddr, name: &str, habits: habits::Habits) -> Probe {
    Probe::new(server, name, habits).limit(TIME).linger(Duration::ZERO)
}

#[test]
fn every_client_gets_its_file_and_finds_nothing_odd() {
    let serving = Serving::new(files());
    for &(name, habits) in habits::ALL {
        let probe = probe(serving.addr(), "40000", habits);
        if let Some(report) = probe.run_size(|_| ()).unwrap() {
            assert_eq!((report.ending, report.warnings), (Ending::SizeKnown, vec![]), "{name}");
            assert_eq!(serving.record().outcome, if name == "edk2" { Outcome::Probe } else { Outcome::Complete });
        }
        let report = probe.run(|_| ()).unwrap();
        assert_eq!((report.ending, report.bytes, report.warnings), (Ending::Complete, 40_000, vec![]), "{name}");
        assert_eq!(serving.record().outcome, Outcome::Complete, "{name}");
    }
}

#[test]
fn any_packet_may_be_lost_doubled_or_late() {
    let serving = Serving::new(files());
    for way in [Way::Sent, Way::Received] {
        for fault in [Fault::Lose, Fault::Duplicate, Fault::Delay(Duration::from_millis(60))] {
            for number in [1, 2, 3, 5, -1] {
                let faults = Faults::new().with(way, number, fault);
                let mut struck = 0;
                let report = probe(serving.addr(), "5000", habits::IPXE).faults(faults).run(|happened| {
                    struck += usize::from(happened.copies != [Duration::ZERO]);
                });
                let report = report.unwrap();
                assert_eq!((&report.ending, report.bytes), (&Ending::Complete, 5000), "{way:?} {number} {fault:?}");
                assert_eq!((report.warnings, struck), (vec![], 1), "{way:?} {number} {fault:?}");
                assert!(report.took < TIME / 2, "it ends when the client does");
            }
        }
    }
}

#[test]
fn a_refusal_is_told() {
    let serving = Serving::new(files());
    let report = probe(serving.addr(), "0", habits::GRUB).run(|_| ()).unwrap();
    assert!(matches!(report.ending, Ending::Refused { code: tuffet::ErrorCode::FILE_NOT_FOUND, .. }));
}

/// The verdict on a server that answers each packet with these packets.
fn judged(habits: habits::Habits, server: impl Fn(Packet) -> Vec<Packet> + Sync) -> Report {
    judged_for(SHORT, habits, &server)
}

/// The same for a probe that listens for this long after the end.
fn judged_for(time: Duration, habits: habits::Habits, server: &(impl Fn(Packet) -> Vec<Packet> + Sync)) -> Report {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                let Some((from, asked)) = socket.receive_within(Duration::from_millis(20)) else { continue };
                for packet in server(Packet::decode(&asked).unwrap()) {
                    socket.send_to(&packet.encode(), from).unwrap();
                }
            }
        });
        let report = probe(address, "x", habits).linger(time).run(|_| ());
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        report.unwrap()
    })
}

fn oack(text: &str) -> Vec<Packet> {
    let options: Options = text.split_whitespace().map(|pair| pair.split_once('=').unwrap()).collect();
    vec![Packet::Oack(options)]
}

fn data(block: u16, len: usize) -> Packet {
    Packet::Data { block, payload: vec![7; len].into() }
}

#[test]
fn an_unasked_option_is_reported_and_strict_clients_leave() {
    let server = |packet| match packet {
        Packet::Rrq(_) => oack("blksize=1024 timeout=1"),
        Packet::Ack(0) => vec![data(1, 9)],
        _ => vec![],
    };
    let report = judged(habits::GRUB, server);
    assert_eq!((report.ending, report.warnings), (Ending::Complete, vec![Warning::Unasked("timeout".into())]));
    let report = judged(habits::EDK2, server);
    assert!(matches!(report.ending, Ending::Rejected(_)), "{:?}", report.ending);
}

#[test]
fn the_sorcerers_apprentice_is_seen() {
    // A client that repeats nothing by itself, however slow the machine, and a server that answers each ACK, whether
    // or not it has answered it.
    let server = |packet| match packet {
        Packet::Rrq(_) => vec![data(1, 512)],
        Packet::Ack(block) => vec![data(block + 1, if block < 40 { 512 } else { 1 })],
        _ => vec![],
    };
    let fine = judged(habits::CURL, server);
    assert_eq!((fine.ending, fine.warnings), (Ending::Complete, vec![]));
    let socket_faults = Faults::new().with(Way::Sent, 3, Fault::Duplicate);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 600];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            for packet in server(Packet::decode(&buffer[..len]).unwrap()) {
                socket.send_to(&packet.encode(), from).unwrap();
            }
        }
    });
    let report = probe(address, "x", habits::CURL).faults(socket_faults).run(|_| ()).unwrap();
    assert!(matches!(report.warnings[..], [Warning::Flood { copies: 30.. }]), "{report:?}");
}

#[test]
fn an_error_to_an_error_and_a_wrong_size_are_seen() {
    let server = |packet| match packet {
        Packet::Rrq(_) => oack("tsize=1408 blksize=1408"),
        Packet::Ack(0) => vec![data(1, 1408)],
        error => vec![error],
    };
    let report = within_any_time("the answer to its ERROR comes", |time| {
        Some(judged_for(time, habits::PXELINUX, &server)).filter(|report| !report.warnings.is_empty())
    });
    assert_eq!((report.ending, report.warnings), (Ending::Complete, vec![Warning::ErrorToError]));
    let report = judged(habits::IPXE, |packet| match packet {
        Packet::Rrq(_) => oack("tsize=1000"),
        _ => vec![data(1, 10)],
    });
    assert_eq!(report.warnings, [Warning::WrongSize { told: 1000, came: 10 }]);
}

#[test]
fn a_server_that_is_not_there_is_given_up() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    within_any_time("it asks again", |time| {
        let report = probe(nobody.local_addr().unwrap(), "x", habits::IPXE).limit(time).run(|_| ()).unwrap();
        assert_eq!((report.ending, report.first_answer), (Ending::GaveUp, None));
        (report.repeats > 0).then_some(())
    });
}

#[test]
fn a_closed_port_ends_it_at_once() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let Some(socket) = closed_port(local) else { continue };
        let closed = socket.local_addr().unwrap();
        // Longer than any test may take.
        let probe = probe(closed, "x", habits::EDK2).limit(Duration::from_secs(3600));
        assert_eq!(probe.run(|_| ()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(probe.run_size(|_| ()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}

/// GRUB does not listen for seconds while it unpacks, which is not the server's time.
#[test]
fn the_limit_leaves_the_clients_own_pauses_out() {
    let serving = Serving::new(files());
    within_any_time("it is complete", |limit| {
        let mut habits = habits::GRUB;
        // Two pauses, each of them longer than the limit alone.
        let pause = limit + Duration::from_millis(100);
        habits.pause = Some((10, pause));
        let report = probe(serving.addr(), "25000", habits).limit(limit).run(|_| ()).unwrap();
        (report.ending == Ending::Complete).then(|| assert_eq!((report.bytes, report.paused), (25_000, 2 * pause)))
    });
    let report = probe(serving.addr(), "9", habits::IPXE).limit(Duration::MAX).run(|_| ()).unwrap();
    assert_eq!((report.ending, report.paused), (Ending::Complete, Duration::ZERO), "a limit may be for ever");
}
