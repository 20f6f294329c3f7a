//! The server under load: a thread of this program, or another process.

use std::{
    fmt::Write,
    fs, io,
    net::SocketAddr,
    thread::{self, JoinHandle},
    time::Duration,
};

use tuffet::{Bytes, Error, ServerHandle};

use crate::arguments::Arguments;

pub struct Server {
    pub address: SocketAddr,
    /// The content of the file.
    pub content: Bytes,
    kind: Kind,
}

enum Kind {
    /// The thread returns the CPU time that it took.
    Within(ServerHandle, JoinHandle<Result<Duration, Error>>),
    /// A process, and the CPU time that it had taken before.
    Process(u32, Duration),
    Unknown,
}

impl Server {
    pub fn start(arguments: &Arguments) -> Result<Self, Box<dyn std::error::Error>> {
        let Some(address) = arguments.server else { return Ok(Self::within(arguments)?) };
        let content = arguments.expect.as_ref().map_or(Ok(Vec::new()), fs::read)?.into();
        let kind = match arguments.pid {
            Some(pid) => Kind::Process(pid, of_process(pid)?),
            None => Kind::Unknown,
        };
        Ok(Self { address, content, kind })
    }

    fn within(arguments: &Arguments) -> Result<Self, Error> {
        let content: Bytes = (0..arguments.size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let file = content.clone();
        let server = tuffet::Server::builder()
            .listen("127.0.0.1:0")
            .batched(arguments.batched)
            // All of the thousands of clients have one address.
            .max_transfers_per_client(usize::MAX)
            .max_requests_per_client(0)
            .handler(tuffet::read(move |_| file.clone()))
            .bind()?;
        let (address, handle) = (server.addrs()[0], server.handle());
        let thread = thread::spawn(|| {
            let before = of_this_thread()?;
            server.run()?;
            Ok(of_this_thread()? - before)
        });
        Ok(Self { address, content, kind: Kind::Within(handle, thread) })
    }

    /// The costs of serving so many blocks.
    pub fn stop(self, blocks: u64) -> Result<String, Error> {
        let (cpu, memory) = match self.kind {
            Kind::Within(handle, thread) => {
                handle.abort();
                (thread.join().expect("the server panicked")?, None)
            }
            Kind::Process(pid, before) => (of_process(pid)?.saturating_sub(before), peak_memory(pid)),
            Kind::Unknown => return Ok(String::new()),
        };
        let mut report = format!("server-ns    {:.0}\n", cpu.as_nanos() as f64 / blocks as f64);
        let _ = writeln!(report, "server-s     {:.3}", cpu.as_secs_f64());
        if let Some(kib) = memory {
            let _ = writeln!(report, "server-MiB   {:.1}", kib as f64 / 1024.0);
        }
        Ok(report)
    }
}

fn of_this_thread() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(field(&text, 0)?))
}

/// The user and system time of all threads, ended ones included, and of ended children, because some servers fork for
/// each transfer. Its unit is the tick, which is precise enough for a second of work.
fn of_process(pid: u32) -> io::Result<Duration> {
    /// `USER_HZ`, which is 100 on every architecture of Rust.
    const TICK: Duration = Duration::from_millis(10);
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name may contain spaces, and ends at the last parenthesis. The state follows.
    let text = text.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = (11..=14).map(|n| field(text, n)).sum::<io::Result<u64>>()?;
    Ok(TICK * ticks as u32)
}

/// The peak memory in KiB, of this process alone.
fn peak_memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| field(line.strip_prefix("VmHWM:")?, 0).ok())
}

fn field(text: &str, n: usize) -> io::Result<u64> {
    let word = text.split_whitespace().nth(n).and_then(|word| word.parse().ok());
    word.ok_or_else(|| io::Error::other(format!("no number {n} in {text:?}")))
}
