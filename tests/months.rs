//! A server that runs for months in virtual time, past the 49.7 days after which a count of milliseconds in 32 bits
//! wraps.
#![cfg(feature = "sim")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tuffet::{
    Bytes, Refusal, Request, ServerBuilder,
    packet::{Mode, Options, Packet},
    read,
    sim::Server,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MACHINES: u8 = 20;

fn file() -> Bytes {
    vec![7; 5000].into()
}

fn server(single_port: bool) -> Server {
    let files = read(|request: Request| match request.path() {
        "pxelinux.0" => Ok(file()),
        _ => Err(Refusal::not_found()),
    });
    let builder = ServerBuilder::default().handler(files).single_port(single_port).max_requests_per_client(1);
    Server::new(builder, 7)
}

fn rrq(name: &str) -> Vec<u8> {
    let request = tuffet::packet::Request { filename: name.into(), mode: Mode::Octet, options: Options::new() };
    Packet::Rrq(request.into()).encode().to_vec()
}

/// Asks for a missing file and fetches another one, as a boot loader does.
fn boot(server: &mut Server, at: Instant, client: SocketAddr) {
    server.deliver_at(at, client, server.addr(), &rrq("pxelinux.cfg/default"));
    let answers = server.sent();
    assert!(matches!(Packet::decode(&answers[0].bytes), Ok(Packet::Error { .. })), "{answers:?}");
    let client = SocketAddr::new(client.ip(), client.port() + 1);
    server.deliver(client, server.addr(), &rrq("pxelinux.0"));
    let mut bytes = Vec::new();
    loop {
        let data = server.sent().remove(0);
        let Ok(Packet::Data { block, payload }) = Packet::decode(&data.bytes) else { panic!("{data:?}") };
        bytes.extend_from_slice(&payload);
        server.deliver(client, data.from, &Packet::Ack(block).encode());
        if payload.len() < 512 {
            break;
        }
    }
    assert_eq!(bytes, file());
}

#[test]
fn machines_boot_every_day_for_months() {
    for single_port in [false, true] {
        let mut server = server(single_port);
        let start = server.now();
        for day in 0..120 {
            for n in 0..MACHINES {
                // A client comes at another time of each day, at the same port as on other days, or at a new one.
                let at = start + DAY * day + Duration::from_millis(u64::from(n) * 4_321_987);
                let port = 2000 + 2 * (u16::from(n) * day as u16) % 999;
                boot(&mut server, at, ([192, 0, 2, n], port).into());
            }
        }
        let counters = server.handle().counters();
        let boots = 120 * u64::from(MACHINES);
        assert_eq!((counters.reads.complete, counters.reads.refused, counters.over_limit), (boots, boots, 0));
        assert_eq!(server.handle().transfers().len(), 0);
    }
}

#[test]
fn a_client_that_was_at_its_limit_is_answered_weeks_later() {
    let mut server = server(false);
    let (start, client) = (server.now(), ([192, 0, 2, 7], 2000).into());
    let asks_until_silence = |server: &mut Server, at| {
        let asked = (0..100).take_while(|_| {
            server.deliver_at(at, client, server.addr(), &rrq("none"));
            !server.sent().is_empty()
        });
        asked.count()
    };
    let burst = asks_until_silence(&mut server, start);
    assert!((1..100).contains(&burst));
    let minute = Duration::from_secs(60);
    let turn = Duration::from_millis(1 << 32);
    for after in [minute, DAY, turn - minute, turn + minute, 2 * turn + 2 * minute] {
        assert_eq!(asks_until_silence(&mut server, start + after), burst, "{after:?}");
    }
}
