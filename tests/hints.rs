//! The hints of a server about the cause when a client fails.
#![cfg(feature = "sim")]

mod sim;

use std::time::{Duration, Instant};

use tuffet::{
    hint::Hint,
    packet::{Mode, Packet},
    probe::{BootClient, Habits, habits},
    transfer::Timing,
};

use sim::{Cue, LinkConditions, Peer, Script, Server, Source, Wire, ms, run, secs};

/// A client behind a filter that passes only some packets of the server.
struct Behind<F> {
    client: BootClient,
    lets_through: F,
    lives: Duration,
    born: Option<Instant>,
}

impl<F: FnMut(&Packet) -> bool> Peer for Behind<F> {
    fn act(&mut self, now: Instant, cue: Cue) -> Vec<Packet> {
        match cue {
            Cue::Begin => {
                self.born = Some(now);
                self.client.start(now)
            }
            Cue::Packet(packet) if (self.lets_through)(&packet) => self.client.receive(now, packet),
            Cue::Packet(_) => Vec::new(),
            Cue::Wake => self.client.wake(now),
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let dies_at = self.born? + self.lives;
        self.client.wake_at().filter(|at| *at <= dies_at)
    }
}

struct Case {
    habits: Habits,
    size: usize,
    size_known: bool,
    single_port: bool,
    lives: Duration,
}

impl Default for Case {
    fn default() -> Self {
        Self { habits: habits::IPXE, size: 9000, size_known: true, single_port: false, lives: secs(3600) }
    }
}

impl Case {
    fn hint(&self, lets_through: impl FnMut(&Packet) -> bool) -> Option<Hint> {
        let size = self.size_known.then_some(self.size as u64);
        let client = BootClient::new(self.habits, "file");
        let mut client = Behind { client, lets_through, lives: self.lives, born: None };
        let source = Source::of(&vec![7; self.size]);
        let mut server = Server::new(source, size, Timing::default()).with_single_port(self.single_port);
        let fine = || Wire::new(LinkConditions::lossless(ms(1)), 0);
        // A client that hears nothing may ask for ever.
        client.lives = client.lives.min(secs(20));
        run(&mut client, &mut server, &mut fine(), &mut fine(), secs(600));
        server.record()?.hint.clone()
    }
}

#[test]
fn a_complete_transfer_needs_no_hint() {
    for &(_, habits) in habits::ALL {
        for size in [0, 1, 5000] {
            assert_eq!(Case { habits, size, ..Case::default() }.hint(|_| true), None, "{habits:?}");
        }
    }
}

#[test]
fn a_client_that_cannot_take_an_oack() {
    // It says so. (One that has asked for the size may want no more.)
    for (asked, expected) in [("blksize=1468", Some(Hint::NoOptions)), ("blksize=1468 tsize=0", None)] {
        let mut client = Script::read(asked, 9000);
        assert_eq!(client.ask().len(), 1);
        client.say("ERROR 8");
        assert_eq!(client.record().hint, expected);
    }
}

#[test]
fn an_upload_that_does_not_begin() {
    for (asked, again, expected) in [
        ("tsize=9", false, None),
        ("tsize=9", true, Some(Hint::SinglePort)),
        ("", false, None),
        ("", true, Some(Hint::SinglePort)),
    ] {
        let mut client = Script::write(asked, Mode::Octet);
        assert_eq!(client.ask().len(), 1);
        if again {
            client.ask();
        }
        client.pass(secs(30));
        assert_eq!(client.record().hint, expected);
    }
}

fn smaller(blksize: u16, better: u16) -> Hint {
    Hint::SmallerBlocks { blksize, better }
}

#[test]
fn a_link_that_takes_no_full_block() {
    let narrow = |mtu: usize| move |packet: &Packet| packet.encode().len() + 28 <= mtu;
    assert_eq!(Case::default().hint(narrow(1420)), Some(smaller(1432, 1228)));
    let grub = Case { habits: habits::GRUB, ..Case::default() };
    assert_eq!(grub.hint(narrow(600)), Some(smaller(1024, 512)));
    let small = Case { size: 1000, ..Case::default() };
    assert_eq!(small.hint(narrow(600)), None, "the block was not full");
    let later = |packet: &Packet| !matches!(packet, Packet::Data { block: 2.., .. });
    assert_eq!(Case::default().hint(later), None, "a full one came through");
}

#[test]
fn a_client_without_rollover() {
    let stops = |packet: &Packet| !matches!(packet, Packet::Data { block: 0, .. });
    let mut habits = habits::BUSYBOX;
    for asked in ["blksize=8 tsize=0", "blksize=8 tsize=0 windowsize=16"] {
        habits.options = asked;
        let case = Case { habits, size: 8 * 70_000, ..Case::default() };
        let hint = case.hint(stops);
        assert_eq!(hint, Some(Hint::NoRollover { needed: Some(9), asked: false }), "{asked}");
        assert!(hint.unwrap().to_string().ends_with("have it ask for a blksize of 9 or more"));
        let unknown = Case { size_known: false, ..case }.hint(stops);
        assert_eq!(unknown, Some(Hint::NoRollover { needed: None, asked: false }));
    }
    habits.options = "blksize=8";
    let earlier = |packet: &Packet| !matches!(packet, Packet::Data { block: 65_000, .. });
    assert_eq!(Case { habits, size: 8 * 70_000, ..Case::default() }.hint(earlier), None);
}

#[test]
fn a_client_that_no_answer_reaches() {
    for &(_, habits) in habits::ALL.iter().filter(|(_, habits)| habits.patience < secs(20)) {
        assert_eq!(Case { habits, ..Case::default() }.hint(|_| false), Some(Hint::SinglePort), "{habits:?}");
        let single_port = Case { habits, single_port: true, ..Case::default() };
        assert_eq!(single_port.hint(|_| false), None, "it is that already");
    }
}

/// The client may have been switched off, or its address may be forged.
#[test]
fn a_client_that_asked_once_and_fell_silent_gets_no_hint() {
    for &(_, habits) in habits::ALL {
        assert_eq!(Case { habits, lives: ms(1), ..Case::default() }.hint(|_| false), None, "{habits:?}");
    }
}
