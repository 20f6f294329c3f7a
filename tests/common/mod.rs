//! A server in a thread, and a peer that sends any packets: over sockets, or in virtual time.
#![allow(dead_code, reason = "each test crate uses its part")]

#[cfg(feature = "net")]
mod serving;
#[cfg(feature = "sim")]
pub mod simulated;

#[cfg(feature = "net")]
#[allow(unused_imports, reason = "a test that runs in virtual time has no use for it")]
pub use serving::{Serving, allow_many_files, own_address};

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Mutex,
        atomic::{AtomicU16, Ordering::SeqCst},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use tuffet::{
    Bytes, ErrorCode, Handler, Refusal, Request,
    packet::{self, Mode, Options, Packet},
    read,
};

/// Long enough for the slowest machine; only a defect waits for it.
pub const LONG: Duration = Duration::from_secs(20);
/// Long enough for an answer that must not come.
pub const SHORT: Duration = Duration::from_millis(150);

/// How a peer receives and sends: by a socket, or at its place in a simulated network.
pub trait Link {
    fn send_to(&self, bytes: &[u8], to: SocketAddr);
    fn receive_within(&self, time: Duration) -> Option<(SocketAddr, Vec<u8>)>;
    /// Drops the datagrams that have come and were not read.
    fn drain(&self);
    fn now(&self) -> Instant;
    /// Whether a datagram from this address is meant for a client of this server.
    fn is_answer(&self, from: SocketAddr, server: SocketAddr) -> bool;
}

impl Link for UdpSocket {
    fn send_to(&self, bytes: &[u8], to: SocketAddr) {
        UdpSocket::send_to(self, bytes, to).unwrap();
    }

    fn receive_within(&self, time: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        let mut buffer = vec![0; 65536];
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Zero would be for ever.
            self.set_read_timeout(Some(left.max(Duration::from_nanos(1)))).unwrap();
            match self.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    buffer.truncate(len);
                    return Some((from, buffer));
                }
                // The system ends a wait with a time limit when the process is stopped and continued.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    fn drain(&self) {
        self.set_nonblocking(true).unwrap();
        while self.recv(&mut [0]).is_ok() {}
        self.set_nonblocking(false).unwrap();
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    /// A datagram for an earlier owner of this port comes from another address.
    fn is_answer(&self, from: SocketAddr, server: SocketAddr) -> bool {
        from.ip() == server.ip() || self.broadcast().unwrap()
    }
}

/// A client that sends only what the test says.
pub struct Peer<L = UdpSocket> {
    pub socket: L,
    /// Where the next packet goes: the server's port until it has answered, then its TID.
    pub to: SocketAddr,
    server: SocketAddr,
    /// The last packet that came: after a pause of this thread the server sends it again.
    last: Option<(SocketAddr, Packet)>,
}

impl Peer {
    pub fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
        Self { socket, to: server, server, last: None }
    }
}

impl<L: Link> Peer<L> {
    /// Sends an RRQ to the server's port.
    pub fn rrq(&mut self, name: &str, options: &[(&str, &str)]) -> &mut Self {
        self.request(Packet::Rrq(request(name, options)))
    }

    /// Sends a WRQ to the server's port.
    pub fn wrq(&mut self, name: &str, options: &[(&str, &str)]) -> &mut Self {
        self.request(Packet::Wrq(request(name, options)))
    }

    fn request(&mut self, packet: Packet) -> &mut Self {
        self.socket.drain();
        (self.to, self.last) = (self.server, None);
        self.send(packet);
        self
    }

    pub fn send(&self, packet: Packet) {
        self.send_bytes(&packet.encode());
    }

    pub fn send_bytes(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.to);
    }

    pub fn ack(&self, block: u16) {
        self.send(Packet::Ack(block));
    }

    pub fn data(&self, block: u16, payload: impl AsRef<[u8]>) {
        self.send(Packet::Data { block, payload: Bytes::copy_from_slice(payload.as_ref()) });
    }

    pub fn error(&self, code: u16) {
        self.send(Packet::Error { code: ErrorCode(code), message: "as a test has it".into() });
    }

    /// The next packet that is no copy of the last one, from any address. The peer answers to that address.
    #[track_caller]
    pub fn receive(&mut self) -> Packet {
        loop {
            let received = self.receive_within(LONG).expect("a packet should have come");
            if self.last.as_ref() != Some(&received) {
                self.to = received.0;
                return self.last.insert(received).1.clone();
            }
        }
    }

    pub fn receive_within(&self, time: Duration) -> Option<(SocketAddr, Packet)> {
        let until = self.socket.now() + time;
        loop {
            let (from, bytes) = self.socket.receive_within(until.saturating_duration_since(self.socket.now()))?;
            if self.socket.is_answer(from, self.server) {
                return Some((from, Packet::decode(&bytes).unwrap()));
            }
        }
    }

    /// The last packet once more.
    #[track_caller]
    pub fn expect_again(&mut self) {
        assert_eq!(self.receive_within(LONG), self.last);
    }

    #[track_caller]
    pub fn expect(&mut self, packet: Packet) {
        assert_eq!(self.receive(), packet);
    }

    #[track_caller]
    pub fn expect_data(&mut self, block: u16, payload: impl AsRef<[u8]>) {
        self.expect(Packet::Data { block, payload: Bytes::copy_from_slice(payload.as_ref()) });
    }

    /// Acknowledges the first block of a file of two, and gets the second.
    #[track_caller]
    pub fn expect_second(&mut self, size: usize) {
        self.ack(1);
        self.expect_data(2, &file(size)[512..]);
    }

    /// The same, and acknowledges that too.
    #[track_caller]
    pub fn take_rest(&mut self, size: usize) {
        self.expect_second(size);
        self.ack(2);
    }

    #[track_caller]
    pub fn expect_error(&mut self, code: u16) {
        match self.receive() {
            Packet::Error { code: received, .. } => assert_eq!(received, ErrorCode(code)),
            other => panic!("expected ERROR {code}, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn expect_oack(&mut self, options: &[(&str, &str)]) {
        self.expect(Packet::Oack(options.iter().copied().collect()));
    }

    #[track_caller]
    pub fn expect_silence(&mut self) {
        assert_eq!(self.receive_within(SHORT), None);
    }

    /// The last packet may come again, and no other.
    #[track_caller]
    pub fn expect_nothing_new(&mut self) {
        let until = self.socket.now() + SHORT;
        while self.socket.now() < until {
            let received = self.receive_within(until - self.socket.now());
            assert!(received.is_none() || received == self.last, "{received:?}");
        }
    }
}

/// The loopback address of IPv6 with port 0. A container often has none.
pub fn ipv6() -> Option<&'static str> {
    Some("[::1]:0").filter(|address| UdpSocket::bind(address).is_ok())
}

/// The socket of a client that will be gone. The system gives its port to no other socket, which would take the late
/// packets for answers.
pub fn doomed_socket() -> UdpSocket {
    static PORT: AtomicU16 = AtomicU16::new(10_000);
    let next = || 10_000 + PORT.fetch_add(1, SeqCst) % 20_000;
    let bind = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok();
    std::iter::repeat_with(next).find_map(bind).unwrap()
}

pub fn request(name: &str, options: &[(&str, &str)]) -> Box<packet::Request> {
    let options: Options = options.iter().copied().collect();
    Box::new(packet::Request { filename: name.into(), mode: Mode::Octet, options })
}

/// A file whose bytes depend on their position.
pub fn file(size: usize) -> Vec<u8> {
    (0..size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// The size that a name such as `512/anything` asks for.
pub fn size(request: &Request) -> usize {
    request.path().split('/').next().and_then(|size| size.parse().ok()).unwrap_or(0)
}

/// Files whose names are their sizes.
pub fn files() -> impl Handler {
    read(async |request: Request| match size(&request) {
        0 => Err(Refusal::not_found()),
        size => Ok(file(size)),
    })
}

/// Waits until the condition is true.
#[track_caller]
pub fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < LONG, "in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Tries again with ever longer times until the attempt succeeds: a busy machine may need more time.
#[track_caller]
pub fn within_any_time<T>(what: &str, mut attempt: impl FnMut(Duration) -> Option<T>) -> T {
    let mut time = SHORT;
    loop {
        if let Some(done) = attempt(time) {
            return done;
        }
        assert!(time < LONG, "in vain: {what}");
        time *= 2;
    }
}

/// A port that is closed as long as the socket lives, and that no other program gets meanwhile: the source of foreign
/// packets.
pub fn closed_port(address: &str) -> Option<UdpSocket> {
    let socket = UdpSocket::bind(address).ok()?;
    let discard = SocketAddr::new(socket.local_addr().unwrap().ip(), 9);
    socket.connect(discard).unwrap();
    Some(socket)
}

/// Reports its own drop.
pub struct Guard(std::sync::mpsc::Sender<()>);

/// A guard to be moved into a coroutine, and the channel that reports the end of the coroutine.
pub fn guard() -> (Mutex<Option<Guard>>, Receiver<()>) {
    let (sender, dropped) = channel();
    (Mutex::new(Some(Guard(sender))), dropped)
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// How many files this process has open, on Linux.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The resident memory of this process in KiB, on Linux.
pub fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    kib.unwrap().parse().unwrap()
}
