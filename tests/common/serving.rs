//! A server in a thread, on sockets.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    ops::Deref,
    sync::{
        Mutex,
        atomic::{AtomicU8, Ordering::SeqCst},
        mpsc::{Receiver, channel},
    },
    thread::{self, JoinHandle},
};

use tuffet::{Error, Handler, Server, ServerBuilder, ServerHandle, stats::Record};

use super::LONG;

/// A server that runs until this is dropped.
pub struct Serving {
    pub handle: ServerHandle,
    pub addrs: Vec<SocketAddr>,
    #[cfg(feature = "web")]
    pub http: Vec<SocketAddr>,
    records: Mutex<Receiver<Record>>,
    /// The transfers that ended last.
    ended: Mutex<VecDeque<(SocketAddr, String)>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Serving {
    pub fn new(handler: impl Handler) -> Self {
        Self::with(handler, |builder| builder)
    }

    /// Listens on a loopback address of its own, on a port that the system chooses. With `TUFFET_TEST_BATCHED=0` the
    /// tests run over the loop for other systems.
    pub fn with(handler: impl Handler, set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let batched = std::env::var_os("TUFFET_TEST_BATCHED").is_none_or(|value| value != "0");
        Self::on(&[&format!("{}:0", own_address())], handler, |builder| set(builder.batched(batched)))
    }

    pub fn on(listen: &[&str], handler: impl Handler, set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        allow_many_files();
        let (sender, records) = channel();
        let builder = Server::builder().handler(handler).on_end(move |record| drop(sender.send(record.clone())));
        let builder = listen.iter().fold(set(builder), |builder, at| builder.listen(at));
        let server = builder.bind().unwrap();
        let (handle, addrs) = (server.handle(), server.addrs().to_vec());
        #[cfg(feature = "web")]
        let http = server.http_addrs().to_vec();
        let thread = Some(thread::spawn(|| server.run()));
        Self {
            handle,
            addrs,
            #[cfg(feature = "web")]
            http,
            records: Mutex::new(records),
            ended: Mutex::default(),
            thread,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// The record of the next transfer that ends.
    pub fn record(&self) -> Record {
        let records = self.records.lock().unwrap();
        let ended = || records.recv_timeout(LONG).expect("a transfer should have ended");
        std::iter::repeat_with(ended).find(|record| self.is_first(record)).unwrap()
    }

    /// The records that no test has taken yet.
    pub fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().try_iter().filter(|record| self.is_first(record)).collect()
    }

    /// Whether the record is of a first request. A client on a busy machine repeats its request, and the server may
    /// read the copy when the client is gone.
    fn is_first(&self, record: &Record) -> bool {
        let mut ended = self.ended.lock().unwrap();
        let is_copy = |(peer, filename): &(_, _)| *peer == record.peer && *filename == record.filename;
        if record.port_closed && record.acked == 0 && ended.iter().any(is_copy) {
            return false;
        }
        if ended.len() == 1000 {
            ended.pop_front();
        }
        ended.push_back((record.peer, record.filename.clone()));
        true
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
pub fn allow_many_files() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    }
}

/// Each server has an address of its own where the system allows it. A late packet of one server must not look like an
/// answer of another one to a client that has got the same port, in this test or in one beside it.
pub fn own_address() -> Ipv4Addr {
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

impl Deref for Serving {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.handle
    }
}
