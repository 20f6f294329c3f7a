//! Many clients for a while: they come, go, vanish, lie and repeat. At the end all counters add up, and all memory
//! and files are given back.
//!
//! `TUFFET_SOAK_SECONDS` says how long (20 by default), `TUFFET_SOAK_SEED` repeats what a run did.
#![cfg(all(feature = "net", target_os = "linux"))]

mod common;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Link as _, SHORT, Serving, eventually, file, open_files, resident, size};
use tuffet::{
    Bytes, ErrorCode, Gen, Handler, Refusal, Request, Source,
    options::Direction,
    packet::{self, Mode, Packet},
    read,
    stats::{Counters, Record},
    write,
};

const CLIENTS: usize = 24;
const PATIENCE: Duration = Duration::from_millis(400);

/// Files of the size that their name says; and some that are refused, break in the middle, panic, or take their time.
fn files() -> impl Handler {
    let reads = read(async |request: Request| {
        let kind = request.path().split('/').next_back().unwrap_or("").to_owned();
        match kind.as_str() {
            "missing" => return Err(Refusal::not_found()),
            "secret" => return Err(Refusal::denied()),
            "silent" => return Err(Refusal::silent()),
            "panic" => panic!("as a test has it"),
            _ => {}
        }
        let all = file(size(&request));
        Ok(Source::from(Gen::new(async move |co| {
            for (n, chunk) in all.chunks(3000).enumerate() {
                match kind.as_str() {
                    "broken" if n == 1 => return Err(Refusal::upstream()),
                    "slow" => drop(smol::Timer::after(Duration::from_millis(5)).await),
                    _ => {}
                }
                co.yield_(Bytes::copy_from_slice(chunk)).await;
            }
            Ok(())
        })))
    });
    reads.or(write(async |_: Request, data: Source| data.collect(30_000).await.map(drop)))
}

/// All that the hooks received.
#[derive(Default)]
struct Told {
    records: AtomicU64,
    outcomes: Mutex<BTreeMap<(String, &'static str), u64>>,
    refused: Mutex<BTreeMap<u16, u64>>,
    read: AtomicU64,
    written: AtomicU64,
    retransmits: AtomicU64,
    periods: Mutex<Vec<Counters>>,
}

impl Told {
    fn record(&self, record: &Record) {
        self.records.fetch_add(1, Relaxed);
        let key = (record.direction.to_string(), record.outcome.name());
        *self.outcomes.lock().unwrap().entry(key).or_default() += 1;
        if let tuffet::transfer::Outcome::Refused(refusal) = &record.outcome {
            *self.refused.lock().unwrap().entry(refusal.code().0).or_default() += 1;
        }
        let bytes = if record.direction == Direction::Read { &self.read } else { &self.written };
        bytes.fetch_add(record.bytes, Relaxed);
        self.retransmits.fetch_add(record.retransmits, Relaxed);
    }
}

/// One client, which does something else each time.
struct Client {
    server: SocketAddr,
    random: fastrand::Rng,
    socket: UdpSocket,
}

impl Client {
    fn new(server: SocketAddr, seed: u64) -> Self {
        Self { server, random: fastrand::Rng::with_seed(seed), socket: socket() }
    }

    fn act(&mut self) {
        if self.random.u8(..4) == 0 {
            self.socket = socket();
        }
        match self.random.u8(..16) {
            0..=6 => self.read(),
            7..=9 => self.write(),
            10 => self.lie(),
            11 => self.repeat(),
            12 => self.refused(),
            _ => self.vanish(),
        }
    }

    fn read(&mut self) {
        let kind = *self.random.choice(&["", "/slow", "/broken", "/panic"]).unwrap_or(&"");
        let windowsize = self.random.u16(1..6);
        self.ask(Direction::Read, kind, windowsize);
        let leaves = self.random.bool().then(|| self.random.usize(..12));
        self.follow(windowsize, leaves);
    }

    /// Acknowledges each packet, and leaves after this many packets, with an ERROR or in silence.
    fn follow(&mut self, windowsize: u16, leaves: Option<usize>) {
        for n in 0..200 {
            let Some((from, packet)) = self.receive() else { return };
            if leaves == Some(n) {
                if self.random.bool() {
                    self.send(from, &Packet::Error { code: ErrorCode(8), message: "enough".into() });
                }
                return;
            }
            match packet {
                Packet::Oack(_) => self.send(from, &Packet::Ack(0)),
                Packet::Data { block, payload } if block % windowsize == 0 || payload.len() < 1024 => {
                    self.send(from, &Packet::Ack(block));
                    if payload.len() < 1024 {
                        return;
                    }
                }
                Packet::Data { .. } => {}
                _ => return,
            }
        }
    }

    fn write(&mut self) {
        self.ask(Direction::Write, "/up", 1);
        let blocks = self.random.u16(1..40);
        for n in 0..blocks {
            let Some((from, packet)) = self.receive() else { return };
            if matches!(packet, Packet::Error { .. }) || self.random.u8(..40) == 0 {
                return;
            }
            let payload = if n + 1 == blocks { vec![1; 10] } else { vec![1; 1024] };
            self.send(from, &Packet::Data { block: n + 1, payload: payload.into() });
        }
        self.receive();
    }

    /// Sends random bytes, with a random opcode in front.
    fn lie(&mut self) {
        for _ in 0..self.random.usize(1..6) {
            let mut bytes: Vec<u8> = (0..self.random.usize(..60)).map(|_| self.random.u8(..)).collect();
            if let [high, low, ..] = &mut bytes[..] {
                (*high, *low) = (0, self.random.u8(..9));
            }
            let _ = self.socket.send_to(&bytes, self.server);
        }
    }

    /// Repeats its request, and then requests another file while the answer travels.
    fn repeat(&mut self) {
        let request = self.request("20000", 1);
        for _ in 0..self.random.usize(1..4) {
            self.send(self.server, &Packet::Rrq(request.clone()));
        }
        self.ask(Direction::Read, "", 1);
        self.follow(1, None);
    }

    fn refused(&mut self) {
        let name = *self.random.choice(&["missing", "secret", "silent", "../../etc/passwd"]).unwrap_or(&"");
        let request = self.request(name, 1);
        self.send(self.server, &Packet::Rrq(request));
        if name != "silent" {
            self.receive();
        }
    }

    fn vanish(&mut self) {
        self.ask(Direction::Read, "", 4);
        self.socket = socket();
    }

    fn ask(&mut self, direction: Direction, kind: &str, windowsize: u16) {
        let name = format!("{}{kind}", self.random.u32(1..60_000));
        let request = self.request(&name, windowsize);
        let packet = if direction == Direction::Read { Packet::Rrq(request) } else { Packet::Wrq(request) };
        self.send(self.server, &packet);
    }

    fn request(&mut self, name: &str, windowsize: u16) -> Box<packet::Request> {
        let windowsize = windowsize.to_string();
        let options = [("blksize", "1024"), ("windowsize", &windowsize), ("tsize", "0")].into_iter();
        Box::new(packet::Request { filename: name.into(), mode: Mode::Octet, options: options.collect() })
    }

    fn send(&self, to: SocketAddr, packet: &Packet) {
        let _ = self.socket.send_to(&packet.encode(), to);
    }

    fn receive(&mut self) -> Option<(SocketAddr, Packet)> {
        let (from, bytes) = self.socket.receive_within(SHORT)?;
        Some((from, Packet::decode(&bytes).ok()?))
    }
}

fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

/// All clients for a part of the time, and then until the server is done with them.
fn work(serving: &Serving, seed: u64, time: Duration) {
    let until = Instant::now() + time;
    let (server, over) = (serving.addr(), AtomicBool::new(false));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS as u64)
            .map(|n| {
                scope.spawn(move || {
                    let mut client = Client::new(server, seed.wrapping_add(n));
                    while Instant::now() < until {
                        client.act();
                    }
                })
            })
            .collect();
        // Unread records would be the largest part of the memory.
        scope.spawn(|| {
            while !over.load(Relaxed) {
                serving.records();
                thread::sleep(Duration::from_millis(50));
            }
        });
        clients.into_iter().for_each(|client| client.join().unwrap());
        over.store(true, Relaxed);
    });
    eventually("all have ended", || serving.counters().running == 0);
    serving.records();
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn counters_add_up_and_memory_and_files_are_given_back() {
    let (seconds, seed) = (number("TUFFET_SOAK_SECONDS", 20), number("TUFFET_SOAK_SEED", 1));
    println!("{seconds} s with seed {seed}");
    // Panics of the handler are expected, and their traces would be all that is seen.
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref() != Some(&"as a test has it") {
            say(panic);
        }
    }));
    let told = Arc::new(Told::default());
    let (records, periods) = (told.clone(), told.clone());
    // The reactor of the handler's timers is the process's, and stays.
    smol::block_on(smol::Timer::after(Duration::from_millis(1)));
    let files_before = open_files();
    let set = |builder: tuffet::ServerBuilder| {
        let builder = builder.shards(2).patience(PATIENCE).max_transfers(24);
        let builder = builder.on_end(move |record| records.record(record));
        let hook = move |counters: &Counters| periods.periods.lock().unwrap().push(counters.clone());
        builder.on_period(Duration::from_millis(500), hook)
    };
    let mut serving = Serving::with(files(), set);

    // The first third fills all memory that is kept: buffers, recent transfers, the allocator's own.
    work(&serving, seed, Duration::from_secs_f64(seconds as f64 / 3.0));
    let (memory, idle_files) = (resident(), open_files());
    work(&serving, !seed, Duration::from_secs_f64(seconds as f64 * 2.0 / 3.0));
    let memory_after = resident();
    assert!(open_files() <= idle_files, "{idle_files} files when idle, {} after", open_files());
    assert!(memory_after < memory + 8 * 1024, "{memory} KiB after a third, {memory_after} KiB at the end");
    serving.stop();
    serving.join();

    let counters = serving.counters();
    println!("{counters:#?}");
    let ended = counters.reads.total() + counters.writes.total();
    assert_eq!(counters.requests, counters.repeated + counters.over_limit + counters.unanswered + ended);
    assert_eq!(told.records.load(Relaxed), ended);
    for (direction, outcomes) in [("read", counters.reads), ("write", counters.writes)] {
        for (name, count) in outcomes.iter() {
            let records = told.outcomes.lock().unwrap().get(&(direction.into(), name)).copied().unwrap_or(0);
            assert_eq!(records, count, "{direction} {name}");
        }
    }
    assert_eq!(*told.refused.lock().unwrap(), counters.refused);
    assert_eq!(counters.refused.values().sum::<u64>(), counters.reads.refused + counters.writes.refused);
    let sums = [&told.read, &told.written, &told.retransmits].map(|sum| sum.load(Relaxed));
    assert_eq!(sums, [counters.bytes_read, counters.bytes_written, counters.retransmits]);
    let periods = told.periods.lock().unwrap();
    let all = |count: fn(&Counters) -> u64| periods.iter().map(count).sum::<u64>();
    assert_eq!(all(|period| period.reads.total() + period.writes.total()), ended);
    assert_eq!(all(|period| period.requests), counters.requests);
    assert_eq!(all(|period| period.received), counters.received);
    assert_eq!(all(|period| period.refused.values().sum()), counters.refused.values().sum::<u64>());
    // All of it happened.
    let reads = counters.reads;
    let happened = [reads.complete, reads.aborted, reads.timed_out, reads.upstream_failed, counters.writes.complete];
    assert!(happened.iter().all(|&count| count > 0), "{happened:?}");
    assert!(counters.malformed > 0 && counters.unknown_tids > 0 && counters.repeated > 0);
    drop(periods);
    drop(serving);
    assert!(open_files() <= files_before, "{files_before} files before, {} after", open_files());
}
