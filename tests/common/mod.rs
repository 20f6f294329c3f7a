//! A server in a thread, and a peer that says what it likes.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    ops::Deref,
    sync::{
        Mutex,
        atomic::{AtomicU8, AtomicU16, Ordering::SeqCst},
        mpsc::{Receiver, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tuffet::{
    Builder, Bytes, Error, ErrorCode, Handle, Handler, Request, Server,
    packet::{self, Mode, Options, Packet},
    stats::Record,
};

/// Long enough for the slowest machine; only a defect waits for it.
pub const LONG: Duration = Duration::from_secs(20);
/// Long enough for an answer that must not come.
pub const SHORT: Duration = Duration::from_millis(150);

/// A server that runs until this is dropped.
pub struct Serving {
    pub handle: Handle,
    pub addrs: Vec<SocketAddr>,
    records: Mutex<Receiver<Record>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Serving {
    pub fn new(handler: impl Handler) -> Self {
        Self::with(handler, |builder| builder)
    }

    /// On a loopback address of its own, and a port that the system chooses. `TUFFET_TEST_BATCHED=0` has the tests run
    /// over the loop for other systems.
    pub fn with(handler: impl Handler, set: impl FnOnce(Builder) -> Builder) -> Self {
        let batched = std::env::var_os("TUFFET_TEST_BATCHED").is_none_or(|value| value != "0");
        Self::on(&[&format!("{}:0", own_address())], handler, |builder| set(builder.batched(batched)))
    }

    pub fn on(listen: &[&str], handler: impl Handler, set: impl FnOnce(Builder) -> Builder) -> Self {
        allow_many_files();
        let (sender, records) = channel();
        let builder = Server::builder().handler(handler).on_end(move |record| drop(sender.send(record.clone())));
        let builder = listen.iter().fold(set(builder), |builder, at| builder.listen(at.parse().unwrap()));
        let server = builder.bind().unwrap();
        let (handle, addrs) = (server.handle(), server.addrs().to_vec());
        let thread = Some(thread::spawn(|| server.run()));
        Self { handle, addrs, records: Mutex::new(records), thread }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// The record of the next transfer that ends.
    pub fn record(&self) -> Record {
        self.records.lock().unwrap().recv_timeout(LONG).expect("a transfer should have ended")
    }

    /// The records that are there and were not asked for.
    pub fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().try_iter().collect()
    }

    /// Waits for the end of the server.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server panicked").unwrap();
        }
    }

    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

/// A server has 64 ports for transfers, and as many tests run side by side as there are processors.
fn allow_many_files() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    }
}

/// Each server has another one where the system lets it: what one server still sends to a client that is gone must not
/// be taken for the answer of another by a client that has got the same port, be it that of a test beside this one.
fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    if cfg!(not(target_os = "linux")) {
        return Ipv4Addr::LOCALHOST;
    }
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high, low, COUNT.fetch_add(1, SeqCst))
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.handle.abort();
        if !thread::panicking() {
            self.join();
        }
    }
}

/// A client that does nothing by itself.
pub struct Peer {
    pub socket: UdpSocket,
    /// Where the next packet goes: the server's port until it has answered, then its TID.
    pub to: SocketAddr,
    server: SocketAddr,
    /// What came last: after a pause of this thread the server sends it again.
    last: Option<(SocketAddr, Packet)>,
}

impl Peer {
    pub fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
        Self { socket, to: server, server, last: None }
    }

    /// Asks for a file, at the server's port.
    pub fn rrq(&mut self, name: &str, options: &[(&str, &str)]) -> &mut Self {
        self.request(Packet::Rrq(request(name, options)))
    }

    /// Offers a file, at the server's port.
    pub fn wrq(&mut self, name: &str, options: &[(&str, &str)]) -> &mut Self {
        self.request(Packet::Wrq(request(name, options)))
    }

    fn request(&mut self, packet: Packet) -> &mut Self {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
        (self.to, self.last) = (self.server, None);
        self.send(packet);
        self
    }

    pub fn send(&self, packet: Packet) {
        self.send_bytes(&packet.encode());
    }

    pub fn send_bytes(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.to).unwrap();
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

    /// The next packet that is not the one before again, whoever sent it; it is the one to be answered.
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
        let mut buffer = vec![0; 65536];
        self.socket.set_read_timeout(Some(time)).unwrap();
        loop {
            let (len, from) = self.socket.recv_from(&mut buffer).ok()?;
            // What is meant for someone who had this port before comes from elsewhere.
            if from.ip() == self.server.ip() || self.socket.broadcast().unwrap() {
                return Some((from, Packet::decode(&buffer[..len]).unwrap()));
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
        let begin = Instant::now();
        while let Some(left) = SHORT.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
            let received = self.receive_within(left);
            assert!(received.is_none() || received == self.last, "{received:?}");
        }
    }
}

/// The socket of a client that will be gone. Its port is none that the system gives to anybody else: what is still sent
/// there would be taken for an answer.
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

/// A file whose bytes tell where they stand.
pub fn file(size: usize) -> Vec<u8> {
    (0..size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// The size that a name such as `512/anything` asks for.
pub fn size(request: &Request) -> usize {
    request.path().split('/').next().and_then(|size| size.parse().ok()).unwrap_or(0)
}

/// Waits until something has come true.
#[track_caller]
pub fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < LONG, "in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Tells at its end that it was dropped.
pub struct Guard(std::sync::mpsc::Sender<()>);

/// A guard to be moved into a coroutine, and what hears of its end.
pub fn guard() -> (Mutex<Option<Guard>>, Receiver<()>) {
    let (sender, dropped) = channel();
    (Mutex::new(Some(Guard(sender))), dropped)
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl Deref for Serving {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}
