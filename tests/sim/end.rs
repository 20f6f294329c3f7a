//! One end of the wire: a transfer with its source and its sink, driven as the real driver does it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tuffet::{
    Bytes, Refusal,
    packet::Packet,
    sim,
    transfer::{Event, Outcome, Step, Transfer, Want},
};

use super::{Cue, Peer};

pub struct End {
    pub transfer: Transfer,
    source: Source,
    pub sink: Vec<u8>,
    /// How long the sink takes to be ready.
    pub sink_busy: Duration,
    /// After how many chunks the sink fails, and how.
    pub sink_fails: Option<(usize, Refusal)>,
    waiting: Option<(Want, Instant)>,
    /// When the wanted chunk will be there.
    ready_at: Option<Instant>,
    pub outcome: Option<Outcome>,
    /// Packets that were sent.
    pub sent: u64,
}

/// The bytes of a file as the pieces in which they come, each after its delay.
#[derive(Clone, Debug, Default)]
pub struct Source(VecDeque<(Duration, Piece)>);

#[derive(Clone, Debug)]
enum Piece {
    Chunk(Bytes),
    Failure,
    Never,
}

/// No transfer takes so many steps without waiting.
const STEPS_AT_ONCE: usize = 100_000;

impl Source {
    /// Everything at once.
    pub fn of(bytes: &[u8]) -> Self {
        Self([(Duration::ZERO, Piece::Chunk(Bytes::copy_from_slice(bytes)))].into())
    }

    /// Chunks of up to `most` bytes, each ready when it is wanted, or up to `delay` later.
    pub fn cut(bytes: &[u8], most: usize, delay: Duration, random: &mut fastrand::Rng) -> Self {
        let mut rest = Bytes::copy_from_slice(bytes);
        let mut pieces = VecDeque::new();
        while !rest.is_empty() {
            let chunk = rest.split_to(random.usize(0..=most.min(rest.len())));
            pieces.push_back((delay.mul_f64(random.f64()), Piece::Chunk(chunk)));
        }
        Self(pieces)
    }

    /// One byte after the other.
    pub fn dribble(bytes: &[u8], delay: Duration) -> Self {
        Self(bytes.iter().map(|byte| (delay, Piece::Chunk(Bytes::copy_from_slice(&[*byte])))).collect())
    }

    /// The chunks after this position never come.
    pub fn then_never(mut self) -> Self {
        self.0.push_back((Duration::ZERO, Piece::Never));
        self
    }

    /// The source fails after this position.
    pub fn then_failure(mut self) -> Self {
        self.0.push_back((Duration::ZERO, Piece::Failure));
        self
    }

    /// The same bytes, this much later.
    pub fn after(mut self, delay: Duration) -> Self {
        self.0.push_front((delay, Piece::Chunk(Bytes::new())));
        self
    }

    /// This chunk, so much later, and then the same bytes.
    pub fn after_chunk(mut self, delay: Duration, chunk: &[u8]) -> Self {
        self.0.push_front((delay, Piece::Chunk(Bytes::copy_from_slice(chunk))));
        self
    }

    /// As a handler gives it, in virtual time.
    pub fn into_source(self, time: sim::Time) -> tuffet::Source {
        tuffet::Source::from(tuffet::Gen::new(async move |co| {
            for (delay, piece) in self.0 {
                time.sleep(delay).await;
                match piece {
                    Piece::Chunk(chunk) => co.yield_(chunk).await,
                    Piece::Failure => return Err(Refusal::internal()),
                    Piece::Never => std::future::pending().await,
                }
            }
            Ok(())
        }))
    }

    fn next_delay(&self) -> Option<Duration> {
        match self.0.front() {
            Some((_, Piece::Never)) => None,
            Some((delay, _)) => Some(*delay),
            None => Some(Duration::ZERO),
        }
    }

    fn next(&mut self) -> Event {
        match self.0.pop_front() {
            Some((_, Piece::Chunk(chunk))) => Event::Chunk(chunk),
            Some((_, Piece::Failure | Piece::Never)) => Event::Failed(Refusal::internal()),
            None => Event::End,
        }
    }
}

impl End {
    pub fn new(transfer: Transfer, source: Source) -> Self {
        Self {
            transfer,
            source,
            sink: Vec::new(),
            sink_busy: Duration::ZERO,
            sink_fails: None,
            waiting: None,
            ready_at: None,
            outcome: None,
            sent: 0,
        }
    }

    pub fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    /// Takes steps until the transfer waits or is over; returns what it sent.
    pub fn resume(&mut self, now: Instant, mut event: Event) -> Vec<Packet> {
        let mut packets = Vec::new();
        for _ in 0..STEPS_AT_ONCE {
            event = match self.transfer.resume(now, event) {
                Step::Send(packet) => {
                    self.sent += 1;
                    packets.push(packet);
                    Event::Continue
                }
                Step::Push(chunk) => {
                    self.sink.extend_from_slice(&chunk);
                    Event::Continue
                }
                Step::Wait(want, deadline) => match self.ready(now, want) {
                    Some(event) => event,
                    None => {
                        self.waiting = Some((want, deadline));
                        return packets;
                    }
                },
                Step::Done(outcome) => {
                    self.outcome = Some(outcome);
                    self.waiting = None;
                    return packets;
                }
            };
        }
        panic!("the transfer never waits");
    }

    /// The wanted chunk, if it is ready.
    fn ready(&mut self, now: Instant, want: Want) -> Option<Event> {
        let delay = match want {
            Want::Packet => return None,
            Want::Chunk => self.source.next_delay()?,
            Want::Room | Want::Commit => self.sink_busy,
        };
        if now < *self.ready_at.get_or_insert(now + delay) {
            return None;
        }
        self.ready_at = None;
        Some(if want == Want::Chunk { self.source.next() } else { self.sink_answer() })
    }

    fn sink_answer(&mut self) -> Event {
        match &mut self.sink_fails {
            Some((0, refusal)) => Event::Failed(refusal.clone()),
            Some((answers, _)) => {
                *answers -= 1;
                Event::Ready
            }
            None => Event::Ready,
        }
    }
}

impl Peer for End {
    fn act(&mut self, now: Instant, cue: Cue) -> Vec<Packet> {
        let event = match cue {
            Cue::Begin => Event::Continue,
            Cue::Packet(_) if self.is_over() => return Vec::new(),
            Cue::Packet(packet) => Event::Packet(packet),
            Cue::Wake => {
                let (want, _) = self.waiting.expect("it is awake");
                self.ready(now, want).unwrap_or(Event::Timeout)
            }
        };
        self.resume(now, event)
    }

    fn wake_at(&self) -> Option<Instant> {
        let (want, deadline) = self.waiting?;
        let ready_at = self.ready_at.filter(|_| want != Want::Packet);
        Some(ready_at.map_or(deadline, |at| at.min(deadline)))
    }
}
