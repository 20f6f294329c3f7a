//! Rules in front of a handler, on the wire.
#![cfg(feature = "rules")]

mod common;

use common::{Peer, Serving, file};
use tuffet::{
    Handler, Refusal, Request, Source,
    handler::Answer,
    handlers::{Memory, Ruled},
    options::{Direction, OptionName},
    rules::{Rule, Rules},
    transfer::Outcome,
};

fn rule(name: &str) -> Rule {
    Rule::new(name).name(name).unwrap()
}

fn ruled(rules: impl IntoIterator<Item = Rule>) -> Ruled {
    let memory = Memory::new();
    for name in ["a", "b", "127.0.0.1/own"] {
        memory.insert(name, name.repeat(300)).unwrap();
    }
    Ruled::new(Rules::new(rules.into_iter().collect()).unwrap(), memory)
}

#[test]
fn a_rule_gives_another_file_and_grants_less() {
    let serving = Serving::new(ruled([
        rule("^x/(.)$").target("$1").unwrap().blksize(100).windowsize(2).go_on(true),
        rule("^b").options([OptionName::Tsize]),
        rule("^own$").client("127.0.0.0/8".parse().unwrap()).target("${client}/${path}").unwrap(),
    ]));
    let mut peer = Peer::new(serving.addr());
    let asked = [("tsize", "0"), ("blksize", "1024"), ("windowsize", "8")];
    peer.rrq("x/a", &asked).expect_oack(&[("tsize", "300"), ("blksize", "100"), ("windowsize", "2")]);
    peer.error(0);
    assert_eq!(serving.record().path, "x/a", "the record has the name that was asked for");
    peer.rrq("x/b", &asked).expect_oack(&[("tsize", "300")]);
    peer.error(0);
    peer.rrq("a", &asked).expect_oack(&asked.map(|(name, value)| (name, if name == "tsize" { "300" } else { value })));
    peer.error(0);
    peer.rrq("own", &[]).expect_data(1, &"127.0.0.1/own".repeat(300)[..512]);
    peer.error(0);
}

#[test]
fn a_refused_client_gets_an_error_and_an_ignored_one_does_not() {
    let serving = Serving::new(ruled([
        rule("^no").refuse(Refusal::denied()),
        rule("^quiet").refuse(Refusal::silent()),
        rule("^(.)(.)x").target("$1$2/x").unwrap(),
    ]));
    let mut peer = Peer::new(serving.addr());
    peer.rrq("no", &[]).expect_error(2);
    peer.rrq("quiet", &[]).expect_silence();
    peer.wrq("quiet", &[]).expect_silence();
    peer.rrq("..x", &[]).expect_error(2);
    let refused = |_| matches!(serving.record().outcome, Outcome::Refused(_));
    assert!((0..4).all(refused));
}

#[test]
fn an_upload_goes_where_the_rules_say() {
    let serving = Serving::new(ruled([
        rule("^no").upload(false),
        rule("^in/(.*)").direction(Direction::Write).target("out/$1").unwrap().options([]),
    ]));
    let mut peer = Peer::new(serving.addr());
    peer.wrq("no", &[]).expect_error(2);
    let bytes = file(700);
    peer.wrq("in/x", &[("blksize", "1024")]).expect(tuffet::packet::Packet::Ack(0));
    peer.data(1, &bytes[..512]);
    peer.expect(tuffet::packet::Packet::Ack(1));
    peer.data(2, &bytes[512..]);
    peer.expect(tuffet::packet::Packet::Ack(2));
    peer.rrq("in/x", &[]).expect_error(1);
    peer.rrq("out/x", &[]).expect_data(1, &bytes[..512]);
    peer.error(0);
    // The size that a client tells counts, whether the server grants `tsize` or not.
    peer.wrq("in/y", &[("tsize", "100")]).expect(tuffet::packet::Packet::Ack(0));
    peer.data(1, &bytes[..512]);
    peer.expect_error(3);
}

#[test]
fn a_directory_is_no_upload_behind_rules_either() {
    let serving = Serving::new(ruled([
        rule("^each/?$").target("each/${client}").unwrap(),
        rule("^re/(.*)").target("named/$1").unwrap(),
        rule("(.*)").target("in/$1").unwrap(),
    ]));
    let mut peer = Peer::new(serving.addr());
    for name in ["sub/", "a/b/..", r"re\sub\", "re/sub/."] {
        peer.wrq(name, &[]).expect_error(2);
    }
    // A rule may name the file.
    peer.wrq("each/", &[]).expect(tuffet::packet::Packet::Ack(0));
    peer.error(0);
}

#[test]
fn a_refused_upload_is_told_why() {
    let rules = [rule("^unknown").target("${uuid}/$0").unwrap(), rule("^for/others")];
    let rules = Rules::new(rules.into()).unwrap();
    let serving = Serving::new(Ruled::new(rules, tuffet::read(|_| "hello\n")));
    let mut peer = Peer::new(serving.addr());
    for (name, code, why) in [("a", 2, "see `Handler::takes_writes`"), ("unknown", 1, "values for all its variables")] {
        peer.wrq(name, &[]).expect_error(code);
        let outcome = serving.record().outcome.to_string();
        assert!(outcome.contains(why), "{outcome}");
    }
}

/// A user's handler with a policy of its own.
struct Careful(Memory);

impl Handler for Careful {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        assert_eq!(request.limits().windowsize, 64, "what the server allows");
        request.limit(|limits| {
            limits.answer = !request.path().starts_with("old");
            assert_ne!(request.path(), "panic");
        });
        self.0.read(request)
    }
}

#[test]
fn a_handler_may_grant_less() {
    let memory = Memory::new();
    for name in ["old", "new", "panic"] {
        memory.insert(name, "x").unwrap();
    }
    let serving = Serving::new(Careful(memory).or(Memory::new()));
    let mut peer = Peer::new(serving.addr());
    peer.rrq("new", &[("blksize", "1024")]).expect_oack(&[("blksize", "1024")]);
    peer.error(0);
    peer.rrq("old", &[("blksize", "1024")]).expect_data(1, "x");
    peer.ack(1);
    peer.rrq("panic", &[("blksize", "1024")]).expect_error(0);
}
