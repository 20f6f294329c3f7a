//! Datagrams that no client sends, and hostile clients.
#![cfg(feature = "net")]

mod common;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

use common::{Peer, Serving, doomed_socket, eventually, file, request, size};
use tuffet::{
    Client, Handler, Request, Source,
    handler::Answer,
    packet::{Mode, Packet},
};

/// Files of the size that their name says, both ways. A name must not lead anywhere.
struct Files;

impl Handler for Files {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        assert_harmless(request.path());
        Box::pin(async { Ok(file(size(request)).into()) })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        assert_harmless(request.path());
        Box::pin(async { data.collect(1 << 20).await.map(drop) })
    }
}

/// A panic here becomes an ERROR 0, which the tests expect nowhere.
fn assert_harmless(path: &str) {
    let parts: Vec<&str> = path.split(['/', '\\']).collect();
    assert!(!parts.iter().any(|part| ["", ".", ".."].contains(part)), "{path:?} got through");
}

fn impatient() -> Serving {
    Serving::with(Files, |builder| builder.patience(Duration::from_secs(2)))
}

/// Gets files meanwhile, by a client that must not be disturbed.
fn while_serving(addr: SocketAddr, work: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (client, mut count) = (Client::new(addr), 0);
            while count == 0 || !over.load(SeqCst) {
                let received = smol::block_on(client.get("20000", async |data| {
                    assert!(data.collect(20_000).await? == file(20_000));
                    Ok(())
                }));
                received.unwrap();
                count += 1;
            }
        });
        work();
        over.store(true, SeqCst);
        client.join().unwrap();
    });
}

fn rng(seed: u64) -> fastrand::Rng {
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

fn random_bytes(rng: &mut fastrand::Rng, most: usize) -> Vec<u8> {
    let len = rng.usize(..=most);
    // Half of them of the few bytes that mean something.
    let telling = rng.bool();
    (0..len).map(|_| if telling { *rng.choice(b"\0\0\x01\x04oO5\\/.").unwrap() } else { rng.u8(..) }).collect()
}

#[test]
fn random_and_truncated_datagrams() {
    let serving = impatient();
    let mut rng = rng(69);
    let whole: Vec<Vec<u8>> = [
        Packet::Rrq(request("600", &[("blksize", "1468"), ("tsize", "0"), ("windowsize", "4")])),
        Packet::Wrq(request("600", &[("tsize", "600"), ("timeout", "1")])),
        Packet::Data { block: 1, payload: vec![1; 512].into() },
        Packet::Ack(1),
        Packet::Error { code: tuffet::ErrorCode(0), message: "closed".into() },
        Packet::Oack([("blksize", "512")].into_iter().collect()),
    ]
    .iter()
    .map(Packet::encode)
    .collect();
    while_serving(serving.addr(), || {
        let mut data_ports = Vec::new();
        for _ in 0..20 {
            let mut peer = Peer::new(serving.addr());
            peer.rrq("600", &[]).receive();
            data_ports.push(peer.to);
        }
        let peers: Vec<Peer> = (0..50).map(|_| Peer::new(serving.addr())).collect();
        for n in 0..6000 {
            let bytes = match n % 3 {
                0 => {
                    let opcode = [0, rng.u8(..8)];
                    [&opcode[..], &random_bytes(&mut rng, 60)].concat()
                }
                1 => {
                    let packet = rng.choice(&whole).unwrap();
                    packet[..rng.usize(..=packet.len())].to_vec()
                }
                _ => {
                    let mut packet = rng.choice(&whole).unwrap().clone();
                    let at = rng.usize(..packet.len());
                    packet[at] = rng.u8(..);
                    packet
                }
            };
            let to = if rng.bool() { serving.addr() } else { *rng.choice(&data_ports).unwrap() };
            rng.choice(&peers).unwrap().socket.send_to(&bytes, to).unwrap();
        }
    });
    eventually("all sessions are gone", || serving.transfers().is_empty());
    assert!(serving.records().iter().all(|record| !record.outcome.to_string().contains("panic")));
}

#[test]
fn absurd_options() {
    let serving = impatient();
    let many: Vec<(String, String)> = (0..4000).map(|n| (format!("option{n}"), "1".into())).collect();
    let mut peer = Peer::new(serving.addr());
    let mut ask = |options: Vec<(String, String)>| {
        let mut request = request("600", &[]);
        request.options = options.into_iter().chain([("blksize".into(), "1000".into())]).collect();
        let bytes = Packet::Rrq(request).encode();
        assert!(bytes.len() < 65_000);
        peer.to = serving.addr();
        peer.send_bytes(&bytes);
        peer.expect_oack(&[("blksize", "1000")]);
        peer.ack(0);
        peer.expect_data(1, file(600));
        peer.ack(1);
        assert!(serving.record().outcome.is_success());
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    ask(many);
    ask(vec![pair(&"n".repeat(60_000), "1")]);
    for value in ["", "0", "-1", "+1", " 1", "1 ", "1.0", "0x10", "18446744073709551616", "७", "\u{fffd}", "1\n"] {
        ask(["timeout", "utimeout"].map(|name| pair(name, value)).to_vec());
    }
    // Not UTF-8, in names, values and the file name.
    let mut peer = Peer::new(serving.addr());
    peer.send_bytes(b"\0\x01600/\xff\xfe\0octet\0\xff\xff\0\xfe\0tsize\0\xff\0blksize\x001000\0\xc3\0");
    peer.expect_oack(&[("tsize", "600"), ("blksize", "1000")]);
    peer.error(0);
    // As large as a datagram can be.
    for opcode in 0..8 {
        let mut bytes = vec![b'a'; 65_507];
        (bytes[0], bytes[1]) = (0, opcode);
        peer.socket.send_to(&bytes, serving.addr()).unwrap();
        peer.socket.send_to(&bytes, peer.to).unwrap();
    }
    while_serving(serving.addr(), || {});
}

#[test]
fn no_spelling_leads_out_of_the_root() {
    let serving = Serving::new(Files);
    let mut peer = Peer::new(serving.addr());
    let out = [
        "..",
        "../x",
        "/..",
        "/../x",
        "a/../../x",
        r"..\x",
        r"a\..\..\x",
        r"\..\x",
        "C:/../x",
        r"C:\..\x",
        "./../x",
        "//..//x",
        "a/./../../x",
        ".././x",
        r"..\../x",
        "a/b/../../../c",
        "../../../../../../etc/passwd",
    ];
    for name in out {
        peer.rrq(name, &[]).expect_error(2);
        peer.wrq(name, &[]).expect_error(2);
    }
    // Names that only look like it go to the handler, which finds nothing in them.
    for name in ["...", "..a", "a..", "%2e%2e/x", "..%2fx", "a/b/../c", "..;/x", "\u{2025}/x", "．．/x", "~/x"] {
        peer.rrq(name, &[]).expect_data(1, []);
        peer.ack(1);
    }
    for name in ["/", ".", "a/..", r"C:\", "//", "C:"] {
        peer.rrq(name, &[]).expect_error(1);
    }
}

#[test]
fn forged_packets_do_not_end_a_transfer() {
    let serving = Serving::new(Files);
    let (mut peer, mut forger) = (Peer::new(serving.addr()), Peer::new(serving.addr()));
    peer.rrq("5000", &[("blksize", "1000")]).expect_oack(&[("blksize", "1000")]);
    forger.to = peer.to;
    let mut rng = rng(1);
    for _ in 0..200 {
        forger.error(rng.u16(..9));
        forger.ack(rng.u16(..7));
        forger.data(rng.u16(..7), "forged");
    }
    peer.ack(0);
    for block in 1..=5u16 {
        peer.expect_data(block, &file(5000)[usize::from(block - 1) * 1000..][..1000]);
        forger.error(0);
        // From the right TID, but outside of any window.
        peer.ack(block + 100);
        peer.ack(block.wrapping_sub(50));
        peer.data(block, "a client of a read sends no DATA");
        peer.ack(block);
    }
    peer.expect_data(6, []);
    peer.ack(6);
    let record = serving.record();
    assert!(record.outcome.is_success() && record.bytes == 5000, "{record}");
}

#[test]
fn an_upload_with_wrong_blocks_ends() {
    let serving = impatient();
    let mut peer = Peer::new(serving.addr());
    // More than the blksize.
    peer.wrq("up", &[]).expect(Packet::Ack(0));
    peer.data(1, vec![0; 513]);
    peer.expect_error(4);
    // A flood of blocks outside of the window.
    let options = [("windowsize", "8")];
    peer.wrq("up", &options).expect_oack(&options);
    let mut rng = rng(2);
    for _ in 0..3000 {
        peer.data(rng.u16(2..), vec![0; 512]);
    }
    while_serving(serving.addr(), || {});
    eventually("it is over", || serving.transfers().is_empty());
}

#[test]
fn clients_that_never_answer() {
    const COUNT: usize = 3000;
    let serving = impatient();
    let wire = [
        Packet::Rrq(request("100000", &[("windowsize", "64")])).encode(),
        Packet::Rrq(request("100000", &[])).encode(),
        Packet::Wrq(request("up", &[])).encode(),
        {
            let mut text = request("5000", &[]);
            text.mode = Mode::Netascii;
            Packet::Rrq(text).encode()
        },
    ];
    while_serving(serving.addr(), || {
        for n in 0..COUNT {
            // Closed at once: the answers meet a dead port.
            let socket = doomed_socket();
            socket.send_to(&wire[n % wire.len()], serving.addr()).unwrap();
            if n % 100 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    eventually("all sessions are gone", || serving.transfers().is_empty());
    let ended = || {
        let counters = serving.counters();
        (counters.reads.total() + counters.writes.total()) as usize
    };
    eventually("those that were not lost on the way have ended", || ended() > COUNT / 2);
    assert!(
        serving.records().iter().filter(|record| record.outcome.is_success()).count() < 100,
        "but for the client's"
    );
}
