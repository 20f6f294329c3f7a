//! The loop of all clients, and its report.

use std::{
    fmt, io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};
use tuffet::transfer::Event;

use crate::{
    arguments::Arguments,
    client::{Client, End},
};

/// How often the deadlines are checked.
const TICK: Duration = Duration::from_millis(10);

#[derive(Default)]
pub struct Report {
    pub blocks: u64,
    bytes: u64,
    retransmits: u64,
    complete: usize,
    failures: usize,
    /// The first failure.
    why: Option<String>,
    /// The duration of each complete transfer.
    took: Vec<Duration>,
    elapsed: Duration,
}

pub fn run(arguments: &Arguments, server: SocketAddr, expected: &[u8]) -> io::Result<Report> {
    let (epoll, mut events) = (epoll::create(epoll::CreateFlags::CLOEXEC)?, Vec::with_capacity(256));
    let (mut report, mut buffer) = (Report::default(), vec![0; 65536]);
    let (begin, mut started) = (Instant::now(), 0);
    let start = |slot: usize, n: usize, now| {
        let mut client = Client::new(arguments, server, expected, (n, now))?;
        epoll::add(&epoll, &client.socket, epoll::EventData::new_u64(slot as u64), epoll::EventFlags::IN)?;
        assert!(client.resume(now, Event::Continue).is_none(), "a transfer cannot end before it has asked");
        io::Result::Ok(client)
    };
    let mut clients: Vec<_> = (0..arguments.clients).map(|_| None).collect();
    let (mut running, mut next_tick) = (0, begin + TICK);
    while running + arguments.transfers > started && begin.elapsed() < arguments.limit {
        for (slot, client) in clients.iter_mut().enumerate().filter(|(_, client)| client.is_none()) {
            let due = arguments.over.mul_f64(started as f64 / arguments.clients as f64).min(arguments.over);
            if started < arguments.transfers && begin.elapsed() >= due {
                *client = Some(start(slot, started, Instant::now())?);
                started += 1;
            }
        }
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&Timespec::try_from(TICK).unwrap()))?;
        let mut now = Instant::now();
        for event in &events {
            let slot = event.data.u64() as usize;
            // A whole window is taken at once; in lock-step there is never more than one packet.
            for _ in 0..arguments.windowsize {
                let Some(client) = &mut clients[slot] else { break };
                let Some(event) = client.receive(&mut buffer) else { break };
                if let Some(end) = client.resume(now, event) {
                    report.add(&end, client.began.elapsed());
                    clients[slot] = None;
                }
            }
        }
        if now >= next_tick {
            now = Instant::now();
            next_tick = now + TICK;
            for slot in &mut clients {
                let Some(client) = slot.as_mut().filter(|client| client.deadline <= now) else { continue };
                if let Some(end) = client.resume(now, Event::Timeout) {
                    report.add(&end, client.began.elapsed());
                    *slot = None;
                }
            }
        }
        running = clients.iter().flatten().count();
    }
    report.elapsed = begin.elapsed();
    let late = running + arguments.transfers - started;
    if late > 0 {
        report.failures += late;
        report.why.get_or_insert(format!("{late} transfers had not ended in time"));
    }
    Ok(report)
}

impl Report {
    fn add(&mut self, end: &End, took: Duration) {
        self.blocks += end.blocks;
        self.bytes += end.bytes;
        self.retransmits += end.retransmits;
        if end.outcome.is_success() && end.intact {
            self.complete += 1;
            self.took.push(took);
        } else {
            self.failures += 1;
            self.why.get_or_insert(match end.intact {
                true => end.outcome.to_string(),
                false => format!("{}, with other bytes than expected", end.outcome),
            });
        }
    }
}

/// A name and a value in each line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let mut took = self.took.clone();
        took.sort_unstable();
        let percentile = |percent| took.get(took.len() * percent / 100).map_or(f64::NAN, Duration::as_secs_f64) * 1e3;
        writeln!(f, "complete     {}", self.complete)?;
        writeln!(f, "failures     {}", self.failures)?;
        if let Some(why) = &self.why {
            writeln!(f, "first        {why}")?;
        }
        writeln!(f, "seconds      {seconds:.2}")?;
        writeln!(f, "blocks       {}", self.blocks)?;
        writeln!(f, "blocks/s     {:.0}", self.blocks as f64 / seconds)?;
        writeln!(f, "MB/s         {:.1}", self.bytes as f64 / 1e6 / seconds)?;
        writeln!(f, "retransmits  {}", self.retransmits)?;
        writeln!(f, "p50-ms       {:.2}", percentile(50))?;
        writeln!(f, "p99-ms       {:.2}", percentile(99))
    }
}
