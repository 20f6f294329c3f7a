//! Every transfer ends, whichever side falls silent, fails or refuses, at any time.
#![cfg(feature = "sim")]

mod sim;

use std::time::{Duration, Instant};

use tuffet::{
    ErrorCode, Refusal,
    options::{Agreed, Direction},
    packet::{Mode, Options, Packet, Request},
    transfer::{Event, Outcome, Step, Timing, Transfer, Want},
};

use sim::{Cue, End, LinkConditions, Peer, Report, Server, Side, Source, Wire, ms, options, run, secs};

const PATIENCE: Duration = secs(30);

fn request() -> Request {
    Request { filename: b"file".to_vec(), mode: Mode::Octet, options: options("tsize=3000 blksize=512 windowsize=2") }
}

/// The client is a bit more patient than the server, so that the server times out first.
fn timing() -> Timing {
    let mut timing = Timing::default();
    timing.patience = PATIENCE + secs(5);
    timing
}

fn get() -> End {
    End::new(Transfer::get(request(), timing()), Source::default())
}

fn put(source: Source) -> End {
    End::new(Transfer::put(request(), Timing::default()), source)
}

fn server(source: Source) -> Server {
    Server::new(source, Some(3000), Timing::default())
}

fn patient_server() -> Server {
    Server::new(Source::default(), None, timing())
}

fn file() -> Source {
    Source::of(&[7; 3000])
}

fn failed() -> Option<Outcome> {
    Some(Outcome::Failed(Refusal::internal()))
}

fn aborted(refusal: &Refusal) -> Option<Outcome> {
    Some(Outcome::Aborted { code: refusal.code(), message: refusal.message().into() })
}

/// On a clean wire.
fn run_cleanly(client: &mut dyn Peer, server: &mut dyn Peer, limit: Duration) -> Report {
    let fine = || Wire::new(LinkConditions::lossless(ms(1)), 0);
    run(client, server, &mut fine(), &mut fine(), limit)
}

fn meet(client: &mut End, server: &mut Server) -> Duration {
    run_cleanly(client, server, secs(600)).elapsed
}

/// A peer that falls silent after some packets.
struct Mortal<P> {
    peer: P,
    packets_left: usize,
}

impl<P: Peer> Peer for Mortal<P> {
    fn act(&mut self, now: Instant, cue: Cue) -> Vec<Packet> {
        let mut packets = self.peer.act(now, cue);
        packets.truncate(self.packets_left);
        self.packets_left -= packets.len();
        packets
    }

    fn wake_at(&self) -> Option<Instant> {
        self.peer.wake_at().filter(|_| self.packets_left > 0)
    }
}

#[test]
fn a_silent_client_times_the_server_out() {
    for direction in [Direction::Read, Direction::Write] {
        for packets_left in 1.. {
            let peer = if direction == Direction::Read { get() } else { put(file()) };
            let mut client = Mortal { peer, packets_left };
            let mut server = server(file());
            let report = run_cleanly(&mut client, &mut server, secs(600));
            if client.packets_left > 0 {
                assert!(packets_left > 4, "the last round was a whole transfer");
                break;
            }
            let expected = if client.peer.is_over() { Outcome::Complete } else { Outcome::TimedOut };
            match server.outcome() {
                Some(Outcome::ProbablyComplete) if direction == Direction::Read => {}
                outcome => assert_eq!(outcome, Some(&expected), "{direction:?} after {packets_left} packets"),
            }
            assert!(report.elapsed <= PATIENCE + secs(1), "{:?}", report.elapsed);
            assert!(report.sent_by(Side::Server) <= 50, "{} packets for nobody", report.sent_by(Side::Server));
        }
    }
}

#[test]
fn a_silent_server_times_the_client_out() {
    // One packet more, and the server has all of the upload.
    for packets_left in 0..3 {
        for mut client in [get(), put(file())] {
            let mut server = Mortal { peer: server(file()), packets_left };
            let report = run_cleanly(&mut client, &mut server, secs(600));
            assert_eq!(client.outcome, Some(Outcome::TimedOut), "after {packets_left} packets");
            assert!(report.elapsed <= PATIENCE * 2 + secs(1), "{:?}", report.elapsed);
        }
    }
}

#[test]
fn a_source_that_never_yields_fails() {
    for source in [Source::default(), Source::of(&[7; 512]), Source::of(&[7; 1300])] {
        let (mut client, mut server_) = (get(), server(source.clone().then_never()));
        assert!(meet(&mut client, &mut server_) <= PATIENCE + secs(1));
        assert_eq!(server_.outcome(), failed().as_ref());
        assert_eq!(client.outcome, aborted(&Refusal::internal()));

        let (mut client, mut server_) = (put(source.then_never()), patient_server());
        assert!(meet(&mut client, &mut server_) <= PATIENCE + secs(1));
        assert_eq!(client.outcome, failed());
        assert_eq!(server_.outcome(), aborted(&Refusal::internal()).as_ref());
    }
}

#[test]
fn a_source_of_empty_chunks_fails() {
    let dribble = (0..600).fold(Source::default(), |source, _| source.after(ms(500)));
    let (mut client, mut server) = (get(), server(dribble));
    let elapsed = meet(&mut client, &mut server);
    assert_eq!(server.outcome(), failed().as_ref());
    assert!(elapsed <= PATIENCE + secs(1), "{elapsed:?}");
}

#[test]
fn a_slow_source_does_not_keep_a_dead_client_alive() {
    let bytes = Source::dribble(&[7; 1000], secs(3));
    // It repeats its request while the server waits for the size of a file that may be small.
    let mut client = Mortal { peer: get(), packets_left: 3 };
    let mut server = Server::new(bytes, None, Timing::default());
    // The first block takes its 512 chunks; the second is never full.
    let report = run_cleanly(&mut client, &mut server, secs(3600));
    assert_eq!(server.outcome(), Some(&Outcome::TimedOut));
    let first_data = report.trace.iter().find(|sent| sent.head == [0, 3, 0, 1]).expect("a block").at;
    assert!(report.elapsed - first_data <= PATIENCE + secs(1), "{:?}", report.elapsed - first_data);
}

#[test]
fn a_slow_source_is_waited_for() {
    for delay in [1, 10, 29] {
        let (mut client, mut server) = (get(), server(file().after(secs(delay))));
        meet(&mut client, &mut server);
        assert_eq!((&client.outcome, server.outcome()), (&Some(Outcome::Complete), Some(&Outcome::Complete)));
    }
}

#[test]
fn a_source_that_fails_in_the_middle_is_an_error_for_the_peer() {
    for size in [0, 100, 512, 1400] {
        let source = Source::of(&vec![7; size]).then_failure();
        let (mut client, mut server_) = (get(), server(source.clone()));
        meet(&mut client, &mut server_);
        assert_eq!(server_.outcome(), failed().as_ref());
        assert_eq!(client.outcome, aborted(&Refusal::internal()));

        let (mut client, mut server_) = (put(source), server(Source::default()));
        meet(&mut client, &mut server_);
        assert_eq!(client.outcome, failed());
        assert_eq!(server_.outcome(), aborted(&Refusal::internal()).as_ref());
    }
}

#[test]
fn an_upload_that_cannot_be_kept_is_not_a_success() {
    // After how many answers the sink fails: at once, in the middle, when all is to be made safe.
    for answers in 0..3 {
        for refusal in [Refusal::internal(), Refusal::disk_full()] {
            let (mut client, mut server) = (put(file()), server(Source::default()));
            server.file.sink_fails = Some((answers, refusal.clone()));
            meet(&mut client, &mut server);
            assert_eq!(client.outcome, aborted(&refusal), "after {answers}");
            let ours = server.outcome().cloned();
            let expected = match refusal.code() {
                ErrorCode::NOT_DEFINED => Outcome::Failed(refusal),
                _ => Outcome::Refused(refusal),
            };
            assert_eq!(ours, Some(expected));
        }
    }
}

#[test]
fn a_download_that_cannot_be_kept_ends_both_sides() {
    for answers in 0..3 {
        let (mut client, mut server) = (get(), server(file()));
        client.sink_fails = Some((answers, Refusal::disk_full()));
        meet(&mut client, &mut server);
        assert_eq!(client.outcome, Some(Outcome::Refused(Refusal::disk_full())));
        assert!(!server.outcome().is_some_and(Outcome::is_success), "{:?}", server.outcome());
    }
}

#[test]
fn a_sink_that_is_never_ready_fails() {
    let (mut client, mut server) = (put(file()), server(Source::default()));
    server.file.sink_busy = secs(100_000);
    assert!(meet(&mut client, &mut server) <= PATIENCE * 2 + secs(1));
    assert_eq!(server.outcome(), failed().as_ref());
    assert_ne!(client.outcome, Some(Outcome::Complete));
}

#[test]
fn patience_without_end_is_a_very_long_time() {
    let mut timing = Timing::default();
    (timing.patience, timing.timeout) = (Duration::MAX, Duration::MAX);
    let mut client = End::new(Transfer::get(request(), timing), Source::default());
    let mut server = Server::new(file().after(secs(7200)), Some(3000), timing);
    run_cleanly(&mut client, &mut server, secs(8000));
    assert_eq!(client.outcome, Some(Outcome::Complete));
}

#[test]
fn a_side_that_stops_says_so() {
    let agreed = || Agreed::plain(Mode::Octet);
    let oack = || [("tsize", "3000")].into_iter().collect();
    for mut transfer in [
        Transfer::send(Options::new(), agreed(), Timing::default()),
        Transfer::send(oack(), agreed(), Timing::default()),
        Transfer::receive(Options::new(), agreed(), Timing::default()),
        Transfer::get(request(), Timing::default()),
        Transfer::put(request(), Timing::default()),
    ] {
        let (now, mut event) = (Instant::now(), Event::Continue);
        while !matches!(transfer.resume(now, event), Step::Wait(..)) {
            event = Event::Continue;
        }
        let Step::Send(packet) = transfer.resume(now, Event::Stop) else { panic!("the peer is told nothing") };
        assert_eq!(Some(packet), Refusal::stopping().packet());
        assert!(matches!(transfer.resume(now, Event::Continue), Step::Done(Outcome::Stopped)));
    }
}

#[test]
fn data_longer_than_agreed_does_not_wait_for_a_busy_sink() {
    let mut transfer = Transfer::receive(Options::new(), Agreed::plain(Mode::Octet), Timing::default());
    let now = Instant::now();
    let data = |block, len| Event::Packet(Packet::Data { block, payload: vec![7; len].into() });
    assert!(matches!(transfer.resume(now, Event::Continue), Step::Send(Packet::Ack(0))));
    assert!(matches!(transfer.resume(now, Event::Continue), Step::Wait(Want::Packet, _)));
    assert!(matches!(transfer.resume(now, data(1, 512)), Step::Push(_)));
    assert!(matches!(transfer.resume(now, Event::Continue), Step::Wait(Want::Room, _)));
    for len in [513, 65464] {
        assert!(matches!(transfer.resume(now, data(2, len)), Step::Wait(Want::Room, _)));
    }
    // A packet that was kept would be read now, and refused.
    assert!(matches!(transfer.resume(now, Event::Ready), Step::Send(Packet::Ack(1))));
    assert!(matches!(transfer.resume(now, Event::Continue), Step::Wait(Want::Packet, _)));
    assert!(matches!(transfer.resume(now, data(2, 512)), Step::Push(_)), "the right one comes after it");
}
