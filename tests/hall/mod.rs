//! Machines and attackers, a server, and the network between them.

mod machine;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    hash::{DefaultHasher, Hasher},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tuffet::{
    Bytes, Handler, Refusal, Request, ServerBuilder, Source,
    packet::Packet,
    probe::{BootClient, Ending},
    read,
    sim::{Server, Time},
};

use machine::Machine;

/// The files that a machine fetches, one after the other. The server has no other files.
const FILES: [(&str, usize); 3] = [("pxelinux.0", 42_000), ("pxelinux.cfg/default", 700), ("initrd", 90_112)];
const MISSES: [&str; 3] = ["pxelinux.cfg/01-52-54-00-00-00-00", "pxelinux.cfg/C0000207", "pxelinux.cfg/C000020"];
const LATENCY: Duration = Duration::from_micros(300);
/// How long a machine repeats its packets to a silent port before it requests the file again. The models of most
/// clients do not give up.
const SILENCE: Duration = Duration::from_secs(120);

/// Forged datagrams or groups of them, at this rate, from the beginning and for this time.
#[derive(Clone, Copy)]
pub struct Attack {
    pub forged: Forged,
    pub per_second: u32,
    pub time: Duration,
}

#[derive(Clone, Copy)]
pub enum Forged {
    /// Requests in the name of machines that do not exist.
    Requests,
    /// As above, and then ACKs of the first block, to each port that the transfer may have.
    AnsweredRequests,
    /// ACKs in the name of booting machines, to the ports of transfers. The attacker knows all ports of the server, and
    /// guesses the port and the block of the machine's transfer.
    Acks,
}

/// The whole simulation: a server, machines, attackers and a network.
pub struct Hall {
    pub server: Server,
    /// Probabilities: that a datagram is lost, that it is doubled, and that a machine is reset while it boots.
    pub loss: f64,
    pub duplicates: f64,
    pub resets: f64,
    /// The number of reloads of the server.
    pub reloads: u32,
    pub attacks: Vec<Attack>,
    pub stop_after: Option<Duration>,
    /// Whether another server replaces the stopped server, once its transfers have ended.
    pub restarts: bool,
    /// The ports of the stopped server.
    earlier: Vec<SocketAddr>,
    time: Time,
    begin: Instant,
    builder: Box<dyn Fn() -> ServerBuilder>,
    machines: Vec<Machine>,
    by_address: BTreeMap<SocketAddr, usize>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    number: u64,
    random: fastrand::Rng,
    /// The datagrams that the server has received and sent, and the transfers that have ended, as the hall has counted
    /// them.
    got: u64,
    said: u64,
    ended: Arc<AtomicU64>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    ToServer(SocketAddr, SocketAddr, Vec<u8>),
    ToMachine(usize, SocketAddr, Vec<u8>),
    Begin(usize),
    Wake(usize, u64),
    Reset(usize),
    Reload,
    Forge(usize),
    Stop,
}

fn file(name: &str, size: usize) -> Bytes {
    let seed = name.bytes().map(u64::from).sum();
    let mut random = fastrand::Rng::with_seed(seed);
    (0..size).map(|_| random.u8(..)).collect()
}

fn handler(time: Time) -> impl Handler {
    let files: Vec<_> = FILES.iter().map(|(name, size)| (*name, file(name, *size))).collect();
    read(move |request: Request| {
        let found = files.iter().find(|(name, _)| *name == request.path()).map(|(_, bytes)| bytes.clone());
        let time = time.clone();
        async move {
            // A disk or an upstream takes this time.
            time.sleep(Duration::from_micros(200)).await;
            found.map(Source::from).ok_or(Refusal::not_found())
        }
    })
}

impl Hall {
    pub fn new(builder: impl Fn() -> ServerBuilder + 'static, machines: usize, seed: u64) -> Self {
        let time = Time::new();
        let mut random = fastrand::Rng::with_seed(seed);
        let ended = Arc::<AtomicU64>::default();
        let count = ended.clone();
        let clock = time.clone();
        let builder = move || {
            let count = count.clone();
            builder().handler(handler(clock.clone())).on_end(move |_| {
                count.fetch_add(1, Relaxed);
            })
        };
        let server = Server::at(builder(), seed, time.clone());
        let machines: Vec<Machine> = (0..machines).map(|n| Machine::new(n, &mut random)).collect();
        let by_address = machines.iter().enumerate().map(|(n, machine)| (machine.addr, n)).collect();
        Self {
            begin: server.now(),
            server,
            loss: 0.0,
            duplicates: 0.0,
            resets: 0.0,
            reloads: 0,
            attacks: Vec::new(),
            stop_after: None,
            restarts: false,
            earlier: Vec::new(),
            time,
            builder: Box::new(builder),
            machines,
            by_address,
            events: BinaryHeap::new(),
            number: 0,
            random,
            got: 0,
            said: 0,
            ended,
        }
    }

    /// Runs until no machine, attacker or server has work left. The counters of each server must add up.
    pub fn run(&mut self) {
        for n in 0..self.machines.len() {
            let at = self.begin + self.up_to(Duration::from_secs(2));
            self.post(at, Event::Begin(n));
            if self.random.f64() < self.resets {
                let at = at + self.up_to(Duration::from_secs(1));
                self.post(at, Event::Reset(n));
            }
        }
        for _ in 0..self.reloads {
            let at = self.begin + self.up_to(Duration::from_secs(4));
            self.post(at, Event::Reload);
        }
        for n in 0..self.attacks.len() {
            self.post(self.begin, Event::Forge(n));
        }
        if let Some(after) = self.stop_after {
            self.post(self.begin + after, Event::Stop);
        }
        loop {
            if self.server.is_over() {
                if !std::mem::take(&mut self.restarts) {
                    break;
                }
                self.restart();
            }
            let (server, event) = (self.server.wake_at(), self.events.peek().map(|Reverse((at, ..))| *at));
            let Some(at) = server.into_iter().chain(event).min() else { break };
            assert!(at - self.begin < Duration::from_secs(3600), "it does not end: {}", self.unfinished(at));
            self.time_passes(at);
            if event == Some(at) {
                if let Some(Reverse((_, _, event))) = self.events.pop() {
                    self.happen(at, event);
                }
            }
            self.carry(at);
        }
        self.assert_counters_add_up();
    }

    /// Some of the machines that have not booted.
    fn unfinished(&self, now: Instant) -> String {
        let mut left = self.machines.iter().enumerate().filter(|(_, machine)| machine.hashes.len() < FILES.len());
        let some: Vec<_> = left.by_ref().take(10).map(|(n, machine)| machine.state(n, now)).collect();
        let total = some.len() + left.count();
        let (next, addrs) = (self.server.wake_at().map(|at| at - now), self.server.addrs());
        let counters = self.server.handle().counters();
        format!("{total} machines left, the server at {addrs:?} wakes in {next:?}, {counters:?}\n{}", some.join("\n"))
    }

    fn time_passes(&mut self, now: Instant) {
        if self.server.wake_at().is_some_and(|at| at <= now) || self.time.now() < now {
            self.server.pass(now);
        }
    }

    fn happen(&mut self, now: Instant, event: Event) {
        match event {
            Event::ToServer(from, to, bytes) => {
                // A datagram to a port of the earlier server is lost.
                self.got += u64::from(self.server.addrs().contains(&to));
                self.server.deliver(from, to, &bytes);
            }
            Event::ToMachine(n, from, bytes) => self.machine_receives(now, n, from, &bytes),
            Event::Begin(n) => self.begin_step(now, n),
            Event::Wake(n, alarm) if self.machines[n].alarms == alarm => {
                let machine = &mut self.machines[n];
                let Some(client) = &mut machine.client else { return };
                // The silent port may be one of a stopped server, at which no other server answers.
                if machine.peer.is_some() && machine.last_packet_at.is_some_and(|at| now - at > SILENCE) {
                    return self.over(now, n, &Ending::GaveUp);
                }
                let said = client.wake(now);
                self.say(now, n, said);
            }
            Event::Wake(..) => {}
            Event::Reset(n) => {
                let machine = &mut self.machines[n];
                if machine.client.is_some() {
                    // The machine begins again, from the same port.
                    (machine.step, machine.hashes, machine.client) = (0, Vec::new(), None);
                    self.post(now + Duration::from_millis(500), Event::Begin(n));
                }
            }
            Event::Reload => self.server.handle().reload((self.builder)()).unwrap(),
            Event::Forge(attack) => self.forge(now, attack),
            Event::Stop => {
                self.server.handle().stop();
                self.server.pass(now);
            }
        }
    }

    fn restart(&mut self) {
        self.assert_counters_add_up();
        (self.got, self.said) = (0, 0);
        self.ended.store(0, Relaxed);
        self.earlier = self.server.addrs()[1..].to_vec();
        self.server = Server::at((self.builder)(), self.random.u64(..), self.time.clone());
    }

    fn forge(&mut self, now: Instant, number: usize) {
        let Attack { forged, per_second, time } = self.attacks[number];
        let random = &mut self.random;
        let ports = &self.server.addrs()[1..];
        let nobody = SocketAddr::from(([198, 18, random.u8(..), random.u8(..)], random.u16(1024..)));
        let request = |options: &str, random: &mut fastrand::Rng| {
            let name = FILES[random.usize(..FILES.len())].0;
            [b"\0\x01", name.as_bytes(), b"\0octet\0", options.as_bytes()].concat()
        };
        let mut forged_datagrams = Vec::new();
        match forged {
            Forged::Requests => {
                let request = request("windowsize\x0064\0tsize\x000\0", random);
                forged_datagrams.push((now, nobody, self.server.addr(), request));
            }
            Forged::AnsweredRequests => {
                forged_datagrams.push((now, nobody, self.server.addr(), request("", random)));
                // The ports of transfers in lock-step.
                let acks = ports[..4].iter().map(|port| (now + 2 * LATENCY, nobody, *port, Packet::Ack(1).encode()));
                forged_datagrams.extend(acks);
            }
            Forged::Acks => {
                let number = random.usize(..self.machines.len());
                let machine = &mut self.machines[number];
                machine.forged = Some(now);
                let port = ports[random.usize(..ports.len())];
                forged_datagrams.push((now, machine.addr, port, Packet::Ack(random.u16(..200)).encode()));
            }
        }
        for (at, from, to, bytes) in forged_datagrams {
            self.post(at, Event::ToServer(from, to, bytes));
        }
        if now - self.begin < time {
            self.post(now + Duration::from_secs(1) / per_second, Event::Forge(number));
        }
    }

    /// Puts the datagrams that the server has sent on the network.
    fn carry(&mut self, now: Instant) {
        for datagram in self.server.sent() {
            self.said += 1;
            if let Some(&n) = self.by_address.get(&datagram.to) {
                self.send(now, Event::ToMachine(n, datagram.from, datagram.bytes));
            }
        }
    }

    fn begin_step(&mut self, now: Instant, n: usize) {
        let machine = &mut self.machines[n];
        let (habits, step) = (machine.habits, machine.step);
        let client = match step {
            step if step < MISSES.len() => BootClient::new(habits, MISSES[step]),
            step if step == MISSES.len() => match BootClient::asking_size(habits, FILES[0].0) {
                Some(client) => client,
                None => return self.end_step(now, n),
            },
            step => match FILES.get(step - MISSES.len() - 1) {
                Some((name, _)) => BootClient::new(habits, name),
                None => return,
            },
        };
        machine.tries += 1;
        machine.hash = DefaultHasher::new();
        machine.before = machine.peer.take().filter(|peer| *peer != self.server.addr());
        let said = machine.client.insert(client).start(now);
        self.say(now, n, said);
    }

    fn end_step(&mut self, now: Instant, n: usize) {
        let machine = &mut self.machines[n];
        machine.client = None;
        machine.step += 1;
        // lpxelinux uses one port for all transfers. The other clients take the next port.
        if machine.step < MISSES.len() + 2 + FILES.len() && self.random.bool() {
            let before = machine.addr;
            machine.addr.set_port(before.port() % 60_000 + 1100);
            self.by_address.remove(&before);
            self.by_address.insert(machine.addr, n);
            // No late packet of the previous transfer comes to the new port.
            machine.peer = None;
        }
        self.begin_step(now, n);
    }

    fn machine_receives(&mut self, now: Instant, n: usize, from: SocketAddr, bytes: &[u8]) {
        let machine = &mut self.machines[n];
        let packet = Packet::decode(bytes).expect("a packet");
        let Some(client) = &mut machine.client else { return };
        // A client talks only to the port of its first answer (RFC 1350 section 4).
        let is_answer = matches!(packet, Packet::Oack(_) | Packet::Data { block: 1, .. } | Packet::Error { .. });
        // A late packet from the port of its previous transfer is no answer.
        if machine.peer.map_or(!is_answer || machine.before == Some(from), |peer| peer != from) {
            return;
        }
        if let Packet::Error { code, .. } = &packet {
            let name = machine.habits.name;
            // A new server may have got a port of the earlier server, whose transfers it does not know. And if an
            // attacker forges an ACK of a machine that has no transfer, the server tells that machine so, perhaps while
            // its next request travels.
            let is_forged = machine.forged.is_some_and(|at| now - at < 8 * LATENCY);
            // If an attacker's guess was right, the machine may hear nothing for longer than the server remembers ended
            // transfers. The server then tells the machine to begin again.
            let is_forgotten = machine.last_packet_at.is_some_and(|at| now - at > Duration::from_secs(90));
            let is_excused = self.earlier.contains(&from) || is_forged || is_forgotten;
            assert!(
                code.0 != 5 || is_excused,
                "machine {n}, {name}, has a transfer and was told that it has none: by {from} after {:?}, it talks to \
                 {:?}, before to {:?}, step {}, try {}",
                now - self.begin,
                machine.peer,
                machine.before,
                machine.step,
                machine.tries,
            );
        }
        (machine.peer, machine.last_packet_at) = (Some(from), Some(now));
        let said = client.receive(now, packet);
        for block in client.take_blocks() {
            machine.hash.write(&block);
        }
        self.say(now, n, said);
    }

    fn say(&mut self, now: Instant, n: usize, said: Vec<Packet>) {
        let server = self.server.addr();
        let (from, to) = (self.machines[n].addr, self.machines[n].peer.unwrap_or(server));
        for packet in said {
            let is_request = matches!(packet, Packet::Rrq(_) | Packet::Wrq(_));
            self.send(now, Event::ToServer(from, if is_request { server } else { to }, packet.encode()));
        }
        let machine = &mut self.machines[n];
        let Some(client) = &machine.client else { return };
        match client.ending().cloned() {
            None => {
                let at = client.wake_at();
                if at != machine.at {
                    machine.at = at;
                    machine.alarms += 1;
                    if let Some(at) = at {
                        let alarm = machine.alarms;
                        self.post(at.max(now), Event::Wake(n, alarm));
                    }
                }
            }
            Some(ending) => self.over(now, n, &ending),
        }
    }

    fn over(&mut self, now: Instant, n: usize, ending: &Ending) {
        let machine = &mut self.machines[n];
        machine.alarms += 1;
        machine.at = None;
        let wants_file = machine.step > MISSES.len();
        let has_got_on = match ending {
            Ending::Complete => true,
            Ending::Refused { code, .. } => !wants_file && code.0 == 1,
            _ => !wants_file && ending.is_success(),
        };
        if !has_got_on {
            // The machine tries again after a while, as real machines do.
            machine.client = None;
            return self.post(now + Duration::from_secs(1), Event::Begin(n));
        }
        if wants_file && *ending == Ending::Complete {
            let hash = machine.hash.finish();
            machine.hashes.push(hash);
        }
        self.end_step(now, n);
    }

    fn send(&mut self, now: Instant, event: Event) {
        let copies =
            if self.random.f64() < self.loss { 0 } else { 1 + usize::from(self.random.f64() < self.duplicates) };
        if copies == 2 {
            // The copy is not so late that a client which has begun its next transfer takes it for an answer.
            let at = now + LATENCY + self.up_to(LATENCY);
            match &event {
                Event::ToServer(from, to, bytes) => self.post(at, Event::ToServer(*from, *to, bytes.clone())),
                Event::ToMachine(n, from, bytes) => self.post(at, Event::ToMachine(*n, *from, bytes.clone())),
                _ => {}
            }
        }
        if copies > 0 {
            self.post(now + LATENCY, event);
        }
    }

    fn post(&mut self, at: Instant, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at, self.number, event)));
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.random.f64())
    }

    /// When the last machine received a packet, counted from the beginning.
    pub fn booted_after(&self) -> Duration {
        let last = self.machines.iter().filter_map(|machine| machine.last_packet_at).max();
        last.map_or(Duration::ZERO, |last| last - self.begin)
    }

    /// Runs until all machines have booted.
    pub fn boot(&mut self) {
        self.run();
        let hash = |(name, size): &(&str, usize)| {
            let mut hash = DefaultHasher::new();
            hash.write(&file(name, *size));
            hash.finish()
        };
        let expected: Vec<u64> = FILES.iter().map(hash).collect();
        for (n, machine) in self.machines.iter().enumerate() {
            assert_eq!(machine.hashes, expected, "machine {n}, {}, {}", machine.addr, machine.habits.name);
        }
        let elapsed = self.time.now() - self.begin;
        println!(
            "{} machines in {elapsed:?}, {} datagrams, {:?}",
            self.machines.len(),
            self.got + self.said,
            self.server.handle().counters()
        );
    }

    fn assert_counters_add_up(&self) {
        let counters = self.server.handle().counters();
        let of = |outcomes: tuffet::stats::Outcomes| outcomes.total();
        assert_eq!(counters.running, 0);
        assert_eq!(
            counters.requests,
            counters.repeated + counters.over_limit + counters.unanswered + of(counters.reads) + of(counters.writes),
            "{counters:?}"
        );
        assert_eq!((counters.received, counters.sent), (self.got, self.said));
        let outcomes = of(counters.reads) + of(counters.writes);
        assert_eq!(self.ended.load(Relaxed), outcomes, "each transfer has one outcome, {counters:?}");
    }
}
