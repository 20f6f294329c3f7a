//! The real server, with one file to serve and a place for one upload, as a single peer sees it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tuffet::{
    Handler, Refusal, Request, ServerBuilder,
    handler::Answer,
    options::{Agreed, Limits, accept},
    packet::{Mode, Options, Packet},
    sim,
    stats::Record,
    transfer::{Outcome, Timing},
};

use super::{Cue, Peer, Source};

/// The address of the peer.
fn peer() -> SocketAddr {
    ([192, 0, 2, 7], 2070).into()
}

pub struct Server {
    pub file: File,
    timing: Timing,
    single_port: bool,
    /// Begun with the first packet.
    running: Option<sim::Server>,
    records: Arc<Mutex<Vec<Record>>>,
    /// The first of them.
    ended: Option<Record>,
    /// Where the transfer is served from.
    tid: Option<SocketAddr>,
    asked: Options,
    /// Packets that were sent.
    pub sent: u64,
}

/// The file that the handler serves.
#[derive(Clone)]
pub struct File {
    source: Arc<Mutex<Option<Source>>>,
    size: Option<u64>,
    limits: Option<Limits>,
    stored: Arc<Mutex<Vec<u8>>>,
    time: sim::Time,
    /// How long the sink takes for each chunk, and at the end.
    pub sink_busy: Duration,
    /// After how many chunks it fails, and how.
    pub sink_fails: Option<(usize, Refusal)>,
}

impl Server {
    /// `size` is the size for `tsize`.
    pub fn new(source: Source, size: Option<u64>, timing: Timing) -> Self {
        let (source, stored) = (Arc::new(Mutex::new(Some(source))), Arc::default());
        let (time, sink_busy, sink_fails) = (sim::Time::new(), Duration::ZERO, None);
        Self {
            file: File { source, size, limits: None, stored, time, sink_busy, sink_fails },
            timing,
            single_port: false,
            running: None,
            records: Arc::default(),
            ended: None,
            tid: None,
            asked: Options::new(),
            sent: 0,
        }
    }

    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.file.limits = Some(limits);
        self
    }

    pub fn with_single_port(self, single_port: bool) -> Self {
        Self { single_port, ..self }
    }

    /// Sets another file for the next request.
    pub fn begin_anew(&mut self, source: Source, size: Option<u64>) {
        assert!(self.ended.take().is_some(), "a transfer runs");
        self.records.lock().unwrap().clear();
        *self.file.source.lock().unwrap() = Some(source);
        self.tid = None;
        assert_eq!(self.file.size, size, "the handler says the same");
    }

    /// The record of the transfer, if it has ended.
    pub fn record(&self) -> Option<&Record> {
        self.ended.as_ref()
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        Some(&self.ended.as_ref()?.outcome)
    }

    /// The agreed options, as the client understands them.
    pub fn agreed(&self) -> Agreed {
        let granted = self.record().map(|record| record.granted.clone()).unwrap_or_default();
        accept(&self.asked, &granted, Mode::Octet).expect("our own client takes what is granted")
    }

    /// The bytes of the upload.
    pub fn stored(&self) -> Vec<u8> {
        self.file.stored.lock().unwrap().clone()
    }

    fn running(&mut self) -> &mut sim::Server {
        let (file, timing, records, single_port) = (&self.file, self.timing, &self.records, self.single_port);
        self.running.get_or_insert_with(|| {
            let records = records.clone();
            // A handler can only lower what the server allows.
            let builder = match &file.limits {
                Some(ours) => ServerBuilder::default().blksize(ours.blksize).windowsize(ours.windowsize),
                None => ServerBuilder::default(),
            };
            let builder = builder
                .handler(file.clone())
                .single_port(single_port)
                .timeout(timing.timeout)
                .patience(timing.patience)
                .on_end(move |record| records.lock().unwrap().push(record.clone()));
            sim::Server::at(builder, 5, file.time.clone())
        })
    }

    fn said(&mut self) -> Vec<Packet> {
        let mut sent = self.running().sent();
        self.ended = self.records.lock().unwrap().first().cloned();
        if let Some(first) = sent.first() {
            self.tid.get_or_insert(first.from);
        }
        // A late copy of the request begins another transfer, from another port, which the peer does not listen to.
        sent.retain(|datagram| Some(datagram.from) == self.tid);
        self.sent += sent.len() as u64;
        sent.iter().map(|datagram| Packet::decode(&datagram.bytes).expect("a packet")).collect()
    }
}

impl Peer for Server {
    fn act(&mut self, now: Instant, cue: Cue) -> Vec<Packet> {
        match cue {
            Cue::Begin => return Vec::new(),
            Cue::Packet(packet) => {
                let mut tid = self.tid;
                if let Packet::Rrq(request) | Packet::Wrq(request) = &packet {
                    self.asked = request.options.clone();
                    tid = None;
                }
                let server = self.running();
                let to = tid.unwrap_or(server.addr());
                server.deliver_at(now, peer(), to, &packet.encode());
            }
            Cue::Wake => self.running().pass(now),
        }
        self.said()
    }

    fn wake_at(&self) -> Option<Instant> {
        self.running.as_ref()?.wake_at()
    }
}

impl Handler for File {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, tuffet::Source> {
        self.limit(request);
        let pieces = self.source.lock().unwrap().take();
        let (size, time) = (self.size, self.time.clone());
        Box::pin(async move {
            // One transfer for each server.
            let source = pieces.ok_or(Refusal::not_found())?.into_source(time);
            Ok(match size {
                Some(size) => source.with_size(size),
                None => source,
            })
        })
    }

    fn write<'a>(&'a self, request: &'a Request, mut data: tuffet::Source) -> Answer<'a, ()> {
        self.limit(request);
        let mut fails = self.sink_fails.clone();
        Box::pin(async move {
            while let Some(chunk) = data.next().await {
                self.stored.lock().unwrap().extend_from_slice(&chunk?);
                self.time.sleep(self.sink_busy).await;
                match &mut fails {
                    Some((0, refusal)) => return Err(refusal.clone()),
                    Some((left, _)) => *left -= 1,
                    None => {}
                }
            }
            self.time.sleep(self.sink_busy).await;
            match fails {
                Some((_, refusal)) => Err(refusal),
                None => Ok(()),
            }
        })
    }

    fn takes_writes(&self) -> bool {
        true
    }
}

impl File {
    fn limit(&self, request: &Request) {
        if let Some(ours) = &self.limits {
            request.limit(|limits| *limits = ours.clone());
        }
    }
}
