//! What a forger reaches who sends packets in the name of somebody else and never sees an answer: the whole server, in
//! virtual time. All bytes count with IP and UDP headers.
#![cfg(feature = "sim")]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tuffet::{
    Bytes, Handler, Request, ServerBuilder, Source,
    endpoint::{AMPLIFICATION, AMPLIFICATION_SINGLE_PORT},
    handler::Answer,
    packet::{Mode, Options, Packet},
    read,
    sim::Server,
};

const HEADERS: usize = 20 + 8;
const SIZE: usize = 2 << 20;

fn victim() -> SocketAddr {
    ([203, 0, 113, 9], 4000).into()
}

fn rrq(options: &str) -> Vec<u8> {
    let options: Options = options.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
    Packet::Rrq(tuffet::packet::Request { filename: b"f".to_vec(), mode: Mode::Octet, options }.into()).encode()
}

/// A forger and its victim.
struct Forger {
    server: Server,
    /// The ports that it sends every packet to.
    ports: Vec<SocketAddr>,
    sent: usize,
    brought: usize,
}

impl Forger {
    /// A forger that has learned, by its own requests, which ports a transfer with these options may have.
    fn new(single_port: bool, options: &str) -> Self {
        let bytes = Bytes::from(vec![7; SIZE]);
        let handler = read(async move |_| Source::from(bytes.clone()));
        let builder = ServerBuilder::default().handler(handler).single_port(single_port).max_requests_per_client(0);
        let mut server = Server::new(builder, 11);
        let mut ports = BTreeSet::new();
        for n in 0..1500_u16 {
            let own = ([203, 0, 113, 66], 1024 + n).into();
            server.deliver(own, server.addr(), &rrq(options));
            for datagram in server.sent() {
                ports.insert(datagram.from);
                server.deliver(
                    own,
                    datagram.from,
                    &Packet::Error { code: tuffet::ErrorCode(0), message: String::new() }.encode(),
                );
            }
        }
        let ports: Vec<_> = ports.into_iter().collect();
        assert!(single_port && ports == [server.addr()] || ports.len() >= 4 && !ports.contains(&server.addr()));
        server.pass(server.now() + Duration::from_secs(60));
        server.sent();
        Self { server, ports, sent: 0, brought: 0 }
    }

    fn forge(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.sent += bytes.len() + HEADERS;
        self.server.deliver(victim(), to, bytes);
        self.count();
    }

    fn ask(&mut self, options: &str) {
        self.forge(self.server.addr(), &rrq(options));
    }

    fn acknowledge(&mut self, block: usize) {
        for port in self.ports.clone() {
            self.forge(port, &Packet::Ack(block as u16).encode());
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.server.now() + time;
        while let Some(at) = self.server.wake_at().filter(|at| *at <= until) {
            self.server.pass(at);
            self.count();
        }
        self.server.pass(until);
        self.count();
    }

    fn count(&mut self) {
        let to_victim = self.server.sent().into_iter().filter(|datagram| datagram.to == victim());
        self.brought += to_victim.map(|datagram| datagram.bytes.len() + HEADERS).sum::<usize>();
    }

    fn factor(&self) -> f64 {
        self.brought as f64 / self.sent as f64
    }
}

/// All that it can do with one transfer: how far it goes in the file, how many equal ACKs it sends, how long it waits.
fn attack(single_port: bool, blksize: usize, windowsize: usize, step: usize, copies: usize, pause: Duration) -> f64 {
    let options = format!("blksize={blksize} windowsize={windowsize} tsize=0");
    let mut forger = Forger::new(single_port, &options);
    forger.ask(&options);
    let mut block = 0;
    while block * blksize < SIZE / 8 {
        for _ in 0..copies {
            forger.acknowledge(block);
        }
        forger.wait(pause);
        block += step;
    }
    forger.wait(Duration::from_secs(120));
    forger.factor()
}

#[test]
fn blind_acks_are_bounded() {
    let ms = Duration::from_millis;
    for (single_port, most) in [(false, AMPLIFICATION), (true, AMPLIFICATION_SINGLE_PORT)] {
        let mut worst = 0.0_f64;
        for blksize in [512, 1468] {
            for windowsize in [1, 4, 16, 64] {
                // A single port grants small windows.
                let window = if single_port { windowsize.min(if blksize > 1100 { 3 } else { 4 }) } else { windowsize };
                for (step, copies, pause) in
                    [(window, 1, ms(1)), (window, 1, ms(700)), (1, 1, ms(2)), (window, 20, ms(1)), (window, 3, ms(200))]
                {
                    let factor = attack(single_port, blksize, windowsize, step, copies, pause);
                    println!(
                        "single port {single_port}: {blksize} x {windowsize}, every {step}, {copies} times: {factor:.1}"
                    );
                    worst = worst.max(factor);
                }
            }
        }
        assert!(worst <= most.into(), "{worst:.1}");
        assert!(worst >= f64::from(most) / 8.0, "the attack is no attack: {worst:.1}");
    }
}

#[test]
fn a_forged_request_alone_brings_little() {
    for single_port in [false, true] {
        for (options, after_ack) in
            [("", false), ("windowsize=64 blksize=1468", false), ("windowsize=64 blksize=1468", true)]
        {
            let mut forger = Forger::new(single_port, options);
            forger.ask(options);
            if after_ack {
                forger.acknowledge(0);
            }
            forger.wait(Duration::from_secs(300));
            let most = if single_port { AMPLIFICATION_SINGLE_PORT } else { AMPLIFICATION };
            assert!(forger.factor() <= most.into(), "{options} {after_ack}: {}", forger.factor());
        }
    }
}

/// A handler that counts the bytes of uploads, and has a file.
#[derive(Clone, Default)]
struct Store(Arc<AtomicUsize>);

impl Handler for Store {
    fn read<'a>(&'a self, _: &'a Request) -> Answer<'a, Source> {
        Box::pin(async { Ok(Source::from("a file of the other server")) })
    }

    fn write<'a>(&'a self, _: &'a Request, data: Source) -> Answer<'a, ()> {
        Box::pin(async move {
            data.collect(1 << 20).await?;
            self.0.fetch_add(1, SeqCst);
            Ok(())
        })
    }

    fn takes_writes(&self) -> bool {
        true
    }
}

/// Forges requests that set two servers against each other, as often as asked. Returns how often one of them has
/// written into the other.
fn set_against_each_other(tries: usize, seed: u64) -> usize {
    let store = Store::default();
    let server = |address: &str, seed| {
        let builder = ServerBuilder::default().listen(address).handler(store.clone());
        Server::new(builder, seed)
    };
    let (mut one, mut two) = (server("192.0.2.1:69", 2 * seed), server("192.0.2.2:69", 2 * seed + 1));
    let mut random = fastrand::Rng::with_seed(seed);
    for options in ["", "\0tsize\x000", "\0blksize\x001024"] {
        for _ in 0..tries / 3 {
            // Which of the ports the transfers get, it must guess.
            let (from, to) = (*random.choice(&two.addrs()[1..]).unwrap(), *random.choice(&one.addrs()[1..]).unwrap());
            let request = |opcode: &str| format!("{opcode}f\0octet{options}\0").into_bytes();
            one.deliver(from, one.addr(), &request("\0\x01"));
            two.deliver(to, two.addr(), &request("\0\x02"));
            for _ in 0..20 {
                for datagram in one.sent() {
                    two.deliver(datagram.from, datagram.to, &datagram.bytes);
                }
                for datagram in two.sent() {
                    one.deliver(datagram.from, datagram.to, &datagram.bytes);
                }
            }
        }
    }
    store.0.load(SeqCst)
}

#[test]
fn two_servers_are_seldom_set_against_each_other() {
    const SERVERS: u64 = 10;
    const TRIES: usize = 900;
    let written: Vec<usize> = (0..SERVERS).map(|seed| set_against_each_other(TRIES, seed)).collect();
    println!("{written:?} of {TRIES} tries each");
    // Each server has 64 ports, and both must be right. With two known ports, every fourth try would succeed.
    assert!(written.iter().sum::<usize>() <= 40, "{written:?}");
}
